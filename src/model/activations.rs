//! Activations: one row of [`ACTIVATIONS`] each, with its names in every framework.
//!
//! All code that reads or writes an activation looks it up here: the families, the layers, the
//! operators of family `graph` and of the import, `train`, and the exporters of `python/`, whose table
//! is generated from this one.

use crate::engine::ValueId;
use crate::engine::kernels::Activation::{self, *};
use crate::engine::ops::{Elementwise, LogSoftmax, Softmax};
use crate::model::json::{Field, Fields, JsonError};
use crate::model::lowering::{Call, Refusal};

/// What an activation becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    /// A function of each element.
    Elementwise(Activation),
    /// Over the last axis.
    Softmax,
    /// Over the last axis.
    LogSoftmax,
}

impl Function {
    /// No function at all.
    pub const LINEAR: Self = Self::Elementwise(Linear);

    /// Adds the function of a value.
    pub(crate) fn lower(self, call: &mut Call<'_>, x: ValueId) -> Result<ValueId, Refusal> {
        match self {
            Self::LINEAR => Ok(x),
            Self::Elementwise(activation) => call.emit(Elementwise(activation), &[x]),
            Self::Softmax => call.emit(Softmax, &[x]),
            Self::LogSoftmax => call.emit(LogSoftmax, &[x]),
        }
    }
}

/// An activation by its names; a name is empty where there is none.
#[derive(Clone, Copy, Debug)]
pub struct NamedActivation {
    /// In configurations of family `sequential`.
    pub name: &'static str,
    /// The names of Keras' function, the usual one first.
    pub keras: &'static [&'static str],
    /// Keras' layer that is this function, with parameters of its own.
    pub keras_layer: &'static str,
    /// The function in `torch.nn.functional`.
    pub torch: &'static str,
    /// The module in `torch.nn`.
    pub torch_module: &'static str,
    /// The operator.
    pub onnx: &'static str,
    /// In scikit-learn's perceptrons.
    pub sklearn: &'static str,
    /// Its parameters, as they are told apart in family `sequential`.
    pub parameters: &'static [Parameter],
    /// The function with these parameters, in their order.
    becomes: fn(&[f32]) -> Function,
}

/// The activations.
#[rustfmt::skip]
pub const ACTIVATIONS: &[NamedActivation] = &[
    //  sequential       Keras                       its layer    torch          torch.nn       ONNX           scikit-learn  parameters                becomes
    row("linear",      &["linear"],                "",          "",            "",            "",            "identity",   &[],                      |_| Function::LINEAR),
    row("relu",        &["relu"],                  "",          "relu",        "ReLU",        "Relu",        "relu",       &[],                      |_| of(Relu)),
    row("relu6",       &["relu6"],                 "",          "relu6",       "ReLU6",       "",            "",           &[],                      |_| of(Relu6)),
    row("leaky_relu",  &["leaky_relu"],            "LeakyReLU", "leaky_relu",  "LeakyReLU",   "LeakyRelu",   "",           &[SLOPE],                 |p| of(LeakyRelu { alpha: p[0] })),
    row("elu",         &["elu"],                   "ELU",       "elu",         "ELU",         "Elu",         "",           &[ALPHA],                 |p| of(Elu { alpha: p[0] })),
    row("selu",        &["selu"],                  "",          "selu",        "SELU",        "Selu",        "",           &[],                      |_| of(Selu)),
    row("celu",        &["celu"],                  "",          "celu",        "CELU",        "Celu",        "",           &[ALPHA.over_zero()],     |p| of(Celu { alpha: p[0] })),
    row("sigmoid",     &["sigmoid"],               "",          "sigmoid",     "Sigmoid",     "Sigmoid",     "logistic",   &[],                      |_| of(Sigmoid)),
    row("hard_sigmoid",&["hard_sigmoid"],          "",          "hardsigmoid", "Hardsigmoid", "HardSigmoid", "",           &[HARD_SLOPE, HARD_BETA], |p| of(HardSigmoid { alpha: p[0], beta: p[1] })),
    row("tanh",        &["tanh"],                  "",          "tanh",        "Tanh",        "Tanh",        "tanh",       &[],                      |_| of(Tanh)),
    row("hard_tanh",   &["hard_tanh"],             "",          "hardtanh",    "Hardtanh",    "",            "",           &[LOWEST, HIGHEST],       |p| of(Clip { min: p[0], max: p[1] })),
    row("softplus",    &["softplus"],              "",          "softplus",    "Softplus",    "Softplus",    "",           &[],                      |_| of(Softplus)),
    row("softsign",    &["softsign"],              "",          "softsign",    "Softsign",    "Softsign",    "",           &[],                      |_| of(Softsign)),
    row("gelu",        &["gelu"],                  "",          "gelu",        "GELU",        "Gelu",        "",           &[],                      |_| of(Gelu)),
    row("gelu_tanh",   &[],                        "",          "",            "",            "",            "",           &[],                      |_| of(GeluTanh)),
    row("silu",        &["silu", "swish"],         "",          "silu",        "SiLU",        "Swish",       "",           &[],                      |_| of(Silu)),
    row("mish",        &["mish"],                  "",          "mish",        "Mish",        "Mish",        "",           &[],                      |_| of(Mish)),
    row("hard_swish",  &["hard_silu","hard_swish"],"",          "hardswish",   "Hardswish",   "HardSwish",   "",           &[],                      |_| of(HardSwish)),
    row("",            &["exponential"],           "",          "",            "",            "Exp",         "",           &[],                      |_| of(Exp)),
    row("softmax",     &["softmax"],               "Softmax",   "softmax",     "Softmax",     "Softmax",     "softmax",    &[],                      |_| Function::Softmax),
    row("log_softmax", &["log_softmax"],           "",          "log_softmax", "LogSoftmax",  "LogSoftmax",  "",           &[],                      |_| Function::LogSoftmax),
];

