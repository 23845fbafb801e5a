//! The elements of a tensor, from its bytes in a file to checked numbers.

use std::fs::File;
use std::io::Read;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::error::ReadError;
use crate::engine::Constant;
use crate::engine::kernels::pages;
use crate::model::fingerprint::Fingerprint;

/// The bytes of one read: enough to hide the cost of the call, few enough to stay in the cache. A
/// multiple of every element's size, so that no chunk splits one.
const CHUNK_BYTES: usize = 256 << 10;

/// The first element of a tensor that is NaN or infinite, and what it is as `f32`.
pub(super) type NonFinite = Option<(usize, f32)>;

/// Reads the tensor whose bytes come next in the file; nothing of a datatype that no layer computes
/// with.
pub(super) fn read(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
) -> Result<(Option<Constant>, NonFinite), ReadError> {
    match info.dtype {
        Dtype::F32 => read_as_stored(file, info, fingerprint, Constant::from_f32),
        Dtype::BF16 => read_as_stored(file, info, fingerprint, Constant::from_bf16),
        Dtype::F16 => read_as_stored(file, info, fingerprint, Constant::from_f16),
        Dtype::F64 => read_narrowed(file, info, fingerprint),
        _ => {
            read_chunks(file, info, fingerprint, |_| ())?;
            Ok((None, None))
        }
    }
}

/// A number that stays in memory as its file has it.
trait Number: Copy + Default + Into<f32> + FromBytes + IntoBytes + Immutable {
    /// The number whose bytes, lowest first, are these in memory.
    fn native(self) -> Self;

    fn is_finite(self) -> bool;
}

macro_rules! number {
    ($($number:ident)+) => {$(
        impl Number for $number {
            fn native(self) -> Self {
                Self::from_le_bytes(self.to_ne_bytes())
            }

            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    )+};
}
number! { f32 bf16 f16 }

/// Reads elements into the memory where they stay. They are hashed there, if their bytes in memory are
/// those in the file.
fn read_as_stored<T: Number>(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
    constant: fn(ArrayD<T>) -> Constant,
) -> Result<(Option<Constant>, NonFinite), ReadError> {
    let mut values: Vec<T> = reserved(info)?;
    let mut non_finite = None;
    let mut followed = 0;
    for chunk in chunks(info) {
        let start = values.len();
        // Written twice, but the first time in the cache.
        values.resize(start + chunk / size_of::<T>(), T::default());
        let new = values[start..].as_mut_bytes();
        file.read_exact(new).map_err(ReadError::Io)?;
        if cfg!(target_endian = "little") {
            followed = fingerprint.follow(values.as_bytes(), followed);
        } else {
            fingerprint.update(new);
            let new = values[start..].iter_mut();
            new.for_each(|value| *value = value.native());
        }
        non_finite = non_finite.or_else(|| first_non_finite(&values, start));
    }
    let constant = constant(shaped(info, values));
    if cfg!(target_endian = "little") {
        fingerprint.share(constant.clone(), followed);
    }
    Ok((Some(constant), non_finite))
}

/// Reads elements of 64 bits and rounds them to 32.
fn read_narrowed(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
) -> Result<(Option<Constant>, NonFinite), ReadError> {
    let mut values: Vec<f32> = reserved(info)?;
    let mut non_finite = None;
    read_chunks(file, info, fingerprint, |bytes| {
        let (elements, rest) = bytes.as_chunks();
        debug_assert!(rest.is_empty(), "chunks hold whole elements");
        let start = values.len();
        let elements = elements.iter().copied().map(f64::from_le_bytes);
        values.extend(elements.map(|element| element as f32));
        non_finite = non_finite.or_else(|| first_non_finite(&values, start));
    })?;
    Ok((Some(shaped(info, values).into()), non_finite))
}

/// Reads a tensor's bytes through buffers, which are hashed after `take` saw them.
fn read_chunks(
    file: &mut File,
    info: &TensorInfo,
    fingerprint: &mut Fingerprint,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    for chunk in chunks(info) {
        let mut buffer = fingerprint.buffer();
        buffer.resize(chunk, 0);
        file.read_exact(&mut buffer).map_err(ReadError::Io)?;
        take(&buffer);
        fingerprint.take(buffer);
    }
    Ok(())
}

/// The sizes of the chunks in which a tensor is read.
fn chunks(info: &TensorInfo) -> impl Iterator<Item = usize> {
    let length = info.data_offsets.1 - info.data_offsets.0;
    let starts = (0..length).step_by(CHUNK_BYTES);
    starts.map(move |start| CHUNK_BYTES.min(length - start))
}

/// Memory for a tensor's elements.
fn reserved<T>(info: &TensorInfo) -> Result<Vec<T>, ReadError> {
    let elements = info.shape.iter().product();
    let mut values = Vec::new();
    values
        .try_reserve_exact(elements)
        .map_err(|_| ReadError::Format(format!("no memory for a tensor of {elements} elements")))?;
    pages::prefer_large(values.spare_capacity_mut());
    Ok(values)
}

fn shaped<T>(info: &TensorInfo, values: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(&info.shape), values)
        .expect("the header's shapes were checked against the bytes")
}

/// Looks at the elements from `start` on, while they are in the cache.
fn first_non_finite<T: Number>(values: &[T], start: usize) -> NonFinite {
    let new = &values[start..];
    // Without a branch for each, so that many are checked at a time.
    if new.iter().fold(true, |all, value| all & value.is_finite()) {
        return None;
    }
    let index = new.iter().position(|value| !value.is_finite())?;
    Some((start + index, new[index].into()))
}
