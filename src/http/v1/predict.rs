//! `:predict`, by rows (`instances`) or by columns (`inputs`).

use http::{HeaderMap, StatusCode};

use super::signature::signature_name;
use crate::http::answer;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::Rows;
use crate::http::media::{self, Form};
use crate::http::outputs::OutputRows;
use crate::http::predict::Format;
use crate::http::predictions;
use crate::http::rows;
use crate::json::Writer;
use crate::metrics::Protocol;
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// By what the request came: the answer comes by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `{"instances": [row, ...]}`
    Rows,
    /// `{"inputs": tensor}` or `{"inputs": {name: tensor, ...}}`
    Columns,
}

/// A request of JSON.
#[derive(Debug)]
pub(super) struct Predict {
    by: By,
    /// The form that the answer has.
    form: Form,
}

impl Format for Predict {
    const PROTOCOL: Protocol = Protocol::V1;

    /// The form that the client accepts.
    type Layout = Form;

    fn layout(headers: &HeaderMap) -> Result<Form, ApiError> {
        Ok(media::accepted(headers).unwrap_or(Form::Json))
    }

    fn decode(
        body: &[u8],
        form: Form,
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        predictions::expect_holds(form, signature)?;
        let mut reader = rows::reader(body, signature)?;
        let mut decoded = None;
        reader.object(|reader, key| {
            let by = match key {
                "instances" => By::Rows,
                "inputs" => By::Columns,
                "signature_name" => return signature_name(reader),
                _ => return Ok(reader.skip()?),
            };
            if decoded.is_some() {
                return Err(ApiError::invalid(
                    ErrorCode::AmbiguousRequest,
                    "the body: expected either \"instances\" or \"inputs\", got both",
                ));
            }
            let rows = match by {
                By::Rows => rows::list(reader, signature, max_rows, "instances")?,
                By::Columns => rows::columns(reader, signature, max_rows, "inputs")?,
            };
            decoded = Some((Self { by, form }, rows));
            Ok(())
        })?;
        reader.end()?;
        decoded.ok_or_else(|| {
            ApiError::invalid(
                ErrorCode::MissingField,
                "the body: expected the key \"instances\" with a list of rows, or \"inputs\"",
            )
        })
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        if self.by == By::Rows || self.form != Form::Json {
            return Ok(predictions::answer(self.form, model, response));
        }
        let outputs = OutputRows::of_engine(model, response);
        let mut body = Writer::with_capacity(256);
        body.object(|body| match &*outputs {
            [output] => output.write_rows(body.key("outputs")),
            outputs => body.key("outputs").object(|body| {
                for output in outputs {
                    output.write_rows(body.key(&output.spec().name));
                }
            }),
        });
        Ok(answer::json(StatusCode::OK, body.into_bytes()))
    }
}
