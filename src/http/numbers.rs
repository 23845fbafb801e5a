//! Numbers as bytes, little-endian and row-major: the same in every protocol that has them.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::error::{ApiError, ErrorCode};
use crate::model::Signature;
use crate::tensor::TensorSpec;

/// The values that are converted and then checked while they are in the nearest cache.
const BLOCK_VALUES: usize = 1024;

/// The types of numbers that become the `f32` that the engine reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Fp32,
    Fp16,
    Bf16,
}

impl Element {
    /// The type of the Open Inference Protocol's name.
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

/// Appends the bytes of values.
pub(super) fn append(values: &[f32], out: &mut Vec<u8>) {
    for block in values.chunks(BLOCK_VALUES) {
        let start = out.len();
        out.resize(start + size_of_val(block), 0);
        let (places, _) = out[start..].as_chunks_mut();
        for (place, value) in places.iter_mut().zip(block) {
            *place = value.to_le_bytes();
        }
    }
}

/// Reads binary data of the right size.
pub(super) fn finite(
    signature: &Signature,
    spec: &TensorSpec,
    element: Element,
    blob: &[u8],
) -> Result<Vec<f32>, ApiError> {
    let allowed = signature.allow_non_finite;
    element.read(blob, allowed).map_err(|position| {
        ApiError::invalid(
            ErrorCode::NotFinite,
            format!(
                "input {:?}: expected finite numbers, got NaN or an infinity as value {position} of \
                 its binary data; replace it before sending, or set \"allow_non_finite\" in the \
                 model's config.json",
                spec.name
            ),
        )
    })
}
