//! How layers become operators.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::layer::{Call, Function, KernelLayout, Layer, Placed, Spread, Weight};
use crate::engine::kernels::Activation;
use crate::engine::ops::{
    BatchNormalization, Concat, Elementwise, Gemm, Identity, LayerNormalization, LogSoftmax, Max,
    Mean, Mul, PRelu, Reshape, Scaler, Softmax, Sum,
};
use crate::engine::{GraphBuilder, GraphError, ValueId};
use crate::model::LoadError;
use crate::model::weights::{Weights, WeightsError};

/// Keras' smallest deviation, by which its `Normalization` divides at least.
const KERAS_EPSILON: f64 = 1e-7;

pub(super) struct Lowering<'w> {
    pub(super) graph: GraphBuilder,
    pub(super) values: HashMap<String, ValueId>,
    /// Weights by layer and role, for layers that are applied several times.
    pub(super) constants: HashMap<(String, &'static str), Found>,
    /// The weights of the layer at hand, for its errors.
    pub(super) used: Vec<String>,
    pub(super) weights: &'w mut Weights,
}

/// A weight in the graph.
#[derive(Clone)]
pub(super) struct Found {
    value: ValueId,
    layout: Option<KernelLayout>,
    /// The tensor that it came from with its shape and file; empty if it stood in the
    /// configuration.
    tensor: String,
}

