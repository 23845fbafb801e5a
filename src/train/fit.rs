//! Training: mini-batches, back-propagation, early stopping.

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, loss};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::epoch::{Ending, Epoch};
use super::error::TrainError;
use super::features::Features;
use super::layers::softplus;
use super::network::{Network, Unit, Weights};
use super::observer::{Observer, Stop};
use super::options::{Optimizer, Options};
use super::split::Split;
use super::target::{Goal, Target};

/// A trained network.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) network: Network,
    /// In which the target was learned.
    pub(super) unit: Unit,
    pub(super) history: Vec<Epoch>,
    /// The epoch whose weights these are.
    pub(super) best_epoch: usize,
    pub(super) ending: Ending,
}

impl Fit {
    /// Trains until the epochs are over, the validation loss no longer falls, or the observer says so;
    /// gives the weights of the epoch with the least validation loss, or of the last without one.
    pub(super) fn run(
        features: &Features,
        target: &Target,
        split: &Split,
        options: &Options,
        observer: &mut dyn Observer,
    ) -> std::result::Result<Self, TrainError> {
        // Not the numbers that chose the rows again.
        let mut generator = StdRng::seed_from_u64(options.seed.wrapping_add(1));
        let vary = features.vary(&split.training);
        let outputs = target.goal.outputs();
        let network = Network::random(&vary, &options.layers, outputs, &mut generator)?;
        let unit = Unit::of(target, &split.training);
        let data = Data {
            features,
            target,
            unit,
        };
        let mut steps = Steps::new(&network, options.optimizer)?;
        let mut order = split.training.clone();
        let mut history: Vec<Epoch> = Vec::new();
        let mut best: Option<Best> = None;
        let mut ending = Ending::Epochs;
        for number in 1..=options.epochs {
            order.shuffle(&mut generator);
            let mut sum = 0.0;
            for rows in order.chunks(options.batch_rows) {
                if observer.stop() == Stop::Abandon {
                    return Err(TrainError::Interrupted);
                }
                let loss = data.loss(&network, rows)?;
                steps.step(&loss.backward()?)?;
                sum += f64::from(loss.to_scalar::<f32>()?) * rows.len() as f64;
            }
            let held_out = data.judge(&network, &split.validation)?;
            let epoch = Epoch {
                number,
                loss: sum / order.len() as f64,
                validation_loss: held_out.map(|(loss, _)| loss),
                validation_score: held_out.map(|(_, score)| score),
            };
            let judged = epoch.validation_loss.unwrap_or(epoch.loss);
            if !judged.is_finite() || !epoch.loss.is_finite() {
                return Err(TrainError::Diverged { epoch: number });
            }
            history.push(epoch);
            observer.epoch(&epoch);
            // Without rows to judge by, the last weights are the best that are known.
            if best
                .as_ref()
                .is_none_or(|best| split.validation.is_empty() || judged < best.loss)
            {
                best = Some(Best {
                    epoch: number,
                    loss: judged,
                    weights: network.weights()?,
                });
            }
            let since = best.as_ref().map_or(0, |best| number - best.epoch);
            if options.patience > 0 && since >= options.patience {
                ending = Ending::Patience;
                break;
            }
            if observer.stop() != Stop::No {
                ending = Ending::Asked;
                break;
            }
        }
        let Some(best) = best else {
            return Err(TrainError::Interrupted);
        };
        network.restore(&best.weights)?;
        Ok(Self {
            network,
            unit,
            history,
            best_epoch: best.epoch,
            ending,
        })
    }
}

/// The weights of the best epoch so far.
struct Best {
    epoch: usize,
    loss: f64,
    weights: Weights,
}

/// What the network learns from.
struct Data<'a> {
    features: &'a Features,
    target: &'a Target,
    unit: Unit,
}

impl Data<'_> {
    fn forward(&self, network: &Network, rows: &[usize]) -> Result<Tensor> {
        let shape = (rows.len(), self.features.width());
        network.forward(&Tensor::from_vec(
            self.features.standardised(rows),
            shape,
            &Device::Cpu,
        )?)
    }

    /// The mean loss of some rows.
    fn loss(&self, network: &Network, rows: &[usize]) -> Result<Tensor> {
        self.loss_of(&self.forward(network, rows)?, rows)
    }

    fn loss_of(&self, values: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let wanted = rows.iter().map(|&row| self.target.values[row]);
        match self.target.goal {
            Goal::Binary(_) => {
                let wanted = Tensor::from_iter(wanted, &Device::Cpu)?;
                binary_cross_entropy(&values.squeeze(1)?, &wanted)
            }
            Goal::Multiclass(_) => {
                let wanted = wanted.map(|class| class as u32);
                loss::cross_entropy(values, &Tensor::from_iter(wanted, &Device::Cpu)?)
            }
            Goal::Regression => {
                let wanted = wanted.map(|value| self.unit.there(value));
                loss::mse(
                    &values.squeeze(1)?,
                    &Tensor::from_iter(wanted, &Device::Cpu)?,
                )
            }
        }
    }

    /// The mean loss of some rows, and their accuracy or R²; `None` without rows.
    fn judge(&self, network: &Network, rows: &[usize]) -> Result<Option<(f64, f64)>> {
        /// Few enough to need little memory.
        const ROWS: usize = 1024;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut loss = 0.0;
        let mut right = 0;
        let mut squares = 0.0;
        for rows in rows.chunks(ROWS) {
            let values = self.forward(network, rows)?;
            loss += f64::from(self.loss_of(&values, rows)?.to_scalar::<f32>()?) * rows.len() as f64;
            let values: Vec<Vec<f32>> = values.to_vec2()?;
            for (values, &row) in values.iter().zip(rows) {
                let wanted = self.target.values[row];
                match self.target.goal {
                    Goal::Binary(_) => right += usize::from((values[0] > 0.0) == (wanted == 1.0)),
                    Goal::Multiclass(_) => {
                        right += usize::from(super::score::highest(values) == wanted as usize);
                    }
                    Goal::Regression => {
                        squares += f64::from(values[0] - self.unit.there(wanted)).powi(2);
                    }
                }
            }
        }
        let count = rows.len() as f64;
        let score = match self.target.goal {
            Goal::Binary(_) | Goal::Multiclass(_) => right as f64 / count,
            Goal::Regression => {
                let (_, deviation) = super::target::mean_and_deviation(&self.target.values, rows);
                let deviation = deviation / self.unit.deviation;
                match deviation > 0.0 {
                    true => 1.0 - squares / count / deviation.powi(2),
                    false => 0.0,
                }
            }
        };
        Ok(Some((loss / count, score)))
    }
}

