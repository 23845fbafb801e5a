//! The binary tensor data extension: tensors as bytes after the JSON, in requests and in answers.
//!
//! Numbers are little-endian and row-major; a text is its length as four bytes, then its own bytes.
//!
//! Source: `protocol/extension_binary_data.md` of Triton.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::http::answer;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::numbers;
use crate::json::Writer;
use crate::spelling::excerpt;

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

/// The values of an output, whichever way they go out.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// FP32.
    Numbers(&'a [f32]),
    /// INT64.
    ClassIds(&'a [usize]),
    /// BYTES: of each class its label.
    Labels(&'a [String], &'a [usize]),
    /// BYTES.
    Texts(Vec<String>),
}

impl Values<'_> {
    /// Writes them as a JSON array.
    pub(super) fn write(&self, body: &mut Writer) {
        match self {
            Self::Numbers(values) => body.f32s(values),
            Self::ClassIds(classes) => {
                body.array(|body| classes.iter().for_each(|&class| body.integer(class)));
            }
            Self::Labels(..) | Self::Texts(_) => {
                body.array(|body| self.texts().for_each(|text| body.string(text)));
            }
        }
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::ClassIds(classes) | Self::Labels(_, classes) => classes.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// How many bytes [`Self::append_to`] appends.
    pub(super) fn binary_bytes(&self) -> usize {
        match self {
            Self::Numbers(values) => size_of_val(*values),
            Self::ClassIds(classes) => size_of::<i64>() * classes.len(),
            Self::Labels(..) | Self::Texts(_) => {
                self.texts().map(|text| size_of::<u32>() + text.len()).sum()
            }
        }
    }

    /// Writes them as binary data.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Numbers(values) => numbers::append(values, out),
            Self::ClassIds(classes) => {
                for &class in *classes {
                    out.extend((class as i64).to_le_bytes());
                }
            }
            Self::Labels(..) | Self::Texts(_) => {
                for text in self.texts() {
                    // The configuration that labels come from is shorter than 4 GiB.
                    out.extend((text.len() as u32).to_le_bytes());
                    out.extend(text.as_bytes());
                }
            }
        }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let none: (&[String], &[usize], &[String]) = (&[], &[], &[]);
        let (labels, classes, texts) = match self {
            Self::Labels(labels, classes) => (*labels, *classes, none.2),
            Self::Texts(texts) => (none.0, none.1, &**texts),
            Self::Numbers(_) | Self::ClassIds(_) => none,
        };
        let labels = classes.iter().map(|&class| labels[class].as_str());
        labels.chain(texts.iter().map(String::as_str))
    }
}

/// The answer of a document and the binary data of the outputs in it, in their order.
pub(super) fn answer(document: Writer, blobs: &[Values<'_>]) -> Response<Vec<u8>> {
    if blobs.is_empty() {
        return answer::json(StatusCode::OK, document.into_bytes());
    }
    let mut body = document.into_bytes();
    let json_bytes = body.len();
    body.reserve_exact(blobs.iter().map(Values::binary_bytes).sum());
    for blob in blobs {
        blob.append_to(&mut body);
    }
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(JSON_LENGTH, json_bytes.into());
    response
}
