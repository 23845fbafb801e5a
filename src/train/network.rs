//! A network of dense layers: as it is asked for, as it is trained, as it is saved.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::ops;
use rand::Rng;
use rand::rngs::StdRng;

use super::error::TrainError;
use super::features::Features;
use super::target::{Goal, Target, mean_and_deviation};
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

    /// Applies it, so that its gradient is known.
    pub(super) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear => Ok(x.clone()),
            Self::Relu => x.relu(),
            Self::Relu6 => x.clamp(0f32, 6f32),
            Self::LeakyRelu => ops::leaky_relu(x, 0.01),
            Self::Elu => x.elu(1.0),
            // Klambauer et al. 2017; of candle's own the gradient is NaN from 89 on.
            Self::Selu => x.elu(1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5,
            Self::Sigmoid => ops::sigmoid(x),
            Self::HardSigmoid => ((x / 6.0)? + 0.5)?.clamp(0f32, 1f32),
            Self::Tanh => x.tanh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (x.abs()? + 1.0)?,
            Self::Gelu => x.gelu_erf(),
            Self::Silu => x.silu(),
            Self::Mish => x * softplus(x)?.tanh()?,
            Self::HardSwish => x * ((x / 6.0)? + 0.5)?.clamp(0f32, 1f32)?,
        }
    }
}

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

/// A dense layer's weights as they are learned: `[out, in]`, and `[out]`.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub(super) weight: Var,
    pub(super) bias: Var,
}

/// A network whose weights are learned.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) layers: Vec<Dense>,
    pub(super) activations: Vec<Activation>,
}

/// The numbers of a network's weights.
pub(super) type Weights = Vec<(Vec<f32>, Vec<f32>)>;

impl Network {
    /// A network of random weights: uniform within ±√(6 / (in + out)) (Glorot and Bengio 2010, eq. 16),
    /// and zero for features that never vary, of which nothing can be learned.
    pub(super) fn random(
        vary: &[bool],
        layers: &Layers,
        outputs: usize,
        generator: &mut StdRng,
    ) -> Result<Self> {
        let device = Device::Cpu;
        let units = layers
            .hidden()
            .iter()
            .map(|hidden| hidden.units)
            .chain([outputs]);
        let mut dense = Vec::new();
        let mut inputs = vary.len();
        for (index, units) in units.enumerate() {
            let limit = (6.0 / (inputs + units) as f32).sqrt();
            let mut weights: Vec<f32> = (0..inputs * units)
                .map(|_| generator.random_range(-limit..limit))
                .collect();
            if index == 0 {
                let features = vary.iter().cycle();
                for (weight, _) in weights
                    .iter_mut()
                    .zip(features)
                    .filter(|(_, varies)| !**varies)
                {
                    *weight = 0.0;
                }
            }
            dense.push(Dense {
                weight: Var::from_vec(weights, (units, inputs), &device)?,
                bias: Var::zeros(units, candle_core::DType::F32, &device)?,
            });
            inputs = units;
        }
        Ok(Self {
            layers: dense,
            activations: layers
                .hidden()
                .iter()
                .map(|hidden| hidden.activation)
                .collect(),
        })
    }

    /// What is learned.
    pub(super) fn variables(&self) -> Vec<Var> {
        let variables = self
            .layers
            .iter()
            .flat_map(|dense| [&dense.weight, &dense.bias]);
        variables.cloned().collect()
    }

