//! The forward-pass engine: a graph of operators, compiled once, run many times.
//!
//! [`GraphBuilder`] makes a [`Graph`]; [`Engine::compile`] rewrites it, packs its weights and
//! settles where every value lies; [`Engine::run`] then only computes. The engine knows no file,
//! clock, environment, thread or wire format.
//!
//! Rows never influence each other: a row's answer has the same bits alone or beside any others.

mod graph;
pub mod kernels;
mod op;
pub mod ops;
mod optimize;
mod plan;
#[cfg(test)]
mod tests;
mod workspace;

pub use graph::{Graph, GraphBuilder, GraphError, MAX_ROW_ELEMENTS, Node, ValueId};
pub use op::{Inputs, Kernel, OpError, Operand, Operator, ScaleShift, Side};
pub use plan::Outputs;
pub use workspace::Workspace;

use std::sync::Arc;

use ndarray::ArrayD;

use crate::tensor::TensorSpec;
use kernels::{Isa, Team};
use plan::Plan;

/// A compiled network.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
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

    /// As [`Engine::compile_for`]. Gives the constants away, one after the other, as soon as the
    /// last kernel that needs it has what it needs of it, and before the next kernel is prepared.
    #[must_use]
    pub fn compile_releasing(
        mut graph: Graph,
        isa: Isa,
        release: &mut dyn FnMut(Arc<ArrayD<f32>>),
    ) -> Self {
        optimize::optimize(&mut graph, isa);
        let specs = |values: &[(ValueId, TensorSpec)]| {
            values.iter().map(|(_, spec)| spec.clone()).collect()
        };
        Self {
            inputs: specs(&graph.inputs),
            outputs: specs(&graph.outputs),
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

    /// Computes the outputs for `rows` rows.
    ///
    /// `inputs` holds one slice an input, `rows` rows of its elements each, row-major.
    /// Allocates only while `workspace` grows to its largest run.
    ///
    /// # Panics
    /// If an input is missing or has another length.
    pub fn run<'w>(
        &'w self,
        rows: usize,
        inputs: &'w [&'w [f32]],
        workspace: &'w mut Workspace,
    ) -> Outputs<'w> {
        self.check(rows, inputs);
        self.plan.run(rows, inputs, workspace, None)
    }

    /// As [`Engine::run`], with the help of whoever helps `team`, which is open. The outputs are
    /// the same to the last bit.
    ///
    /// # Panics
    /// As [`Engine::run`].
    pub fn run_shared<'w>(
        &'w self,
        rows: usize,
        inputs: &'w [&'w [f32]],
        workspace: &'w mut Workspace,
        team: &Team,
    ) -> Outputs<'w> {
        self.check(rows, inputs);
        self.plan.run(rows, inputs, workspace, Some(team))
    }

    /// Whether this many rows are so much work that several threads should share them.
    #[must_use]
    pub fn pays_to_share(&self, rows: usize) -> bool {
        self.plan.pays_to_share(rows)
    }

    fn check(&self, rows: usize, inputs: &[&[f32]]) {
        assert_eq!(inputs.len(), self.inputs.len(), "one slice an input");
        for (values, spec) in inputs.iter().zip(&self.inputs) {
            assert_eq!(
                values.len(),
                rows * spec.row_elements(),
                "input {}",
                spec.name
            );
        }
    }

    /// Floating-point operations for one row.
    #[must_use]
    pub fn flops_per_row(&self) -> u64 {
        self.plan.flops_per_row()
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
