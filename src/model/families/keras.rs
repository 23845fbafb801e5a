//! Family `keras`: a configuration as Keras 2 or 3 itself writes it (`model.to_json()`), beside
//! weights named by Keras' variable paths.

use std::collections::HashMap;

use super::inputs::row_shape;
use super::network::{Call, Function, KernelLayout, Layer, Network, Placed, Spread, Weight};
use crate::engine::Graph;
use crate::engine::kernels::Activation;
use crate::model::LoadError;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::manifest::Description;
use crate::model::weights::Weights;
use crate::tensor::{DataType, Shape, TensorSpec};

/// Keys of layers that inference does not depend on.
const IRRELEVANT: &[&str] = &[
    "name",
    "trainable",
    "dtype",
    "batch_shape",
    "batch_input_shape",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "bias_constraint",
];

/// Builds the graph of a Keras configuration.
pub(super) fn build(
    config: &mut Fields,
    description: &Description,
    weights: &mut Weights,
) -> Result<Graph, LoadError> {
    config.ignore(&[
        "module",
        "registered_name",
        "build_config",
        "compile_config",
        "backend",
    ]);
    // Only `to_json()` of Keras 2 says its version; the layers' keys tell the rest apart.
    let generation = match config.take("keras_version") {
        Some(version) if version.clone().string()?.starts_with("2.") => Some(Generation::Keras2),
        Some(_) => Some(Generation::Keras3),
        None if config.mentions("batch_input_shape") => Some(Generation::Keras2),
        None if config.mentions("batch_shape") => Some(Generation::Keras3),
        None => None,
    };
    let class = config.require("class_name")?;
    let mut model = config.require("config")?.object()?;
    model.ignore(&["trainable", "dtype"]);
    let name = model.take("name").map(Field::string).transpose()?;
    let mut reader = Reader {
        generation,
        model: name.unwrap_or_default(),
        weights,
    };
    let network = match class.clone().string()?.as_str() {
        "Sequential" => reader.sequential(&mut model, description)?,
        "Functional" | "Model" => reader.functional(&mut model, description)?,
        other => {
            return Err(class
                .error(format!(
                    "expected \"Sequential\" or \"Functional\", got {other:?}"
                ))
                .into());
        }
    };
    model.finish()?;
    network.build(weights)
}

/// Which Keras wrote a configuration. They differ in what `hard_sigmoid` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Keras2,
    Keras3,
}

struct Reader<'w> {
    /// `None` if the configuration does not tell.
    generation: Option<Generation>,
    /// The model's name, with which Keras 3 may begin a variable's path.
    model: String,
    weights: &'w mut Weights,
}

