//! The mean of each row's tokens.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, only};
use crate::engine::run::Run;
use crate::tensor::{Axis, Domain, Shape};

/// The mean of a row's tokens, element by element; zeros for a row without tokens (ONNX
/// `GlobalAveragePool`, Keras' `GlobalAveragePooling1D`, the mean pooling of sentence
/// transformers).
///
/// Operand: `x` of `[...]` with one item a token. Gives `[...]` with one item a row.
///
/// The tokens are summed in their order, with the error of each sum carried along, so that the
/// mean of any number of tokens is as exact as that of a few.
///
/// Source of the summation: Neumaier 1974, algorithm II.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeanPooling;

impl Operator for MeanPooling {
    fn name(&self) -> &'static str {
        "GlobalAveragePool"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let x = only(inputs)?;
        match x.shape.domain {
            Domain::Tokens(_) => Ok(vec![Shape::rows(x.extents())]),
            actual => Err(OpError::Domain {
                operand: "x",
                expected: "tokens, which it pools row by row",
                actual,
            }),
        }
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(MeanPoolingKernel {
            axis: inputs[0]
                .shape
                .axis()
                .expect("infer_shapes checked the domain"),
            elements: inputs[0].elements(),
        })
    }
}

#[derive(Debug)]
struct MeanPoolingKernel {
    axis: Axis,
    elements: usize,
}

impl Kernel for MeanPoolingKernel {
    fn run(&self, run: Run<'_>) {
        let elements = self.elements.max(1);
        let offsets = run.counts.offsets(self.axis);
        let (tokens, errors) = (run.inputs.get(0), run.scratch);
        for (bounds, mean) in offsets
            .windows(2)
            .zip(run.output.chunks_exact_mut(elements))
        {
            let tokens = &tokens[bounds[0] * elements..bounds[1] * elements];
            mean.fill(0.0);
            errors.fill(0.0);
            for token in tokens.chunks_exact(elements) {
                for ((sum, error), x) in mean.iter_mut().zip(&mut *errors).zip(token) {
                    let next = *sum + x;
                    let (large, small) = if sum.abs() >= x.abs() {
                        (*sum, *x)
                    } else {
                        (*x, *sum)
                    };
                    *error += (large - next) + small;
                    *sum = next;
                }
            }
            let count = (bounds[1] - bounds[0]).max(1) as f32;
            for (sum, error) in mean.iter_mut().zip(&*errors) {
                // An infinite sum has no error that means anything.
                let exact = *sum + error;
                *sum = if exact.is_nan() { *sum } else { exact } / count;
            }
        }
    }

    fn scratch(&self) -> Option<Shape> {
        Some(Shape::once([self.elements]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{numbers, refusal, value, weight};
    use crate::engine::{Batch, Engine, GraphBuilder, Workspace};
    use crate::tensor::{DataType, TensorSpec, View};

    fn engine(elements: usize) -> Engine {
        let mut graph = GraphBuilder::new();
        let shape = Shape::tokens(Axis(0), [elements]);
        let x = graph.input(TensorSpec::new("x", DataType::Fp32, shape));
        let mean = graph.node("pool", MeanPooling, &[x]).unwrap();
        graph.output("mean", mean).unwrap();
        Engine::compile(graph.build())
    }

    fn means(engine: &Engine, offsets: &[usize], x: &[f32]) -> Vec<f32> {
        let offsets = [offsets.to_vec()];
        let inputs = [View::F32(x)];
        let batch = Batch {
            rows: offsets[0].len() - 1,
            offsets: &offsets,
            inputs: &inputs,
        };
        engine
            .run(batch, &mut Workspace::new(), None)
            .get(0)
            .to_vec()
    }

    #[test]
    fn each_row_is_the_mean_of_its_own_tokens() {
        let x = [1.0, 10.0, 3.0, 30.0, 7.0, 70.0];
        let means = means(&engine(2), &[0, 2, 2, 3], &x);
        assert_eq!(means, [2.0, 20.0, 0.0, 0.0, 7.0, 70.0]);
    }

    #[test]
    fn small_tokens_are_not_lost_in_a_large_sum() {
        let mut x = vec![1.0; 1 << 12];
        x.extend([16_777_216.0 * 4.0, -16_777_216.0 * 4.0]);
        x.extend(vec![1.0; (1 << 12) - 2]);
        let count = x.len();
        assert_eq!(means(&engine(1), &[0, count], &x), [8190.0 / count as f32]);
    }

    #[test]
    fn an_infinite_token_stays_infinite() {
        let x = [1.0, f32::INFINITY, 2.0];
        assert_eq!(means(&engine(1), &[0, 3], &x), [f32::INFINITY]);
    }

    #[test]
    fn only_tokens_are_pooled() {
        assert_eq!(
            refusal(&MeanPooling, &[value(&[2])]),
            "x: expected tokens, which it pools row by row, got rows"
        );
        assert_eq!(
            refusal(&MeanPooling, &[weight(&[2], &[1.0, 2.0])]),
            "x: expected tokens, which it pools row by row, got constants"
        );
    }

    proptest! {
        #[test]
        fn any_lengths_are_pooled_as_one_row_is(
            lengths in proptest::collection::vec(0_usize..9, 1..6),
            elements in 1_usize..20,
            x in numbers(5 * 8 * 19),
        ) {
            let engine = engine(elements);
            let mut offsets = vec![0];
            for length in &lengths {
                offsets.push(offsets[offsets.len() - 1] + length);
            }
            let x = &x[..offsets[lengths.len()] * elements];
            let all = means(&engine, &offsets, x);
            for (row, length) in lengths.iter().enumerate() {
                let own = &x[offsets[row] * elements..offsets[row + 1] * elements];
                let alone = means(&engine, &[0, *length], own);
                prop_assert_eq!(&all[row * elements..(row + 1) * elements], &alone[..]);
                for (column, mean) in alone.iter().enumerate() {
                    let values = own.iter().skip(column).step_by(elements);
                    let sum: f64 = values.map(|x| f64::from(*x)).sum();
                    let expected = sum / (*length).max(1) as f64;
                    // One rounding of the sum and one of the quotient.
                    let tolerance = f64::from(f32::EPSILON) * expected.abs().max(1e-30);
                    prop_assert!((f64::from(*mean) - expected).abs() <= tolerance);
                }
            }
        }
    }
}