    /// The last layer's numbers for standardised rows: logits, or the standardised target.
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let mut values = rows.clone();
        for (index, Dense { weight, bias }) in self.layers.iter().enumerate() {
            values = values.matmul(&weight.t()?)?.broadcast_add(bias)?;
            if let Some(activation) = self.activations.get(index) {
                values = activation.apply(&values)?;
            }
        }
        Ok(values)
    }

    /// A copy of the weights' numbers.
    pub(super) fn weights(&self) -> Result<Weights> {
        let numbers = |var: &Var| var.flatten_all()?.to_vec1::<f32>();
        let layers = self.layers.iter();
        layers
            .map(|dense| Ok((numbers(&dense.weight)?, numbers(&dense.bias)?)))
            .collect()
    }

    /// Puts other numbers in the weights' places.
    pub(super) fn restore(&self, weights: &Weights) -> Result<()> {
        for (dense, (weight, bias)) in self.layers.iter().zip(weights) {
            let set = |var: &Var, numbers: &[f32]| {
                var.set(&Tensor::from_slice(numbers, var.shape(), &Device::Cpu)?)
            };
            set(&dense.weight, weight)?;
            set(&dense.bias, bias)?;
        }
        Ok(())
    }

    /// What the served model should answer to every row: probabilities, or numbers in the target's unit.
    pub(super) fn answers(
        &self,
        features: &Features,
        target: &Target,
        unit: Unit,
    ) -> std::result::Result<Vec<f32>, TrainError> {
        /// Enough rows to be quick, and few enough to need little memory.
        const ROWS: usize = 1024;
        let all: Vec<usize> = (0..target.rows.len()).collect();
        let mut answers = Vec::new();
        for rows in all.chunks(ROWS) {
            let shape = (rows.len(), features.width());
            let rows = Tensor::from_vec(features.standardised(rows), shape, &Device::Cpu)?;
            let values = self.forward(&rows)?;
            let values = match target.goal {
                Goal::Binary(_) => ops::sigmoid(&values)?,
                Goal::Multiclass(_) => ops::softmax(&values, 1)?,
                Goal::Regression => values,
            };
            answers.extend(values.flatten_all()?.to_vec1::<f32>()?);
        }
        if target.goal == Goal::Regression {
            for answer in &mut answers {
                *answer = unit.back(*answer);
            }
        }
        Ok(answers)
    }
}

/// The unit of a regression's target in training: its deviation, from its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

impl Unit {
    /// The unit of these rows' targets; of classes the number itself.
    pub(super) fn of(target: &Target, rows: &[usize]) -> Self {
        if target.goal != Goal::Regression {
            return Self {
                mean: 0.0,
                deviation: 1.0,
            };
        }
        let (mean, deviation) = mean_and_deviation(&target.values, rows);
        let deviation = if deviation > 0.0 { deviation } else { 1.0 };
        Self { mean, deviation }
    }

    pub(super) fn there(self, value: f32) -> f32 {
        ((f64::from(value) - self.mean) / self.deviation) as f32
    }

    pub(super) fn back(self, value: f32) -> f32 {
        (f64::from(value) * self.deviation + self.mean) as f32
    }

    /// The last layer's weights, so that it answers in the target's own unit.
    pub(super) fn fold(self, weight: &mut [f32], bias: &mut [f32]) {
        for weight in weight {
            *weight = (f64::from(*weight) * self.deviation) as f32;
        }
        for bias in bias {
            *bias = self.back(*bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

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

    #[test]
    fn first_weights_are_within_glorots_limit_and_zero_for_what_never_varies() {
        let mut generator = StdRng::seed_from_u64(5);
        let layers = "6:relu".parse().unwrap();
        let network = Network::random(&[true, false, true], &layers, 2, &mut generator).unwrap();
        let weights = network.weights().unwrap();
        assert_eq!((weights[0].0.len(), weights[1].0.len()), (18, 12));
        let limit = (6.0_f32 / 9.0).sqrt();
        for (index, weight) in weights[0].0.iter().enumerate() {
            assert_eq!(*weight == 0.0, index % 3 == 1);
            assert!(weight.abs() <= limit);
        }
        assert!(
            weights
                .iter()
                .all(|(_, bias)| bias.iter().all(|bias| *bias == 0.0))
        );
    }

    #[test]
    fn a_unit_goes_there_and_back_and_into_the_last_layer() {
        let unit = Unit {
            mean: 10.0,
            deviation: 4.0,
        };
        assert_eq!((unit.there(18.0), unit.back(2.0)), (2.0, 18.0));
        let (mut weight, mut bias) = ([0.5, -1.0], [0.25]);
        unit.fold(&mut weight, &mut bias);
        assert_eq!((weight, bias), ([2.0, -4.0], [11.0]));
    }
}
