//! Matrix product with weights: the dense layer.

use std::fmt;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayD, Axis, Ix2};

use crate::engine::kernels::{self, Activation, Isa, Layout};
use crate::engine::op::{
    Kernel, OpError, Operand, Operator, ScaleShift, Side, constant, expect_shape, itemwise,
};
use crate::engine::run::Run;
use crate::tensor::{Domain, Shape};

/// `activation(x · W + bias)` over the last axis of the row.
///
/// A weight of bf16 is packed as it is, one of any other datatype as `f32`: the results are the same.
///
/// Operands: `x` of `[..., k]`; the weight `W` of `[k, n]`, or `[n, k]` if `trans_b`; optionally
/// the weight `bias` of `[n]`. Gives `[..., n]`. With a row of one axis this is ONNX `Gemm` with
/// `alpha = beta = 1`; with more it is `MatMul` and `Add`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm {
    /// Whether the weight is stored `[n, k]`, as PyTorch stores it.
    pub trans_b: bool,
    /// What is applied to each element of the result.
    pub activation: Activation,
}

impl Gemm {
    /// The inputs and outputs that a weight has.
    fn sizes(&self, operand: &Operand) -> Result<[usize; 2], OpError> {
        match (constant(operand, "weight")?.shape(), self.trans_b) {
            (&[k, n], false) | (&[n, k], true) => Ok([k, n]),
            _ => Err(OpError::Shape {
                operand: "weight",
                expected: "2 axes".into(),
                actual: operand.shape.extents.clone(),
            }),
        }
    }

    fn checked_sizes(&self, inputs: &[Operand]) -> [usize; 2] {
        self.sizes(&inputs[1])
            .expect("infer_shapes checked the weight")
    }
}

impl Operator for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let (x, weight, bias) = match inputs {
            [x, weight] => (x, weight, None),
            [x, weight, bias] => (x, weight, Some(bias)),
            _ => {
                return Err(OpError::Operands {
                    expected: "2 or 3 inputs (x, weight, bias)",
                    actual: inputs.len(),
                });
            }
        };
        let [k, n] = self.sizes(weight)?;
        if x.extents().last() != Some(&k) {
            return Err(OpError::Shape {
                operand: "x",
                expected: format!("{k} features in the last axis, as the weight has"),
                actual: x.shape.extents.clone(),
            });
        }
        if let Some(bias) = bias {
            constant(bias, "bias")?;
            expect_shape(bias, "bias", &[n])?;
        }
        let mut extents = x.shape.extents.clone();
        *extents.last_mut().expect("x has a last axis") = n;
        itemwise(inputs, extents)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        let [k, n] = self.checked_sizes(inputs);
        let bias = inputs.get(2).map(Operand::weights);
        let layout = if self.trans_b {
            Layout::OutIn
        } else {
            Layout::InOut
        };
        Box::new(GemmKernel {
            domain: inputs[0].shape.domain,
            rows_per_item: inputs[0].elements() / k.max(1),
            gemm: kernels::Gemm::new(
                isa,
                k,
                n,
                inputs[1].weight().stored(),
                layout,
                bias.as_deref(),
                self.activation,
            ),
        })
    }

    fn with_activation(&self, activation: Activation) -> Option<Arc<dyn Operator>> {
        (self.activation == Activation::Linear).then(|| {
            Arc::new(Self {
                activation,
                ..self.clone()
            }) as Arc<dyn Operator>
        })
    }

    /// Rewrites weight and bias in double precision, whatever they are stored as:
    /// after the product `W' = W · diag(scale)`, `bias' = bias · scale + shift`;
    /// before it `W' = diag(scale) · W`, `bias' = bias + shift · W`.
    fn absorb(
        &self,
        inputs: &[Operand],
        side: Side,
        affine: &ScaleShift,
    ) -> Option<Vec<Option<ArrayD<f32>>>> {
        if side == Side::Output && self.activation != Activation::Linear {
            return None;
        }
        let [_, n] = self.checked_sizes(inputs);
        let weight = inputs[1].weight().to_f32().mapv(f64::from);
        let weight = weight
            .into_dimensionality::<Ix2>()
            .expect("infer_shapes checked the weight");
        let weight = if self.trans_b {
            weight.reversed_axes()
        } else {
            weight
        };
        let mut bias = match inputs.get(2) {
            Some(bias) => bias.weights().into_iter().map(f64::from).collect(),
            None => Array1::<f64>::zeros(n),
        };
        let scale = Array1::from_vec(affine.scale.clone());
        let shift = Array1::from_vec(affine.shift.clone());
        let weight: Array2<f64> = match side {
            Side::Output => {
                bias = bias * &scale + &shift;
                weight * &scale
            }
            Side::Input => {
                bias += &shift.dot(&weight);
                weight * &scale.insert_axis(Axis(1))
            }
        };
        let weight = if self.trans_b {
            weight.reversed_axes()
        } else {
            weight
        };
        let weight = weight.mapv(|value| value as f32);
        let weight = weight.as_standard_layout().into_owned().into_dyn();
        let bias = bias.mapv(|value| value as f32).into_dyn();
        Some(vec![None, Some(weight), Some(bias)])
    }
}