impl Reader<'_> {
    fn sequential(
        &mut self,
        model: &mut Fields,
        description: &Description,
    ) -> Result<Network, LoadError> {
        let layers = model.require("layers")?;
        let mut shape = model.take("build_input_shape");
        let mut input: Option<TensorSpec> = None;
        let mut placed: Vec<Placed> = Vec::new();
        let empty = layers.expected("at least one layer");
        for field in layers.list()? {
            let (class, mut config, _) = layer_of(field)?;
            if class.clone().string()? == "InputLayer" {
                if input.is_some() {
                    return Err(class
                        .error("a Sequential has one InputLayer, its first")
                        .into());
                }
                input = Some(input_layer(config)?);
                continue;
            }
            let name = config.require("name")?.string()?;
            if input.is_none() {
                let said = config
                    .take("batch_shape")
                    .or_else(|| config.take("batch_input_shape"))
                    .or_else(|| shape.take())
                    .ok_or_else(|| {
                        config.error(
                            "the shape of the model's input is not known; add an InputLayer, or \
                             build the model before saving it",
                        )
                    })?;
                input = Some(feature_spec(format!("{name}_input"), said)?);
            }
            let before = placed
                .last()
                .map(|layer| layer.name.clone())
                .or_else(|| input.as_ref().map(|input| input.name.clone()))
                .expect("the input was set above");
            let (layer, axis) = self.layer(&class, config, &name)?;
            placed.push(Placed {
                calls: vec![Call {
                    inputs: vec![before],
                    output: name.clone(),
                }],
                name,
                layer,
                axis,
            });
        }
        let (Some(input), Some(last)) = (input, placed.last()) else {
            return Err(empty.into());
        };
        Ok(Network {
            inputs: vec![input],
            outputs: vec![(description.output_name().to_owned(), last.name.clone())],
            layers: placed,
        })
    }

    fn functional(
        &mut self,
        model: &mut Fields,
        description: &Description,
    ) -> Result<Network, LoadError> {
        let mut inputs = HashMap::new();
        let mut placed = Vec::new();
        for field in model.require("layers")?.list()? {
            let (class, mut config, nodes) = layer_of(field)?;
            if class.clone().string()? == "InputLayer" {
                let spec = input_layer(config)?;
                inputs.insert(spec.name.clone(), spec);
                continue;
            }
            let name = config.require("name")?.string()?;
            let mut calls = Vec::new();
            for (index, node) in nodes
                .map_or(Ok(Vec::new()), Field::list)?
                .into_iter()
                .enumerate()
            {
                calls.push(Call {
                    inputs: inbound(node)?,
                    output: value_name(&name, index as i64),
                });
            }
            let (layer, axis) = self.layer(&class, config, &name)?;
            placed.push(Placed {
                name,
                layer,
                calls,
                axis,
            });
        }
        let ends = model.require("input_layers")?;
        let unknown = ends.error("names an input that is not among the layers");
        let inputs = references(ends)?
            .into_iter()
            .map(|(layer, _)| inputs.remove(&layer).ok_or_else(|| unknown.clone()))
            .collect::<Result<_, _>>()?;
        let ends = references(model.require("output_layers")?)?;
        let several = ends.len() > 1;
        let outputs = ends
            .into_iter()
            .map(|(layer, node)| {
                let value = value_name(&layer, node);
                let name = if several {
                    value.clone()
                } else {
                    description.output_name().to_owned()
                };
                (name, value)
            })
            .collect();
        Ok(Network {
            inputs,
            layers: placed,
            outputs,
        })
    }

    /// Reads a layer's own configuration, and the axis that it says it works along.
    fn layer(
        &mut self,
        class: &Field,
        mut config: Fields,
        name: &str,
    ) -> Result<(Layer, Option<i64>), LoadError> {
        config.ignore(IRRELEVANT);
        let axis = match class.clone().string()?.as_str() {
            "Normalization" | "BatchNormalization" | "LayerNormalization" | "Softmax" => {
                config.take("axis").map(sole_axis).transpose()?
            }
            // The other order moves axis 1 to the end first: nothing moves only if it is the last.
            "Flatten" => match config.take("data_format").map(Field::string).transpose()? {
                Some(order) if order == "channels_first" => Some(1),
                _ => None,
            },
            _ => None,
        };
        let layer = match class.clone().string()?.as_str() {
            "Dense" => Layer::Dense {
                units: Some(config.require("units")?.extent()?),
                function: self.activation(config.take("activation"))?,
                kernel: self.kernel(name),
                bias: flag(&mut config, "use_bias", true)?.then(|| self.weight(name, "bias")),
            },
            "Normalization" => self.normalization(&mut config, name)?,
            "Rescaling" => Layer::Rescaling {
                scale: numbers(config.require("scale")?)?,
                offset: config.take("offset").map_or(Ok(vec![0.0]), numbers)?,
            },
            "BatchNormalization" => {
                config.ignore(&[
                    "momentum",
                    "synchronized",
                    "renorm",
                    "renorm_clipping",
                    "renorm_momentum",
                    "moving_mean_initializer",
                    "moving_variance_initializer",
                    "gamma_initializer",
                    "beta_initializer",
                    "gamma_regularizer",
                    "beta_regularizer",
                    "gamma_constraint",
                    "beta_constraint",
                ]);
                let (scale, center) = (
                    flag(&mut config, "scale", true)?,
                    flag(&mut config, "center", true)?,
                );
                Layer::BatchNormalization {
                    gamma: scale.then(|| self.weight(name, "gamma")),
                    beta: center.then(|| self.weight(name, "beta")),
                    mean: self.weight(name, "moving_mean"),
                    variance: self.weight(name, "moving_variance"),
                    epsilon: config.require("epsilon")?.number()?,
                }
            }
            "LayerNormalization" => {
                config.ignore(&[
                    "gamma_initializer",
                    "beta_initializer",
                    "gamma_regularizer",
                    "beta_regularizer",
                    "gamma_constraint",
                    "beta_constraint",
                ]);
                if let Some(rms) = config.take("rms_scaling") {
                    let refusal = rms.expected("false (RMS scaling is not supported)");
                    if rms.bool()? {
                        return Err(refusal.into());
                    }
                }
                let (scale, center) = (
                    flag(&mut config, "scale", true)?,
                    flag(&mut config, "center", true)?,
                );
                Layer::LayerNormalization {
                    gamma: scale.then(|| self.weight(name, "gamma")),
                    beta: center.then(|| self.weight(name, "beta")),
                    epsilon: config.require("epsilon")?.single()?,
                }
            }
            "PReLU" => {
                config.ignore(&["alpha_initializer", "alpha_regularizer", "alpha_constraint"]);
                if let Some(axes) = config.take("shared_axes") {
                    let refusal = axes.expected("none (shared axes are not supported)");
                    if !axes.list()?.is_empty() {
                        return Err(refusal.into());
                    }
                }
                Layer::PRelu {
                    slope: self.weight(name, "alpha"),
                }
            }
            "Dropout" | "GaussianDropout" | "GaussianNoise" | "AlphaDropout" => {
                config.ignore(&["rate", "stddev", "seed", "noise_shape"]);
                Layer::Identity
            }
            "Flatten" => Layer::Flatten,
            "Reshape" => Layer::Reshape(
                config
                    .require("target_shape")?
                    .list()?
                    .into_iter()
                    .map(Field::integer)
                    .collect::<Result<_, _>>()?,
            ),
            "Concatenate" => Layer::Concatenate {
                axis: row_axis(config.take("axis"))?,
            },
            "Add" => Layer::Add,
            "Multiply" => Layer::Multiply,
            "Average" => Layer::Average,
            "Maximum" => Layer::Maximum,
            _ => Layer::Functions(self.function_layer(class, &mut config)?),
        };
        config.finish()?;
        Ok((layer, axis))
    }

    fn normalization(&mut self, config: &mut Fields, name: &str) -> Result<Layer, JsonError> {
        if let Some(invert) = config.take("invert") {
            let refusal = invert.expected("false (inverting is not supported)");
            if invert.bool()? {
                return Err(refusal);
            }
        }
        for path in self.statistics_paths(name, "count") {
            self.weights.ignore(&path);
        }
        let mut fixed = |key: &'static str| {
            config
                .take(key)
                .map(numbers)
                .transpose()
                .map(|values| values.map(Weight::Values))
        };
        let (mean, variance) = (fixed("mean")?, fixed("variance")?);
        Ok(Layer::Normalization {
            mean: mean.unwrap_or_else(|| self.statistic(name, "mean")),
            spread: Spread::Variance(variance.unwrap_or_else(|| self.statistic(name, "variance"))),
        })
    }

    /// Reads a layer that is nothing but functions of each element or of the last axis.
    fn function_layer(
        &self,
        class: &Field,
        config: &mut Fields,
    ) -> Result<Vec<Function>, JsonError> {
        let mut slope = |keys: [&'static str; 2], default: f32| {
            let [first, second] = keys.map(|key| config.take(key));
            first.or(second).map_or(Ok(default), Field::single)
        };
        let function = match class.clone().string()?.as_str() {
            "Activation" => return Ok(vec![self.activation(config.take("activation"))?]),
            "LeakyReLU" => Activation::LeakyRelu {
                alpha: slope(["negative_slope", "alpha"], 0.3)?,
            },
            "ELU" => Activation::Elu {
                alpha: slope(["alpha", "alpha"], 1.0)?,
            },
            "ReLU" => return relu(config),
            "Softmax" => return Ok(vec![Function::Softmax]),
            other => {
                return Err(class.error(format!(
                    "unknown layer class {other:?}; expected one of: InputLayer, Dense, \
                     Normalization, Rescaling, BatchNormalization, LayerNormalization, \
                     Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Dropout, GaussianDropout, \
                     GaussianNoise, AlphaDropout, Flatten, Reshape, Concatenate, Add, Multiply, \
                     Average, Maximum"
                )));
            }
        };
        Ok(vec![Function::Elementwise(function)])
    }

    /// Reads an `activation`: a name, or a layer of its own.
    fn activation(&self, field: Option<Field>) -> Result<Function, JsonError> {
        let Some(field) = field else {
            return Ok(Function::Elementwise(Activation::Linear));
        };
        if field.is_object() {
            let refusal = field.expected("a layer that is one function");
            let (class, mut config, _) = layer_of(field)?;
            config.ignore(IRRELEVANT);
            let functions = self.function_layer(&class, &mut config)?;
            config.finish()?;
            return match functions[..] {
                [function] => Ok(function),
                _ => Err(refusal),
            };
        }
        let name = field.clone().string()?;
        Ok(Function::Elementwise(match name.as_str() {
            "linear" => Activation::Linear,
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "leaky_relu" => Activation::LeakyRelu { alpha: 0.2 },
            "elu" => Activation::Elu { alpha: 1.0 },
            "selu" => Activation::Selu,
            "celu" => Activation::Celu { alpha: 1.0 },
            "sigmoid" => Activation::Sigmoid,
            "hard_sigmoid" => Activation::HardSigmoid {
                alpha: match self.generation {
                    Some(Generation::Keras2) => 0.2,
                    Some(Generation::Keras3) => 1.0 / 6.0,
                    None => {
                        return Err(field.error(
                            "hard_sigmoid differs between Keras 2 and 3, and nothing here tells \
                             which this is; add \"keras_version\" at the top level",
                        ));
                    }
                },
                beta: 0.5,
            },
            "tanh" => Activation::Tanh,
            "softplus" => Activation::Softplus,
            "softsign" => Activation::Softsign,
            // Keras' own default is the exact form.
            "gelu" => Activation::Gelu,
            "silu" | "swish" => Activation::Silu,
            "mish" => Activation::Mish,
            "hard_silu" | "hard_swish" => Activation::HardSwish,
            "exponential" => Activation::Exp,
            "softmax" => return Ok(Function::Softmax),
            "log_softmax" => return Ok(Function::LogSoftmax),
            _ => {
                return Err(field.error(format!(
                    "unknown activation {name:?}; expected one of: linear, relu, relu6, \
                     leaky_relu, elu, selu, celu, sigmoid, hard_sigmoid, tanh, softplus, softsign, \
                     gelu, silu, mish, hard_silu, exponential, softmax, log_softmax"
                )));
            }
        }))
    }

    fn kernel(&self, layer: &str) -> Weight {
        let paths = self.paths(layer, "kernel");
        let in_out = |path| (path, Some(KernelLayout::InOut));
        Weight::Tensor(paths.into_iter().map(in_out).collect())
    }

    fn weight(&self, layer: &str, variable: &str) -> Weight {
        let paths = self.paths(layer, variable);
        Weight::Tensor(paths.into_iter().map(|path| (path, None)).collect())
    }

    fn statistic(&self, layer: &str, variable: &str) -> Weight {
        let paths = self.statistics_paths(layer, variable);
        Weight::Tensor(paths.into_iter().map(|path| (path, None)).collect())
    }

    /// The paths of a `Normalization`'s variables: Keras 2 leaves the layer out if it was adapted
    /// before it was built into a model.
    fn statistics_paths(&self, layer: &str, variable: &str) -> Vec<String> {
        let mut paths = self.paths(layer, variable);
        paths.extend([format!("{variable}:0"), variable.to_owned()]);
        paths
    }

    /// The paths that Keras may give a variable: one model writes `sequential/dense/kernel` when
    /// it was built by hand and `dense/kernel` when it came from JSON; Keras 2 adds `:0`.
    fn paths(&self, layer: &str, variable: &str) -> Vec<String> {
        let short = format!("{layer}/{variable}");
        let long = format!("{}/{short}", self.model);
        vec![format!("{short}:0"), format!("{long}:0"), long, short]
    }
}