/// The mean of log(1 + e^z) - y·z over rows of logits z and classes y: the cross-entropy of their
/// probabilities, without the logarithm of a probability that was rounded to 0.
fn binary_cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    (softplus(logits)? - (logits * classes)?)?.mean_all()
}

/// An optimiser at work.
enum Steps {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Steps {
    fn new(network: &Network, optimizer: Optimizer) -> Result<Self> {
        let variables = network.variables();
        Ok(match optimizer {
            Optimizer::AdamW {
                learning_rate: lr,
                weight_decay,
            } => Self::AdamW(AdamW::new(
                variables,
                ParamsAdamW {
                    lr,
                    weight_decay,
                    ..ParamsAdamW::default()
                },
            )?),
            Optimizer::Sgd {
                learning_rate,
                momentum,
                weight_decay,
            } => Self::Sgd(Sgd {
                velocities: variables.iter().map(|_| None).collect(),
                variables,
                learning_rate,
                momentum,
                weight_decay,
            }),
        })
    }

    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        match self {
            Self::AdamW(steps) => steps.step(gradients),
            Self::Sgd(steps) => steps.step(gradients),
        }
    }
}

/// Gradient descent with momentum; candle's own has none.
struct Sgd {
    variables: Vec<Var>,
    velocities: Vec<Option<Tensor>>,
    learning_rate: f64,
    momentum: f64,
    weight_decay: f64,
}

impl Sgd {
    /// v = momentum · v + (g + decay · w), w = w - rate · v, as PyTorch defines `SGD`.
    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        for (variable, velocity) in self.variables.iter().zip(&mut self.velocities) {
            let Some(gradient) = gradients.get(variable) else {
                continue;
            };
            let gradient = (gradient + (variable.as_tensor() * self.weight_decay)?)?;
            let next = match velocity.take() {
                Some(velocity) => ((velocity * self.momentum)? + gradient)?,
                None => gradient,
            };
            variable.set(&(variable.as_tensor() - (&next * self.learning_rate)?)?)?;
            // Cut off from the batch that it came from, which would live on with it.
            *velocity = Some(next.detach());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_cross_entropy_is_that_computed_by_hand_and_finite_far_out() {
        let loss = |logits: &[f32], classes: &[f32]| {
            let tensor =
                |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
            let loss = binary_cross_entropy(&tensor(logits), &tensor(classes)).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        // Logits of 3 to 1: probabilities 0.75 and 0.25.
        let three = 3f32.ln();
        let expected = -(0.75f32.ln() + 0.25f32.ln()) / 2.0;
        assert!((loss(&[three, -three], &[1.0, 1.0]) - expected).abs() < 1e-6);
        assert_eq!(loss(&[200.0, -200.0], &[0.0, 1.0]), 200.0);
        assert_eq!(loss(&[200.0, -200.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn momentum_steps_are_those_computed_by_hand() {
        let weight = Var::from_slice(&[1.0_f32], 1, &Device::Cpu).unwrap();
        let mut steps = Sgd {
            variables: vec![weight.clone()],
            velocities: vec![None],
            learning_rate: 0.1,
            momentum: 0.5,
            weight_decay: 0.2,
        };
        // The loss 3w has the gradient 3: v = 3 + 0.2 · 1 = 3.2, w = 1 - 0.32 = 0.68;
        // v = 0.5 · 3.2 + 3 + 0.2 · 0.68 = 4.736, w = 0.68 - 0.4736 = 0.2064.
        for expected in [0.68, 0.2064] {
            let loss = (weight.as_tensor() * 3.0).unwrap().sum_all().unwrap();
            steps.step(&loss.backward().unwrap()).unwrap();
            let now = weight.to_vec1::<f32>().unwrap()[0];
            assert!((now - expected).abs() < 1e-6, "{now} {expected}");
        }
    }
}
