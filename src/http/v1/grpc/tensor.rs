//! `TensorProto`: a tensor as `tensor_content`, or as the values of its type.

use std::borrow::Cow;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::grpc::{Fields, Floats, Value, tensorflow};
use crate::http::numbers::{self, Element, finite};
use crate::http::predict::{row_hint, shape_with_rows};
use crate::http::rows::too_many_rows;
use crate::json::MAX_RANK;
use crate::model::Signature;
use crate::tensor::TensorSpec;
use tensorflow::{DataType, TensorShapeProto};

/// The number of `float_val`, in which TensorFlow Serving answers and its clients read.
const FLOAT_VAL: u32 = 5;

/// Reads an input's tensor: its rows and its values.
///
/// # Errors
/// 400 with the place and what to do.
pub(super) fn read(
    mut fields: Fields<'_>,
    signature: &Signature,
    spec: &TensorSpec,
    max_rows: usize,
) -> Result<(usize, Vec<f32>), ApiError> {
    let mut dtype = 0;
    let mut shape = Vec::with_capacity(4);
    let (mut content, mut floats, mut halves): (&[u8], Floats<'_>, Vec<u8>) = Default::default();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => dtype = value.number()?,
            2 => read_shape(value.fields()?, spec, &mut shape)?,
            4 => content = value.bytes()?,
            5 => floats.add(value)?,
            13 => value.integers(|half| {
                // What is above the 16 bits is padding.
                halves.extend((half as u16).to_le_bytes());
                Ok::<_, ApiError>(())
            })?,
            _ => {}
        }
    }
    let place = || format!("inputs.{}", spec.name);
    let dtype = i32::try_from(dtype)
        .ok()
        .and_then(|dtype| DataType::try_from(dtype).ok());
    let element = match dtype {
        Some(DataType::DtFloat) => Element::Fp32,
        Some(DataType::DtHalf) => Element::Fp16,
        Some(DataType::DtBfloat16) => Element::Bf16,
        other => {
            return Err(ApiError::invalid(
                ErrorCode::DatatypeMismatch,
                format!(
                    "{}: input {:?}: expected DT_FLOAT, DT_HALF or DT_BFLOAT16, as it is {spec}, got \
                     {}; convert the values, for example with numpy's astype(\"float32\")",
                    place(),
                    spec.name,
                    other.map_or("no type that is known", |other| other.as_str_name())
                ),
            ));
        }
    };
    let row_shape = spec.shape.extents.iter().map(|&extent| extent as u64);
    let rows = match *shape {
        [rows, ref extents @ ..] if extents.iter().copied().eq(row_shape) => rows,
        _ => {
            let hint = match shape.len() == spec.shape.extents.len() + 1 {
                true => row_hint(spec),
                false => format!("the shape is {}", shape_with_rows(spec)),
            };
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!(
                    "{}: input {:?}: expected {spec}, got {} {shape:?}; {hint}",
                    place(),
                    spec.name,
                    dtype.map_or("", |dtype| dtype.as_str_name())
                ),
            ));
        }
    };
    let rows = match usize::try_from(rows) {
        Ok(0) => {
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!("{}: expected at least 1 row, got none", place()),
            ));
        }
        Ok(rows) if rows <= max_rows => rows,
        rows => {
            let rows = rows.unwrap_or(usize::MAX);
            return Err(too_many_rows(&place(), rows, max_rows));
        }
    };
    let bytes: Cow<'_, [u8]> = match (content, floats.bytes()) {
        ([], Some(floats)) if element == Element::Fp32 => floats.into(),
        ([], _) if element != Element::Fp32 => halves.into(),
        (content, _) => content.into(),
    };
    // No more than the largest request holds, which fits.
    let expected = rows as u128 * spec.shape.elements() as u128;
    if bytes.len() as u128 != expected * element.bytes() as u128 {
        return Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "{}: input {:?}: shape {shape:?} needs {expected} values, got {}; send all values in \
                 tensor_content, or in float_val (half_val for 16 bits)",
                place(),
                spec.name,
                bytes.len() / element.bytes()
            ),
        ));
    }
    Ok((rows, finite(signature, spec, element, &bytes)?))
}

fn read_shape(
    mut fields: Fields<'_>,
    spec: &TensorSpec,
    shape: &mut Vec<u64>,
) -> Result<(), ApiError> {
    let wrong = |problem: &str| {
        ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!("inputs.{}.tensor_shape: {problem}", spec.name),
        )
    };
    while let Some((number, value)) = fields.next()? {
        if number != 2 {
            continue;
        }
        if shape.len() == MAX_RANK {
            return Err(wrong(&format!("a shape has at most {MAX_RANK} axes")));
        }
        let mut size = 0;
        let mut dim = value.fields()?;
        while let Some((number, value)) = dim.next()? {
            if let (1, Value::Varint(number)) = (number, value) {
                size = number.cast_signed();
            }
        }
        let size = u64::try_from(size);
        shape.push(size.map_err(|_| wrong("expected extents of 0 or more; count the rows"))?);
    }
    Ok(())
}

/// How an output's tensor is written.
pub(super) struct Output<'a> {
    head: Vec<u8>,
    values: &'a [f32],
}

impl<'a> Output<'a> {
    pub(super) fn of(spec: &TensorSpec, rows: usize, values: &'a [f32]) -> Self {
        let extents = spec.shape.extents.iter();
        let extents = std::iter::once(&rows).chain(extents);
        let head = tensorflow::TensorProto {
            dtype: DataType::DtFloat.into(),
            tensor_shape: Some(shape(extents.map(|&extent| extent as i64))),
            ..Default::default()
        };
        Self {
            head: head.encode_to_vec(),
            values,
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let bytes = size_of_val(self.values);
        self.head.len() + key_len(FLOAT_VAL) + encoded_len_varint(bytes as u64) + bytes
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        encode_key(FLOAT_VAL, WireType::LengthDelimited, out);
        encode_varint(size_of_val(self.values) as u64, out);
        numbers::append(self.values, out);
    }
}

/// A shape of these extents.
pub(super) fn shape(extents: impl Iterator<Item = i64>) -> TensorShapeProto {
    let dim = extents.map(|size| tensorflow::tensor_shape_proto::Dim {
        size,
        name: String::new(),
    });
    TensorShapeProto {
        dim: dim.collect(),
        unknown_rank: false,
    }
}
