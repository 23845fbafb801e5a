//! Normalisation of each row by its own statistics.

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, constant, expect_shape};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// `(x - mean) / sqrt(variance + epsilon) · scale + bias` over the last axis, with the mean and
/// the variance (of the population) of that axis.
///
/// Operands: `x` of `[..., n]`, the weights `scale` and `bias` of `[n]` each
/// (ONNX `LayerNormalization` with `axis = -1`).
///
/// Source: Ba, Kiros and Hinton 2016, eq. 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

impl Operator for LayerNormalization {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [x, scale, bias] = inputs else {
            return Err(OpError::Operands {
                expected: "3 inputs (x, scale, bias)",
                actual: inputs.len(),
            });
        };
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(OpError::Attribute {
                attribute: "epsilon",
                problem: format!("{} is no finite number from 0 on", self.epsilon),
            });
        }
        if x.elements() == 0 || x.extents().is_empty() {
            return Err(OpError::Shape {
                operand: "x",
                expected: "at least 1 value in the last axis".into(),
                actual: x.shape.extents.clone(),
            });
        }
        for (weight, name) in [(scale, "scale"), (bias, "bias")] {
            constant(weight, name)?;
            expect_shape(weight, name, &[x.columns()])?;
        }
        Ok(vec![x.shape.clone()])
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(LayerNormalizationKernel {
            scale: inputs[1].weights(),
            bias: inputs[2].weights(),
            epsilon: self.epsilon,
            isa,
        })
    }
}

#[derive(Debug)]
struct LayerNormalizationKernel {
    scale: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    isa: Isa,
}

impl Kernel for LayerNormalizationKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        kernels::layer_normalization(
            self.isa,
            self.scale.len(),
            inputs.get(0),
            &self.scale,
            &self.bias,
            self.epsilon,
            output,
        );
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.scale) + size_of_val(&*self.bias)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value, weight};

    #[test]
    fn each_row_is_normalised_by_itself() {
        let operands = [
            value(&[2]),
            weight(&[2], &[2.0, 3.0]),
            weight(&[2], &[10.0, 20.0]),
        ];
        // Means 2 and 30, deviations 1 and 10.
        let rows = [1.0, 3.0, 40.0, 20.0];
        let expected = [8.0, 23.0, 12.0, 17.0];
        let operator = LayerNormalization { epsilon: 0.0 };
        assert_computes(&operator, &operands, 2, &[&rows], &expected, 1e-6);
    }

    #[test]
    fn only_the_last_axis_is_normalised() {
        let operands = [
            value(&[2, 2]),
            weight(&[2], &[1.0, 1.0]),
            weight(&[2], &[0.0, 0.0]),
        ];
        let row = [1.0, 3.0, 40.0, 20.0];
        let operator = LayerNormalization { epsilon: 0.0 };
        assert_computes(
            &operator,
            &operands,
            1,
            &[&row],
            &[-1.0, 1.0, 1.0, -1.0],
            1e-6,
        );
    }

    #[test]
    fn a_row_of_equal_values_becomes_the_bias() {
        let operands = [
            value(&[3]),
            weight(&[3], &[5.0; 3]),
            weight(&[3], &[1.0, 2.0, 3.0]),
        ];
        let operator = LayerNormalization { epsilon: 1e-5 };
        assert_computes(&operator, &operands, 1, &[&[7.0; 3]], &[1.0, 2.0, 3.0], 0.0);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused_by_name() {
        let operator = LayerNormalization { epsilon: 1e-5 };
        let (x, two, three) = (
            value(&[2]),
            weight(&[2], &[1.0; 2]),
            weight(&[3], &[1.0; 3]),
        );
        assert_eq!(
            refusal(&operator, &[x.clone(), three.clone(), two.clone()]),
            "scale: expected shape [2], got shape [3]"
        );
        assert_eq!(
            refusal(&operator, &[x.clone(), two.clone(), three]),
            "bias: expected shape [2], got shape [3]"
        );
        assert_eq!(
            refusal(&operator, &[x.clone(), two.clone(), x.clone()]),
            "bias must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&operator, &[value(&[]), two.clone(), two.clone()]),
            "x: expected at least 1 value in the last axis, got shape []"
        );
        assert_eq!(
            refusal(&operator, &[x, two]),
            "expected 3 inputs (x, scale, bias), got 2 inputs"
        );
    }

    #[test]
    fn an_epsilon_below_zero_is_refused() {
        let one = weight(&[1], &[1.0]);
        let operands = [value(&[1]), one.clone(), one];
        for (epsilon, shown) in [(-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            assert_eq!(
                refusal(&LayerNormalization { epsilon }, &operands),
                format!("epsilon: {shown} is no finite number from 0 on")
            );
        }
    }

    proptest! {
        #[test]
        fn any_width_computes_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            x in numbers(40 * 5),
            parameters in numbers(2 * 40),
        ) {
            let x = &x[..rows * columns];
            let (scale, bias) = (&parameters[..columns], &parameters[40..40 + columns]);
            let mut expected = Vec::new();
            for row in x.chunks(columns) {
                let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / columns as f64;
                let square = |v: &f32| (f64::from(*v) - mean).powi(2);
                let variance = row.iter().map(square).sum::<f64>() / columns as f64;
                for (column, v) in row.iter().enumerate() {
                    let normal = (f64::from(*v) - mean) / (variance + 0.1).sqrt();
                    let scaled = normal * f64::from(scale[column]) + f64::from(bias[column]);
                    expected.push(scaled as f32);
                }
            }
            let operands = [value(&[columns]), weight(&[columns], scale), weight(&[columns], bias)];
            let operator = LayerNormalization { epsilon: 0.1 };
            // The mean loses up to 1e-6, which 1 / sqrt(0.1) and a scale of 4 make 13 times larger.
            assert_computes(&operator, &operands, rows, &[x], &expected, 2e-5);
        }
    }
}
