//! A network's hidden layers, as the options give them.

use std::fmt;
use std::str::FromStr;

use crate::engine::kernels::{Activation as Elementwise, Isa};
use crate::messages::nearest;

/// The most units of a layer and the most layers: enough for any table, few enough for memory.
const MAX_UNITS: usize = 16_384;
const MAX_LAYERS: usize = 64;

/// The layers before the last, written as `10:sigmoid,10:relu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(Vec<Hidden>);

/// One dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The number of its outputs.
    pub units: usize,
    /// The activation of each.
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

/// A function of single numbers that networks can be trained with, by its name in a model's
/// configuration; docs/models.md defines it.
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    name: &'static str,
    /// As the engine computes it.
    function: Elementwise,
    /// The derivative at `x`, where the value is `y`. At a corner it is that of the left side.
    slope: fn(x: f32, y: f32) -> f32,
}

/// The constants of `selu`, as the engine has them. Source: Klambauer et al. 2017.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_SCALE: f32 = 1.050_701;

impl Activation {
    /// Each function, with its parameters' defaults.
    #[rustfmt::skip]
    pub const ALL: [Self; 15] = [
        Self { name: "linear", function: Elementwise::Linear, slope: |_, _| 1.0 },
        Self { name: "relu", function: Elementwise::Relu, slope: |x, _| step(x > 0.0) },
        Self { name: "relu6", function: Elementwise::Relu6, slope: |x, _| step(x > 0.0 && x <= 6.0) },
        Self { name: "leaky_relu", function: Elementwise::LeakyRelu { alpha: 0.01 }, slope: |x, _| if x > 0.0 { 1.0 } else { 0.01 } },
        Self { name: "elu", function: Elementwise::Elu { alpha: 1.0 }, slope: |x, y| if x > 0.0 { 1.0 } else { y + 1.0 } },
        Self { name: "selu", function: Elementwise::Selu, slope: |x, y| if x > 0.0 { SELU_SCALE } else { y + SELU_SCALE * SELU_ALPHA } },
        Self { name: "sigmoid", function: Elementwise::Sigmoid, slope: |_, y| y * (1.0 - y) },
        Self { name: "hard_sigmoid", function: Elementwise::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, slope: |x, _| step(x > -3.0 && x <= 3.0) / 6.0 },
        Self { name: "tanh", function: Elementwise::Tanh, slope: |_, y| 1.0 - y * y },
        Self { name: "softplus", function: Elementwise::Softplus, slope: |x, _| sigmoid(x) },
        Self { name: "softsign", function: Elementwise::Softsign, slope: |x, _| (1.0 + x.abs()).powi(-2) },
        Self { name: "gelu", function: Elementwise::Gelu, slope: gelu_slope },
        Self { name: "silu", function: Elementwise::Silu, slope: |x, y| sigmoid(x) + y * (1.0 - sigmoid(x)) },
        Self { name: "mish", function: Elementwise::Mish, slope: mish_slope },
        Self { name: "hard_swish", function: Elementwise::HardSwish, slope: |x, _| if x > 3.0 { 1.0 } else { step(x > -3.0) * (x / 3.0 + 0.5) } },
    ];

    /// Its name in a model's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Replaces each value by its function, as the engine computes it.
    pub(super) fn apply(self, values: &mut [f32]) {
        self.function.apply(Isa::detect(), values);
    }

    /// The derivative at `x`, where the function's value is `y`. At a corner it is that of the left side.
    pub(super) fn slope(self, x: f32, y: f32) -> f32 {
        (self.slope)(x, y)
    }
}

fn step(is_on: bool) -> f32 {
    f32::from(u8::from(is_on))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The distribution function is `y / x`, its density that of the normal distribution.
fn gelu_slope(x: f32, y: f32) -> f32 {
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let below = if x == 0.0 { 0.5 } else { y / x };
    below + x * DENSITY_AT_0 * (-0.5 * x * x).exp()
}

/// `y = x tanh(softplus(x))`
fn mish_slope(x: f32, y: f32) -> f32 {
    let tanh = if x == 0.0 { 0.6 } else { y / x };
    tanh + x * sigmoid(x) * (1.0 - tanh * tanh)
}

impl PartialEq for Activation {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Activation {}

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

    #[test]
    fn slopes_are_those_of_their_functions() {
        // Away from the corners, in both tails, where e^x overflows, and where y / x is none.
        let places = [
            -95.0, -7.0, -3.3, -1.7, -0.4, 0.0, 0.3, 1.2, 2.9, 5.5, 7.0, 95.0_f32,
        ];
        let bends_at_0 = |activation: Activation| {
            let bent = ["relu", "relu6", "leaky_relu", "elu", "selu", "softsign"];
            bent.contains(&activation.name())
        };
        const STEP: f32 = 1e-2;
        for activation in Activation::ALL {
            for x in places {
                let mut values = [x - STEP, x, x + STEP];
                activation.apply(&mut values);
                let slope = activation.slope(x, values[1]);
                if x == 0.0 && bends_at_0(activation) {
                    // Between the slopes of both sides.
                    let sides = [-STEP, STEP].map(|x| {
                        let mut values = [x];
                        activation.apply(&mut values);
                        activation.slope(x, values[0])
                    });
                    let [left, right] = sides;
                    let (least, most) = (left.min(right), left.max(right));
                    assert!(
                        (least..=most + 2e-2).contains(&slope),
                        "{}: {slope}",
                        activation.name()
                    );
                    continue;
                }
                let quotient = (values[2] - values[0]) / (2.0 * STEP);
                // The difference of two rounded numbers of up to 100, and the curvature within a step.
                assert!(
                    (slope - quotient).abs() < 2e-3,
                    "{} at {x}: slope {slope}, quotient of differences {quotient}",
                    activation.name(),
                );
            }
        }
    }
}
