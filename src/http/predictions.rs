//! `predictions`: an answer row by row, in each form that clients ask for.
//!
//! It holds the engine's outputs only. Classes have calls of their own, and the clients of these
//! forms expect what the network gives.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::answer;
use super::media::Form;
use crate::json::Writer;
use crate::model::{Model, Output, OutputSource, Signature};
use crate::request::InferResponse;

/// The engine's outputs with their values.
pub(super) fn outputs<'a>(
    model: &'a Model,
    response: &'a InferResponse,
) -> Vec<(&'a Output, &'a [f32])> {
    let outputs = model.signature.outputs.iter();
    outputs
        .filter_map(|output| match output.source {
            OutputSource::Engine(index) => Some((output, &*response.outputs[index])),
            OutputSource::ClassId | OutputSource::Label => None,
        })
        .collect()
}

/// The answer of all rows.
pub(super) fn answer(form: Form, model: &Model, response: &InferResponse) -> Response<Vec<u8>> {
    let outputs = outputs(model, response);
    let mut body = Writer::with_capacity(256);
    match form {
        Form::Json => body.object(|body| match &*outputs {
            [(output, values)] => body
                .key("predictions")
                .nested_f32s(values, &output.with_rows(response.rows)),
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
            if has_header {
                header(&mut body, &model.signature, &outputs);
            }
            for row in 0..response.rows {
                for (output, values) in &outputs {
                    let elements = output.spec.shape.elements();
                    let values = &values[row * elements..][..elements];
                    values.iter().for_each(|value| body.f32(*value));
                }
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
fn prediction(body: &mut Writer, outputs: &[(&Output, &[f32])], row: usize) {
    let one = |body: &mut Writer, (output, values): &(&Output, &[f32])| {
        let elements = output.spec.shape.elements();
        let values = &values[row * elements..][..elements];
        body.nested_f32s(values, &output.spec.shape.extents);
    };
    match outputs {
        [output] => one(body, output),
        outputs => body.object(|body| {
            for output in outputs {
                one(body.key(&output.0.spec.name), output);
            }
        }),
    }
}

/// The names of the columns.
fn header(body: &mut Writer, signature: &Signature, outputs: &[(&Output, &[f32])]) {
    for (output, _) in outputs {
        let names = signature.cell_names(output);
        names.iter().for_each(|name| body.cell(name));
    }
    body.line();
}
