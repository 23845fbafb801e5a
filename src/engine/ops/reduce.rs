//! One number of each run of numbers, and runs divided by theirs.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// One number of the last axis, which goes (ONNX `ReduceSum` and its kin with the last axis and
/// `keepdims = 0`). Sums are of double precision, in the order of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// The sum of the magnitudes
    L1,
    /// The root of the sum of the squares
    L2,
    /// The logarithm of the sum
    LogSum,
    /// The logarithm of the sum of the exponentials
    LogSumExp,
    /// The largest
    Max,
    /// The mean
    Mean,
    /// The smallest
    Min,
    /// The product
    Prod,
    /// The sum
    Sum,
    /// The sum of the squares
    SumSquare,
}

impl Reduce {
    fn of(self, values: &[f32]) -> f32 {
        let sum = |of: fn(f64) -> f64| values.iter().map(|x| of(f64::from(*x))).sum::<f64>();
        let best = |better: fn(f32, f32) -> bool| {
            let first = values[0];
            // NaN, which is better than nothing and than which nothing is better, stays.
            values[1..].iter().fold(first, |best, x| match *x {
                x if best.is_nan() || x.is_nan() => best + x,
                x if better(x, best) => x,
                _ => best,
            })
        };
        match self {
            Self::L1 => sum(f64::abs) as f32,
            Self::L2 => sum(|x| x * x).sqrt() as f32,
            Self::LogSum => sum(|x| x).ln() as f32,
            Self::LogSumExp => {
                let largest = Self::Max.of(values);
                if !largest.is_finite() {
                    return largest;
                }
                let largest = f64::from(largest);
                let shares = values.iter().map(|x| (f64::from(*x) - largest).exp());
                (largest + shares.sum::<f64>().ln()) as f32
            }
            Self::Max => best(|x, best| x > best),
            Self::Mean => (sum(|x| x) / values.len() as f64) as f32,
            Self::Min => best(|x, best| x < best),
            Self::Prod => values.iter().map(|x| f64::from(*x)).product::<f64>() as f32,
            Self::Sum => sum(|x| x) as f32,
            Self::SumSquare => sum(|x| x * x) as f32,
        }
    }
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self {
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::LogSum => "ReduceLogSum",
            Self::LogSumExp => "ReduceLogSumExp",
            Self::Max => "ReduceMax",
            Self::Mean => "ReduceMean",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::Sum => "ReduceSum",
            Self::SumSquare => "ReduceSumSquare",
        }
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let (_, kept) = last_axis(only(inputs)?)?;
        itemwise(inputs, kept.to_vec())
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(ReduceKernel {
            function: *self,
            columns: inputs[0].columns(),
        })
    }
}

/// The last axis, of one element at least, and those before it.
fn last_axis(x: &Operand) -> Result<(usize, &[usize]), OpError> {
    match x.extents().split_last() {
        Some((columns, kept)) if *columns > 0 => Ok((*columns, kept)),
        _ => Err(OpError::Shape {
            operand: "x",
            expected: "at least 1 element in the last axis of the row".into(),
            actual: x.shape.extents.clone(),
        }),
    }
}

#[derive(Debug)]
struct ReduceKernel {
    function: Reduce,
    columns: usize,
}

impl Kernel for ReduceKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        let runs = inputs.get(0).chunks_exact(self.columns);
        for (run, output) in runs.zip(output) {
            *output = self.function.of(run);
        }
    }
}

/// The last axis divided by its norm; where that is 0, the zeros stay (ONNX `LpNormalization` with
/// `axis = -1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LpNormalization {
    /// By the sum of the magnitudes.
    L1,
    /// By the root of the sum of the squares.
    L2,
}

impl Operator for LpNormalization {
    fn name(&self) -> &'static str {
        "LpNormalization"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let x = only(inputs)?;
        last_axis(x)?;
        Ok(vec![x.shape.clone()])
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(LpNormalizationKernel {
            norm: match self {
                Self::L1 => Reduce::L1,
                Self::L2 => Reduce::L2,
            },
            columns: inputs[0].columns(),
        })
    }
}

#[derive(Debug)]
struct LpNormalizationKernel {
    norm: Reduce,
    columns: usize,
}

impl Kernel for LpNormalizationKernel {
    fn run(&self, run: Run<'_>) {
        let output = run.output;
        for run in output.chunks_exact_mut(self.columns) {
            let norm = self.norm.of(run);
            if norm != 0.0 {
                run.iter_mut().for_each(|x| *x /= norm);
            }
        }
    }

    fn in_place(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{assert_computes, refusal, value};

    #[test]
    fn each_run_becomes_one_number() {
        let x = [3.0, -4.0, 1.0, 2.0];
        for (function, expected) in [
            (Reduce::L1, [7.0, 3.0]),
            (Reduce::L2, [5.0, 5.0_f32.sqrt()]),
            (Reduce::Max, [3.0, 2.0]),
            (Reduce::Mean, [-0.5, 1.5]),
            (Reduce::Min, [-4.0, 1.0]),
            (Reduce::Prod, [-12.0, 2.0]),
            (Reduce::Sum, [-1.0, 3.0]),
            (Reduce::SumSquare, [25.0, 5.0]),
            (
                Reduce::LogSumExp,
                [
                    (3f32.exp() + (-4f32).exp()).ln(),
                    (1f32.exp() + 2f32.exp()).ln(),
                ],
            ),
        ] {
            // As two rows of two, and as one row of two runs.
            assert_computes(&function, &[value(&[2])], 2, &[&x], &expected, 1e-6);
            assert_computes(&function, &[value(&[2, 2])], 1, &[&x], &expected, 1e-6);
        }
        let x = [1.0, 3.0, 0.5, 0.5];
        let expected = [4f32.ln(), 0.0];
        assert_computes(&Reduce::LogSum, &[value(&[2])], 2, &[&x], &expected, 1e-6);
    }

    #[test]
    fn exponentials_of_large_numbers_do_not_overflow() {
        let x = [1000.0, 1000.0];
        let expected = [1000.0 + std::f32::consts::LN_2];
        assert_computes(
            &Reduce::LogSumExp,
            &[value(&[2])],
            1,
            &[&x],
            &expected,
            1e-6,
        );
    }

    #[test]
    fn nan_is_neither_larger_nor_smaller() {
        for values in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
            assert!(Reduce::Max.of(&values).is_nan());
            assert!(Reduce::Min.of(&values).is_nan());
        }
    }

    #[test]
    fn runs_are_divided_by_their_norm() {
        let x = [3.0, -4.0, 0.0, 0.0];
        let expected = [3.0 / 7.0, -4.0 / 7.0, 0.0, 0.0];
        assert_computes(
            &LpNormalization::L1,
            &[value(&[2])],
            2,
            &[&x],
            &expected,
            1e-7,
        );
        let expected = [0.6, -0.8, 0.0, 0.0];
        assert_computes(
            &LpNormalization::L2,
            &[value(&[2])],
            2,
            &[&x],
            &expected,
            1e-7,
        );
    }

    #[test]
    fn without_a_last_axis_there_is_no_run() {
        let message = "x: expected at least 1 element in the last axis of the row, got shape []";
        assert_eq!(refusal(&Reduce::Sum, &[value(&[])]), message);
        assert_eq!(refusal(&LpNormalization::L1, &[value(&[])]), message);
    }
}
