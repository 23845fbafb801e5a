//! A network of dense layers: as it is trained, as it is saved.

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::ops;
use rand::Rng;
use rand::rngs::StdRng;

use super::error::TrainError;
use super::features::Features;
use super::layers::{Activation, Layers};
use super::target::{Goal, Target, mean_and_deviation};

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