const SLOPE: Parameter = Parameter::new("alpha", 0.01)
    .keras(0.2)
    .keras_layer(&["negative_slope", "alpha"], 0.3)
    .torch("negative_slope");
const ALPHA: Parameter = Parameter::new("alpha", 1.0)
    .keras_layer(&["alpha"], 1.0)
    .torch("alpha");
const HARD_SLOPE: Parameter = Parameter::new("alpha", 1.0 / 6.0).keras_2(0.2).onnx(0.2);
const HARD_BETA: Parameter = Parameter::new("beta", 0.5);
const LOWEST: Parameter = Parameter::new("min", -1.0).torch("min_val");
const HIGHEST: Parameter = Parameter::new("max", 1.0).torch("max_val");

/// An activation of each element.
const fn of(activation: Activation) -> Function {
    Function::Elementwise(activation)
}

#[allow(clippy::too_many_arguments, reason = "the columns of the table")]
const fn row(
    name: &'static str,
    keras: &'static [&'static str],
    keras_layer: &'static str,
    torch: &'static str,
    torch_module: &'static str,
    onnx: &'static str,
    sklearn: &'static str,
    parameters: &'static [Parameter],
    becomes: fn(&[f32]) -> Function,
) -> NamedActivation {
    NamedActivation {
        name,
        keras,
        keras_layer,
        torch,
        torch_module,
        onnx,
        sklearn,
        parameters,
        becomes,
    }
}

/// A parameter of an activation. Frameworks differ in its name and default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// In family `sequential` and in ONNX.
    pub name: &'static str,
    /// In family `sequential` and in PyTorch.
    pub default: f32,
    /// Of Keras' function, which takes no parameters.
    keras: f32,
    /// The same in Keras 2.
    keras_2: f32,
    /// The names that Keras' layer has had, the newest first, and its default.
    keras_layer: (&'static [&'static str], f32),
    /// In PyTorch; empty if it is fixed there.
    pub torch: &'static str,
    onnx: f32,
    is_over_zero: bool,
}

impl Parameter {
    const fn new(name: &'static str, default: f32) -> Self {
        Self {
            name,
            default,
            keras: default,
            keras_2: default,
            keras_layer: (&[], default),
            torch: "",
            onnx: default,
            is_over_zero: false,
        }
    }

    const fn keras(mut self, value: f32) -> Self {
        self.keras = value;
        self.keras_2 = value;
        self
    }

    const fn keras_2(mut self, value: f32) -> Self {
        self.keras_2 = value;
        self
    }

    const fn keras_layer(mut self, names: &'static [&'static str], default: f32) -> Self {
        self.keras_layer = (names, default);
        self
    }

    const fn torch(mut self, name: &'static str) -> Self {
        self.torch = name;
        self
    }

    const fn onnx(mut self, default: f32) -> Self {
        self.onnx = default;
        self
    }

    /// The same where only numbers over zero have a meaning.
    const fn over_zero(mut self) -> Self {
        self.is_over_zero = true;
        self
    }

    fn is_valid(&self, value: f32) -> bool {
        !self.is_over_zero || value > 0.0
    }
}

/// Which Keras wrote a configuration. They differ in the parameters of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KerasVersion {
    Keras2,
    Keras3,
}

/// The names in family `sequential`.
pub fn names() -> impl Iterator<Item = &'static str> {
    let names = ACTIVATIONS.iter().map(|activation| activation.name);
    names.filter(|name| !name.is_empty())
}

