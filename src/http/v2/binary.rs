//! The binary tensor data extension: tensors as bytes behind the JSON, in requests and in answers.
//!
//! Numbers are little-endian and row-major; a text is its length as four bytes, then its own bytes.
//!
//! Source: `protocol/extension_binary_data.md` of Triton.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::super::answer;
use super::super::error::ApiError;
use super::super::json::{Writer, excerpt};

/// Says how many bytes of a body are its JSON. Without it a body is all JSON, whatever its media
/// type: tritonclient sends either under the same.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The values that are converted and then checked while they are in the nearest cache.
const BLOCK_VALUES: usize = 1024;

/// How a request's body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One JSON document.
    Json,
    /// A JSON document of so many bytes, and the binary data of its inputs behind it.
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
        "invalid_header_length",
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
    /// Splits a body behind its JSON.
    ///
    /// # Errors
    /// 400 if it is shorter than its JSON should be.
    pub(super) fn behind(json_bytes: usize, body: &'b [u8]) -> Result<(&'b [u8], Self), ApiError> {
        match body.split_at_checked(json_bytes) {
            Some((json, blobs)) => Ok((json, Self(blobs))),
            None => Err(bad_length(&format!(
                "expected at most the {} bytes of the body, got {json_bytes}",
                body.len()
            ))),
        }
    }

    /// The next so many bytes; `None` if there are not as many.
    pub(super) fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (blob, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(blob)
    }

    /// How many bytes nobody took.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

/// The types of numbers that become the `f32` that the engine reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Fp32,
    Fp16,
    Bf16,
}

impl Element {
    /// The type of the protocol's name.
    pub(super) fn named(datatype: &str) -> Option<Self> {
        match datatype {
            "FP32" => Some(Self::Fp32),
            "FP16" => Some(Self::Fp16),
            "BF16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// How many bytes a value takes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
        }
    }

    /// Reads values, in one pass over the bytes, whose number is a multiple of a value's.
    ///
    /// # Errors
    /// The position of the first value that is NaN or infinite, unless these are allowed.
    pub(super) fn read(self, bytes: &[u8], allow_non_finite: bool) -> Result<Vec<f32>, usize> {
        let mut values = Vec::with_capacity(bytes.len() / self.bytes());
        for block in bytes.chunks(BLOCK_VALUES * self.bytes()) {
            let start = values.len();
            match self {
                Self::Fp32 => {
                    values.extend(block.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
                }
                Self::Fp16 => widen(block, f16::from_le_bytes, &mut values),
                Self::Bf16 => widen(block, bf16::from_le_bytes, &mut values),
            }
            // Without a branch a value, so that it is computed many at a time.
            let block = &values[start..];
            if !allow_non_finite
                && !block
                    .iter()
                    .fold(true, |all, value| all & value.is_finite())
            {
                let position = block.iter().position(|value| !value.is_finite());
                return Err(start + position.unwrap_or(0));
            }
        }
        Ok(values)
    }
}

/// Appends a block of values of two bytes.
fn widen<T: Copy + Default>(block: &[u8], read: fn([u8; 2]) -> T, values: &mut Vec<f32>)
where
    [T]: HalfFloatSliceExt,
{
    let mut halves = [T::default(); BLOCK_VALUES];
    let (pairs, _) = block.as_chunks();
    for (half, pair) in halves.iter_mut().zip(pairs) {
        *half = read(*pair);
    }
    let start = values.len();
    values.resize(start + pairs.len(), 0.0);
    halves[..pairs.len()].convert_to_f32_slice(&mut values[start..]);
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
            Self::Numbers(values) => {
                for block in values.chunks(BLOCK_VALUES) {
                    let start = out.len();
                    out.resize(start + size_of_val(block), 0);
                    let (places, _) = out[start..].as_chunks_mut();
                    for (place, value) in places.iter_mut().zip(block) {
                        *place = value.to_le_bytes();
                    }
                }
            }
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