/// A layer's class, its configuration and its inbound nodes.
fn layer_of(field: Field) -> Result<(Field, Fields, Option<Field>), JsonError> {
    let mut layer = field.object()?;
    layer.ignore(&["build_config", "name"]);
    let class = layer.require("class_name")?;
    // A class of one's own may have the name of one of Keras'.
    for (key, own) in [
        ("module", |name: &str| {
            !name.starts_with("keras") && !name.starts_with("tf_keras")
        }),
        ("registered_name", |name: &str| name.contains('>')),
    ] as [(&'static str, fn(&str) -> bool); 2]
    {
        if let Some(field) = layer.take(key) {
            let refusal = field.expected("a layer of Keras itself");
            if own(&field.string()?) {
                return Err(refusal);
            }
        }
    }
    let config = layer.require("config")?.object()?;
    let nodes = layer.take("inbound_nodes");
    layer.finish()?;
    Ok((class, config, nodes))
}

fn input_layer(mut config: Fields) -> Result<TensorSpec, JsonError> {
    config.ignore(&["sparse", "ragged", "optional", "trainable"]);
    let name = config.require("name")?.string()?;
    let shape = config
        .take("batch_shape")
        .or_else(|| config.take("batch_input_shape"))
        .ok_or_else(|| config.error("the key \"batch_shape\" is missing"))?;
    if let Some(dtype) = config.take("dtype")
        && dtype.is_string()
    {
        let refusal = dtype.expected("a floating-point input");
        if !dtype.string()?.contains("float") {
            return Err(refusal);
        }
    }
    config.finish()?;
    feature_spec(name, shape)
}

/// An input of this batch shape, whose first extent is `null`: any number of rows.
fn feature_spec(name: String, batch_shape: Field) -> Result<TensorSpec, JsonError> {
    let refusal = batch_shape.expected("null for the rows, then known extents");
    let mut extents = batch_shape.clone().list()?;
    if !extents.first().is_some_and(Field::is_null) {
        return Err(refusal);
    }
    let row_shape = row_shape(&batch_shape, extents.split_off(1))?;
    let shape = Shape::rows(row_shape);
    Ok(TensorSpec::new(name, DataType::Fp32, shape))
}

/// The name of the value that a layer's node computes.
fn value_name(layer: &str, node: i64) -> String {
    match node {
        0 => layer.to_owned(),
        node => format!("{layer}:{node}"),
    }
}

/// The values that go into one inbound node, of Keras 3 (`{"args": ...}`) or Keras 2 (a list).
fn inbound(node: Field) -> Result<Vec<String>, JsonError> {
    let mut inputs = Vec::new();
    if node.is_object() {
        let mut node = node.object()?;
        for argument in node.require("args")?.list()? {
            if argument.is_list() {
                for tensor in argument.list()? {
                    inputs.push(keras_tensor(tensor)?);
                }
            } else {
                inputs.push(keras_tensor(argument)?);
            }
        }
        // What inference sets itself: `training`, `mask`.
        node.ignore(&["kwargs"]);
        node.finish()?;
    } else {
        for reference in node.list()? {
            let (layer, index) = reference_of(reference)?;
            inputs.push(value_name(&layer, index));
        }
    }
    Ok(inputs)
}

fn keras_tensor(field: Field) -> Result<String, JsonError> {
    let mut tensor = field.object()?;
    let class = tensor.require("class_name")?;
    let refusal = class.expected("\"__keras_tensor__\"");
    if class.string()? != "__keras_tensor__" {
        return Err(refusal);
    }
    let mut config = tensor.require("config")?.object()?;
    let (layer, node) = reference_of(config.require("keras_history")?)?;
    Ok(value_name(&layer, node))
}

/// `[[layer, node, tensor], ...]`, or just `[layer, node, tensor]` if there is one.
fn references(field: Field) -> Result<Vec<(String, i64)>, JsonError> {
    let items = field.clone().list()?;
    if items.first().is_some_and(Field::is_string) {
        return Ok(vec![reference_of(field)?]);
    }
    items.into_iter().map(reference_of).collect()
}

/// `[layer, node, tensor, ...]`: the layer and which of its nodes.
fn reference_of(field: Field) -> Result<(String, i64), JsonError> {
    let refusal = field.expected("[layer name, node index, 0]");
    let mut parts = field.list()?.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(layer), Some(node), Some(tensor)) if tensor.clone().integer() == Ok(0) => {
            Ok((layer.string()?, node.integer()?))
        }
        _ => Err(refusal),
    }
}

