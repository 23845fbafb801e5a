//! Family `sequential`: our own list of layers, with names for any graph without cycles.

use super::inputs;
use super::network::{Call, Function, KernelLayout, Layer, Network, Placed, Spread, Weight};
use crate::engine::Graph;
use crate::engine::kernels::Activation;
use crate::model::LoadError;
use crate::model::json::{Field, Fields, JsonError};
use crate::model::manifest::Description;
use crate::model::weights::Weights;

/// Builds the graph of a `sequential` configuration.
pub(super) fn build(
    config: &mut Fields,
    description: &Description,
    weights: &mut Weights,
) -> Result<Graph, LoadError> {
    let inputs = inputs::all(config)?;
    let layers = config.require("layers")?;
    let no_layers = layers.expected("at least one layer");
    let mut placed: Vec<Placed> = Vec::new();
    for (index, field) in layers.list()?.into_iter().enumerate() {
        let before = match (placed.last(), inputs.as_slice()) {
            (Some(layer), _) => Some(layer.name.clone()),
            (None, [only]) => Some(only.name.clone()),
            (None, _) => None,
        };
        placed.push(layer(field, index, before, weights)?);
    }
    let Some(last) = placed.last() else {
        return Err(no_layers.into());
    };
    let outputs = match config.take("outputs") {
        None => vec![(description.output_name().to_owned(), last.name.clone())],
        Some(field) => outputs(field)?,
    };
    Network {
        inputs,
        layers: placed,
        outputs,
    }
    .build(weights)
}

fn outputs(field: Field) -> Result<Vec<(String, String)>, JsonError> {
    let nothing = field.expected("at least one output (or no such key, for the last layer)");
    let outputs: Vec<_> = field
        .list()?
        .into_iter()
        .map(|output| {
            let mut fields = output.object()?;
            let name = fields.require("name")?.string()?;
            let layer = fields.require("layer")?.string()?;
            fields.finish()?;
            Ok((name, layer))
        })
        .collect::<Result<_, JsonError>>()?;
    match outputs.is_empty() {
        true => Err(nothing),
        false => Ok(outputs),
    }
}

/// Reads one layer. `before` is what it is applied to if it does not say.
fn layer(
    field: Field,
    index: usize,
    before: Option<String>,
    weights: &mut Weights,
) -> Result<Placed, LoadError> {
    let mut fields = field.object()?;
    let kind = fields.require("type")?;
    let name = match fields.take("name") {
        Some(name) => name.string()?,
        None => index.to_string(),
    };
    let inputs = match (fields.take("inputs"), before) {
        (Some(inputs), _) => inputs.strings()?,
        (None, Some(before)) => vec![before],
        (None, None) => {
            return Err(fields
                .error("the model has several inputs: name those of this layer in \"inputs\"")
                .into());
        }
    };
    let roles = match fields.take("weights") {
        Some(roles) => Some(roles.object()?),
        None => None,
    };
    let mut source = Source {
        name: &name,
        roles,
        weights,
    };
    let layer = match kind.clone().string()?.as_str() {
        "dense" => dense(&mut fields, &mut source)?,
        "normalization" => normalization(&mut source)?,
        "rescaling" => Layer::Rescaling {
            scale: singles(fields.take("scale"), 1.0)?,
            offset: singles(fields.take("offset"), 0.0)?,
        },
        "batch_normalization" => batch_normalization(&mut fields, &mut source)?,
        "layer_normalization" => layer_normalization(&mut fields, &mut source)?,
        "activation" => {
            let function = fields.require("function")?;
            Layer::Functions(vec![function_named(function, &mut fields)?])
        }
        "prelu" => Layer::PRelu {
            slope: source.find("alpha", &[".weight", "/alpha", "/alpha:0", ".alpha"])?,
        },
        "dropout" => {
            fields.ignore(&["rate"]);
            Layer::Identity
        }
        "flatten" => Layer::Flatten,
        "reshape" => Layer::Reshape(
            fields
                .require("shape")?
                .list()?
                .into_iter()
                .map(Field::integer)
                .collect::<Result<_, _>>()?,
        ),
        "concatenate" => Layer::Concatenate {
            axis: axis(fields.take("axis"))?,
        },
        "add" => Layer::Add,
        "multiply" => Layer::Multiply,
        "average" => Layer::Average,
        "maximum" => Layer::Maximum,
        unknown => {
            return Err(kind
                .error(format!(
                    "unknown layer {unknown:?}; expected one of: dense, normalization, rescaling, \
                     batch_normalization, layer_normalization, activation, prelu, dropout, \
                     flatten, reshape, concatenate, add, multiply, average, maximum"
                ))
                .into());
        }
    };
    // PyTorch normalises along the first axis behind the rows, Keras along the last.
    let of_pytorch = |source: &Source<'_>| source.has("mean", &[".running_mean"]);
    let axis = match layer {
        Layer::BatchNormalization { .. } if of_pytorch(&source) => Some(1),
        _ => None,
    };
    source.finish()?;
    fields.finish()?;
    Ok(Placed {
        calls: vec![Call {
            inputs,
            output: name.clone(),
        }],
        name,
        layer,
        axis,
    })
}

