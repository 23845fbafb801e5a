//! A network's hidden layers, as they are asked for.

use std::fmt;
use std::str::FromStr;

use crate::engine::kernels::{self, Isa};
use crate::spelling::nearest;

/// The most units of a layer and the most layers: enough for any table, little enough to fit.
const MAX_UNITS: usize = 16_384;
const MAX_LAYERS: usize = 64;

/// The layers before the last, written as `10:sigmoid,10:relu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(Vec<Hidden>);

/// One dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// How many numbers it gives.
    pub units: usize,
    /// What each of them goes through.
    pub activation: Activation,
}

impl Layers {
    /// The layers in their order.
    #[must_use]
    pub fn hidden(&self) -> &[Hidden] {
        &self.0
    }
}

impl FromStr for Layers {
    type Err = String;

    /// Reads `UNITS[:ACTIVATION],...`; an empty text is no layer, which makes a linear model.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let layers: Vec<Hidden> = text.split(',').map(layer).collect::<Result<_, _>>()?;
        match layers.len() <= MAX_LAYERS {
            true => Ok(Self(layers)),
            false => Err(format!(
                "expected at most {MAX_LAYERS} layers, got {}",
                layers.len()
            )),
        }
    }
}

fn layer(text: &str) -> Result<Hidden, String> {
    let text = text.trim();
    let (units, activation) = text.split_once(':').unwrap_or((text, "relu"));
    let units = match units.trim().parse() {
        Ok(units @ 1..=MAX_UNITS) => units,
        _ => {
            return Err(format!(
                "layer {text:?}: expected UNITS:ACTIVATION with 1 to {MAX_UNITS} units, for example \
                 10:relu, got {units:?} units"
            ));
        }
    };
    let activation = activation
        .trim()
        .parse()
        .map_err(|problem| format!("layer {text:?}: {problem}"))?;
    Ok(Hidden { units, activation })
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Hidden { units, activation }) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{units}:{}", activation.name())?;
        }
        Ok(())
    }
}

/// A function of single numbers, defined as docs/models.md defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x
    Linear,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
    /// x, a hundredth of it below zero
    LeakyRelu,
    /// x, e^x - 1 below zero
    Elu,
    /// 1.0507 elu(x) with alpha 1.6733
    Selu,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// min(max(x / 6 + 0.5, 0), 1)
    HardSigmoid,
    /// tanh(x)
    Tanh,
    /// log(1 + e^x)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// x times the probability that a normal number is less
    Gelu,
    /// x sigmoid(x)
    Silu,
    /// x tanh(softplus(x))
    Mish,
    /// x hard_sigmoid(x)
    HardSwish,
}

impl Activation {
    /// Each function.
    pub const ALL: [Self; 15] = [
        Self::Linear,
        Self::Relu,
        Self::Relu6,
        Self::LeakyRelu,
        Self::Elu,
        Self::Selu,
        Self::Sigmoid,
        Self::HardSigmoid,
        Self::Tanh,
        Self::Softplus,
        Self::Softsign,
        Self::Gelu,
        Self::Silu,
        Self::Mish,
        Self::HardSwish,
    ];

    /// Its name in a model's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::LeakyRelu => "leaky_relu",
            Self::Elu => "elu",
            Self::Selu => "selu",
            Self::Sigmoid => "sigmoid",
            Self::HardSigmoid => "hard_sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Mish => "mish",
            Self::HardSwish => "hard_swish",
        }
    }

    /// Replaces each value by its function, as the engine computes it.
    pub(super) fn apply(self, values: &mut [f32]) {
        let function = match self {
            Self::Linear => kernels::Activation::Linear,
            Self::Relu => kernels::Activation::Relu,
            Self::Relu6 => kernels::Activation::Relu6,
            Self::LeakyRelu => kernels::Activation::LeakyRelu { alpha: 0.01 },
            Self::Elu => kernels::Activation::Elu { alpha: 1.0 },
            Self::Selu => kernels::Activation::Selu,
            Self::Sigmoid => kernels::Activation::Sigmoid,
            Self::HardSigmoid => kernels::Activation::HardSigmoid {
                alpha: 1.0 / 6.0,
                beta: 0.5,
            },
            Self::Tanh => kernels::Activation::Tanh,
            Self::Softplus => kernels::Activation::Softplus,
            Self::Softsign => kernels::Activation::Softsign,
            Self::Gelu => kernels::Activation::Gelu,
            Self::Silu => kernels::Activation::Silu,
            Self::Mish => kernels::Activation::Mish,
            Self::HardSwish => kernels::Activation::HardSwish,
        };
        function.apply(Isa::detect(), values);
    }
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = if text == "swish" { "silu" } else { text };
        let names = || Self::ALL.map(Self::name).into_iter();
        let found = Self::ALL
            .into_iter()
            .find(|activation| activation.name() == name);
        found.ok_or_else(|| {
            let hint = match nearest(name, names()) {
                Some(near) => format!("; did you mean {near:?}?"),
                None => String::new(),
            };
            let known: Vec<&str> = names().collect();
            format!(
                "expected an activation out of {}, got {text:?}{hint}",
                known.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_and_written_alike() {
        let layers: Layers = " 10:sigmoid, 4 ,3:swish".parse().unwrap();
        assert_eq!(layers.to_string(), "10:sigmoid,4:relu,3:silu");
        assert_eq!(layers.to_string().parse(), Ok(layers));
        assert_eq!("".parse::<Layers>().unwrap().hidden(), []);
        let many = vec!["1"; MAX_LAYERS + 1].join(",");
        assert_eq!(
            many.parse::<Layers>(),
            Err("expected at most 64 layers, got 65".to_owned())
        );
    }
}