/// The activation of this name in family `sequential`, with its parameters from `parameters`.
pub(in crate::model) fn sequential(
    name: Field,
    parameters: &mut Fields,
) -> Result<Function, JsonError> {
    let text = name.clone().string()?;
    let mut activations = ACTIVATIONS.iter();
    let found = activations.find(|activation| activation.name == text && !text.is_empty());
    let Some(activation) = found else {
        let known: Vec<_> = names().collect();
        return Err(name.error(format!(
            "unknown function {text:?}; expected one of: {}",
            known.join(", ")
        )));
    };
    let mut values = Vec::new();
    for parameter in activation.parameters {
        let value = parameters.take(parameter.name);
        let value = value.map_or(Ok(parameter.default), Field::single)?;
        if !parameter.is_valid(value) {
            let ours = parameter.name;
            return Err(name.error(format!("{text} needs an {ours} over 0, got {value}")));
        }
        values.push(value);
    }
    Ok((activation.becomes)(&values))
}

/// The classes of Keras' layers that are one activation.
pub fn keras_layers() -> impl Iterator<Item = &'static str> {
    let classes = ACTIVATIONS.iter().map(|activation| activation.keras_layer);
    classes.filter(|class| !class.is_empty())
}

/// An activation as Keras names it: a function's name.
pub(in crate::model) fn keras(
    field: &Field,
    version: Option<KerasVersion>,
) -> Result<Function, JsonError> {
    let name = field.clone().string()?;
    let mut activations = ACTIVATIONS.iter();
    let found = activations.find(|activation| activation.keras.contains(&&*name));
    let Some(activation) = found else {
        let known = ACTIVATIONS.iter();
        let known: Vec<_> = known
            .filter_map(|known| known.keras.first().copied())
            .collect();
        return Err(field.error(format!(
            "unknown activation {name:?}; expected one of: {}",
            known.join(", ")
        )));
    };
    let mut values = Vec::new();
    for parameter in activation.parameters {
        values.push(match version {
            Some(KerasVersion::Keras2) => parameter.keras_2,
            None if parameter.keras != parameter.keras_2 => {
                return Err(field.error(format!(
                    "{name} differs between Keras 2 and 3, and nothing here tells which this is; \
                     add \"keras_version\" at the top level"
                )));
            }
            _ => parameter.keras,
        });
    }
    Ok((activation.becomes)(&values))
}

/// The activation that a Keras layer of this class is, with its parameters from `config`; `None` if the
/// class is not one of [`keras_layers`].
pub(in crate::model) fn keras_layer(
    class: &str,
    config: &mut Fields,
) -> Result<Option<Function>, JsonError> {
    let mut activations = ACTIVATIONS.iter();
    let found = activations.find(|activation| activation.keras_layer == class && !class.is_empty());
    let Some(activation) = found else {
        return Ok(None);
    };
    let mut values = Vec::new();
    for parameter in activation.parameters {
        let (keys, default) = parameter.keras_layer;
        // All are taken, so that an old name next to the new one is no unknown key.
        let given: Vec<_> = keys.iter().filter_map(|key| config.take(key)).collect();
        let given = given.into_iter().next();
        values.push(given.map_or(Ok(default), Field::single)?);
    }
    Ok(Some((activation.becomes)(&values)))
}

/// The activation that an ONNX operator is.
pub(in crate::model) fn onnx(operator: &str) -> Option<&'static NamedActivation> {
    let mut activations = ACTIVATIONS.iter();
    activations.find(|activation| activation.onnx == operator && !operator.is_empty())
}

impl NamedActivation {
    /// The activation with the attributes of an ONNX node, which `attribute` takes by name.
    ///
    /// # Errors
    /// What is wrong with an attribute.
    pub(in crate::model) fn with_attributes(
        &self,
        mut attribute: impl FnMut(&'static str) -> Result<Option<f32>, String>,
    ) -> Result<Function, String> {
        let mut values = Vec::new();
        for parameter in self.parameters {
            let name = parameter.name;
            let value = attribute(name)?.unwrap_or(parameter.onnx);
            if !parameter.is_valid(value) {
                return Err(format!(
                    "attribute {name:?}: expected more than 0, got {value}"
                ));
            }
            values.push(value);
        }
        Ok((self.becomes)(&values))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_activations_share_a_name() {
        let columns: [fn(&NamedActivation) -> Vec<&'static str>; 7] = [
            |row| vec![row.name],
            |row| row.keras.to_vec(),
            |row| vec![row.keras_layer],
            |row| vec![row.torch],
            |row| vec![row.torch_module],
            |row| vec![row.onnx],
            |row| vec![row.sklearn],
        ];
        for column in columns {
            let mut seen = HashSet::new();
            let names = ACTIVATIONS.iter().flat_map(column);
            for name in names.filter(|name| !name.is_empty()) {
                assert!(seen.insert(name), "{name} names two activations");
            }
            assert!(!seen.is_empty());
        }
    }
}
