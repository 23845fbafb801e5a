//! A model's graph while it is read: the values that are known so far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;

use super::constants::Constant;
use super::error::{ImportError, format};
use super::network::{Network, Options};
use super::proto;
use crate::model::lowering::Lowering;

/// The oldest version of ONNX' operators that is understood. Before it `broadcast` was an attribute.
const OLDEST_OPSET: i64 = 7;

/// Goes through a model's nodes in their order.
pub(super) struct Reader<'m> {
    pub(super) graph: &'m proto::GraphProto,
    pub(super) options: &'m Options,
    pub(super) directory: PathBuf,
    /// The version of ONNX' own operators.
    pub(super) opset: i64,
    /// The number of rows that the file was written for, where it is fixed.
    pub(super) fixed_rows: Option<i64>,
    /// The values that nodes and wanted outputs use.
    pub(super) used: HashSet<&'m str>,
    pub(super) constants: HashMap<&'m str, Constant>,
    pub(super) lowering: Lowering,
    pub(super) network: Network,
}

impl<'m> Reader<'m> {
    pub(super) fn new(
        model: &'m proto::ModelProto,
        path: &Path,
        options: &'m Options,
    ) -> Result<Self, ImportError> {
        let graph = model.graph.as_ref().filter(|graph| !graph.node.is_empty());
        let graph = graph.ok_or_else(|| format("expected an ONNX model, the file has no nodes"))?;
        let core = |set: &&proto::OperatorSetIdProto| matches!(&*set.domain, "" | "ai.onnx");
        let opset = model.opset_import.iter().find(core);
        let opset = opset.map_or(OLDEST_OPSET, |set| set.version);
        if opset < OLDEST_OPSET {
            return Err(format(format!(
                "expected operators of version {OLDEST_OPSET} or newer, the file has {opset}; \
                 convert it with onnx.version_converter"
            )));
        }
        Ok(Self {
            graph,
            options,
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            opset,
            fixed_rows: None,
            used: HashSet::new(),
            constants: HashMap::new(),
            lowering: Lowering::new(),
            network: Network {
                inputs: Vec::new(),
                nodes: Vec::new(),
                outputs: Vec::new(),
                weights: BTreeMap::new(),
                labels: Vec::new(),
                operators: BTreeMap::new(),
                notes: Vec::new(),
            },
        })
    }

    /// Makes a constant a weight of the network.
    pub(super) fn weight(&mut self, name: &str) -> Result<(), String> {
        let Some(constant) = self.constants.get(name) else {
            return Err(format!("there is no value {name:?} before it"));
        };
        let values = constant
            .floats()
            .map_err(|problem| format!("{name:?}: {problem}"))?;
        self.add_weight(name, values)
    }

    /// Adds a weight to the network.
    pub(super) fn add_weight(
        &mut self,
        name: &str,
        values: Arc<ArrayD<f32>>,
    ) -> Result<(), String> {
        let added = self.lowering.constant(name, values.clone());
        added.map_err(|refusal| refusal.to_string())?;
        self.network.weights.insert(name.to_owned(), values);
        Ok(())
    }
}
