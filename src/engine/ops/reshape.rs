//! Operators that move no number: the plan gives them no step.

use crate::engine::kernels::{Activation, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// The same numbers in another row shape (ONNX `Reshape`, `Flatten`).
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The extents of a row; -1 at most once, for what is left over.
    pub shape: Vec<i64>,
}

impl Reshape {
    /// All of a row in one axis.
    #[must_use]
    pub fn flatten() -> Self {
        Self { shape: vec![-1] }
    }
}

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let elements = only(inputs)?.elements();
        let refuse = |problem: &str| OpError::Attribute {
            attribute: "shape",
            problem: format!(
                "{:?} {problem}; a row has {elements} elements in shape {:?}",
                self.shape,
                inputs[0].extents()
            ),
        };
        let mut known: usize = 1;
        let mut left_over = None;
        let mut shape = Vec::with_capacity(self.shape.len());
        for (axis, extent) in self.shape.iter().enumerate() {
            let extent = match usize::try_from(*extent) {
                Ok(extent) => extent,
                Err(_) if *extent == -1 && left_over.is_none() => {
                    left_over = Some(axis);
                    1
                }
                Err(_) => return Err(refuse("may hold -1 once and no other negative extent")),
            };
            known = known
                .checked_mul(extent)
                .ok_or_else(|| refuse("is too large"))?;
            shape.push(extent);
        }
        if let Some(axis) = left_over
            && known > 0
            && elements % known == 0
        {
            shape[axis] = elements / known;
            return itemwise(inputs, shape);
        }
        if left_over.is_some() || known != elements {
            return Err(refuse("does not hold as many elements as a row"));
        }
        itemwise(inputs, shape)
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(KeepKernel)
    }

    fn is_identity(&self) -> bool {
        true
    }
}

/// Its input, unchanged (ONNX `Identity`, and `Dropout` at inference).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity;

impl Operator for Identity {
    fn name(&self) -> &'static str {
        "Identity"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![only(inputs)?.shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(KeepKernel)
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn as_activation(&self) -> Option<Activation> {
        Some(Activation::Linear)
    }
}

/// Leaves the numbers as they are: used when constants are folded.
#[derive(Debug)]
struct KeepKernel;

impl Kernel for KeepKernel {
    fn run(&self, _run: Run<'_>) {}

    fn in_place(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{assert_computes, extents, refusal, value};

    fn shaped(shape: &[i64], row: &[usize]) -> Result<Vec<usize>, OpError> {
        let operator = Reshape {
            shape: shape.to_vec(),
        };
        let shapes = operator.infer_shapes(&[value(row)])?;
        Ok(shapes[0].extents.clone())
    }

    #[test]
    fn the_numbers_stay_in_their_order() {
        let row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let operator = Reshape { shape: vec![3, 2] };
        assert_computes(&operator, &[value(&[2, 3])], 1, &[&row], &row, 0.0);
        assert_computes(&Reshape::flatten(), &[value(&[3])], 2, &[&row], &row, 0.0);
        assert_computes(&Identity, &[value(&[2, 3])], 1, &[&row], &row, 0.0);
    }

    #[test]
    fn one_extent_may_be_what_is_left_over() {
        assert_eq!(shaped(&[-1], &[2, 3]), Ok(vec![6]));
        assert_eq!(shaped(&[3, -1], &[2, 3]), Ok(vec![3, 2]));
        assert_eq!(shaped(&[-1, 6], &[2, 3]), Ok(vec![1, 6]));
        assert_eq!(shaped(&[1, 1], &[]), Ok(vec![1, 1]));
        assert_eq!(shaped(&[], &[1]), Ok(vec![]));
        assert_eq!(extents(&Identity, &[value(&[2, 3])]), [2, 3]);
    }

    #[test]
    fn a_shape_of_another_size_is_refused() {
        let message = |shape: &[i64]| shaped(shape, &[2, 3]).unwrap_err().to_string();
        let size = "does not hold as many elements as a row; a row has 6 elements in shape [2, 3]";
        assert_eq!(message(&[5]), format!("shape: [5] {size}"));
        assert_eq!(message(&[4, -1]), format!("shape: [4, -1] {size}"));
        assert_eq!(message(&[0, -1]), format!("shape: [0, -1] {size}"));
        assert_eq!(message(&[]), format!("shape: [] {size}"));
        let sign = "may hold -1 once and no other negative extent; a row has 6 elements in shape \
                    [2, 3]";
        assert_eq!(message(&[-1, -1]), format!("shape: [-1, -1] {sign}"));
        assert_eq!(message(&[-6]), format!("shape: [-6] {sign}"));
        assert_eq!(
            message(&[i64::MAX, 3]),
            "shape: [9223372036854775807, 3] is too large; a row has 6 elements in shape [2, 3]"
        );
    }

    #[test]
    fn only_one_input_is_taken() {
        assert_eq!(
            refusal(&Reshape::flatten(), &[]),
            "expected 1 input, got 0 inputs"
        );
        let two = [value(&[1]), value(&[1])];
        assert_eq!(refusal(&Identity, &two), "expected 1 input, got 2 inputs");
    }
}
