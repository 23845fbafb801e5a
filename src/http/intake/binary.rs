//! Values as bytes, little-endian and row-major: the same in every protocol that has them. A byte
//! string is its length as four bytes, then its own bytes.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::declared::Size;
use super::input::InputRows;
use crate::http::error::{ApiError, ErrorCode};
use crate::tensor::{ByteStrings, DataType, TensorSpec, Values, View};

/// The values that are converted and then checked while they are in the nearest cache.
const BLOCK_VALUES: usize = 1024;

/// Why bytes are no values of their datatype.
enum Fault {
    /// The value at this position is NaN or infinite, or its bytes go beyond the last.
    At(usize),
    /// There are bytes after the last value.
    Rest,
}

impl InputRows<'_> {
    /// Reads the bytes of a tensor of this size, in one pass over them.
    ///
    /// # Errors
    /// 400 if they are not as many as the values take (`place` is what is wrong then, in messages), or
    /// if one is not finite, unless that is allowed.
    pub(in crate::http) fn read_binary(
        &mut self,
        size: Size,
        bytes: &[u8],
        allow_non_finite: bool,
        place: impl Fn() -> String,
    ) -> Result<(), ApiError> {
        let spec = self.spec;
        check_length(spec, size, bytes.len(), &place)?;
        let start = self.values.len();
        let most = size.values(spec);
        let read = append_values(
            size.datatype,
            bytes,
            most,
            allow_non_finite,
            &mut self.values,
        );
        let found = self.values.len() - start;
        match read {
            Ok(()) if found == size.values(spec) => {}
            Err(Fault::At(position)) if size.datatype != DataType::Bytes => {
                return Err(ApiError::invalid(
                    ErrorCode::NotFinite,
                    format!(
                        "input {:?}: expected finite numbers, got NaN or an infinity as value \
                         {position} of its binary data; replace it before sending, or set \
                         \"allow_non_finite\" in the model's config.json",
                        spec.name
                    ),
                ));
            }
            _ => {
                return Err(ApiError::invalid(
                    ErrorCode::BinarySizeMismatch,
                    format!(
                        "{}: input {:?}: BYTES {:?} takes {} byte strings and nothing after them, got \
                         {found}; send each as its length in 4 bytes and its own bytes",
                        place(),
                        spec.name,
                        size.shape(spec),
                        size.values(spec)
                    ),
                ));
            }
        }
        self.end_declared(start, size)
    }
}

/// Checks that a tensor of this size takes as many bytes; byte strings tell their own lengths.
///
/// # Errors
/// 400 if not.
pub(in crate::http) fn check_length(
    spec: &TensorSpec,
    size: Size,
    found: usize,
    place: impl Fn() -> String,
) -> Result<(), ApiError> {
    let Some(bytes) = size.datatype.bytes() else {
        return Ok(());
    };
    let expected = size.values(spec) as u128 * bytes as u128;
    if found as u128 == expected {
        return Ok(());
    }
    Err(ApiError::invalid(
        ErrorCode::BinarySizeMismatch,
        format!(
            "{}: input {:?}: {} {:?} takes {expected} bytes, got {found}; send {bytes} bytes a value",
            place(),
            spec.name,
            size.datatype,
            size.shape(spec)
        ),
    ))
}

