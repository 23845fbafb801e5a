//! Layers in the words of Keras and PyTorch, and how they become operators.

mod layer;
mod lowering;

pub(super) use self::layer::{Call, Function, KernelLayout, Layer, Placed, Spread, Weight};

use std::collections::{HashMap, HashSet};

use self::lowering::Lowering;
use crate::engine::{Graph, GraphBuilder};
use crate::model::LoadError;
use crate::model::json::JsonError;
use crate::model::weights::Weights;
use crate::tensor::TensorSpec;

/// The most applications of layers: far more than any network has. A chain of as many loads in a
/// tenth of a second without optimisation; as many branches side by side, each with a buffer of
/// its own among which the plan searches, take two seconds.
const MAX_LAYERS: usize = 10_000;

/// A network of layers, in any order in which the values can be computed.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) layers: Vec<Placed>,
    /// (the output's name, the value's name)
    pub(super) outputs: Vec<(String, String)>,
}

impl Network {
    /// Takes the layers' weights and builds the graph.
    pub(super) fn build(self, weights: &mut Weights) -> Result<Graph, LoadError> {
        let mut lowering = Lowering {
            graph: GraphBuilder::new(),
            values: HashMap::new(),
            constants: HashMap::new(),
            used: Vec::new(),
            weights,
        };
        let layers = self.calls().count();
        if layers > MAX_LAYERS {
            return Err(LoadError::from(JsonError::new(
                "layers",
                format!("expected at most {MAX_LAYERS}, got {layers}"),
            )));
        }
        self.check_names()?;
        for input in &self.inputs {
            let value = lowering.graph.input(input.clone());
            lowering.values.insert(input.name.clone(), value);
        }
        self.lower_calls(&mut lowering)?;
        for (output, value) in &self.outputs {
            let value = lowering
                .value(value)
                .map_err(|problem| JsonError::new("outputs", format!("{output:?}: {problem}")))?;
            lowering
                .graph
                .output(output, value)
                .map_err(|problem| JsonError::new("outputs", format!("{output:?}: {problem}")))?;
        }
        self.check_uses()?;
        Ok(lowering.graph.build())
    }

    /// Adds each call's nodes as soon as all values are there that go in. Each name is looked up
    /// about once, in whatever order the layers stand.
    fn lower_calls(&self, lowering: &mut Lowering<'_>) -> Result<(), LoadError> {
        let calls: Vec<(&Placed, &Call)> = self.calls().collect();
        // By the name of a value that is not there yet: the calls that it holds up.
        let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
        // By call: how many of its inputs, from the first on, are there.
        let mut found = vec![0; calls.len()];
        let mut lowered = vec![false; calls.len()];
        for first in 0..calls.len() {
            let mut ready = vec![first];
            while let Some(index) = ready.pop() {
                let (placed, call) = calls[index];
                let unseen = &call.inputs[found[index]..];
                if let Some(missing) = unseen.iter().position(|name| !lowering.has(name)) {
                    found[index] += missing;
                    waiting.entry(&unseen[missing]).or_default().push(index);
                    continue;
                }
                lowering.call(placed, call)?;
                lowered[index] = true;
                ready.extend(waiting.remove(call.output.as_str()).unwrap_or_default());
            }
        }
        let left = calls.iter().zip(lowered).filter(|(_, lowered)| !lowered);
        let stuck: Vec<(&Placed, &Call)> = left.map(|(call, _)| *call).collect();
        match stuck.is_empty() {
            true => Ok(()),
            false => Err(lowering.stuck(&stuck)),
        }
    }

    /// The applications of all layers.
    fn calls(&self) -> impl Iterator<Item = (&Placed, &Call)> {
        self.layers
            .iter()
            .flat_map(|placed| std::iter::repeat(placed).zip(&placed.calls))
    }

    /// Refuses names that two values share.
    fn check_names(&self) -> Result<(), LoadError> {
        let mut defined = HashSet::new();
        for input in &self.inputs {
            if !defined.insert(&input.name) {
                return Err(LoadError::from(JsonError::new(
                    "inputs",
                    format!("two have the name {:?}; each needs its own", input.name),
                )));
            }
        }
        for (placed, call) in self.calls() {
            if !defined.insert(&call.output) {
                return Err(LoadError::Layer {
                    layer: placed.name.clone(),
                    problem: "another layer or input has the same name; each needs its own".into(),
                });
            }
        }
        Ok(())
    }

    /// Refuses inputs and layers that nobody uses: whoever wrote them meant another network.
    fn check_uses(&self) -> Result<(), LoadError> {
        let mut used: HashSet<&String> = self.outputs.iter().map(|(_, value)| value).collect();
        used.extend(self.calls().flat_map(|(_, call)| &call.inputs));
        if let Some(input) = self.inputs.iter().find(|input| !used.contains(&input.name)) {
            return Err(LoadError::from(JsonError::new(
                "inputs",
                format!("no layer and no output uses {:?}; remove it", input.name),
            )));
        }
        match self.calls().find(|(_, call)| !used.contains(&call.output)) {
            None => Ok(()),
            Some((placed, _)) => Err(LoadError::Layer {
                layer: placed.name.clone(),
                problem: "no other layer and no output uses what it computes; remove it, or name \
                          it among the outputs"
                    .into(),
            }),
        }
    }
}