fn dense(fields: &mut Fields, source: &mut Source<'_>) -> Result<Layer, JsonError> {
    let units = fields.take("units").map(Field::extent).transpose()?;
    let use_bias = flag(fields, "use_bias")?;
    let function = match fields.take("activation") {
        None => Function::Elementwise(Activation::Linear),
        Some(field) if field.is_object() => {
            let mut parameters = field.object()?;
            let kind = parameters.require("type")?;
            let function = function_named(kind, &mut parameters)?;
            parameters.finish()?;
            function
        }
        Some(field) => {
            let mut none = fields.clone();
            function_named(field, &mut none)?
        }
    };
    let said = match fields.take("kernel_layout") {
        None => None,
        Some(field) => {
            let refusal = field.expected("\"in_out\" or \"out_in\"");
            Some(match field.string()?.as_str() {
                "in_out" => KernelLayout::InOut,
                "out_in" => KernelLayout::OutIn,
                _ => return Err(refusal),
            })
        }
    };
    let names = [".weight", "/kernel", "/kernel:0", ".kernel"];
    let mut kernel = source.find("kernel", &names)?;
    if let Weight::Tensor(names) = &mut kernel {
        for (name, layout) in names {
            *layout = said.or_else(|| layout_of(name));
        }
    }
    let bias = use_bias
        .then(|| source.find("bias", &[".bias", "/bias", "/bias:0"]))
        .transpose()?;
    Ok(Layer::Dense {
        kernel,
        bias,
        units,
        function,
    })
}

/// The layout that goes with a framework's own name for a kernel.
fn layout_of(name: &str) -> Option<KernelLayout> {
    let name = name.strip_suffix(":0").unwrap_or(name);
    let last = name.rsplit(['.', '/']).next()?;
    match last {
        "weight" => Some(KernelLayout::OutIn),
        "kernel" => Some(KernelLayout::InOut),
        _ => None,
    }
}

fn normalization(source: &mut Source<'_>) -> Result<Layer, JsonError> {
    source.ignore(&["/count", "/count:0", ".count"]);
    let scales = [".scale_", "/scale", ".scale"];
    let spread = if source.has("scale", &scales) {
        Spread::Scale(source.find("scale", &scales)?)
    } else {
        let names = ["/variance", "/variance:0", ".variance"];
        Spread::Variance(source.find("variance", &names)?)
    };
    Ok(Layer::Normalization {
        mean: source.find("mean", &["/mean", "/mean:0", ".mean", ".mean_"])?,
        spread,
    })
}

fn batch_normalization(fields: &mut Fields, source: &mut Source<'_>) -> Result<Layer, JsonError> {
    source.ignore(&[".num_batches_tracked"]);
    let (scale, center) = (flag(fields, "scale")?, flag(fields, "center")?);
    Ok(Layer::BatchNormalization {
        gamma: scale
            .then(|| source.find("gamma", &[".weight", "/gamma", "/gamma:0", ".gamma"]))
            .transpose()?,
        beta: center
            .then(|| source.find("beta", &[".bias", "/beta", "/beta:0", ".beta"]))
            .transpose()?,
        mean: source.find(
            "mean",
            &[
                ".running_mean",
                "/moving_mean",
                "/moving_mean:0",
                ".moving_mean",
            ],
        )?,
        variance: source.find(
            "variance",
            &[
                ".running_var",
                "/moving_variance",
                "/moving_variance:0",
                ".moving_variance",
            ],
        )?,
        epsilon: epsilon(fields)?,
    })
}

fn layer_normalization(fields: &mut Fields, source: &mut Source<'_>) -> Result<Layer, JsonError> {
    let (scale, center) = (flag(fields, "scale")?, flag(fields, "center")?);
    Ok(Layer::LayerNormalization {
        gamma: scale
            .then(|| source.find("gamma", &[".weight", "/gamma", "/gamma:0", ".gamma"]))
            .transpose()?,
        beta: center
            .then(|| source.find("beta", &[".bias", "/beta", "/beta:0", ".beta"]))
            .transpose()?,
        epsilon: epsilon(fields)? as f32,
    })
}

