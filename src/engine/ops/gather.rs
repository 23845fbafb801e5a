//! Rows of a table, looked up by integers.

use std::fmt;
use std::ops::RangeInclusive;

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, constant};
use crate::engine::run::Run;
use crate::tensor::{DataType, Shape};

/// For each of its indices the row of a table (ONNX `Gather` with `axis = 0`): an embedding.
///
/// Operands: the weight `table` of `[entries, ...]`; `indices`, an `INT64` input of any shape
/// `[...]`, each from 0 to `entries - 1`. Gives `[indices..., entry...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather;

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        let [table, indices] = inputs else {
            return Err(OpError::Operands {
                expected: "2 inputs (table, indices)",
                actual: inputs.len(),
            });
        };
        constant(table, "table")?;
        let [entries, entry @ ..] = table.extents() else {
            return Err(OpError::Shape {
                operand: "table",
                expected: "at least 1 axis, its entries".into(),
                actual: Vec::new(),
            });
        };
        if *entries == 0 {
            return Err(OpError::Shape {
                operand: "table",
                expected: "at least 1 entry".into(),
                actual: table.shape.extents.clone(),
            });
        }
        Ok(vec![Shape {
            domain: indices.shape.domain,
            extents: [indices.extents(), entry].concat(),
        }])
    }

    fn datatype(&self, operand: usize) -> DataType {
        match operand {
            1 => DataType::Int64,
            _ => DataType::Fp32,
        }
    }

    fn range(&self, inputs: &[Operand], operand: usize) -> Option<RangeInclusive<i64>> {
        let entries = i64::try_from(inputs[0].extents()[0]).unwrap_or(i64::MAX);
        (operand == 1).then_some(0..=entries - 1)
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(GatherKernel {
            entry_elements: inputs[0].extents()[1..].iter().product(),
            table: inputs[0].weights(),
        })
    }
}

struct GatherKernel {
    table: Vec<f32>,
    entry_elements: usize,
}

impl fmt::Debug for GatherKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The entries themselves would fill screens.
        f.debug_struct("GatherKernel")
            .field("entry_elements", &self.entry_elements)
            .field("weight_bytes", &self.weight_bytes())
            .finish()
    }
}

impl Kernel for GatherKernel {
    /// # Panics
    /// If an index is beyond the table: requests are held to [`Operator::range`].
    fn run(&self, run: Run<'_>) {
        let len = self.entry_elements;
        let entries = run.output.chunks_exact_mut(len.max(1));
        for (index, output) in run.inputs.i64s(0).iter().zip(entries) {
            let start = usize::try_from(*index).expect("indices are not negative") * len;
            output.copy_from_slice(&self.table[start..start + len]);
        }
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{refusal, value, weight};
    use crate::engine::{Batch, Engine, GraphBuilder, Workspace};
    use crate::tensor::{Axis, TensorSpec, View};

    fn indices(shape: Shape) -> Operand {
        Operand {
            datatype: DataType::Int64,
            ..Operand::computed(shape)
        }
    }

    #[test]
    fn each_index_becomes_its_entry() {
        let shapes = [
            Shape::rows([]),
            Shape::rows([2]),
            Shape::tokens(Axis(0), []),
        ];
        let expected: [&[usize]; 3] = [&[2], &[2, 2], &[2]];
        for (shape, expected) in shapes.into_iter().zip(expected) {
            let operands = [weight(&[3, 2], &[0.0; 6]), indices(shape.clone())];
            let inferred = Gather.infer_shapes(&operands).unwrap();
            assert_eq!(inferred[0].extents, expected);
            assert_eq!(inferred[0].domain, shape.domain);
        }

        let mut graph = GraphBuilder::new();
        let spec = TensorSpec::new("ids", DataType::Int64, Shape::rows([2]));
        let ids = graph.input(spec);
        let table = ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        let table = graph.weight(table.into_dyn());
        let entries = graph.node("embedding", Gather, &[table, ids]).unwrap();
        graph.output("entries", entries).unwrap();
        let engine = Engine::compile(graph.build());
        assert_eq!(engine.inputs()[0].range, Some(0..=2));
        let mut workspace = Workspace::new();
        let ids = [View::I64(&[2, 0, 1, 1])];
        let outputs = engine.run(Batch::of_rows(2, &ids), &mut workspace, None);
        assert_eq!(outputs.get(0), [5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }

    #[test]
    fn an_input_is_held_to_the_smallest_of_its_tables() {
        let mut graph = GraphBuilder::new();
        let ids = graph.input(TensorSpec::new("ids", DataType::Int64, Shape::rows([])));
        for entries in [7, 3, 5] {
            let table = graph.weight(ndarray::Array2::zeros((entries, 1)).into_dyn());
            let entry = graph.node("embedding", Gather, &[table, ids]).unwrap();
            graph.output("entry", entry).unwrap();
        }
        let engine = Engine::compile(graph.build());
        assert_eq!(engine.inputs()[0].range, Some(0..=2));
    }

    #[test]
    fn operands_that_do_not_fit_are_refused_by_name() {
        let ids = indices(Shape::rows([]));
        assert_eq!(
            refusal(&Gather, &[weight(&[], &[1.0]), ids.clone()]),
            "table: expected at least 1 axis, its entries, got shape []"
        );
        assert_eq!(
            refusal(&Gather, &[weight(&[0, 4], &[]), ids.clone()]),
            "table: expected at least 1 entry, got shape [0, 4]"
        );
        assert_eq!(
            refusal(&Gather, &[value(&[3, 2]), ids.clone()]),
            "table must be a weight, not computed from the inputs"
        );
        assert_eq!(
            refusal(&Gather, &[ids]),
            "expected 2 inputs (table, indices), got 1 inputs"
        );
    }

    #[test]
    fn only_integers_look_up() {
        let mut graph = GraphBuilder::new();
        let x = graph.input(TensorSpec::new("x", DataType::Fp32, Shape::rows([])));
        let table = graph.weight(ndarray::arr2(&[[1.0]]).into_dyn());
        let error = graph.node("embedding", Gather, &[table, x]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer \"embedding\" (Gather): operand 1: expected INT64, got FP32"
        );
        let ids = graph.input(TensorSpec::new("ids", DataType::Int64, Shape::rows([])));
        let error = graph
            .node("sum", crate::engine::ops::Sum, &[ids])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer \"sum\" (Sum): operand 0: expected FP32, got INT64"
        );
        let error = graph.output("ids", ids).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is an input of INT64; expected what a node computes"
        );
    }
}