/// Appends the values of this datatype, whose bytes are as many as whole values take; of byte strings at
/// most so many.
fn append_values(
    datatype: DataType,
    bytes: &[u8],
    most: usize,
    allow_non_finite: bool,
    values: &mut Values,
) -> Result<(), Fault> {
    match values {
        Values::F32(values) => append_f32s(datatype, bytes, allow_non_finite, values),
        Values::F64(values) if datatype == DataType::Fp64 => {
            let (numbers, _) = bytes.as_chunks();
            values.extend(numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            let new = &values[values.len() - numbers.len()..];
            match new.iter().position(|value| !value.is_finite()) {
                Some(position) if !allow_non_finite => Err(Fault::At(position)),
                _ => Ok(()),
            }
        }
        Values::F64(values) => {
            let mut singles = Vec::new();
            append_f32s(datatype, bytes, allow_non_finite, &mut singles)?;
            values.extend(singles.into_iter().map(f64::from));
            Ok(())
        }
        Values::I64(values) => {
            append_integers(datatype, bytes, values);
            Ok(())
        }
        Values::Bytes(strings) => append_strings(bytes, most, strings),
    }
}

fn append_f32s(
    datatype: DataType,
    bytes: &[u8],
    allow_non_finite: bool,
    values: &mut Vec<f32>,
) -> Result<(), Fault> {
    let size = datatype.bytes().unwrap_or(4);
    let first = values.len();
    values.reserve_exact(bytes.len() / size);
    for block in bytes.chunks(BLOCK_VALUES * size) {
        let start = values.len();
        match datatype {
            DataType::Fp16 => widen(block, f16::from_le_bytes, values),
            DataType::Bf16 => widen(block, bf16::from_le_bytes, values),
            _ => values.extend(block.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        }
        // Without a branch a value, so that it is computed many at a time.
        let block = &values[start..];
        if !allow_non_finite
            && !block
                .iter()
                .fold(true, |all, value| all & value.is_finite())
        {
            let position = block.iter().position(|value| !value.is_finite());
            return Err(Fault::At(start - first + position.unwrap_or(0)));
        }
    }
    Ok(())
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

/// Appends integers. One of 64 bits without a sign that is too large becomes negative, and so is out
/// of the range that its datatype is checked against.
fn append_integers(datatype: DataType, bytes: &[u8], values: &mut Vec<i64>) {
    fn all<const N: usize>(bytes: &[u8], values: &mut Vec<i64>, read: impl Fn([u8; N]) -> i64) {
        values.extend(bytes.as_chunks().0.iter().map(|bytes| read(*bytes)));
    }
    match datatype {
        DataType::Int8 => all(bytes, values, |b| i8::from_le_bytes(b).into()),
        DataType::Uint16 => all(bytes, values, |b| u16::from_le_bytes(b).into()),
        DataType::Int16 => all(bytes, values, |b| i16::from_le_bytes(b).into()),
        DataType::Uint32 => all(bytes, values, |b| u32::from_le_bytes(b).into()),
        DataType::Int32 => all(bytes, values, |b| i32::from_le_bytes(b).into()),
        DataType::Uint64 | DataType::Int64 => all(bytes, values, i64::from_le_bytes),
        _ => values.extend(bytes.iter().map(|byte| i64::from(*byte))),
    }
}

fn append_strings(mut bytes: &[u8], most: usize, strings: &mut ByteStrings) -> Result<(), Fault> {
    let mut position = 0;
    while position < most
        && let Some((length, rest)) = bytes.split_first_chunk()
    {
        let length = u32::from_le_bytes(*length);
        let string = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length));
        let (string, rest) = string.ok_or(Fault::At(position))?;
        strings.push(string);
        position += 1;
        bytes = rest;
    }
    match bytes.is_empty() {
        true => Ok(()),
        false => Err(Fault::Rest),
    }
}

/// The number of byte strings that these bytes begin with.
pub(in crate::http) fn strings_in(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((length, rest)) = bytes.split_first_chunk()
        && let Ok(length) = usize::try_from(u32::from_le_bytes(*length))
        && let Some((_, rest)) = rest.split_at_checked(length)
    {
        count += 1;
        bytes = rest;
    }
    count
}

/// How many bytes [`append`] appends.
pub(in crate::http) fn bytes_of(values: View<'_>) -> usize {
    match values {
        View::F32(values) => size_of_val(values),
        View::F64(values) => size_of_val(values),
        View::I64(values) => size_of_val(values),
        View::Bytes(strings) => strings
            .iter()
            .map(|string| size_of::<u32>() + string.len())
            .sum(),
    }
}

/// Appends the bytes of values.
pub(in crate::http) fn append(values: View<'_>, out: &mut Vec<u8>) {
    match values {
        View::F32(values) => append_all(values, |value| value.to_le_bytes(), out),
        View::F64(values) => append_all(values, |value| value.to_le_bytes(), out),
        View::I64(values) => append_all(values, |value| value.to_le_bytes(), out),
        View::Bytes(strings) => {
            for string in strings.iter() {
                // What strings are made of, labels or a request's texts, is shorter than 4 GiB.
                out.extend((string.len() as u32).to_le_bytes());
                out.extend(string);
            }
        }
    }
}

fn append_all<T: Copy, const N: usize>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
    out: &mut Vec<u8>,
) {
    for block in values.chunks(BLOCK_VALUES) {
        let start = out.len();
        out.resize(start + size_of_val(block), 0);
        let (places, _) = out[start..].as_chunks_mut();
        for (place, value) in places.iter_mut().zip(block) {
            *place = bytes(*value);
        }
    }
}
