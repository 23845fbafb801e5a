//! A network of dense layers, for training and for saving.

mod gradient;
mod product;

use ndarray::{Array1, Array2, ArrayView2};
use rand::Rng;
use rand::rngs::StdRng;

use self::product::product;
use super::features::Features;
use super::layers::{Activation, Layers};
use super::target::{Goal, Target, mean_and_deviation};
use crate::engine::kernels::{self, Isa};

/// A dense layer: its weights `[out, in]` and its biases `[out]`; or a number for each of them, such as a
/// loss's gradient.
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
    /// The input of each layer, `[rows, in]`.
    inputs: Vec<Array2<f32>>,
    /// The output of each layer but the last before its activation, `[rows, out]`.
    sums: Vec<Array2<f32>>,
    /// The last layer's numbers: logits, or the standardised target.
    pub(super) values: Array2<f32>,
}

impl Network {
    /// A network of random weights: uniform within ±√(6 / (in + out)) (Glorot and Bengio 2010, eq. 16),
    /// and zero for features that never vary, from which nothing can be learned.
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