struct GemmKernel {
    gemm: kernels::Gemm,
    /// What the items of input and output are.
    domain: Domain,
    /// How many rows of the product one item holds.
    rows_per_item: usize,
}

impl fmt::Debug for GemmKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The weights themselves would fill screens.
        f.debug_struct("GemmKernel")
            .field("rows_per_item", &self.rows_per_item)
            .field("weight_bytes", &self.gemm.bytes())
            .finish()
    }
}

impl Kernel for GemmKernel {
    fn run(&self, run: Run<'_>) {
        let rows = run.counts.items(self.domain) * self.rows_per_item;
        let (input, output) = (run.inputs.get(0), run.output);
        match run.team {
            None => self.gemm.run(rows, input, output),
            Some(team) => self.gemm.run_shared(rows, input, output, team),
        }
    }

    fn pays_to_share(&self, items: usize) -> bool {
        self.gemm.pays_to_share(items * self.rows_per_item)
    }

    fn weight_bytes(&self) -> usize {
        self.gemm.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, extents, numbers, refusal, value, weight};

    fn gemm(trans_b: bool, activation: Activation) -> Gemm {
        Gemm {
            trans_b,
            activation,
        }
    }

    #[test]
    fn a_weight_is_read_in_the_layout_that_is_said() {
        let x = [1.0, 2.0, 0.0, -1.0];
        let values = [1.0, 2.0, 3.0, 4.0];
        let bias = weight(&[2], &[10.0, 20.0]);
        let operands = [value(&[2]), weight(&[2, 2], &values), bias];
        // [1, 2] · [[1, 2], [3, 4]] = [7, 10]; [0, -1] · ... = [-3, -4]
        let in_out = [17.0, 30.0, 7.0, 16.0];
        assert_computes(
            &gemm(false, Activation::Linear),
            &operands,
            2,
            &[&x],
            &in_out,
            0.0,
        );
        // [1, 2] · [[1, 3], [2, 4]] = [5, 11]; [0, -1] · ... = [-2, -4]
        let out_in = [15.0, 31.0, 8.0, 16.0];
        assert_computes(
            &gemm(true, Activation::Linear),
            &operands,
            2,
            &[&x],
            &out_in,
            0.0,
        );
    }

    #[test]
    fn the_activation_comes_after_the_bias() {
        let operands = [
            value(&[1]),
            weight(&[1, 2], &[1.0, -1.0]),
            weight(&[2], &[-2.0, 2.0]),
        ];
        // [1, -1] + [-2, 2] = [-1, 1]
        let relu = gemm(false, Activation::Relu);
        assert_computes(&relu, &operands, 1, &[&[1.0]], &[0.0, 1.0], 0.0);
    }

