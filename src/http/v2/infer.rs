//! `POST .../infer`: the request to rows, and the outputs to an answer.

use std::time::Duration;

use http::HeaderMap;

use super::binary::{Blobs, Layout, answer};
use super::inputs::{Inputs, raw};
use super::outputs::{OutputValues, RequestedOutput};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::Rows;
use crate::http::intake::binary::bytes_of;
use crate::http::predict::{Format, MinBytes};
use crate::json::{Kind, Reader, Writer};
use crate::messages::excerpt;
use crate::metrics::Protocol;
use crate::model::{Model, Signature};
use crate::request::InferResponse;

/// What a request says about its answer.
#[derive(Debug)]
pub(super) struct Infer {
    /// Comes back as it was sent.
    id: Option<String>,
    /// The outputs asked for, in the order asked for.
    outputs: Vec<RequestedOutput>,
    /// Whether outputs go out as binary data that do not say themselves.
    is_binary: bool,
}

/// The parameters of a request.
#[derive(Default)]
struct Parameters {
    /// How long it may wait.
    timeout: Option<Duration>,
    /// `binary_data_output`.
    is_binary: bool,
}

impl Format for Infer {
    const PROTOCOL: Protocol = Protocol::V2;

    /// In JSON a number has a digit, and a comma after it; binary integers may have a byte.
    const MIN_BYTES: MinBytes = MinBytes::PerValue {
        single: 2,
        other: 1,
    };

    type Layout = Layout;

    fn layout(headers: &HeaderMap) -> Result<Layout, ApiError> {
        Layout::of(headers)
    }

    fn decode(
        body: &[u8],
        layout: Layout,
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let (json, blobs) = match layout {
            Layout::Json => (body, None),
            Layout::Mixed { json_bytes } => {
                let (json, blobs) = Blobs::after(json_bytes, body)?;
                (json, Some(blobs))
            }
            Layout::Raw => {
                let format = Self {
                    id: None,
                    outputs: RequestedOutput::all(signature).collect(),
                    is_binary: true,
                };
                let mut rows = raw(body, signature, max_rows)?;
                rows.finish = RequestedOutput::any_finished(&format.outputs, signature);
                return Ok((format, rows));
            }
        };
        let mut reader = Reader::new(json)?;
        let mut id = None;
        let mut parameters = Parameters::default();
        let mut outputs = Vec::new();
        let mut inputs = Inputs::new(signature, max_rows, blobs);
        let mut has_inputs = false;
        reader.object(|reader, key| match key {
            "inputs" => {
                has_inputs = true;
                reader.array(|reader, _| inputs.read(reader))
            }
            // Some clients write out what they leave empty.
            "id" | "parameters" | "outputs" if reader.null()? => Ok(()),
            "id" => {
                id = Some(expect_id(&reader.string()?)?.to_owned());
                Ok(())
            }
            "parameters" => {
                parameters = Parameters::read(reader)?;
                Ok(())
            }
            "outputs" => reader.array(|reader, _| {
                outputs.push(RequestedOutput::read(reader, signature, &outputs)?);
                Ok(())
            }),
            // Such as the `model_name` that KServe's client sends.
            _ => Ok(reader.skip()?),
        })?;
        reader.end()?;
        if !has_inputs {
            return Err(ApiError::invalid(
                ErrorCode::MissingField,
                "the body: expected the key \"inputs\" with a list of tensors",
            ));
        }
        if outputs.is_empty() {
            outputs.extend(RequestedOutput::all(signature));
        }
        let rows = inputs.finish()?;
        let format = Self {
            id,
            outputs,
            is_binary: parameters.is_binary,
        };
        let rows = Rows {
            timeout: parameters.timeout,
            finish: RequestedOutput::any_finished(&format.outputs, signature),
            ..rows
        };
        Ok((format, rows))
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        let signature = &model.signature;
        let is_binary = |asked: &RequestedOutput| asked.is_binary.unwrap_or(self.is_binary);
        let mut json_values = 0;
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for asked in &self.outputs {
            let output = OutputValues::of(asked, model, response)?;
            if !is_binary(asked) {
                output.expect_finite(signature)?;
                json_values += output.values.view().len();
            }
            outputs.push((output, is_binary(asked)));
        }
        let mut body = Writer::with_capacity(256 + 12 * json_values);
        let mut blobs = Vec::new();
        body.object(|body| {
            body.key("model_name").string(&model.name);
            body.key("model_version")
                .string(itoa::Buffer::new().format(model.version));
            if let Some(id) = &self.id {
                body.key("id").string(id);
            }
            body.key("outputs").array(|body| {
                for (output, is_binary) in outputs {
                    body.object(|body| {
                        body.key("name").string(output.name);
                        body.key("datatype").string(output.datatype.as_str());
                        body.key("shape").array(|body| {
                            body.integer(response.rows);
                            let extents = output.row_shape.iter();
                            extents.for_each(|&extent| body.integer(extent));
                        });
                        if is_binary {
                            body.key("parameters").object(|body| {
                                let bytes = bytes_of(output.values.view());
                                body.key("binary_data_size").integer(bytes);
                            });
                            return blobs.push(output.values);
                        }
                        body.key("data");
                        body.values(output.values.view());
                    });
                }
            });
        });
        Ok(answer(body, &blobs))
    }
}

impl Parameters {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ApiError> {
        let mut parameters = Self::default();
        reader.object(|reader, key| {
            match key {
                // Microseconds; 0 asks for the server's default, as with Triton.
                "timeout" => {
                    let timeout = Duration::from_micros(reader.u64()?);
                    parameters.timeout = Some(timeout).filter(|wait| !wait.is_zero());
                }
                "binary_data_output" => parameters.is_binary = reader.bool()?,
                "sequence_id" => no_sequence(reader)?,
                _ if key.starts_with("triton_") => {
                    return Err(reserved(key));
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

/// Reads the sequence that a request belongs to. There can be none: an answer that knows
/// nothing of the requests before would be a wrong one. 0 and an empty text are Triton's words for
/// none.
fn no_sequence(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    let at = reader.mark();
    let is_none = match reader.peek()? {
        Kind::String => reader.string()?.is_empty(),
        _ => reader.u64()? == 0,
    };
    match is_none {
        true => Ok(()),
        false => Err(not_in_sequence(&reader.path(at).to_string()).at(reader.path(at))),
    }
}

/// The most bytes of an `id`, which is kept until the answer.
const MAX_ID_BYTES: usize = 1024;

/// Checks the length of an `id`.
pub(super) fn expect_id(id: &str) -> Result<&str, ApiError> {
    match id.len() <= MAX_ID_BYTES {
        true => Ok(id),
        false => Err(ApiError::invalid(
            ErrorCode::IdTooLong,
            format!(
                "id: expected at most {MAX_ID_BYTES} bytes, got {}; send a shorter one",
                id.len()
            ),
        )),
    }
}

/// The refusal of a request that is one of a sequence.
pub(super) fn not_in_sequence(place: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::NotServed,
        format!(
            "{place}: models keep nothing from one request to the next; leave the sequence out"
        ),
    )
}

/// The refusal of a parameter whose name is not the client's to choose.
pub(super) fn reserved(key: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::ReservedParameter,
        format!(
            "parameters: the name {} is reserved; choose one without \"triton_\"",
            excerpt(key, 40)
        ),
    )
}
