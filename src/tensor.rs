//! Tensors at the edge of the engine, as a signature names them: element types and shapes.
//!
//! Inside the engine values are plain `f32` slices whose shapes were settled at load.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

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
