//! The elements of a tensor, from its bytes in a file to checked numbers.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use zerocopy::IntoBytes;

use super::error::ReadError;
use crate::engine::kernels::pages;
use crate::model::fingerprint::Fingerprint;

/// Read at once: large enough to hide the call, small enough to stay in the cache.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads the tensor whose bytes come next in the file; returns with it the first element that is
/// NaN or infinite in `f32`.
pub(super) fn read(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
) -> Result<(Option<Arc<ArrayD<f32>>>, Option<(usize, f32)>), ReadError> {
    let mut elements = Elements::new(info).map_err(ReadError::Format)?;
    let length = info.data_offsets.1 - info.data_offsets.0;
    let mut followed = 0;
    for start in (0..length).step_by(CHUNK_BYTES) {
        let bytes = CHUNK_BYTES.min(length - start);
        if elements.are_as_stored() {
            let read = elements.read(file, bytes).map_err(ReadError::Io)?;
            followed = fingerprint.follow(read, followed);
        } else {
            let mut part = fingerprint.buffer();
            part.resize(bytes, 0);
            file.read_exact(&mut part).map_err(ReadError::Io)?;
            elements.push(&part);
            fingerprint.take(part);
        }
    }
    let is_as_stored = elements.are_as_stored();
    let Some(values) = elements.values else {
        return Ok((None, None));
    };
    let values = ArrayD::from_shape_vec(IxDyn(&info.shape), values)
        .expect("the header's shapes were checked against the bytes");
    let values = Arc::new(values);
    if is_as_stored {
        fingerprint.share(Arc::clone(&values), followed);
    }
    Ok((Some(values), elements.non_finite))
}

/// One tensor's elements on their way to `f32`.
struct Elements {
    /// `None` for datatypes that no layer computes with.
    values: Option<Vec<f32>>,
    datatype: Dtype,
    /// The first that is NaN or infinite in `f32`.
    non_finite: Option<(usize, f32)>,
}

impl Elements {
    fn new(info: &TensorInfo) -> Result<Self, String> {
        let computable = matches!(
            info.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
        );
        let mut values = computable.then(Vec::new);
        if let Some(values) = &mut values {
            let elements = info.shape.iter().product();
            values
                .try_reserve_exact(elements)
                .map_err(|_| format!("no memory for a tensor of {elements} elements"))?;
            pages::prefer_large(values.spare_capacity_mut());
        }
        Ok(Self {
            values,
            datatype: info.dtype,
            non_finite: None,
        })
    }

    /// Whether the elements' bytes in memory are those in the file.
    fn are_as_stored(&self) -> bool {
        self.datatype == Dtype::F32 && cfg!(target_endian = "little")
    }

    /// Reads whole elements that [are as stored](Self::are_as_stored); returns the bytes of all that
    /// were read so far.
    fn read(&mut self, file: &mut File, bytes: usize) -> io::Result<&[u8]> {
        let values = self.values.as_mut().expect("32 bits are computed with");
        let start = values.len();
        // Written twice, but the first time in the cache.
        values.resize(start + bytes / size_of::<f32>(), 0.0);
        file.read_exact(values[start..].as_mut_bytes())?;
        self.check(start);
        Ok(self.values.as_deref().unwrap_or_default().as_bytes())
    }

    /// Adds whole elements. A chunk never splits one: its size is a multiple of all widths.
    fn push(&mut self, bytes: &[u8]) {
        let Some(values) = &mut self.values else {
            return;
        };
        let start = values.len();
        match self.datatype {
            Dtype::F64 => widen(values, bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F32 => widen(values, bytes, f32::from_le_bytes),
            Dtype::F16 => widen(values, bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => widen(values, bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => unreachable!("only the datatypes above have values"),
        }
        self.check(start);
    }

    /// Looks at the elements from `start` on, while they are in the cache.
    fn check(&mut self, start: usize) {
        let values = self.values.as_deref().unwrap_or_default();
        let new = values[start..].iter();
        // Without a branch for each, so that many are checked at a time.
        if new.fold(true, |all, value| all & value.is_finite()) {
            return;
        }
        let mut all = values.iter().enumerate();
        self.non_finite = all
            .find(|(_, value)| !value.is_finite())
            .map(|(index, value)| (index, *value));
    }
}

fn widen<const N: usize>(values: &mut Vec<f32>, bytes: &[u8], convert: impl Fn([u8; N]) -> f32) {
    let (elements, rest) = bytes.as_chunks::<N>();
    debug_assert!(rest.is_empty(), "chunks hold whole elements");
    values.extend(elements.iter().copied().map(convert));
}
