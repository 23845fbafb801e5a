//! Tensors at the edge of the engine: what a request carries in and an answer carries out.
//!
//! Inside the engine values are plain `f32` slices whose shapes were settled at load.

use std::fmt;
use std::str::FromStr;

use ndarray::{ArrayD, CowArray, IxDyn};

/// An element type, named as the Open Inference Protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit unsigned.
    Uint8,
    /// 16-bit unsigned.
    Uint16,
    /// 32-bit unsigned.
    Uint32,
    /// 64-bit unsigned.
    Uint64,
    /// 8-bit signed.
    Int8,
    /// 16-bit signed.
    Int16,
    /// 32-bit signed.
    Int32,
    /// 64-bit signed.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Byte strings; text where they are valid UTF-8.
    Bytes,
}

impl DataType {
    const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name, for example `FP32`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|datatype| datatype.as_str() == name)
            .ok_or(UnknownDataType)
    }
}

/// The name is none of the Open Inference Protocol's datatypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDataType;

impl fmt::Display for UnknownDataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown datatype; expected one of ")?;
        for (index, datatype) in DataType::ALL.into_iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(datatype.as_str())?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownDataType {}

/// A named tensor in a model's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name by which requests and answers address it.
    pub name: String,
    /// Its element type on the wire.
    pub datatype: DataType,
    /// The extents of one row: the wire shape is `[rows, row_shape...]`.
    pub row_shape: Vec<usize>,
    /// What the tensor means, for people; empty if the model does not say.
    pub description: String,
}

impl TensorSpec {
    /// The number of elements in one row. Loading refuses shapes for which this overflows.
    #[must_use]
    pub fn row_elements(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// The shape as metadata shows it: -1 for the rows, then the row's extents.
    pub fn wire_shape(&self) -> impl Iterator<Item = i64> + '_ {
        std::iter::once(-1).chain(
            self.row_shape
                .iter()
                .map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)),
        )
    }
}

/// Writes `FP32 [-1, 64]`, the form that error messages use.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [-1", self.datatype)?;
        for extent in &self.row_shape {
            write!(f, ", {extent}")?;
        }
        f.write_str("]")
    }
}

/// A tensor of an answer, row-major; axis 0 counts the rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor<'a> {
    /// `FP32` values, usually borrowed from the engine's answer.
    Fp32(CowArray<'a, f32, IxDyn>),
    /// `INT64` values, for example class indices.
    Int64(ArrayD<i64>),
    /// `BYTES` values that are text, for example labels.
    Text(ArrayD<&'a str>),
}

impl Tensor<'_> {
    /// The element type on the wire.
    #[must_use]
    pub fn datatype(&self) -> DataType {
        match self {
            Self::Fp32(_) => DataType::Fp32,
            Self::Int64(_) => DataType::Int64,
            Self::Text(_) => DataType::Bytes,
        }
    }

    /// The shape, rows first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Fp32(values) => values.shape(),
            Self::Int64(values) => values.shape(),
            Self::Text(values) => values.shape(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_reads_back_from_its_name() {
        for datatype in DataType::ALL {
            assert_eq!(datatype.as_str().parse(), Ok(datatype));
        }
        assert_eq!("fp32".parse::<DataType>(), Err(UnknownDataType));
    }

    #[test]
    fn a_spec_shows_its_rows_as_minus_one() {
        let spec = TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            row_shape: vec![8, 8],
            description: String::new(),
        };
        assert_eq!(spec.to_string(), "FP32 [-1, 8, 8]");
        assert_eq!(spec.wire_shape().collect::<Vec<_>>(), [-1, 8, 8]);
        assert_eq!(spec.row_elements(), 64);
    }
}