    #[test]
    fn a_row_of_several_axes_is_several_rows_of_the_last() {
        let operands = [value(&[2, 2]), weight(&[2, 1], &[1.0, 10.0])];
        let operator = gemm(false, Activation::Linear);
        assert_eq!(extents(&operator, &operands), [2, 1]);
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_computes(&operator, &operands, 1, &[&x], &[21.0, 43.0], 0.0);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused_by_name() {
        let operator = gemm(true, Activation::Linear);
        let square = weight(&[3, 2], &[0.0; 6]);
        assert_eq!(
            refusal(&operator, &[value(&[3]), square.clone()]),
            "x: expected 2 features in the last axis, as the weight has, got shape [3]"
        );
        assert_eq!(
            refusal(&operator, &[value(&[]), square.clone()]),
            "x: expected 2 features in the last axis, as the weight has, got shape []"
        );
        assert_eq!(
            refusal(
                &operator,
                &[value(&[2]), square.clone(), weight(&[2], &[0.0; 2])]
            ),
            "bias: expected shape [3], got shape [2]"
        );
        assert_eq!(
            refusal(&operator, &[value(&[2]), weight(&[6], &[0.0; 6])]),
            "weight: expected 2 axes, got shape [6]"
        );
        assert_eq!(
            refusal(&operator, &[value(&[2]), value(&[3, 2])]),
            "weight must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&operator, &[value(&[2]), square, value(&[3])]),
            "bias must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&operator, &[value(&[2])]),
            "expected 2 or 3 inputs (x, weight, bias), got 1 inputs"
        );
    }

    #[test]
    fn a_function_is_taken_once_and_no_scale_after_it() {
        let linear = gemm(false, Activation::Linear);
        assert!(linear.with_activation(Activation::Tanh).is_some());
        let relu = gemm(false, Activation::Relu);
        assert!(relu.with_activation(Activation::Tanh).is_none());
        let operands = [value(&[1]), weight(&[1, 1], &[2.0])];
        let affine = ScaleShift {
            scale: vec![3.0],
            shift: vec![5.0],
        };
        assert!(relu.absorb(&operands, Side::Output, &affine).is_none());
        // (x · 3 + 5) · 2 = x · 6 + 10
        let absorbed = relu.absorb(&operands, Side::Input, &affine).unwrap();
        let values: Vec<_> = absorbed
            .iter()
            .map(|c| c.as_ref().map(|c| c.sum()))
            .collect();
        assert_eq!(values, [None, Some(6.0), Some(10.0)]);
        // (x · 2) · 3 + 5
        let absorbed = linear.absorb(&operands, Side::Output, &affine).unwrap();
        let values: Vec<_> = absorbed
            .iter()
            .map(|c| c.as_ref().map(|c| c.sum()))
            .collect();
        assert_eq!(values, [None, Some(6.0), Some(5.0)]);
    }

    proptest! {
        #[test]
        fn any_size_computes_as_three_loops_do(
            rows in 1_usize..8,
            k in 1_usize..20,
            n in 1_usize..40,
            x in numbers(8 * 20),
            w in numbers(20 * 40),
            trans_b in any::<bool>(),
        ) {
            let (x, w) = (&x[..rows * k], &w[..k * n]);
            let mut expected = vec![0.0; rows * n];
            for row in 0..rows {
                for column in 0..n {
                    let mut sum = 0.0;
                    for i in 0..k {
                        let w = if trans_b { w[column * k + i] } else { w[i * n + column] };
                        sum += f64::from(x[row * k + i]) * f64::from(w);
                    }
                    expected[row * n + column] = sum as f32;
                }
            }
            let shape = if trans_b { [n, k] } else { [k, n] };
            let operands = [value(&[k]), weight(&shape, w)];
            // Up to 20 products of up to 16, each rounded to 24 bits.
            assert_computes(&gemm(trans_b, Activation::Linear), &operands, rows, &[x], &expected, 1e-4);
        }
    }
}