/// The frameworks' defaults differ by a factor of 100, so the configuration must say it.
fn epsilon(fields: &mut Fields) -> Result<f64, JsonError> {
    let path = fields
        .error("the key \"epsilon\" is missing; PyTorch's default is 0.00001, Keras' is 0.001");
    let field = fields.take("epsilon").ok_or(path)?;
    let refusal = field.expected("a number that is not negative");
    match field.number()? {
        epsilon if epsilon >= 0.0 => Ok(epsilon),
        _ => Err(refusal),
    }
}

fn flag(fields: &mut Fields, key: &'static str) -> Result<bool, JsonError> {
    fields.take(key).map_or(Ok(true), Field::bool)
}

/// A number, or a list with one a column.
fn singles(field: Option<Field>, default: f32) -> Result<Vec<f32>, JsonError> {
    match field {
        None => Ok(vec![default]),
        Some(field) if field.is_list() => field.list()?.into_iter().map(Field::single).collect(),
        Some(field) => Ok(vec![field.single()?]),
    }
}

/// An axis among those of the row: 0 is the first behind the rows, -1 the last.
fn axis(field: Option<Field>) -> Result<isize, JsonError> {
    let Some(field) = field else { return Ok(-1) };
    let refusal = field.expected("an axis of the row: 0 for the first, -1 for the last");
    isize::try_from(field.integer()?).map_err(|_| refusal)
}

/// The function of this name, with its parameters from `parameters`.
fn function_named(name: Field, parameters: &mut Fields) -> Result<Function, JsonError> {
    let mut parameter =
        |key: &'static str, default: f32| parameters.take(key).map_or(Ok(default), Field::single);
    let text = name.clone().string()?;
    Ok(Function::Elementwise(match text.as_str() {
        "linear" => Activation::Linear,
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "leaky_relu" => Activation::LeakyRelu {
            alpha: parameter("alpha", 0.01)?,
        },
        "elu" => Activation::Elu {
            alpha: parameter("alpha", 1.0)?,
        },
        "selu" => Activation::Selu,
        "celu" => match parameter("alpha", 1.0)? {
            alpha if alpha > 0.0 => Activation::Celu { alpha },
            alpha => {
                return Err(name.error(format!("celu needs an alpha over 0, got {alpha}")));
            }
        },
        "sigmoid" => Activation::Sigmoid,
        "hard_sigmoid" => Activation::HardSigmoid {
            alpha: parameter("alpha", 1.0 / 6.0)?,
            beta: parameter("beta", 0.5)?,
        },
        "tanh" => Activation::Tanh,
        "softplus" => Activation::Softplus,
        "softsign" => Activation::Softsign,
        "gelu" => Activation::Gelu,
        "gelu_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "mish" => Activation::Mish,
        "hard_swish" => Activation::HardSwish,
        "softmax" => return Ok(Function::Softmax),
        "log_softmax" => return Ok(Function::LogSoftmax),
        _ => {
            return Err(name.error(format!(
                "unknown function {text:?}; expected one of: linear, relu, relu6, leaky_relu, elu, \
                 selu, celu, sigmoid, hard_sigmoid, tanh, softplus, softsign, gelu, gelu_tanh, \
                 silu, mish, hard_swish, softmax, log_softmax"
            )));
        }
    }))
}

/// Where a layer's weights come from: named by role in its `weights`, else by the frameworks'
/// habits from the layer's name.
struct Source<'a> {
    name: &'a str,
    roles: Option<Fields>,
    weights: &'a mut Weights,
}

impl Source<'_> {
    fn find(&mut self, role: &'static str, suffixes: &[&'static str]) -> Result<Weight, JsonError> {
        let said = self.roles.as_mut().and_then(|roles| roles.take(role));
        let names = match said {
            Some(field) => vec![(field.string()?, None)],
            None => self.names(suffixes).map(|name| (name, None)).collect(),
        };
        Ok(Weight::Tensor(names))
    }

    /// Whether the role is named, or a tensor with one of the default names is there.
    fn has(&self, role: &str, suffixes: &[&'static str]) -> bool {
        self.roles.as_ref().is_some_and(|roles| roles.has(role))
            || self
                .names(suffixes)
                .any(|name| self.weights.contains(&name))
    }

    fn ignore(&mut self, suffixes: &[&'static str]) {
        let names: Vec<String> = self.names(suffixes).collect();
        for name in names {
            self.weights.ignore(&name);
        }
    }

    fn names(&self, suffixes: &[&'static str]) -> impl Iterator<Item = String> {
        let name = self.name.to_owned();
        let suffixes = suffixes.to_vec();
        suffixes
            .into_iter()
            .map(move |suffix| format!("{name}{suffix}"))
    }

    /// Refuses roles that the layer does not have.
    fn finish(self) -> Result<(), JsonError> {
        self.roles.map_or(Ok(()), Fields::finish)
    }
}
