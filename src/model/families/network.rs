//! Layers in the words of Keras and PyTorch, and how they become operators.

mod lowering;

use std::collections::{HashMap, HashSet};

use self::lowering::Lowering;
use crate::engine::kernels::Activation;
use crate::engine::{Graph, GraphBuilder};
use crate::model::LoadError;
use crate::model::json::JsonError;
use crate::model::weights::Weights;
use crate::tensor::TensorSpec;

/// The most applications of layers: far more than any network has. A chain of as many loads in a
/// tenth of a second without optimisation; as many branches side by side, each with a buffer of
/// its own among which the plan searches, take two seconds.
const MAX_LAYERS: usize = 10_000;

/// How a dense layer's kernel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelLayout {
    /// `[inputs, outputs]`, as Keras and scikit-learn have it.
    InOut,
    /// `[outputs, inputs]`, as PyTorch has it.
    OutIn,
}

/// Where a layer finds one of its weights.
#[derive(Clone, Debug)]
pub(super) enum Weight {
    /// In the first of these tensors that is there; for a kernel with the layout that goes with
    /// the name, if the name tells it.
    Tensor(Vec<(String, Option<KernelLayout>)>),
    /// In the configuration.
    Values(Vec<f32>),
}

impl Weight {
    /// The same with a single number of the configuration repeated for each column.
    pub(super) fn over(&self, columns: usize) -> Self {
        match self {
            Self::Values(values) if values.len() == 1 => Self::Values(vec![values[0]; columns]),
            other => other.clone(),
        }
    }
}

/// What a normalisation divides by.
#[derive(Clone, Debug)]
pub(super) enum Spread {
    /// The square root of the variance, as Keras does.
    Variance(Weight),
    /// The deviation itself, as scikit-learn does.
    Scale(Weight),
}

/// An element-wise function or a softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    Elementwise(Activation),
    Softmax,
    LogSoftmax,
}

/// One layer with its parameters.
#[derive(Clone, Debug)]
pub(super) enum Layer {
    Dense {
        kernel: Weight,
        bias: Option<Weight>,
        units: Option<usize>,
        function: Function,
    },
    Normalization {
        mean: Weight,
        spread: Spread,
    },
    Rescaling {
        scale: Vec<f32>,
        offset: Vec<f32>,
    },
    BatchNormalization {
        gamma: Option<Weight>,
        beta: Option<Weight>,
        mean: Weight,
        variance: Weight,
        epsilon: f64,
    },
    #[allow(clippy::enum_variant_names, reason = "the frameworks' own name for it")]
    LayerNormalization {
        gamma: Option<Weight>,
        beta: Option<Weight>,
        epsilon: f32,
    },
    PRelu {
        slope: Weight,
    },
    /// One function after the other.
    Functions(Vec<Function>),
    Identity,
    Flatten,
    Reshape(Vec<i64>),
    Concatenate {
        axis: isize,
    },
    Add,
    Multiply,
    Average,
    Maximum,
}

/// A layer in its place: the values that it is applied to, by name, once for each application.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) layer: Layer,
    pub(super) calls: Vec<Call>,
    /// The axis that the layer says it works along, the rows counted as axis 0. Only the last is
    /// supported, which is known once the layer's input is.
    pub(super) axis: Option<i64>,
}

/// One application of a layer.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The names of the values that go in.
    pub(super) inputs: Vec<String>,
    /// The name of the value that comes out.
    pub(super) output: String,
}

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
