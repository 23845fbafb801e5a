//! The binary tensor data extension: tensors as bytes after the JSON, in requests and in answers.
//!
//! Numbers are little-endian and row-major; a text is its length as four bytes, then its own bytes.
//!
//! Source: `protocol/extension_binary_data.md` of Triton.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::http::answer;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::binary::{append, bytes_of};
use crate::http::outputs::TensorValues;
use crate::json::Writer;
use crate::messages::excerpt;

/// Says how many bytes of a body are its JSON. Without it a body is all JSON, whatever its media
/// type: tritonclient sends either under the same.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// How a request's body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One JSON document.
    Json,
    /// A JSON document of this many bytes, and after it the binary data of its inputs.
    Mixed { json_bytes: usize },
    /// Nothing but the binary data of the model's only input.
    Raw,
}

impl Layout {
    /// What the head says.
    ///
    /// # Errors
    /// 400 if the header comes twice, or is no number of bytes.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(JSON_LENGTH).iter();
        let Some(value) = values.next() else {
            return Ok(Self::Json);
        };
        let bad = |found: &str| {
            Err(bad_length(&format!(
                "expected the number of bytes of the JSON, got {found}"
            )))
        };
        if values.next().is_some() {
            return bad("it twice");
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        // What would also parse is a sign.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(0) if is_number => Ok(Self::Raw),
            Ok(json_bytes) if is_number => Ok(Self::Mixed { json_bytes }),
            _ => bad(&excerpt(&text, 40)),
        }
    }
}

/// An `Inference-Header-Content-Length` that cannot be true.
pub(super) fn bad_length(problem: &str) -> ApiError {
    ApiError::invalid(
        ErrorCode::InvalidHeaderLength,
        format!(
            "header {JSON_LENGTH}: {problem}; count the bytes of the JSON before any compression, \
             or leave the header out if the body is JSON alone"
        ),
    )
}

/// The binary data of a request's inputs, in their order, without anything between.
#[derive(Debug)]
pub(super) struct Blobs<'b>(&'b [u8]);

impl<'b> Blobs<'b> {
    /// Splits a body after its JSON.
    ///
    /// # Errors
    /// 400 if it is shorter than its JSON should be.
    pub(super) fn after(json_bytes: usize, body: &'b [u8]) -> Result<(&'b [u8], Self), ApiError> {
        match body.split_at_checked(json_bytes) {
            Some((json, blobs)) => Ok((json, Self(blobs))),
            None => Err(bad_length(&format!(
                "expected at most the {} bytes of the body, got {json_bytes}",
                body.len()
            ))),
        }
    }

    /// The next `bytes` bytes; `None` if there are fewer.
    pub(super) fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (blob, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(blob)
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

/// The answer of a document and the binary data of the outputs in it, in their order.
pub(super) fn answer(document: Writer, blobs: &[TensorValues<'_>]) -> Response<Vec<u8>> {
    if blobs.is_empty() {
        return answer::json(StatusCode::OK, document.into_bytes());
    }
    let mut body = document.into_bytes();
    let json_bytes = body.len();
    let blobs = || blobs.iter().map(TensorValues::view);
    body.reserve_exact(blobs().map(bytes_of).sum());
    blobs().for_each(|blob| append(blob, &mut body));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(JSON_LENGTH, json_bytes.into());
    response
}