/// `ReLU(max_value, negative_slope, threshold)`.
fn relu(config: &mut Fields) -> Result<Vec<Function>, JsonError> {
    if let Some(threshold) = config.take("threshold") {
        let refusal = threshold.expected("0 (other thresholds are not supported)");
        if threshold.number()? != 0.0 {
            return Err(refusal);
        }
    }
    let alpha = config
        .take("negative_slope")
        .map_or(Ok(0.0), Field::single)?;
    let max = config.take("max_value").map(Field::single).transpose()?;
    let functions = match (alpha, max) {
        (0.0, None) => vec![Activation::Relu],
        (0.0, Some(6.0)) => vec![Activation::Relu6],
        (0.0, Some(max)) => vec![Activation::Clip { min: 0.0, max }],
        (alpha, None) => vec![Activation::LeakyRelu { alpha }],
        (alpha, Some(max)) => vec![
            Activation::LeakyRelu { alpha },
            Activation::Clip { min: f32::MIN, max },
        ],
    };
    Ok(functions.into_iter().map(Function::Elementwise).collect())
}

fn flag(config: &mut Fields, key: &'static str, default: bool) -> Result<bool, JsonError> {
    config.take(key).map_or(Ok(default), Field::bool)
}

/// An axis, or a list of one axis; the rows count as axis 0.
fn sole_axis(field: Field) -> Result<i64, JsonError> {
    let refusal = field.expected("one axis");
    let mut axes = match field.is_list() {
        true => field.list()?,
        false => vec![field],
    };
    match (axes.pop(), axes.pop()) {
        (Some(axis), None) => axis.integer(),
        _ => Err(refusal),
    }
}

/// An axis of the row from one that counts the rows as axis 0.
fn row_axis(field: Option<Field>) -> Result<isize, JsonError> {
    let Some(field) = field else { return Ok(-1) };
    let refusal = field.expected("an axis other than the rows");
    match field.integer()? {
        0 => Err(refusal),
        axis if axis > 0 => isize::try_from(axis - 1).map_err(|_| refusal),
        axis => isize::try_from(axis).map_err(|_| refusal),
    }
}

/// A number, or nested lists of numbers, row-major.
fn numbers(field: Field) -> Result<Vec<f32>, JsonError> {
    let mut waiting = vec![field];
    let mut values = Vec::new();
    while let Some(field) = waiting.pop() {
        if field.is_list() {
            waiting.extend(field.list()?.into_iter().rev());
        } else {
            values.push(field.single()?);
        }
    }
    Ok(values)
}
