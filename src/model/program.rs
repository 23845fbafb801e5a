//! What a model version does with rows, as its family builds it.

use std::sync::Arc;

use crate::engine::Graph;
use crate::request::Prepare;

/// The steps from a request's rows to the engine's outputs.
#[derive(Debug)]
pub(super) struct Program {
    /// Makes the engine's inputs of what requests send, on the threads that compute; `None` if they
    /// are the same, as numbers are.
    pub(super) prepare: Option<Arc<dyn Prepare>>,
    /// What the engine computes.
    pub(super) graph: Graph,
}

impl From<Graph> for Program {
    /// The program of a model whose requests send what its engine takes.
    fn from(graph: Graph) -> Self {
        Self {
            prepare: None,
            graph,
        }
    }
}
