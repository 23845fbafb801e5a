//! A network's hidden layers, as they are asked for.

use std::fmt;
use std::str::FromStr;

use candle_core::{Result, Tensor};
use candle_nn::ops;

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
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let layers: Vec<Hidden> = text
            .split(',')
            .map(layer)
            .collect::<std::result::Result<_, _>>()?;
        match layers.len() <= MAX_LAYERS {
            true => Ok(Self(layers)),
            false => Err(format!(
                "expected at most {MAX_LAYERS} layers, got {}",
                layers.len()
            )),
        }
    }
}

fn layer(text: &str) -> std::result::Result<Hidden, String> {
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

/// A function of single numbers that networks can be trained with, by its name in a model's
/// configuration; docs/models.md defines it.
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    name: &'static str,
    /// The function, so that its gradient is known.
    apply: fn(&Tensor) -> Result<Tensor>,
}

impl Activation {
    /// Each function, with its parameters' defaults.
    #[rustfmt::skip]
    pub const ALL: [Self; 15] = [
        Self { name: "linear", apply: |x| Ok(x.clone()) },
        Self { name: "relu", apply: Tensor::relu },
        Self { name: "relu6", apply: |x| x.clamp(0f32, 6f32) },
        Self { name: "leaky_relu", apply: |x| ops::leaky_relu(x, 0.01) },
        Self { name: "elu", apply: |x| x.elu(1.0) },
        // Klambauer et al. 2017; of candle's own the gradient is NaN from 89 on.
        Self { name: "selu", apply: |x| x.elu(1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5 },
        Self { name: "sigmoid", apply: ops::sigmoid },
        Self { name: "hard_sigmoid", apply: |x| ((x / 6.0)? + 0.5)?.clamp(0f32, 1f32) },
        Self { name: "tanh", apply: Tensor::tanh },
        Self { name: "softplus", apply: softplus },
        Self { name: "softsign", apply: |x| x / (x.abs()? + 1.0)? },
        Self { name: "gelu", apply: Tensor::gelu_erf },
        Self { name: "silu", apply: Tensor::silu },
        Self { name: "mish", apply: |x| x * softplus(x)?.tanh()? },
        Self { name: "hard_swish", apply: |x| x * ((x / 6.0)? + 0.5)?.clamp(0f32, 1f32)? },
    ];

    /// Its name in a model's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Applies it, so that its gradient is known.
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
        (self.apply)(x)
    }
}

impl PartialEq for Activation {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Activation {}

/// log(1 + e^x) without the overflow of e^x.
pub(super) fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
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
    use candle_core::{Device, Var};

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

    #[test]
    fn gradients_are_the_slopes_of_their_functions() {
        // Away from the corners, in both tails, and where e^x overflows.
        let places = [
            -95.0, -7.0, -3.3, -1.7, -0.4, 0.3, 1.2, 2.9, 5.5, 7.0, 95.0_f32,
        ];
        let values = |activation: Activation, shift: f32| {
            let places = places.map(|place| place + shift);
            let x = Tensor::from_slice(&places, places.len(), &Device::Cpu).unwrap();
            activation.apply(&x).unwrap().to_vec1::<f32>().unwrap()
        };
        const STEP: f32 = 1e-2;
        for activation in Activation::ALL {
            let x = Var::from_slice(&places, places.len(), &Device::Cpu).unwrap();
            let gradients = activation.apply(&x).unwrap().backward().unwrap();
            let gradients = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
            let (before, behind) = (values(activation, -STEP), values(activation, STEP));
            for (index, gradient) in gradients.iter().enumerate() {
                let slope = (behind[index] - before[index]) / (2.0 * STEP);
                // The difference of two rounded numbers of up to 100, and the curvature within a step.
                assert!(
                    (gradient - slope).abs() < 2e-3,
                    "{} at {}: gradient {gradient}, slope {slope}",
                    activation.name(),
                    places[index]
                );
            }
        }
    }
}
