//! Softmax and its logarithm, over the last axis.

use crate::engine::kernels::{self, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// `exp(x) / sum(exp(x))` over the last axis (ONNX `Softmax` with `axis = -1`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax;

/// `x - log(sum(exp(x)))` over the last axis (ONNX `LogSoftmax` with `axis = -1`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSoftmax;

impl Operator for Softmax {
    fn name(&self) -> &'static str {
        "Softmax"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        with_last_axis(only(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(SoftmaxKernel::new(&inputs[0], isa, kernels::softmax))
    }
}

impl Operator for LogSoftmax {
    fn name(&self) -> &'static str {
        "LogSoftmax"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        with_last_axis(only(inputs)?)
    }

    fn prepare(&self, inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(SoftmaxKernel::new(&inputs[0], isa, kernels::log_softmax))
    }
}

/// The shape of the operand, which needs an axis to sum over.
fn with_last_axis(x: &Operand) -> Result<Vec<Shape>, OpError> {
    if x.extents().is_empty() {
        return Err(OpError::Shape {
            operand: "x",
            expected: "at least 1 axis after the rows".into(),
            actual: x.shape.extents.clone(),
        });
    }
    Ok(vec![x.shape.clone()])
}

#[derive(Debug)]
struct SoftmaxKernel {
    columns: usize,
    isa: Isa,
    function: fn(Isa, usize, &mut [f32]),
}

impl SoftmaxKernel {
    fn new(x: &Operand, isa: Isa, function: fn(Isa, usize, &mut [f32])) -> Self {
        Self {
            columns: x.columns(),
            isa,
            function,
        }
    }
}

impl Kernel for SoftmaxKernel {
    fn run(&self, run: Run<'_>) {
        let output = run.output;
        (self.function)(self.isa, self.columns, output);
    }

    fn in_place(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, numbers, refusal, value};

    #[test]
    fn each_row_becomes_shares_of_one() {
        let third = 3.0_f32.ln();
        let rows = [0.0, third, third, 0.0];
        let x = [value(&[2])];
        assert_computes(&Softmax, &x, 2, &[&rows], &[0.25, 0.75, 0.75, 0.25], 1e-7);
        let logs = [0.25_f32, 0.75, 0.75, 0.25].map(f32::ln);
        assert_computes(&LogSoftmax, &x, 2, &[&rows], &logs, 2e-7);
    }

    #[test]
    fn only_the_last_axis_is_summed() {
        let x = [value(&[2, 1])];
        assert_computes(&Softmax, &x, 1, &[&[3.0, -7.0]], &[1.0, 1.0], 0.0);
        assert_computes(&LogSoftmax, &x, 1, &[&[3.0, -7.0]], &[0.0, 0.0], 0.0);
    }

    #[test]
    fn scores_far_apart_do_not_overflow() {
        let x = [value(&[2])];
        let rows = [3e38, -3e38, -3e38, -3e38];
        assert_computes(&Softmax, &x, 2, &[&rows], &[1.0, 0.0, 0.5, 0.5], 0.0);
        let rows = [0.0, -1000.0];
        assert_computes(&LogSoftmax, &x, 1, &[&rows], &[0.0, -1000.0], 0.0);
    }

    #[test]
    fn a_row_of_one_number_has_no_axis_to_sum() {
        let message = "x: expected at least 1 axis after the rows, got shape []";
        assert_eq!(refusal(&Softmax, &[value(&[])]), message);
        assert_eq!(refusal(&LogSoftmax, &[value(&[])]), message);
        assert_eq!(refusal(&Softmax, &[]), "expected 1 input, got 0 inputs");
    }

    proptest! {
        #[test]
        fn any_width_computes_as_a_loop_does(
            columns in 1_usize..40,
            rows in 1_usize..5,
            x in numbers(40 * 5),
        ) {
            let x = &x[..rows * columns];
            let (mut shares, mut logs) = (Vec::new(), Vec::new());
            for row in x.chunks(columns) {
                let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
                for v in row {
                    shares.push((f64::from(*v).exp() / sum) as f32);
                    logs.push((f64::from(*v) - sum.ln()) as f32);
                }
            }
            // An exponential, a sum of 40 and a quotient, of numbers up to 1 (logs: up to 12).
            assert_computes(&Softmax, &[value(&[columns])], rows, &[x], &shares, 1e-6);
            assert_computes(&LogSoftmax, &[value(&[columns])], rows, &[x], &logs, 1e-6);
        }
    }
}
