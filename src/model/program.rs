//! What a model version does with rows, as its family builds it.

use std::sync::Arc;

use crate::engine::Graph;
use crate::request::{Finish, Prepare};
use crate::tensor::TensorSpec;

/// The steps from what requests send to what answers hold.
#[derive(Debug)]
pub(super) struct Program {
    /// The step before the engine; `None` if requests send what the engine takes.
    pub(super) prepare: Option<PrepareStep>,
    /// What the engine computes.
    pub(super) graph: Graph,
    /// The step after the engine; `None` if answers hold what it computes, and the classes of a
    /// classifier.
    pub(super) finish: Option<FinishStep>,
}

/// The step that makes the engine's inputs, with what it makes them of.
#[derive(Clone, Debug)]
pub(super) struct PrepareStep {
    /// What requests send.
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) step: Arc<dyn Prepare>,
}

/// The step that makes outputs of the engine's, with what these are.
#[derive(Clone, Debug)]
pub(super) struct FinishStep {
    /// The outputs that it makes.
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) step: Arc<dyn Finish>,
}

impl From<Graph> for Program {
    /// The program of a model whose requests send what its engine takes.
    fn from(graph: Graph) -> Self {
        Self {
            prepare: None,
            graph,
            finish: None,
        }
    }
}
