//! A network of dense layers: as it is asked for, as it is trained, as it is saved.

mod gradient;
mod product;

use std::fmt;
use std::str::FromStr;

use ndarray::{Array1, Array2, ArrayView2};
use rand::Rng;
use rand::rngs::StdRng;

use self::product::product;
use super::features::Features;
use super::target::{Goal, Target, mean_and_deviation};
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
    fn apply(self, values: &mut [f32]) {
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

/// A dense layer: its weights `[out, in]` and its biases `[out]`; or what is known of each of them, such as
/// a loss's gradient.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dense {
    pub(super) weight: Array2<f32>,
    pub(super) bias: Array1<f32>,
}

impl Dense {
    /// As many zeros.
    pub(super) fn zeros(&self) -> Self {
        Self {
            weight: Array2::zeros(self.weight.dim()),
            bias: Array1::zeros(self.bias.dim()),
        }
    }

    /// The numbers of the weights, row by row, and of the biases.
    pub(super) fn numbers(&self) -> [&[f32]; 2] {
        let weight = self.weight.as_slice();
        let bias = self.bias.as_slice();
        [weight.expect("in rows"), bias.expect("without gaps")]
    }

    /// The same, to be changed.
    pub(super) fn numbers_mut(&mut self) -> [&mut [f32]; 2] {
        let weight = self.weight.as_slice_mut();
        let bias = self.bias.as_slice_mut();
        [weight.expect("in rows"), bias.expect("without gaps")]
    }
}

/// A network whose weights are learned.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) layers: Vec<Dense>,
    pub(super) activations: Vec<Activation>,
}

/// A pass of rows through a network, from which gradients are computed.
pub(super) struct Pass {
    /// What each layer is given, `[rows, in]`.
    inputs: Vec<Array2<f32>>,
    /// What each layer but the last gives before its activation, `[rows, out]`.
    sums: Vec<Array2<f32>>,
    /// The last layer's numbers: logits, or the standardised target.
    pub(super) values: Array2<f32>,
}

impl Network {
    /// A network of random weights: uniform within ±√(6 / (in + out)) (Glorot and Bengio 2010, eq. 16),
    /// and zero for features that never vary, of which nothing can be learned.
    pub(super) fn random(
        vary: &[bool],
        layers: &Layers,
        outputs: usize,
        generator: &mut StdRng,
    ) -> Self {
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
                weight: Array2::from_shape_vec((units, inputs), weights).expect("one each"),
                bias: Array1::zeros(units),
            });
            inputs = units;
        }
        Self {
            layers: dense,
            activations: layers
                .hidden()
                .iter()
                .map(|hidden| hidden.activation)
                .collect(),
        }
    }

    /// Passes standardised rows, `[rows, features]`, and keeps what gradients need.
    pub(super) fn pass(&self, rows: Array2<f32>) -> Pass {
        let mut inputs = vec![rows];
        let mut sums = Vec::new();
        loop {
            let index = sums.len();
            let values = self.layers[index].of(inputs[index].view());
            let Some(activation) = self.activations.get(index) else {
                return Pass {
                    inputs,
                    sums,
                    values,
                };
            };
            let mut next = values.clone();
            activation.apply(next.as_slice_mut().expect("in rows"));
            sums.push(values);
            inputs.push(next);
        }
    }

    /// The last layer's numbers for standardised rows: logits, or the standardised target.
    pub(super) fn forward(&self, rows: Array2<f32>) -> Array2<f32> {
        let mut values = rows;
        for (index, layer) in self.layers.iter().enumerate() {
            values = layer.of(values.view());
            if let Some(activation) = self.activations.get(index) {
                activation.apply(values.as_slice_mut().expect("in rows"));
            }
        }
        values
    }

    /// What the served model should answer to every row: probabilities, or numbers in the target's unit.
    pub(super) fn answers(&self, features: &Features, target: &Target, unit: Unit) -> Vec<f32> {
        /// Enough rows to be quick, and few enough to need little memory.
        const ROWS: usize = 1024;
        let all: Vec<usize> = (0..target.rows.len()).collect();
        let mut answers = Vec::new();
        for rows in all.chunks(ROWS) {
            let mut values = self.forward(features.standardised(rows));
            let width = values.ncols();
            let numbers = values.as_slice_mut().expect("in rows");
            match target.goal {
                Goal::Binary(_) => kernels::Activation::Sigmoid.apply(Isa::detect(), numbers),
                Goal::Multiclass(_) => kernels::softmax(Isa::detect(), width, numbers),
                Goal::Regression => {
                    for number in &mut *numbers {
                        *number = unit.back(*number);
                    }
                }
            }
            answers.extend_from_slice(numbers);
        }
        answers
    }
}

impl Dense {
    /// The layer's outputs, `[rows, out]`, for `[rows, in]`.
    fn of(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        product(rows, self.weight.t()) + &self.bias
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
    fn first_weights_are_within_glorots_limit_and_zero_for_what_never_varies() {
        let mut generator = StdRng::seed_from_u64(5);
        let layers = "6:relu".parse().unwrap();
        let network = Network::random(&[true, false, true], &layers, 2, &mut generator);
        let [first, last] = &*network.layers else {
            panic!("two layers");
        };
        assert_eq!((first.weight.dim(), last.weight.dim()), ((6, 3), (2, 6)));
        let limit = (6.0_f32 / 9.0).sqrt();
        for ((_, feature), weight) in first.weight.indexed_iter() {
            assert_eq!(*weight == 0.0, feature == 1);
            assert!(weight.abs() <= limit);
        }
        let mut biases = first.bias.iter().chain(&last.bias);
        assert!(biases.all(|bias| *bias == 0.0));
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
