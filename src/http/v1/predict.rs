//! `:predict`, by rows (`instances`) or by columns (`inputs`).

use http::{HeaderMap, StatusCode};

use super::super::answer;
use super::super::error::ApiError;
use super::super::json::{Kind, Reader, Writer};
use super::super::predict::{Format, Rows};
use super::input::{self, buffers};
use crate::metrics::Protocol;
use crate::model::{Model, Output, OutputSource, Signature};
use crate::request::InferResponse;
use crate::tensor::TensorSpec;

/// In which form the request came: the answer has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predict {
    /// `{"instances": [row, ...]}`
    Rows,
    /// `{"inputs": tensor}` or `{"inputs": {name: tensor, ...}}`
    Columns,
}

impl Format for Predict {
    const PROTOCOL: Protocol = Protocol::V1;

    type Layout = ();

    fn layout(_: &HeaderMap) -> Result<(), ApiError> {
        Ok(())
    }

    fn decode(
        body: &[u8],
        (): (),
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let mut reader = input::reader(body, signature)?;
        let mut decoded = None;
        reader.object(|reader, key| {
            let form = match key {
                "instances" => Self::Rows,
                "inputs" => Self::Columns,
                "signature_name" => return input::signature_name(reader),
                _ => return Ok(reader.skip()?),
            };
            if decoded.is_some() {
                return Err(ApiError::invalid(
                    "ambiguous_request",
                    "the body: expected either \"instances\" or \"inputs\", got both",
                ));
            }
            let rows = match form {
                Self::Rows => read_rows(reader, signature, max_rows)?,
                Self::Columns => read_columns(reader, signature, max_rows)?,
            };
            decoded = Some((form, rows));
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
        // The engine's outputs only: classes have their own call, and TensorFlow Serving's
        // clients expect what the network gives.
        let outputs = model.signature.outputs.iter();
        let outputs: Vec<(&Output, &[f32])> = outputs
            .filter_map(|output| match output.source {
                OutputSource::Engine(index) => Some((output, &*response.outputs[index])),
                OutputSource::ClassId | OutputSource::Label => None,
            })
            .collect();
        let with_rows = |output: &Output| {
            let mut shape = vec![response.rows];
            shape.extend(&output.spec.row_shape);
            shape
        };
        let mut body = Writer::with_capacity(256);
        body.object(|body| match (self, &*outputs) {
            (Self::Rows, [(output, values)]) => body
                .key("predictions")
                .nested_f32s(values, &with_rows(output)),
            (Self::Columns, [(output, values)]) => {
                body.key("outputs").nested_f32s(values, &with_rows(output));
            }
            (Self::Rows, outputs) => body.key("predictions").array(|body| {
                for row in 0..response.rows {
                    body.object(|body| {
                        for (output, values) in outputs {
                            let elements = output.spec.row_elements();
                            let values = &values[row * elements..][..elements];
                            body.key(&output.spec.name)
                                .nested_f32s(values, &output.spec.row_shape);
                        }
                    });
                }
            }),
            (Self::Columns, outputs) => body.key("outputs").object(|body| {
                for (output, values) in outputs {
                    body.key(&output.spec.name)
                        .nested_f32s(values, &with_rows(output));
                }
            }),
        });
        Ok(answer::json(StatusCode::OK, body.into_bytes()))
    }
}

/// Reads `instances`: for a single input a row is its values; it may always be an object that
/// holds the values of each input by name.
fn read_rows(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    const PLACE: &str = "instances";
    let mut inputs = buffers(signature);
    if reader.peek_element()? != Some(Kind::Object) {
        let [spec] = &*signature.inputs else {
            return Err(ApiError::invalid(
                "wrong_type",
                format!(
                    "{PLACE}: the model has several inputs; send each row as an object: {}",
                    object_of(signature)
                ),
            ));
        };
        let rows = input::tensor(reader, spec, max_rows, &mut inputs[0])?;
        return input::rows(PLACE, rows, max_rows, inputs);
    }
    let mut rows = 0;
    let mut taken = vec![false; inputs.len()];
    let all = reader.mark();
    reader.array(|reader, index| {
        if index == max_rows {
            return Err(input::too_many_rows(
                PLACE,
                input::count(reader, all)?,
                max_rows,
            ));
        }
        rows += 1;
        let place = reader.mark();
        taken.fill(false);
        named(reader, signature, &mut taken, |reader, index| {
            input::row(reader, &signature.inputs[index], &mut inputs[index])
        })?;
        match first_missing(signature, &taken) {
            None => Ok(()),
            Some(spec) => Err(input::missing_input(
                &reader.path(place),
                spec,
                format_args!("{} {:?}", spec.datatype, spec.row_shape),
            )),
        }
    })?;
    input::rows(PLACE, rows, max_rows, inputs)
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
        let rows = input::tensor(reader, spec, max_rows, &mut inputs[0])?;
        return input::rows(PLACE, rows, max_rows, inputs);
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
        let its_rows = input::tensor(reader, spec, max_rows, &mut inputs[index])?;
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
        return Err(input::missing_input(PLACE, spec, format_args!("{spec}")));
    }
    input::rows(PLACE, rows.unwrap_or(0), max_rows, inputs)
}

/// Shows the object that holds all inputs.
fn object_of(signature: &Signature) -> String {
    let inputs = signature.inputs.iter();
    let members: Vec<_> = inputs.map(|spec| format!("{:?}: ...", spec.name)).collect();
    format!("{{{}}}", members.join(", "))
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
        |key, path| input::unknown(key, &path, signature),
        member,
    )
}

/// The first input that did not come, if one did not.
fn first_missing<'a>(signature: &'a Signature, taken: &[bool]) -> Option<&'a TensorSpec> {
    let first = taken.iter().position(|taken| !taken)?;
    Some(&signature.inputs[first])
}
