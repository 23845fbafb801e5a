//! Normalisation by statistics of the training data.

use ndarray::Array1;

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, ScaleShift, constant, expect_shape};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// `scale · (x - mean) / sqrt(variance + epsilon) + bias` for each column of the last axis.
///
/// Operands: `x` of `[..., n]`, then the weights `scale`, `bias`, `mean`, `variance` of `[n]`
/// each (ONNX `BatchNormalization`; with a row of one axis its channel axis is the last).
///
/// Source: Ioffe and Szegedy 2015, algorithm 1, at inference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNormalization {
    fn scale_shift(&self, inputs: &[Operand]) -> ScaleShift {
        let weight = |index: usize| -> Array1<f64> {
            let weights = inputs[index].weights();
            weights.into_iter().map(f64::from).collect()
        };
        let scale = weight(1) / (weight(4) + self.epsilon).sqrt();
        let shift = weight(2) - weight(3) * &scale;
        ScaleShift {
            scale: scale.to_vec(),
            shift: shift.to_vec(),
        }
    }
}

fn operands(actual: usize) -> OpError {
    OpError::Operands {
        expected: "5 inputs (x, scale, bias, mean, variance)",
        actual,
    }
}

impl Operator for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [x, weights @ ..] = inputs else {
            return Err(operands(0));
        };
        let names = ["scale", "bias", "mean", "variance"];
        if weights.len() != names.len() {
            return Err(operands(inputs.len()));
        }
        if !self.epsilon.is_finite() {
            return Err(OpError::Attribute {
                attribute: "epsilon",
                problem: format!("{} is no finite number", self.epsilon),
            });
        }
        for (weight, name) in weights.iter().zip(names) {
            constant(weight, name)?;
            expect_shape(weight, name, &[x.columns()])?;
        }
        if let Some(lowest) = constant(&weights[3], "variance")?
            .to_vec()
            .into_iter()
            .min_by(f32::total_cmp)
            && f64::from(lowest) + self.epsilon <= 0.0
        {
            return Err(OpError::Attribute {
                attribute: "epsilon",
                problem: format!(
                    "variance {lowest} + epsilon {} is not positive; each must be",
                    self.epsilon
                ),
            });
        }
        Ok(vec![x.shape.clone()])
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        let ScaleShift { scale, shift } = self.scale_shift(inputs);
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Box::new(ScaleShiftKernel {
            scale: single(scale),
            shift: single(shift),
            isa,
        })
    }

    fn as_scale_shift(&self, inputs: &[Operand]) -> Option<ScaleShift> {
        Some(self.scale_shift(inputs))
    }
}

#[derive(Debug)]
struct ScaleShiftKernel {
    scale: Vec<f32>,
    shift: Vec<f32>,
    isa: Isa,
}

impl Kernel for ScaleShiftKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        kernels::scale_shift(self.isa, &self.scale, &self.shift, inputs.get(0), output);
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.scale) + size_of_val(&*self.shift)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value, weight};

    fn weights(values: [&[f32]; 4]) -> [Operand; 4] {
        values.map(|values| weight(&[values.len()], values))
    }

    fn operands(x: &[usize], values: [&[f32]; 4]) -> Vec<Operand> {
        let mut operands = vec![value(x)];
        operands.extend(weights(values));
        operands
    }

    #[test]
    fn each_column_is_normalised_scaled_and_shifted() {
        // Column 0: (5 - 3) / sqrt(4) * 2 + 1 = 3. Column 1: (0 + 1) / sqrt(0.25) * 1 - 2 = 0.
        let operands = operands(
            &[2],
            [&[2.0, 1.0], &[1.0, -2.0], &[3.0, -1.0], &[3.0, -0.75]],
        );
        let operator = BatchNormalization { epsilon: 1.0 };
        let rows = [5.0, 0.0, 3.0, -1.0];
        assert_computes(
            &operator,
            &operands,
            2,
            &[&rows],
            &[3.0, 0.0, 1.0, -2.0],
            1e-7,
        );
    }

    #[test]
    fn weights_of_other_columns_are_refused_by_name() {
        let operator = BatchNormalization { epsilon: 0.001 };
        let two: &[f32] = &[1.0, 1.0];
        assert_eq!(
            refusal(&operator, &operands(&[3, 2], [two, two, &[1.0; 3], two])),
            "mean: expected shape [2], got shape [3]"
        );
        assert_eq!(
            refusal(&operator, &operands(&[2], [two, &[1.0], two, two])),
            "bias: expected shape [2], got shape [1]"
        );
    }

    #[test]
    fn weights_must_be_there_and_known() {
        let operator = BatchNormalization { epsilon: 0.001 };
        let x = value(&[1]);
        let expected = "expected 5 inputs (x, scale, bias, mean, variance)";
        assert_eq!(refusal(&operator, &[]), format!("{expected}, got 0 inputs"));
        assert_eq!(
            refusal(&operator, std::slice::from_ref(&x)),
            format!("{expected}, got 1 inputs")
        );
        assert_eq!(
            refusal(&operator, &vec![x; 5]),
            "scale must be a weight, not computed from the inputs"
        );
    }

    #[test]
    fn the_root_of_no_negative_number_is_taken() {
        let one: &[f32] = &[1.0];
        let with = |variance| operands(&[1], [one, one, one, variance]);
        let small = BatchNormalization { epsilon: 0.25 };
        assert_eq!(
            refusal(&small, &with(&[-0.5])),
            "epsilon: variance -0.5 + epsilon 0.25 is not positive; each must be"
        );
        let zero = BatchNormalization { epsilon: 0.0 };
        assert_eq!(
            refusal(&zero, &with(&[0.0])),
            "epsilon: variance 0 + epsilon 0 is not positive; each must be"
        );
        let nothing = BatchNormalization { epsilon: f64::NAN };
        assert_eq!(
            refusal(&nothing, &with(one)),
            "epsilon: NaN is no finite number"
        );
    }

    proptest! {
        #[test]
        fn any_width_computes_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            x in numbers(40 * 5),
            parameters in numbers(4 * 40),
        ) {
            let parts: Vec<&[f32]> = parameters.chunks(40).map(|part| &part[..columns]).collect();
            let variance: Vec<f32> = parts[3].iter().map(|v| v.abs()).collect();
            let operator = BatchNormalization { epsilon: 0.5 };
            let operands = operands(&[columns], [parts[0], parts[1], parts[2], &variance]);
            let x = &x[..rows * columns];
            let expected: Vec<f32> = x.iter().enumerate().map(|(i, x)| {
                let c = i % columns;
                let deviation = (f64::from(variance[c]) + 0.5).sqrt();
                let normal = (f64::from(*x) - f64::from(parts[2][c])) / deviation;
                (normal * f64::from(parts[0][c]) + f64::from(parts[1][c])) as f32
            }).collect();
            // One multiply-add of numbers up to 46 in 24 bits.
            assert_computes(&operator, &operands, rows, &[x], &expected, 6e-6);
        }
    }
}
