//! `Predict`.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::method::Method;
use super::spec::model_spec;
use super::tensor::{self, Output};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::grpc::{Fields, prefixed, tensorflow};
use crate::http::intake::Rows;
use crate::http::intake::unknown_input;
use crate::http::outputs::OutputRows;
use crate::http::rows::missing_input;
use crate::messages::excerpt;
use crate::model::{Model, Signature};
use crate::request::InferResponse;

const PLACE: &str = "inputs";

/// The numbers of `outputs`, and of a map's keys and values.
const OUTPUTS: u32 = 1;
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// The outputs that are asked for, by their positions in the signature.
#[derive(Debug)]
pub(super) struct Predict(Vec<usize>);

impl Method for Predict {
    fn decode(
        message: &[u8],
        signature: &Signature,
        max_rows: usize,
    ) -> Result<(Self, Rows), ApiError> {
        let inputs = &signature.inputs;
        // Of a key that comes twice the last value counts, as in every map of the language.
        let mut tensors = vec![None; inputs.len()];
        let mut outputs = Vec::new();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => {
                    let (name, tensor) = entry(value.fields()?)?;
                    let index = inputs.iter().position(|spec| spec.name == name);
                    let index = index.ok_or_else(|| unknown_input(name, PLACE, signature))?;
                    tensors[index] = Some(tensor);
                }
                3 => {
                    let position = output(value.text()?, signature)?;
                    if !outputs.contains(&position) {
                        outputs.push(position);
                    }
                }
                _ => {}
            }
        }
        if outputs.is_empty() {
            outputs.extend(engine_outputs(signature));
        }
        let mut rows = Vec::with_capacity(inputs.len());
        for (spec, tensor) in inputs.iter().zip(tensors) {
            let Some(tensor) = tensor else {
                return Err(missing_input(PLACE, spec, format_args!("{spec}")));
            };
            let read = tensor::read(tensor, signature, spec, max_rows);
            rows.push(read.map_err(|error| error.at(PLACE))?);
        }
        let rows = Rows::join(PLACE, rows, max_rows)?;
        Ok((Self(outputs), rows))
    }

    fn encode(self, model: &Model, response: &InferResponse) -> Vec<u8> {
        let outputs = self.0.iter().filter_map(|&position| {
            let output = OutputRows::at(position, model, response)?;
            Some((&output.spec().name, Output::of(output, response.rows)))
        });
        let outputs: Vec<_> = outputs.collect();
        let field = |bytes: usize| encoded_len_varint(bytes as u64) + bytes;
        let entry_bytes = |name: &str, tensor: &Output<'_>| {
            key_len(KEY) + field(name.len()) + key_len(VALUE) + field(tensor.encoded_len())
        };
        let head = tensorflow::serving::PredictResponse {
            model_spec: Some(model_spec(model)),
            ..Default::default()
        };
        let entries = outputs
            .iter()
            .map(|(name, tensor)| key_len(OUTPUTS) + field(entry_bytes(name, tensor)));
        let mut out = prefixed(head.encoded_len() + entries.sum::<usize>());
        let begin = |number: u32, bytes: usize, out: &mut Vec<u8>| {
            encode_key(number, WireType::LengthDelimited, out);
            encode_varint(bytes as u64, out);
        };
        for (name, tensor) in &outputs {
            begin(OUTPUTS, entry_bytes(name, tensor), &mut out);
            begin(KEY, name.len(), &mut out);
            out.extend_from_slice(name.as_bytes());
            begin(VALUE, tensor.encoded_len(), &mut out);
            tensor.encode(&mut out);
        }
        head.encode(&mut out)
            .expect("a vector takes what there is memory for");
        out
    }
}

/// Reads an entry of `inputs`: the name and the tensor.
fn entry(mut fields: Fields<'_>) -> Result<(&str, Fields<'_>), ApiError> {
    let (mut name, mut tensor) = ("", Fields::of(&[]));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => tensor = value.fields()?,
            _ => {}
        }
    }
    Ok((name, tensor))
}

/// The outputs of the network: classes have their own call.
fn engine_outputs(signature: &Signature) -> impl Iterator<Item = usize> {
    0..signature.engine_outputs().count()
}

/// The position of an output that is asked for.
fn output(name: &str, signature: &Signature) -> Result<usize, ApiError> {
    let name_of = |position: usize| &*signature.outputs[position].spec.name;
    let found = engine_outputs(signature).find(|&position| name_of(position) == name);
    found.ok_or_else(|| {
        let known: Vec<_> = engine_outputs(signature)
            .map(|position| format!("{:?}", name_of(position)))
            .collect();
        ApiError::invalid(
            ErrorCode::UnknownOutput,
            format!(
                "output_filter: the model has no output {}; it gives {}",
                excerpt(name, 40),
                known.join(", ")
            ),
        )
    })
}
