//! Rows with their axes in another order.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// The axes of a row in another order (ONNX `Transpose`, whose `perm` begins with the rows' 0).
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// For each axis of the output's row, the axis of the input's row that it is.
    pub permutation: Vec<usize>,
}

impl Transpose {
    /// The axis moved after all others, which keep their order.
    #[must_use]
    pub fn to_the_end(rank: usize, axis: usize) -> Self {
        let others = (0..rank).filter(|other| *other != axis);
        Self {
            permutation: others.chain([axis]).collect(),
        }
    }

    /// The one that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut permutation = vec![0; self.permutation.len()];
        for (to, &from) in self.permutation.iter().enumerate() {
            permutation[from] = to;
        }
        Self { permutation }
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let shape = only(inputs)?.extents();
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.len()) {
            return Err(OpError::Attribute {
                attribute: "permutation",
                problem: format!(
                    "expected each axis of a row of shape {shape:?} once, got {:?}",
                    self.permutation
                ),
            });
        }
        let extents = self.permutation.iter().map(|axis| shape[*axis]);
        itemwise(inputs, extents.collect())
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        let from = inputs[0].extents();
        let mut strides = vec![1; from.len()];
        for axis in (1..from.len()).rev() {
            strides[axis - 1] = strides[axis] * from[axis];
        }
        Box::new(TransposeKernel {
            elements: inputs[0].elements(),
            axes: self
                .permutation
                .iter()
                .map(|axis| (from[*axis], strides[*axis]))
                .collect(),
        })
    }

    fn is_identity(&self) -> bool {
        self.permutation.is_sorted()
    }
}

#[derive(Debug)]
struct TransposeKernel {
    elements: usize,
    /// Of each axis of the output: its extent, and how far apart its elements lie in the input.
    axes: Vec<(usize, usize)>,
}

impl Kernel for TransposeKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        let length = self.elements.max(1);
        let rows = inputs.get(0).chunks_exact(length);
        for (row, output) in rows.zip(output.chunks_exact_mut(length)) {
            gather(row, &self.axes, 0, output);
        }
    }
}

/// Fills `output` with the elements of `row` from `at` on, in the order of the axes.
fn gather(row: &[f32], axes: &[(usize, usize)], at: usize, output: &mut [f32]) {
    match axes {
        [] => output[0] = row[at],
        [(_, stride)] => {
            for (index, value) in output.iter_mut().enumerate() {
                *value = row[at + index * stride];
            }
        }
        [(extent, stride), inner @ ..] => {
            let part = output.len() / (*extent).max(1);
            for (index, output) in output.chunks_exact_mut(part.max(1)).enumerate() {
                gather(row, inner, at + index * stride, output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, extents, refusal, value};

    #[test]
    fn the_axes_of_each_row_change_places() {
        let transpose = Transpose {
            permutation: vec![1, 0],
        };
        let rows = [
            1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0,
        ];
        let expected = [
            1.0, 4.0, 2.0, 5.0, 3.0, 6.0, -1.0, -4.0, -2.0, -5.0, -3.0, -6.0,
        ];
        let x = [value(&[2, 3])];
        assert_eq!(extents(&transpose, &x), [3, 2]);
        assert_computes(&transpose, &x, 2, &[&rows], &expected, 0.0);
    }

    #[test]
    fn what_is_no_permutation_is_refused() {
        for permutation in [vec![0], vec![0, 0], vec![1, 2], vec![0, 1, 2]] {
            let message = refusal(
                &Transpose {
                    permutation: permutation.clone(),
                },
                &[value(&[2, 3])],
            );
            assert_eq!(
                message,
                format!(
                    "permutation: expected each axis of a row of shape [2, 3] once, got {permutation:?}"
                )
            );
        }
    }

    proptest! {
        #[test]
        fn any_order_is_as_ndarray_has_it(
            shape in proptest::collection::vec(1_usize..5, 1..5),
            seed in any::<u64>(),
            rows in 1_usize..4,
        ) {
            let mut permutation: Vec<usize> = (0..shape.len()).collect();
            let len = permutation.len();
            (0..len).for_each(|i| permutation.swap(i, (seed >> (8 * i)) as usize % len));
            let elements: usize = shape.iter().product();
            let x: Vec<f32> = (0..rows * elements).map(|i| i as f32).collect();
            let mut expected = Vec::new();
            for row in x.chunks(elements) {
                let row = ArrayD::from_shape_vec(shape.clone(), row.to_vec()).unwrap();
                expected.extend(row.permuted_axes(permutation.clone()).iter());
            }
            let transpose = Transpose { permutation };
            assert_computes(&transpose, &[value(&shape)], rows, &[&x], &expected, 0.0);
            let back = transpose.inverse();
            let shape = extents(&transpose, &[value(&shape)]);
            assert_computes(&back, &[value(&shape)], rows, &[&expected], &x, 0.0);
        }
    }
}
