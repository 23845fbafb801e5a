//! `POST .../infer`: the request to rows, and the outputs to an answer.

use std::cell::OnceCell;
use std::time::Duration;

use http::HeaderMap;

use super::super::error::ApiError;
use super::super::json::{Kind, Reader, Writer, excerpt};
use super::super::predict::{Format, Rows};
use super::binary::{Blobs, Layout, Values, answer};
use super::classes::Ranked;
use super::inputs::{Inputs, raw};
use super::outputs::Asked;
use crate::metrics::Protocol;
use crate::model::{Model, OutputSource, Signature};
use crate::request::InferResponse;
use crate::tensor::DataType;

/// What a request says about its answer.
#[derive(Debug)]
pub(super) struct Infer {
    /// Comes back as it was sent.
    id: Option<String>,
    /// The outputs asked for, in the order asked for.
    outputs: Vec<Asked>,
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
                let (json, blobs) = Blobs::behind(json_bytes, body)?;
                (json, Some(blobs))
            }
            Layout::Raw => {
                let format = Self {
                    id: None,
                    outputs: Asked::all(signature).collect(),
                    is_binary: true,
                };
                let (rows, inputs) = raw(body, signature, max_rows)?;
                let rows = Rows {
                    rows,
                    inputs,
                    timeout: None,
                };
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
                id = Some(reader.string()?.into_owned());
                Ok(())
            }
            "parameters" => {
                parameters = Parameters::read(reader)?;
                Ok(())
            }
            "outputs" => reader.array(|reader, _| {
                outputs.push(Asked::read(reader, signature, &outputs)?);
                Ok(())
            }),
            // Such as the `model_name` that KServe's client sends.
            _ => Ok(reader.skip()?),
        })?;
        reader.end()?;
        if !has_inputs {
            return Err(ApiError::invalid(
                "missing_field",
                "the body: expected the key \"inputs\" with a list of tensors",
            ));
        }
        if outputs.is_empty() {
            outputs.extend(Asked::all(signature));
        }
        let (rows, inputs) = inputs.finish()?;
        let format = Self {
            id,
            outputs,
            is_binary: parameters.is_binary,
        };
        let rows = Rows {
            rows,
            inputs,
            timeout: parameters.timeout,
        };
        Ok((format, rows))
    }

    fn encode(
        self,
        model: &Model,
        response: &InferResponse,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        let signature = &model.signature;
        let is_binary = |asked: &Asked| asked.is_binary.unwrap_or(self.is_binary);
        let json_values = |asked: &Asked| match signature.outputs[asked.position].source {
            OutputSource::Engine(index) if !is_binary(asked) => response.outputs[index].len(),
            _ => response.rows,
        };
        let json_values: usize = self.outputs.iter().map(json_values).sum();
        let mut body = Writer::with_capacity(256 + 12 * json_values);
        let mut blobs = Vec::new();
        // The engine's own answers are finite unless the model allows others.
        let is_finite = |values: &[f32]| {
            !signature.allow_non_finite || values.iter().fold(true, |all, v| all & v.is_finite())
        };
        let mut not_finite = None;
        // Worked out once for the two outputs that show classes.
        let classes = OnceCell::new();
        let classes = || -> &Vec<usize> {
            classes.get_or_init(|| signature.classes(response).unwrap_or_default())
        };
        body.object(|body| {
            body.key("model_name").string(&model.name);
            body.key("model_version")
                .string(itoa::Buffer::new().format(model.version));
            if let Some(id) = &self.id {
                body.key("id").string(id);
            }
            body.key("outputs").array(|body| {
                for asked in &self.outputs {
                    let output = &signature.outputs[asked.position];
                    let mut datatype = output.spec.datatype;
                    let mut row_shape = &*output.spec.row_shape;
                    let classes_a_row;
                    let values = match (output.source, asked.classes) {
                        (OutputSource::Engine(index), None) => {
                            let values = &response.outputs[index];
                            if !is_binary(asked) && !is_finite(values) {
                                not_finite = Some((&output.spec.name, false));
                            }
                            Values::Numbers(values)
                        }
                        (OutputSource::Engine(index), Some(most)) => {
                            let values = &response.outputs[index];
                            if !is_finite(values) {
                                not_finite = Some((&output.spec.name, true));
                                continue;
                            }
                            let ranked = Ranked::of(signature, asked.position, values, most);
                            datatype = DataType::Bytes;
                            classes_a_row = [ranked.classes];
                            row_shape = &classes_a_row;
                            Values::Texts(ranked.texts)
                        }
                        (OutputSource::ClassId, _) => Values::ClassIds(classes()),
                        (OutputSource::Label, _) => Values::Labels(&signature.labels, classes()),
                    };
                    body.object(|body| {
                        body.key("name").string(&output.spec.name);
                        body.key("datatype").string(datatype.as_str());
                        body.key("shape").array(|body| {
                            body.integer(response.rows);
                            row_shape.iter().for_each(|&extent| body.integer(extent));
                        });
                        if is_binary(asked) {
                            body.key("parameters").object(|body| {
                                body.key("binary_data_size").integer(values.binary_bytes());
                            });
                            return blobs.push(values);
                        }
                        body.key("data");
                        values.write(body);
                    });
                }
            });
        });
        match not_finite {
            Some((output, is_ranked)) => Err(ApiError::NonFiniteAnswer {
                output: output.clone(),
                is_ranked,
            }),
            None => Ok(answer(body, &blobs)),
        }
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
                    return Err(ApiError::invalid(
                        "reserved_parameter",
                        format!(
                            "parameters: the name {} is reserved; choose one without \"triton_\"",
                            excerpt(key, 40)
                        ),
                    ));
                }
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(parameters)
    }
}

/// Reads the sequence that a request belongs to, of which there can be none: an answer that knows
/// nothing of the requests before would be a wrong one. 0 and an empty text are Triton's words for
/// none.
fn no_sequence(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    let at = reader.mark();
    let is_none = match reader.peek()? {
        Kind::String => reader.string()?.is_empty(),
        _ => reader.u64()? == 0,
    };
    if is_none {
        return Ok(());
    }
    Err(ApiError::invalid(
        "not_served",
        format!(
            "{}: models keep nothing from one request to the next; leave the sequence out",
            reader.path(at)
        ),
    ))
}
