//! `TensorProto`: a tensor as `tensor_content`, or as the values of its type.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::grpc::{Fields, Value, tensorflow};
use crate::http::intake::binary::{append, bytes_of};
use crate::http::intake::{Declared, Form, Given, InputRows, check};
use crate::http::outputs::{OutputRows, TensorValues};
use crate::json::MAX_RANK;
use crate::model::Signature;
use crate::tensor::{DataType as Element, TensorSpec};
use tensorflow::{DataType, TensorShapeProto};

/// The number of `float_val`, in which TensorFlow Serving answers and its clients read.
const FLOAT_VAL: u32 = 5;

/// Reads an input's tensor.
///
/// # Errors
/// 400 with the place and what to do.
pub(super) fn read<'a>(
    message: Fields<'_>,
    signature: &'a Signature,
    spec: &'a TensorSpec,
    max_rows: usize,
) -> Result<InputRows<'a>, ApiError> {
    let (mut dtype, mut shape) = (0, Vec::with_capacity(4));
    let mut content: &[u8] = &[];
    let mut fields = message;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => dtype = value.number()?,
            2 => read_shape(value.fields()?, spec, &mut shape)?,
            4 => content = value.bytes()?,
            _ => {}
        }
    }
    let dtype = i32::try_from(dtype)
        .ok()
        .and_then(|dtype| DataType::try_from(dtype).ok());
    let shown = dtype.map_or("an unknown dtype", |dtype| dtype.as_str_name());
    let given = Given {
        datatype: dtype.and_then(element),
        shown: shown.into(),
        fix,
    };
    let place = || format!("inputs.{}", spec.name);
    let size = check(spec, given, &Declared::of(shape), max_rows, Form::Binary)?;
    let mut rows = InputRows::none(spec);
    let allow_non_finite = signature.allow_non_finite;
    if !content.is_empty() && size.datatype != Element::Bytes {
        rows.read_binary(size, content, allow_non_finite, place)?;
        return Ok(rows);
    }
    let expected = field_of(size.datatype);
    let mut fields = message;
    rows.read_fields(size, allow_non_finite, place, || {
        while let Some((number, value)) = fields.next()? {
            if number == expected {
                return Ok(Some(value));
            }
        }
        Ok(None)
    })?;
    Ok(rows)
}

/// What to do about a tensor of another datatype.
fn fix(spec: &TensorSpec) -> String {
    let dtypes = match spec.datatype {
        Element::Fp32 => {
            "DT_FLOAT, DT_HALF or DT_BFLOAT16, for example with numpy's astype(\"float32\")"
        }
        Element::Int64 => "DT_INT64, for example with numpy's astype(\"int64\")",
        Element::Fp64 => "DT_DOUBLE",
        Element::Bytes => "DT_STRING",
        Element::Bool => "DT_BOOL",
        _ => "an integer type",
    };
    format!("convert the values to {dtypes}")
}

/// TensorFlow's datatype in the words of the models' signatures.
fn element(dtype: DataType) -> Option<Element> {
    match dtype {
        DataType::DtFloat => Some(Element::Fp32),
        DataType::DtHalf => Some(Element::Fp16),
        DataType::DtBfloat16 => Some(Element::Bf16),
        DataType::DtDouble => Some(Element::Fp64),
        DataType::DtInt8 => Some(Element::Int8),
        DataType::DtInt16 => Some(Element::Int16),
        DataType::DtInt32 => Some(Element::Int32),
        DataType::DtInt64 => Some(Element::Int64),
        DataType::DtUint8 => Some(Element::Uint8),
        DataType::DtUint16 => Some(Element::Uint16),
        DataType::DtUint32 => Some(Element::Uint32),
        DataType::DtUint64 => Some(Element::Uint64),
        DataType::DtBool => Some(Element::Bool),
        DataType::DtString => Some(Element::Bytes),
        _ => None,
    }
}

/// The field of a `TensorProto` that has the values of a datatype, if `tensor_content` does not.
fn field_of(datatype: Element) -> u64 {
    match datatype {
        Element::Fp32 => 5,
        Element::Fp64 => 6,
        Element::Int8 | Element::Int16 | Element::Int32 | Element::Uint8 | Element::Uint16 => 7,
        Element::Bytes => 8,
        Element::Int64 => 10,
        Element::Bool => 11,
        Element::Fp16 | Element::Bf16 => 13,
        Element::Uint32 => 16,
        Element::Uint64 => 17,
    }
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
    values: TensorValues<'a>,
}

impl<'a> Output<'a> {
    /// Of an output of the engine, whose values are of single precision.
    pub(super) fn of(output: OutputRows<'a>, rows: usize) -> Self {
        let row_shape = output.row_shape();
        let extents = std::iter::once(&rows).chain(row_shape.iter());
        let head = tensorflow::TensorProto {
            dtype: DataType::DtFloat.into(),
            tensor_shape: Some(shape(extents.map(|&extent| extent as i64))),
            ..Default::default()
        };
        Self {
            head: head.encode_to_vec(),
            values: output.padded(),
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let bytes = bytes_of(self.values.view());
        self.head.len() + key_len(FLOAT_VAL) + encoded_len_varint(bytes as u64) + bytes
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        encode_key(FLOAT_VAL, WireType::LengthDelimited, out);
        encode_varint(bytes_of(self.values.view()) as u64, out);
        append(self.values.view(), out);
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
