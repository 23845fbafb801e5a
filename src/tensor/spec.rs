//! A named tensor in a model's signature.

use std::fmt;
use std::ops::RangeInclusive;

use super::{DataType, Extent, Shape};

/// A named tensor in a model's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name by which requests and answers address it.
    pub name: String,
    /// Its element type on the wire.
    pub datatype: DataType,
    /// Its items, and the extents of one: the wire shape is `[rows, extents...]`, or
    /// `[rows, tokens, extents...]`.
    pub shape: Shape,
    /// What the tensor means, for people; empty if the model does not say.
    pub description: String,
    /// The values that a tensor of integers may have; `None` if it may have all.
    pub range: Option<RangeInclusive<i64>>,
}

impl TensorSpec {
    /// A tensor of any values, without a description.
    #[must_use]
    pub fn new(name: impl Into<String>, datatype: DataType, shape: Shape) -> Self {
        Self {
            name: name.into(),
            datatype,
            shape,
            description: String::new(),
            range: None,
        }
    }

    /// The shape as metadata shows it: -1 for the rows, then the row's extents, -1 for the tokens.
    pub fn wire_shape(&self) -> impl Iterator<Item = i64> + '_ {
        let extents = self.shape.row_extents().map(|extent| match extent {
            Extent::Fixed(extent) => i64::try_from(extent).unwrap_or(i64::MAX),
            Extent::Any => -1,
        });
        std::iter::once(-1).chain(extents)
    }
}

/// Writes `FP32 [-1, 64]`, the form that error messages use.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [-1", self.datatype)?;
        for extent in self.wire_shape().skip(1) {
            write!(f, ", {extent}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Axis;

    fn spec(datatype: DataType, shape: Shape) -> TensorSpec {
        TensorSpec::new("x", datatype, shape)
    }

    #[test]
    fn a_spec_shows_its_rows_as_minus_one() {
        let spec = spec(DataType::Fp32, Shape::rows([8, 8]));
        assert_eq!(spec.to_string(), "FP32 [-1, 8, 8]");
        assert_eq!(spec.wire_shape().collect::<Vec<_>>(), [-1, 8, 8]);
    }

    #[test]
    fn a_spec_shows_its_tokens_as_minus_one() {
        let ids = spec(DataType::Int64, Shape::tokens(Axis(0), []));
        assert_eq!(ids.to_string(), "INT64 [-1, -1]");
        let frames = spec(DataType::Fp32, Shape::tokens(Axis(0), [80]));
        assert_eq!(frames.to_string(), "FP32 [-1, -1, 80]");
    }
}
