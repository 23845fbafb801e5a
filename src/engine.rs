//! The forward-pass engine: a graph of operators, compiled once, run many times.
//!
//! [`GraphBuilder`] makes a [`Graph`]; [`Engine::compile`] rewrites it, packs its weights and
//! decides where every value is stored; [`Engine::run`] then only computes. The engine knows no file,
//! clock, environment, thread or wire format.
//!
//! Rows never influence each other: a row's answer has the same bits alone or among any others.

mod constant;
mod counts;
mod graph;
pub mod kernels;
mod op;
pub mod ops;
mod optimize;
mod plan;
mod run;
mod step;
#[cfg(test)]
mod tests;
mod workspace;

pub use constant::Constant;
pub use counts::Counts;
pub use graph::{Graph, GraphBuilder, GraphError, MAX_ROW_ELEMENTS, Node, OutputError, ValueId};
pub use op::{Comparable, Kernel, OpError, Operand, Operator, ScaleShift, Side};
pub use plan::Outputs;
pub use run::{Batch, Inputs, Run};
pub use workspace::Workspace;

use crate::tensor::TensorSpec;
use kernels::{Isa, Team};
use plan::Plan;

/// A compiled network.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    axes: usize,
    parameters: usize,
}

impl Engine {
    /// Compiles a graph for this machine's best instruction set.
    #[must_use]
    pub fn compile(graph: Graph) -> Self {
        Self::compile_for(graph, Isa::detect())
    }

    /// Compiles a graph for the given instruction set.
    #[must_use]
    pub fn compile_for(graph: Graph, isa: Isa) -> Self {
        Self::compile_releasing(graph, isa, &mut drop)
    }

    /// As [`Engine::compile_for`]. Hands over each constant as soon as the last kernel that needs it is
    /// prepared, and before the next kernel is.
    #[must_use]
    pub fn compile_releasing(
        mut graph: Graph,
        isa: Isa,
        release: &mut dyn FnMut(Constant),
    ) -> Self {
        optimize::optimize(&mut graph, isa);
        let specs = |values: &[(ValueId, TensorSpec)]| {
            values.iter().map(|(_, spec)| spec.clone()).collect()
        };
        Self {
            inputs: specs(&graph.inputs),
            outputs: specs(&graph.outputs),
            axes: graph.axes,
            parameters: graph.parameters,
            plan: Plan::compile(graph, isa, release),
        }
    }

    /// What a run takes, in this order.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What a run gives, in this order.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// The number of axes along which a row has as many items as its request says.
    #[must_use]
    pub fn axes(&self) -> usize {
        self.axes
    }

    /// Computes the outputs for a batch, with the help of the threads that help `team`, which is
    /// open, if there is one. The outputs are the same to the last bit.
    ///
    /// Allocates only while `workspace` grows to its largest run.
    ///
    /// # Panics
    /// If an input or the offsets of an axis are missing, or an input has another type or length.
    pub fn run<'w>(
        &'w self,
        batch: Batch<'w>,
        workspace: &'w mut Workspace,
        team: Option<&Team>,
    ) -> Outputs<'w> {
        self.check(batch);
        self.plan.run(batch, workspace, team)
    }

    /// The most bytes of scratch memory that a batch of this many rows, and of this many tokens along
    /// its longest axis, takes of its workspace.
    #[must_use]
    pub fn scratch_bytes(&self, rows: usize, tokens: usize) -> usize {
        self.plan.scratch_bytes(rows, tokens)
    }

    /// Whether a batch of this many rows, and of this many tokens along its longest axis, is enough work
    /// for several threads to share.
    #[must_use]
    pub fn pays_to_share(&self, rows: usize, tokens: usize) -> bool {
        self.plan.pays_to_share(rows, tokens)
    }

    /// Checks that a batch is one of this engine, as [`Engine::run`] does first.
    ///
    /// # Panics
    /// As [`Engine::run`].
    pub fn check(&self, batch: Batch<'_>) {
        assert_eq!(batch.inputs.len(), self.inputs.len(), "one view an input");
        assert_eq!(batch.offsets.len(), self.axes, "offsets for each axis");
        for offsets in batch.offsets {
            assert_eq!(
                offsets.len(),
                batch.rows + 1,
                "an offset for each row's start and end"
            );
            assert!(
                offsets[0] == 0 && offsets.is_sorted(),
                "rows follow each other"
            );
        }
        let counts = batch.counts();
        for (values, spec) in batch.inputs.iter().zip(&self.inputs) {
            let expected = counts.items(spec.shape.domain) * spec.shape.elements();
            assert_eq!(values.len(), expected, "input {}", spec.name);
        }
    }

    /// The number of kernels that a pass runs.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.plan.steps()
    }

    /// Bytes that the weights take, packed as the kernels want them.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.plan.weight_bytes()
    }

    /// The number of weights before packing.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.parameters
    }
}
