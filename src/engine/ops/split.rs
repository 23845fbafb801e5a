//! Parts of a value along an axis.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// Its operand cut along one axis of the item into several values (ONNX `Split`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The axis among those of the item: 0 is the first.
    pub axis: usize,
    /// The extents of the parts along that axis, at least one; together the operand's.
    pub sizes: Vec<usize>,
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let x = only(inputs)?;
        let rank = x.extents().len();
        let Some(extent) = x.extents().get(self.axis) else {
            return Err(OpError::Attribute {
                attribute: "axis",
                problem: match rank {
                    0 => "an item of one number has no axis".into(),
                    _ => format!("expected 0 to {}, got {}", rank - 1, self.axis),
                },
            });
        };
        let mut sizes = self.sizes.iter();
        let sum = sizes.try_fold(0_usize, |sum, size| sum.checked_add(*size));
        if self.sizes.is_empty() || sum != Some(*extent) {
            return Err(OpError::Attribute {
                attribute: "split",
                problem: format!(
                    "expected sizes that sum to {extent}, the extent of axis {}, got {:?}",
                    self.axis, self.sizes
                ),
            });
        }
        let part = |size: &usize| {
            let mut shape = x.shape.clone();
            shape.extents[self.axis] = *size;
            shape
        };
        Ok(self.sizes.iter().map(part).collect())
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        let inner: usize = inputs[0].extents()[self.axis + 1..].iter().product();
        Box::new(SplitKernel {
            pieces: self.sizes.iter().map(|size| size * inner).collect(),
        })
    }
}

#[derive(Debug)]
struct SplitKernel {
    /// Elements that lie together, by part.
    pieces: Vec<usize>,
}

impl Kernel for SplitKernel {
    fn run(&self, mut run: Run<'_>) {
        let x = run.inputs.get(0);
        let stride: usize = self.pieces.iter().sum();
        let mut offset = 0;
        for (piece, output) in self.pieces.iter().zip(run.outputs()) {
            let groups = x.chunks_exact(stride.max(1));
            for (group, output) in groups.zip(output.chunks_exact_mut((*piece).max(1))) {
                output.copy_from_slice(&group[offset..offset + piece]);
            }
            offset += piece;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::op::testing::{refusal, value};
    use crate::engine::ops::Concat;
    use crate::engine::{Batch, Engine, GraphBuilder, Workspace};
    use crate::tensor::{DataType, TensorSpec, View};

    /// What the parts of `rows` items of these extents are.
    fn parts(split: &Split, extents: &[usize], rows: usize, x: &[f32]) -> Vec<Vec<f32>> {
        let mut graph = GraphBuilder::new();
        let spec = TensorSpec::new("x", DataType::Fp32, Shape::rows(extents));
        let input = graph.input(spec);
        let parts = graph
            .node_with_outputs("split", split.clone(), &[input])
            .unwrap();
        for part in &parts {
            graph.output("part", *part).unwrap();
        }
        let engine = Engine::compile(graph.build());
        let mut workspace = Workspace::new();
        let x = [View::F32(x)];
        let outputs = engine.run(Batch::of_rows(rows, &x), &mut workspace, None);
        (0..parts.len())
            .map(|part| outputs.get(part).to_vec())
            .collect()
    }

    #[test]
    fn each_part_has_its_columns() {
        let split = Split {
            axis: 0,
            sizes: vec![1, 2, 0],
        };
        let expected = [vec![1.0, 4.0], vec![2.0, 3.0, 5.0, 6.0], vec![]];
        assert_eq!(
            parts(&split, &[3], 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            expected
        );
        let split = Split {
            axis: 1,
            sizes: vec![1, 1],
        };
        let expected = [vec![1.0, 3.0], vec![2.0, 4.0]];
        assert_eq!(parts(&split, &[2, 2], 1, &[1.0, 2.0, 3.0, 4.0]), expected);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let split = |axis, sizes: &[usize]| Split {
            axis,
            sizes: sizes.to_vec(),
        };
        assert_eq!(
            refusal(&split(1, &[3]), &[value(&[3])]),
            "axis: expected 0 to 0, got 1"
        );
        assert_eq!(
            refusal(&split(0, &[1]), &[value(&[])]),
            "axis: an item of one number has no axis"
        );
        for sizes in [&[1, 1][..], &[], &[usize::MAX, 4]] {
            assert_eq!(
                refusal(&split(0, sizes), &[value(&[3])]),
                format!("split: expected sizes that sum to 3, the extent of axis 0, got {sizes:?}")
            );
        }
    }

    #[test]
    fn parts_of_constants_are_constants() {
        let mut graph = GraphBuilder::new();
        let x = graph.input(TensorSpec::new("x", DataType::Fp32, Shape::rows([2])));
        let weights = graph.weight(ndarray::arr1(&[1.0, 2.0, 10.0, 20.0]).into_dyn());
        let split = Split {
            axis: 0,
            sizes: vec![2, 2],
        };
        let parts = graph.node_with_outputs("split", split, &[weights]).unwrap();
        let joined = graph
            .node("join", Concat { axis: 0 }, &[parts[1], x, parts[0]])
            .unwrap();
        graph.output("y", joined).unwrap();
        let engine = Engine::compile(graph.build());
        let mut workspace = Workspace::new();
        let x = [View::F32(&[5.0, 6.0, 7.0, 8.0])];
        let outputs = engine.run(Batch::of_rows(2, &x), &mut workspace, None);
        let expected = [
            10.0, 20.0, 5.0, 6.0, 1.0, 2.0, 10.0, 20.0, 7.0, 8.0, 1.0, 2.0,
        ];
        assert_eq!(outputs.get(0), expected);
    }

    proptest! {
        #[test]
        fn parts_joined_again_are_the_whole(
            rows in 1_usize..4,
            groups in 1_usize..4,
            sizes in proptest::collection::vec(0_usize..5, 1..6),
            inner in 1_usize..4,
        ) {
            let extents = [groups, sizes.iter().sum(), inner];
            let mut graph = GraphBuilder::new();
            let spec = TensorSpec::new("x", DataType::Fp32, Shape::rows(extents));
            let x = graph.input(spec);
            let split = Split { axis: 1, sizes };
            let parts = graph.node_with_outputs("split", split, &[x]).unwrap();
            let joined = graph.node("join", Concat { axis: 1 }, &parts).unwrap();
            graph.output("y", joined).unwrap();
            let engine = Engine::compile(graph.build());
            let len = rows * extents.iter().product::<usize>();
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let mut workspace = Workspace::new();
            let views = [View::F32(&x)];
            let outputs = engine.run(Batch::of_rows(rows, &views), &mut workspace, None);
            prop_assert_eq!(outputs.get(0), &x[..]);
        }
    }
}
