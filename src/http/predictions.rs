//! `predictions`: an answer row by row, in each form that clients ask for.
//!
//! It holds the engine's outputs only. Classes have calls of their own, and the clients of these
//! forms expect what the network gives.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::answer;
use super::error::{ApiError, ErrorCode};
use super::media::Form;
use super::outputs::OutputRows;
use crate::json::Writer;
use crate::model::{Model, Output, Signature};
use crate::request::InferResponse;

/// Checks that a form can hold the answers of a model: lines of CSV that are as long as each row has
/// tokens hold one output.
///
/// # Errors
/// 400 if not.
pub(super) fn expect_holds(form: Form, signature: &Signature) -> Result<(), ApiError> {
    let has_tokens = |output: &Output| output.spec.shape.axis().is_some();
    let is_csv = matches!(form, Form::Csv { .. });
    match is_csv
        && signature.engine_outputs().count() > 1
        && signature.engine_outputs().any(has_tokens)
    {
        false => Ok(()),
        true => Err(ApiError::invalid(
            ErrorCode::WrongType,
            "header accept: expected a model with one output for CSV, as rows have as many tokens as \
             they have; ask for application/json or application/x-ndjson",
        )),
    }
}

/// The answer of all rows.
pub(super) fn answer(form: Form, model: &Model, response: &InferResponse) -> Response<Vec<u8>> {
    let outputs = OutputRows::of_engine(model, response);
    let mut body = Writer::with_capacity(256);
    match form {
        Form::Json => body.object(|body| match &*outputs {
            [output] => output.write_rows(body.key("predictions")),
            outputs => body.key("predictions").array(|body| {
                (0..response.rows).for_each(|row| prediction(body, outputs, row));
            }),
        }),
        Form::Ndjson => {
            for row in 0..response.rows {
                prediction(&mut body, &outputs, row);
                body.line();
            }
        }
        Form::Csv { has_header } => {
            // Rows of tokens have no columns.
            if has_header
                && outputs
                    .iter()
                    .all(|output| output.spec().shape.axis().is_none())
            {
                header(&mut body, &model.signature, &outputs);
            }
            for row in 0..response.rows {
                outputs
                    .iter()
                    .for_each(|output| output.write_cells(row, &mut body));
                body.line();
            }
        }
    }
    let mut answer = answer::json(StatusCode::OK, body.into_bytes());
    let media_type = HeaderValue::from_static(form.media_type());
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// One row: the values of a single output, or an object with the values of each.
fn prediction(body: &mut Writer, outputs: &[OutputRows<'_>], row: usize) {
    match outputs {
        [output] => output.write_row(row, body),
        outputs => body.object(|body| {
            for output in outputs {
                output.write_row(row, body.key(&output.spec().name));
            }
        }),
    }
}

/// The names of the columns.
fn header(body: &mut Writer, signature: &Signature, outputs: &[OutputRows<'_>]) {
    for output in outputs {
        let names = signature.cell_names(output.output);
        names.iter().for_each(|name| body.cell(name));
    }
    body.line();
}
