//! Rows repeated along axes of extent 1.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// A row repeated along its axes of extent 1 until it has a larger shape (ONNX `Expand`, and what
/// element-wise operators do with operands of unlike shapes).
#[derive(Clone, Debug, PartialEq)]
pub struct Expand {
    /// The extents of a row of the result.
    pub shape: Vec<usize>,
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let from = only(inputs)?.extents();
        let fits = from.len() == self.shape.len()
            && from
                .iter()
                .zip(&self.shape)
                .all(|(from, to)| from == to || *from == 1);
        match fits {
            true => itemwise(inputs, self.shape.clone()),
            false => Err(OpError::Shape {
                operand: "x",
                expected: format!("extents as of {:?}, or 1", self.shape),
                actual: from.to_vec(),
            }),
        }
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(ExpandKernel {
            from: inputs[0].shape.extents.clone(),
            to: self.shape.clone(),
        })
    }
}

#[derive(Debug)]
struct ExpandKernel {
    from: Vec<usize>,
    to: Vec<usize>,
}

impl Kernel for ExpandKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        let from: usize = self.from.iter().product();
        let to: usize = self.to.iter().product();
        let rows = inputs.get(0).chunks_exact(from.max(1));
        for (row, output) in rows.zip(output.chunks_exact_mut(to.max(1))) {
            repeat(row, &self.from, &self.to, output);
        }
    }
}

/// Fills `output` of extents `to` with `row` of extents `from`.
fn repeat(row: &[f32], from: &[usize], to: &[usize], output: &mut [f32]) {
    let ([extent, from @ ..], [times, to @ ..]) = (from, to) else {
        output.copy_from_slice(row);
        return;
    };
    let part = output.len() / (*times).max(1);
    let own = row.len() / (*extent).max(1);
    for (index, output) in output.chunks_exact_mut(part.max(1)).enumerate() {
        let start = if *extent == 1 { 0 } else { index * own };
        repeat(&row[start..start + own], from, to, output);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{assert_computes, refusal, value};

    #[test]
    fn other_shapes_are_refused() {
        let expand = Expand { shape: vec![2, 3] };
        assert_eq!(
            refusal(&expand, &[value(&[2, 2])]),
            "x: expected extents as of [2, 3], or 1, got shape [2, 2]"
        );
        assert_eq!(
            refusal(&expand, &[value(&[3])]),
            "x: expected extents as of [2, 3], or 1, got shape [3]"
        );
    }

    proptest! {
        #[test]
        fn any_shape_is_repeated_as_ndarray_broadcasts(
            axes in proptest::collection::vec((1_usize..4, any::<bool>()), 0..4),
            rows in 1_usize..3,
        ) {
            let to: Vec<usize> = axes.iter().map(|(extent, _)| *extent).collect();
            let from: Vec<usize> = axes.iter().map(|(extent, one)| if *one { 1 } else { *extent }).collect();
            let elements: usize = from.iter().product();
            let x: Vec<f32> = (0..rows * elements).map(|i| i as f32).collect();
            let mut expected = Vec::new();
            for row in x.chunks(elements) {
                let row = ArrayD::from_shape_vec(from.clone(), row.to_vec()).unwrap();
                expected.extend(row.broadcast(IxDyn(&to)).unwrap().iter());
            }
            assert_computes(&Expand { shape: to }, &[value(&from)], rows, &[&x], &expected, 0.0);
        }
    }
}
