//! Weights of steps: found once, shared by the applications of a step, named in its errors.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::refusal::Refusal;
use crate::engine::{Constant, GraphBuilder, ValueId};
use crate::model::weights::{Weights, WeightsError};

/// Where a step finds one of its weights.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// In the first of these tensors that is there.
    Tensor(Vec<String>),
    /// In the configuration.
    Values(Vec<f32>),
}

impl Weight {
    /// The same with a single number of the configuration repeated for each column.
    pub(crate) fn over(&self, columns: usize) -> Self {
        match self {
            Self::Values(values) if values.len() == 1 => Self::Values(vec![values[0]; columns]),
            other => other.clone(),
        }
    }
}

/// A weight in the graph.
#[derive(Clone, Debug)]
pub(crate) struct GraphWeight {
    pub(crate) value: ValueId,
    /// The tensor that it came from; empty if it is from the configuration.
    pub(crate) tensor: String,
    /// The tensor with its shape and file.
    pub(crate) description: String,
}

/// The weights of a network on their way into its graph.
#[derive(Debug)]
pub(crate) struct Constants {
    weights: Weights,
    /// By step and role, for steps that are applied several times.
    found: HashMap<(String, &'static str), GraphWeight>,
    /// The weights of the current step, for its errors.
    used: Vec<String>,
}

impl Constants {
    pub(super) fn new(weights: Weights) -> Self {
        Self {
            weights,
            found: HashMap::new(),
            used: Vec::new(),
        }
    }

    /// The weights, for what no step took.
    pub(super) fn into_weights(self) -> Weights {
        self.weights
    }

    /// Begins with another step.
    pub(super) fn begin(&mut self) {
        self.used.clear();
    }

    /// The weights that the current step has found so far: role, tensor, shape and file.
    pub(super) fn used(&self) -> &[String] {
        &self.used
    }

    /// Takes a tensor by its name, if there is one.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Constant>, Refusal> {
        if !self.weights.contains(name) {
            return Ok(None);
        }
        self.weights.take(name).map(Some).map_err(Refusal::Tensor)
    }

    /// Takes a weight, or finds it where an earlier application of the step put it.
    ///
    /// Refuses elements for which `map` is `None`: those below zero.
    pub(super) fn find(
        &mut self,
        graph: &mut GraphBuilder,
        step: &str,
        role: &'static str,
        weight: &Weight,
        map: Option<fn(f32) -> Option<f32>>,
    ) -> Result<GraphWeight, Refusal> {
        let key = (step.to_owned(), role);
        if let Some(found) = self.found.get(&key).cloned() {
            self.note(role, &found);
            return Ok(found);
        }
        let (mut values, tensor, description): (Constant, _, _) = match weight {
            Weight::Values(values) => (
                ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.clone())
                    .expect("one axis of that length")
                    .into(),
                String::new(),
                String::new(),
            ),
            Weight::Tensor(names) => self.take(role, names)?,
        };
        if let Some(map) = map {
            let mut mapped = Arc::unwrap_or_clone(values.to_f32());
            for (index, value) in mapped.iter_mut().enumerate() {
                *value = map(*value).ok_or_else(|| {
                    format!(
                        "{role}: element {index} of {description} is {value}; none may be negative"
                    )
                })?;
            }
            values = mapped.into();
        }
        let value = match weight {
            Weight::Tensor(_) => graph.weight(values),
            Weight::Values(_) => graph.constant(values),
        };
        let found = GraphWeight {
            value,
            tensor,
            description,
        };
        self.note(role, &found);
        self.found.insert(key, found.clone());
        Ok(found)
    }

    /// Takes the first of these tensors that is there, with its name and description.
    fn take(
        &mut self,
        role: &'static str,
        names: &[String],
    ) -> Result<(Constant, String, String), Refusal> {
        let refused = |error| Refusal::Weight { role, error };
        let Some(name) = names.iter().find(|name| self.weights.contains(name)) else {
            return Err(refused(WeightsError::Missing {
                names: names.to_vec(),
                found: self.weights.names(),
            }));
        };
        let values = self.weights.take(name).map_err(refused)?;
        Ok((values, name.clone(), self.weights.describe(name)))
    }

    /// Records a weight for the errors of the current step.
    fn note(&mut self, role: &str, found: &GraphWeight) {
        if !found.tensor.is_empty() {
            self.used.push(format!("{role} {}", found.description));
        }
    }
}