impl Lowering<'_> {
    pub(super) fn value(&self, name: &str) -> Result<ValueId, String> {
        self.values
            .get(name)
            .copied()
            .ok_or_else(|| format!("there is no layer or input {name:?}"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Why no waiting layer can be placed: a name that nobody defines, or a cycle.
    pub(super) fn stuck(&self, waiting: &[(&Placed, &Call)]) -> LoadError {
        let defined: HashSet<&String> = waiting.iter().map(|(_, call)| &call.output).collect();
        for (placed, call) in waiting {
            let missing = call
                .inputs
                .iter()
                .find(|input| !self.has(input) && !defined.contains(input));
            if let Some(missing) = missing {
                return LoadError::Layer {
                    layer: placed.name.clone(),
                    problem: format!("there is no layer or input {missing:?}"),
                };
            }
        }
        LoadError::Layer {
            layer: waiting[0].0.name.clone(),
            problem: "its inputs depend on its own output; layers must not form a cycle".into(),
        }
    }

    /// Adds the nodes of one application of a layer.
    pub(super) fn call(&mut self, placed: &Placed, call: &Call) -> Result<(), LoadError> {
        let name = &placed.name;
        let inputs = call
            .inputs
            .iter()
            .map(|input| self.value(input))
            .collect::<Result<Vec<_>, _>>()
            .expect("the caller saw that all are there");
        if let (Some(axis), Some(x)) = (placed.axis, inputs.first()) {
            let last = self.graph.shape(*x).len() as i64;
            if axis != -1 && axis != last {
                return Err(LoadError::Layer {
                    layer: name.clone(),
                    problem: format!(
                        "works along axis {axis}, the rows being axis 0; only the last axis, here \
                         {last}, is supported"
                    ),
                });
            }
        }
        self.used.clear();
        let output = self.lower(&placed.layer, name, &inputs);
        let output = output.map_err(|error| match error {
            LoadError::Graph { error, .. } => LoadError::Graph {
                error,
                weights: std::mem::take(&mut self.used),
            },
            other => other,
        })?;
        self.values.insert(call.output.clone(), output);
        Ok(())
    }

    /// Adds the nodes that compute a layer.
    fn lower(
        &mut self,
        layer: &Layer,
        name: &str,
        inputs: &[ValueId],
    ) -> Result<ValueId, LoadError> {
        let only = || match inputs {
            [input] => Ok(*input),
            _ => Err(LoadError::Layer {
                layer: name.to_owned(),
                problem: format!("expected 1 input, got {}", inputs.len()),
            }),
        };
        let output = match layer {
            Layer::Dense {
                kernel,
                bias,
                units,
                function,
            } => {
                let x = only()?;
                return self.dense(name, x, kernel, bias.as_ref(), *units, *function);
            }
            Layer::Normalization { mean, spread } => {
                let x = only()?;
                let columns = self.columns(x);
                let offset = self.constant(name, "mean", &mean.over(columns))?;
                let divisor = match spread {
                    Spread::Scale(scale) => self.constant(name, "scale", scale)?,
                    Spread::Variance(variance) => {
                        self.mapped(name, "variance", &variance.over(columns), |variance| {
                            let deviation = f64::from(variance).sqrt().max(KERAS_EPSILON) as f32;
                            (variance >= 0.0).then_some(deviation)
                        })?
                    }
                };
                self.graph.node(name, Scaler, &[x, offset, divisor])
            }
            Layer::Rescaling { scale, offset } => {
                let x = only()?;
                let columns = self.columns(x);
                for (key, values) in [("scale", scale), ("offset", offset)] {
                    if values.len() != 1 && values.len() != columns {
                        return Err(LoadError::Layer {
                            layer: name.to_owned(),
                            problem: format!(
                                "{key}: expected 1 number, or {columns}, one a column; got {}",
                                values.len()
                            ),
                        });
                    }
                }
                let scale = self.constant(name, "scale", &Weight::Values(scale.clone()))?;
                let offset = self.constant(name, "offset", &Weight::Values(offset.clone()))?;
                let scaled = self.graph.node(name, Mul, &[x, scale])?;
                self.graph.node(name, Sum, &[scaled, offset])
            }
            Layer::BatchNormalization {
                gamma,
                beta,
                mean,
                variance,
                epsilon,
            } => {
                let x = only()?;
                let columns = self.columns(x);
                let operands = [
                    x,
                    self.constant_or(name, "gamma", gamma.as_ref(), columns, 1.0)?,
                    self.constant_or(name, "beta", beta.as_ref(), columns, 0.0)?,
                    self.constant(name, "mean", mean)?,
                    self.constant(name, "variance", variance)?,
                ];
                let operator = BatchNormalization { epsilon: *epsilon };
                self.graph.node(name, operator, &operands)
            }
            Layer::LayerNormalization {
                gamma,
                beta,
                epsilon,
            } => {
                let x = only()?;
                let columns = self.columns(x);
                let operands = [
                    x,
                    self.constant_or(name, "gamma", gamma.as_ref(), columns, 1.0)?,
                    self.constant_or(name, "beta", beta.as_ref(), columns, 0.0)?,
                ];
                let operator = LayerNormalization { epsilon: *epsilon };
                self.graph.node(name, operator, &operands)
            }
            Layer::PRelu { slope } => {
                let (x, slope) = (only()?, self.constant(name, "alpha", slope)?);
                let (row, slopes) = (self.graph.shape(x), self.graph.shape(slope));
                if row.len() > 1 && matches!(slopes, [columns] if *columns > 1) {
                    return Err(LoadError::Layer {
                        layer: name.to_owned(),
                        problem: format!(
                            "PyTorch applies slopes of shape {slopes:?} along the first axis of a \
                             row, Keras along the last; for rows of shape {row:?} give one slope, \
                             or one for each number of a row"
                        ),
                    });
                }
                self.graph.node(name, PRelu, &[x, slope])
            }
            Layer::Functions(functions) => functions
                .iter()
                .try_fold(only()?, |x, function| self.function(name, *function, x)),
            Layer::Identity => self.graph.node(name, Identity, &[only()?]),
            Layer::Flatten => self.graph.node(name, Reshape::flatten(), &[only()?]),
            Layer::Reshape(shape) => {
                let operator = Reshape {
                    shape: shape.clone(),
                };
                self.graph.node(name, operator, &[only()?])
            }
            Layer::Concatenate { axis } => self.graph.node(name, Concat { axis: *axis }, inputs),
            Layer::Add => self.graph.node(name, Sum, inputs),
            Layer::Multiply => self.graph.node(name, Mul, inputs),
            Layer::Average => self.graph.node(name, Mean, inputs),
            Layer::Maximum => self.graph.node(name, Max, inputs),
        };
        Ok(output?)
    }

    fn dense(
        &mut self,
        name: &str,
        x: ValueId,
        kernel: &Weight,
        bias: Option<&Weight>,
        units: Option<usize>,
        function: Function,
    ) -> Result<ValueId, LoadError> {
        let (kernel, layout) = self.kernel(name, kernel)?;
        if let (Some(units), [rows, columns]) = (units, self.graph.shape(kernel)) {
            let outputs = match layout {
                KernelLayout::InOut => *columns,
                KernelLayout::OutIn => *rows,
            };
            if outputs != units {
                return Err(LoadError::Layer {
                    layer: name.to_owned(),
                    problem: format!(
                        "units: expected the kernel's {outputs}, got {units}; its weights: {}",
                        self.used.join(", ")
                    ),
                });
            }
        }
        let mut operands = vec![x, kernel];
        if let Some(bias) = bias {
            operands.push(self.constant(name, "bias", bias)?);
        }
        let operator = Gemm {
            trans_b: layout == KernelLayout::OutIn,
            activation: Activation::Linear,
        };
        let product = self.graph.node(name, operator, &operands)?;
        Ok(self.function(name, function, product)?)
    }

    fn function(
        &mut self,
        name: &str,
        function: Function,
        x: ValueId,
    ) -> Result<ValueId, GraphError> {
        match function {
            Function::Elementwise(Activation::Linear) => Ok(x),
            Function::Elementwise(activation) => {
                self.graph.node(name, Elementwise(activation), &[x])
            }
            Function::Softmax => self.graph.node(name, Softmax, &[x]),
            Function::LogSoftmax => self.graph.node(name, LogSoftmax, &[x]),
        }
    }

    /// The extent of a value's last axis.
    fn columns(&self, value: ValueId) -> usize {
        self.graph.shape(value).last().copied().unwrap_or(1)
    }

    /// A dense layer's kernel and how it is stored.
    fn kernel(
        &mut self,
        layer: &str,
        weight: &Weight,
    ) -> Result<(ValueId, KernelLayout), LoadError> {
        let found = self.find(layer, "kernel", weight, None)?;
        match found.layout {
            Some(layout) => Ok((found.value, layout)),
            None => Err(LoadError::Layer {
                layer: layer.to_owned(),
                problem: format!(
                    "kernel: the name of {} does not tell how it is stored; set \
                     \"kernel_layout\" to \"in_out\" ([inputs, outputs], as Keras and \
                     scikit-learn) or \"out_in\" ([outputs, inputs], as PyTorch)",
                    found.tensor
                ),
            }),
        }
    }

    fn constant(
        &mut self,
        layer: &str,
        role: &'static str,
        weight: &Weight,
    ) -> Result<ValueId, LoadError> {
        Ok(self.find(layer, role, weight, None)?.value)
    }

    fn constant_or(
        &mut self,
        layer: &str,
        role: &'static str,
        weight: Option<&Weight>,
        columns: usize,
        default: f32,
    ) -> Result<ValueId, LoadError> {
        let default = Weight::Values(vec![default; columns]);
        self.constant(layer, role, weight.unwrap_or(&default))
    }

    fn mapped(
        &mut self,
        layer: &str,
        role: &'static str,
        weight: &Weight,
        map: fn(f32) -> Option<f32>,
    ) -> Result<ValueId, LoadError> {
        Ok(self.find(layer, role, weight, Some(map))?.value)
    }

    /// Takes a weight, or finds it where the layer's earlier application put it.
    ///
    /// Refuses elements for which `map` is `None`: those below zero.
    fn find(
        &mut self,
        layer: &str,
        role: &'static str,
        weight: &Weight,
        map: Option<fn(f32) -> Option<f32>>,
    ) -> Result<Found, LoadError> {
        let key = (layer.to_owned(), role);
        if let Some(found) = self.constants.get(&key).cloned() {
            self.note(role, &found);
            return Ok(found);
        }
        let in_layer = |error| LoadError::LayerWeights {
            layer: layer.to_owned(),
            role,
            error,
        };
        let (mut values, layout, tensor): (Arc<ArrayD<f32>>, _, _) = match weight {
            Weight::Values(values) => (
                ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.clone())
                    .expect("one axis of that length")
                    .into(),
                None,
                String::new(),
            ),
            Weight::Tensor(names) => {
                let found = names.iter().find(|(name, _)| self.weights.contains(name));
                let Some((name, layout)) = found else {
                    return Err(in_layer(WeightsError::Missing {
                        names: names.iter().map(|(name, _)| name.clone()).collect(),
                        found: self.weights.names(),
                    }));
                };
                let values = self.weights.take(name).map_err(in_layer)?;
                (values, *layout, self.weights.describe(name))
            }
        };
        if let Some(map) = map {
            for (index, value) in Arc::make_mut(&mut values).iter_mut().enumerate() {
                *value = map(*value).ok_or_else(|| LoadError::Layer {
                    layer: layer.to_owned(),
                    problem: format!(
                        "{role}: element {index} of {tensor} is {value}; none may be negative"
                    ),
                })?;
            }
        }
        let value = match weight {
            Weight::Tensor(_) => self.graph.weight(values),
            Weight::Values(_) => self.graph.constant(values),
        };
        let found = Found {
            value,
            layout,
            tensor,
        };
        self.note(role, &found);
        self.constants.insert(key, found.clone());
        Ok(found)
    }

    /// Remembers a weight for the errors of the layer at hand.
    fn note(&mut self, role: &str, found: &Found) {
        if !found.tensor.is_empty() {
            self.used.push(format!("{role} {}", found.tensor));
        }
    }
}
