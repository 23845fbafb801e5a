//! Standardisation of features.

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, constant, expect_shape};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// `(x - offset) / divisor` for each column of the last axis.
///
/// Operands: `x` of `[..., n]`, the weights `offset` and `divisor` of `[n]` each. ONNX-ML's
/// `Scaler` multiplies by a reciprocal; this divides, as Keras' `Normalization` and scikit-learn's
/// `StandardScaler` do, so that answers agree with theirs to the last bit. It is not folded into
/// the layer after it either: there, a large offset would cancel only after rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaler;

impl Operator for Scaler {
    fn name(&self) -> &'static str {
        "Scaler"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [x, offset, divisor] = inputs else {
            return Err(OpError::Operands {
                expected: "3 inputs (x, offset, divisor)",
                actual: inputs.len(),
            });
        };
        constant(offset, "offset")?;
        expect_shape(offset, "offset", &[x.columns()])?;
        expect_shape(divisor, "divisor", &[x.columns()])?;
        let divisors = constant(divisor, "divisor")?.to_vec();
        if let Some(column) = divisors.iter().position(|d| *d == 0.0) {
            return Err(OpError::Attribute {
                attribute: "divisor",
                problem: format!("is 0 in column {column}; a constant feature needs 1 there"),
            });
        }
        Ok(vec![x.shape.clone()])
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(ScalerKernel {
            offset: inputs[1].weights(),
            divisor: inputs[2].weights(),
            isa,
        })
    }
}

#[derive(Debug)]
struct ScalerKernel {
    offset: Vec<f32>,
    divisor: Vec<f32>,
    isa: Isa,
}

impl Kernel for ScalerKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        kernels::normalize(self.isa, &self.offset, &self.divisor, inputs.get(0), output);
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.offset) + size_of_val(&*self.divisor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value, weight};

    fn operands(x: &[usize], offset: &[f32], divisor: &[f32]) -> [Operand; 3] {
        [
            value(x),
            weight(&[offset.len()], offset),
            weight(&[divisor.len()], divisor),
        ]
    }

    #[test]
    fn each_column_is_shifted_then_divided() {
        let operands = operands(&[2], &[1.0, 10.0], &[2.0, -5.0]);
        let rows = [5.0, 0.0, 1.0, 15.0];
        assert_computes(&Scaler, &operands, 2, &[&rows], &[2.0, 2.0, 0.0, -1.0], 0.0);
    }

    /// 5 · (1 / 3) rounds to another number than 5 / 3.
    #[test]
    fn numbers_are_divided_not_multiplied_by_a_reciprocal() {
        assert_ne!(5.0_f32 / 3.0, 5.0_f32 * (1.0 / 3.0));
        let operands = operands(&[1], &[0.0], &[3.0]);
        assert_computes(&Scaler, &operands, 1, &[&[5.0]], &[5.0 / 3.0], 0.0);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused_by_name() {
        assert_eq!(
            refusal(&Scaler, &operands(&[2, 3], &[0.0; 2], &[1.0; 3])),
            "offset: expected shape [3], got shape [2]"
        );
        assert_eq!(
            refusal(&Scaler, &operands(&[3], &[0.0; 3], &[1.0])),
            "divisor: expected shape [3], got shape [1]"
        );
        assert_eq!(
            refusal(&Scaler, &[value(&[1]), value(&[1]), value(&[1])]),
            "offset must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&Scaler, &[value(&[1])]),
            "expected 3 inputs (x, offset, divisor), got 1 inputs"
        );
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        for zero in [0.0, -0.0] {
            assert_eq!(
                refusal(&Scaler, &operands(&[2], &[0.0; 2], &[1.0, zero])),
                "divisor: is 0 in column 1; a constant feature needs 1 there"
            );
        }
    }

    proptest! {
        #[test]
        fn any_width_computes_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            x in numbers(40 * 5),
            offset in numbers(40),
            divisor in proptest::collection::vec(0.5_f32..4.0, 40),
        ) {
            let x = &x[..rows * columns];
            let expected: Vec<f32> = x.iter().enumerate()
                .map(|(i, x)| (x - offset[i % columns]) / divisor[i % columns])
                .collect();
            let operands = operands(&[columns], &offset[..columns], &divisor[..columns]);
            assert_computes(&Scaler, &operands, rows, &[x], &expected, 0.0);
        }
    }
}
