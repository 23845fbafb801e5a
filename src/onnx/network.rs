//! The options of an import, and the network that it makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::model::graph::Node;
use crate::tensor::TensorSpec;

/// The options of an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The wanted outputs; if empty, all that are numbers.
    pub outputs: Vec<String>,
    /// The extents of axes that have a name instead of one, besides that of the rows.
    pub dimensions: BTreeMap<String, usize>,
    /// What the first output means, as `task` in `config.json`.
    pub task: Option<String>,
    /// The names of the classes.
    pub labels: Vec<String>,
    /// The names of the features.
    pub feature_names: Vec<String>,
    /// What the model does, for people.
    pub description: Option<String>,
}

/// A network as it is written.
pub(super) struct Network {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) nodes: Vec<Node>,
    /// (the output's name, the value's name)
    pub(super) outputs: Vec<(String, String)>,
    pub(super) weights: BTreeMap<String, Arc<ArrayD<f32>>>,
    /// The classes' names, if the file has them.
    pub(super) labels: Vec<String>,
    pub(super) operators: BTreeMap<String, usize>,
    pub(super) notes: Vec<String>,
}
