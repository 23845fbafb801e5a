//! Networks of layers, listed in any order in which their values can be computed.

use std::collections::{HashMap, HashSet};

use super::inputs;
use crate::engine::Graph;
use crate::model::LoadError;
use crate::model::json::JsonError;
use crate::model::lowering::{Lower, Lowering, MAX_STEPS, Refusal, StepError};
use crate::model::weights::Weights;
use crate::tensor::{DataType, TensorSpec};

/// A network of layers.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) layers: Vec<NamedLayer>,
    /// (the output's name, the value's name)
    pub(super) outputs: Vec<(String, String)>,
}

/// A layer under its name, and what it is applied to.
#[derive(Debug)]
pub(super) struct NamedLayer {
    pub(super) name: String,
    pub(super) layer: Box<dyn Lower>,
    pub(super) applications: Vec<Application>,
}

/// One application of a layer.
#[derive(Debug)]
pub(super) struct Application {
    /// The names of the values that go in.
    pub(super) inputs: Vec<String>,
    /// The name of the value that comes out.
    pub(super) output: String,
}

impl Network {
    /// Takes the layers' weights and builds the graph; returns the weights that no layer took.
    pub(super) fn build(self, weights: Weights) -> Result<(Graph, Weights), LoadError> {
        let mut lowering = Lowering::over(weights);
        let applications = self.applications().count();
        if applications > MAX_STEPS {
            return Err(LoadError::from(JsonError::new(
                "layers",
                format!("expected at most {MAX_STEPS}, got {applications}"),
            )));
        }
        inputs::add(&self.inputs, &mut lowering)?;
        self.apply(&mut lowering)?;
        for (output, value) in &self.outputs {
            lowering.output(output, value).map_err(|refusal| {
                JsonError::new("outputs", format!("{output:?}: {}", problem(refusal)))
            })?;
        }
        lowering.finish().map_err(|unused| match unused.step {
            None => JsonError::new(
                "inputs",
                format!("no layer and no output uses {:?}; remove it", unused.value),
            )
            .into(),
            Some(layer) => LoadError::Layer {
                layer,
                problem: "no other layer and no output uses what it computes; remove it, or name \
                          it among the outputs"
                    .into(),
            },
        })
    }

    /// Makes integers of the inputs that a layer looks up: Keras writes `float32` for them unless the
    /// author chose a type.
    pub(super) fn with_indices(mut self) -> Self {
        let mut indices: HashSet<&String> = HashSet::new();
        for (layer, application) in self.applications() {
            if layer.layer.datatype() == DataType::Int64 {
                indices.extend(&application.inputs);
            }
        }
        let is_index = |input: &TensorSpec| indices.contains(&input.name);
        let are_indices: Vec<bool> = self.inputs.iter().map(is_index).collect();
        for (input, is_index) in self.inputs.iter_mut().zip(are_indices) {
            if is_index {
                input.datatype = DataType::Int64;
            }
        }
        self
    }

    /// Applies each layer as soon as all of its inputs exist. Each name is looked up about once, in any
    /// order of the layers.
    fn apply(&self, lowering: &mut Lowering) -> Result<(), LoadError> {
        let applications: Vec<(&NamedLayer, &Application)> = self.applications().collect();
        // By the name of a value that does not exist yet: the applications that wait for it.
        let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
        // By application: how many of its inputs, from the first on, exist.
        let mut found = vec![0; applications.len()];
        let mut applied = vec![false; applications.len()];
        for first in 0..applications.len() {
            let mut ready = vec![first];
            while let Some(index) = ready.pop() {
                let (layer, Application { inputs, output }) = applications[index];
                let unseen = &inputs[found[index]..];
                if let Some(missing) = unseen.iter().position(|name| !lowering.has(name)) {
                    found[index] += missing;
                    waiting.entry(&unseen[missing]).or_default().push(index);
                    continue;
                }
                lowering
                    .apply(&*layer.layer, &layer.name, inputs, output)
                    .map_err(load_error)?;
                applied[index] = true;
                ready.extend(waiting.remove(output.as_str()).unwrap_or_default());
            }
        }
        let left = applications.iter().zip(applied);
        let left = left.filter(|(_, applied)| !applied);
        let left: Vec<_> = left.map(|(application, _)| *application).collect();
        match left.first() {
            None => Ok(()),
            Some((first, _)) => Err(stuck(first, &left, lowering)),
        }
    }

    /// The applications of all layers.
    fn applications(&self) -> impl Iterator<Item = (&NamedLayer, &Application)> {
        self.layers
            .iter()
            .flat_map(|layer| std::iter::repeat(layer).zip(&layer.applications))
    }
}

/// Why no layer that is left can be applied: a name that nothing defines, or a cycle.
fn stuck(
    first: &NamedLayer,
    left: &[(&NamedLayer, &Application)],
    lowering: &Lowering,
) -> LoadError {
    let outputs = left.iter().map(|(_, application)| &application.output);
    let defined: HashSet<&String> = outputs.collect();
    for (layer, application) in left {
        let mut inputs = application.inputs.iter();
        let missing = inputs.find(|input| !lowering.has(input) && !defined.contains(input));
        if let Some(missing) = missing {
            return LoadError::Layer {
                layer: layer.name.clone(),
                problem: problem(Refusal::Missing(missing.clone())),
            };
        }
    }
    LoadError::Layer {
        layer: first.name.clone(),
        problem: "its inputs depend on its own output; layers must not form a cycle".into(),
    }
}

fn load_error(error: StepError) -> LoadError {
    let StepError {
        step: layer,
        refusal,
        weights,
    } = error;
    match *refusal {
        Refusal::Operator(error) => LoadError::Graph { error, weights },
        Refusal::Weight { role, error } => LoadError::LayerWeights { layer, role, error },
        refusal => LoadError::Layer {
            layer,
            problem: problem(refusal),
        },
    }
}

/// What is wrong, in the words of networks of layers.
fn problem(refusal: Refusal) -> String {
    match refusal {
        Refusal::Missing(name) => format!("there is no layer or input {name:?}"),
        Refusal::NameTaken(_) => {
            "another layer or input has the same name; each needs its own".into()
        }
        refusal => refusal.to_string(),
    }
}
