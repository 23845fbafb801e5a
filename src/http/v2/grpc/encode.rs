//! The outputs to a `ModelInferResponse`.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::http::error::ApiError;
use crate::http::grpc::{inference, prefixed};
use crate::http::intake::binary::{append, bytes_of};
use crate::http::v2::outputs::{OutputValues, RequestedOutput};
use crate::model::Model;
use crate::request::InferResponse;

/// The number of `raw_output_contents`.
const RAW: u32 = 6;

/// The number of `infer_response` in a message of a stream.
const INFER_RESPONSE: u32 = 2;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is all of its request's answer.
    Alone,
    /// It is one message of a stream.
    InStream,
}

/// What a request says about its answer.
#[derive(Debug)]
pub(super) struct AnswerOptions {
    /// Comes back as it was sent.
    pub(super) id: String,
    /// The outputs asked for, in the order asked for.
    pub(super) outputs: Vec<RequestedOutput>,
}

impl AnswerOptions {
    /// Writes the message with its prefix: what describes the outputs, and after it the values of
    /// each as bytes, as every client reads them, straight from the engine's buffers.
    pub(super) fn encode(
        self,
        model: &Model,
        response: &InferResponse,
        place: Place,
    ) -> Result<http::Response<Vec<u8>>, ApiError> {
        let outputs = self.outputs.iter();
        let outputs = outputs.map(|asked| OutputValues::of(asked, model, response));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let described = outputs.iter().map(|output| {
            let extents = output.row_shape.iter();
            let shape = std::iter::once(&response.rows).chain(extents);
            inference::model_infer_response::InferOutputTensor {
                name: output.name.to_owned(),
                datatype: output.datatype.as_str().to_owned(),
                shape: shape.map(|&extent| extent as i64).collect(),
                ..Default::default()
            }
        });
        let head = inference::ModelInferResponse {
            model_name: model.name.clone(),
            model_version: model.version.to_string(),
            outputs: described.collect(),
            id: self.id,
            ..Default::default()
        };
        let raw_bytes = outputs.iter().map(|output| {
            let bytes = bytes_of(output.values.view());
            key_len(RAW) + encoded_len_varint(bytes as u64) + bytes
        });
        let bytes = head.encoded_len() + raw_bytes.sum::<usize>();
        let mut out = match place {
            Place::Alone => prefixed(bytes),
            Place::InStream => {
                let length = encoded_len_varint(bytes as u64);
                let mut out = prefixed(key_len(INFER_RESPONSE) + length + bytes);
                encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut out);
                encode_varint(bytes as u64, &mut out);
                out
            }
        };
        head.encode(&mut out)
            .expect("a vector takes what there is memory for");
        for output in &outputs {
            encode_key(RAW, WireType::LengthDelimited, &mut out);
            let values = output.values.view();
            encode_varint(bytes_of(values) as u64, &mut out);
            append(values, &mut out);
        }
        Ok(http::Response::new(out))
    }
}
