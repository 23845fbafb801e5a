//! `:predict`, by rows (`instances`) or by columns (`inputs`).

use http::{HeaderMap, StatusCode};

use super::super::answer;
use super::super::error::ApiError;
use super::super::json::{Kind, Reader, Writer};
use super::super::media::{self, Form};
use super::super::predict::{Format, Rows};
use super::super::predictions;
use super::super::rows::{self, buffers, object_of};
use super::signature_name;
use crate::metrics::Protocol;
use crate::model::{Model, Signature};
use crate::request::InferResponse;
use crate::tensor::TensorSpec;

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
                    "ambiguous_request",
                    "the body: expected either \"instances\" or \"inputs\", got both",
                ));
            }
            let rows = match by {
                By::Rows => rows::list(reader, signature, max_rows, "instances")?,
                By::Columns => read_columns(reader, signature, max_rows)?,
            };
            decoded = Some((Self { by, form }, rows));
            Ok(())
        })?;
        reader.end()?;
        decoded.ok_or_else(|| {
            ApiError::invalid(
                "missing_field",
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
        let outputs = predictions::outputs(model, response);
        let mut body = Writer::with_capacity(256);
        body.object(|body| match &*outputs {
            [(output, values)] => {
                body.key("outputs")
                    .nested_f32s(values, &output.with_rows(response.rows));
            }
            outputs => body.key("outputs").object(|body| {
                for (output, values) in outputs {
                    body.key(&output.spec.name)
                        .nested_f32s(values, &output.with_rows(response.rows));
                }
            }),
        });
        Ok(answer::json(StatusCode::OK, body.into_bytes()))
    }
}

/// Reads `inputs`: the tensor of the single input, or an object with the tensor of each.
fn read_columns(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "inputs";
    let mut inputs = buffers(signature);
    if let [spec] = &*signature.inputs
        && reader.peek()? != Kind::Object
    {
        let rows = rows::tensor(reader, spec, max_rows, &mut inputs[0])?;
        return rows::rows(PLACE, rows, max_rows, inputs);
    }
    if reader.peek()? == Kind::Array {
        return Err(ApiError::invalid(
            "wrong_type",
            format!(
                "{PLACE}: the model has several inputs; send an object with the rows of each: {}",
                object_of(signature)
            ),
        ));
    }
    let mut taken = vec![false; inputs.len()];
    let mut rows = None;
    named(reader, signature, &mut taken, |reader, index| {
        let place = reader.mark();
        let spec = &signature.inputs[index];
        let its_rows = rows::tensor(reader, spec, max_rows, &mut inputs[index])?;
        let first_rows = *rows.get_or_insert(its_rows);
        if its_rows != first_rows {
            return Err(ApiError::invalid(
                "shape_mismatch",
                format!(
                    "{}: expected {first_rows} rows as in the input before it, got {its_rows}; send as \
                     many of each",
                    reader.path(place)
                ),
            ));
        }
        Ok(())
    })?;
    if let Some(spec) = first_missing(signature, &taken) {
        return Err(rows::missing_input(PLACE, spec, format_args!("{spec}")));
    }
    rows::rows(PLACE, rows.unwrap_or(0), max_rows, inputs)
}

/// Reads an object whose keys are inputs' names.
fn named(
    reader: &mut Reader<'_>,
    signature: &Signature,
    taken: &mut [bool],
    member: impl FnMut(&mut Reader<'_>, usize) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    reader.known_members(
        taken,
        |key| signature.inputs.iter().position(|spec| spec.name == key),
        |key, path| rows::unknown(key, &path, signature),
        member,
    )
}

/// The first input that did not come, if one did not.
fn first_missing<'a>(signature: &'a Signature, taken: &[bool]) -> Option<&'a TensorSpec> {
    let first = taken.iter().position(|taken| !taken)?;
    Some(&signature.inputs[first])
}
