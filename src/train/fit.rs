//! Training: mini-batches, back-propagation, early stopping.

use std::iter::zip;

use ndarray::Array2;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::epoch::{Ending, Epoch};
use super::error::TrainError;
use super::features::Features;
use super::network::{Dense, Network, Unit};
use super::observer::{Observer, Stop};
use super::options::{Optimizer, Options};
use super::split::Split;
use super::target::{Goal, Target};
use crate::engine::kernels::{Isa, log_softmax};

/// A trained network.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) network: Network,
    /// The unit in which the target was learned.
    pub(super) unit: Unit,
    pub(super) history: Vec<Epoch>,
    /// The epoch whose weights these are.
    pub(super) best_epoch: usize,
    pub(super) ending: Ending,
}

impl Fit {
    /// Trains until the epochs are over, the validation loss no longer falls, or the observer asks to stop.
    /// Returns the weights of the epoch with the lowest validation loss, or of the last one without
    /// validation rows.
    pub(super) fn run(
        features: &Features,
        target: &Target,
        split: &Split,
        options: &Options,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        // Not the random numbers that chose the rows.
        let mut generator = StdRng::seed_from_u64(options.seed.wrapping_add(1));
        let vary = features.vary(&split.training);
        let outputs = target.goal.outputs();
        let mut network = Network::random(&vary, &options.layers, outputs, &mut generator);
        let unit = Unit::of(target, &split.training);
        let data = Data {
            features,
            target,
            unit,
        };
        let mut steps = Steps::new(&network, options.optimizer);
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
                let pass = network.pass(features.standardised(rows));
                let (loss, by_values) = data.loss(&pass.values, rows);
                let gradients = network.gradients(&pass, by_values);
                steps.step(&mut network, &gradients);
                sum += loss * rows.len() as f64;
            }
            let held_out = data.judge(&network, &split.validation);
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
                    layers: network.layers.clone(),
                });
            }
            let since = best.as_ref().map_or(0, |best| number - best.epoch);
            if options.patience > 0 && since >= options.patience {
                ending = Ending::Patience;
                break;
            }
            if observer.stop() != Stop::No {
                ending = Ending::Requested;
                break;
            }
        }
        let Some(best) = best else {
            return Err(TrainError::Interrupted);
        };
        network.layers = best.layers;
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
    layers: Vec<Dense>,
}

/// What the network learns from.
struct Data<'a> {
    features: &'a Features,
    target: &'a Target,
    unit: Unit,
}

impl Data<'_> {
    /// The mean loss of rows to which the network gives these values, and its gradient by each of them.
    fn loss(&self, values: &Array2<f32>, rows: &[usize]) -> (f64, Array2<f32>) {
        let mut gradient = values.clone();
        let numbers = gradient.as_slice_mut().expect("in rows");
        let share = 1.0 / rows.len() as f32;
        let wanted = rows.iter().map(|&row| self.target.values[row]);
        let mut loss = 0.0;
        match self.target.goal {
            Goal::Binary(_) => {
                for (number, class) in zip(&mut *numbers, wanted) {
                    let (of_row, slope) = binary_cross_entropy(*number, class);
                    loss += f64::from(of_row);
                    *number = share * slope;
                }
            }
            // -log(p) of the row's class; its gradient by the logits is p, less 1 at that class.
            Goal::Multiclass(_) => {
                let classes = values.ncols();
                log_softmax(Isa::detect(), classes, numbers);
                for (numbers, class) in zip(numbers.chunks_mut(classes), wanted) {
                    loss -= f64::from(numbers[class as usize]);
                    for number in &mut *numbers {
                        *number = share * number.exp();
                    }
                    numbers[class as usize] -= share;
                }
            }
            Goal::Regression => {
                for (number, wanted) in zip(&mut *numbers, wanted) {
                    let difference = *number - self.unit.there(wanted);
                    loss += f64::from(difference).powi(2);
                    *number = share * 2.0 * difference;
                }
            }
        }
        (loss / rows.len() as f64, gradient)
    }

    /// The mean loss of some rows, and their accuracy or R²; `None` without rows.
    fn judge(&self, network: &Network, rows: &[usize]) -> Option<(f64, f64)> {
        /// Few enough to need little memory.
        const ROWS: usize = 1024;
        if rows.is_empty() {
            return None;
        }
        let mut loss = 0.0;
        let mut right = 0;
        let mut squares = 0.0;
        for rows in rows.chunks(ROWS) {
            let values = network.forward(self.features.standardised(rows));
            loss += self.loss(&values, rows).0 * rows.len() as f64;
            let values = values.as_slice().expect("in rows").chunks(values.ncols());
            for (values, &row) in zip(values, rows) {
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
        Some((loss / count, score))
    }
}

/// log(1 + e^z) - y z of a logit z and a class y, and its derivative by z: the cross-entropy of their
/// probabilities, without the logarithm of a probability that was rounded to 0.
fn binary_cross_entropy(logit: f32, class: f32) -> (f32, f32) {
    let small = (-logit.abs()).exp();
    let probability = match logit >= 0.0 {
        true => 1.0 / (1.0 + small),
        false => small / (1.0 + small),
    };
    (
        logit.max(0.0) + small.ln_1p() - logit * class,
        probability - class,
    )
}

/// An optimiser at work.
struct Steps {
    optimizer: Optimizer,
    /// Its state from earlier gradients of each layer: their mean or the velocity, and the mean of their
    /// squares.
    first: Vec<Dense>,
    second: Vec<Dense>,
    taken: i32,
}

impl Steps {
    fn new(network: &Network, optimizer: Optimizer) -> Self {
        let zeros = || network.layers.iter().map(Dense::zeros).collect();
        Self {
            optimizer,
            first: zeros(),
            second: match optimizer {
                Optimizer::AdamW { .. } => zeros(),
                Optimizer::Sgd { .. } => Vec::new(),
            },
            taken: 0,
        }
    }

    /// Changes the network's weights by a loss's gradients.
    fn step(&mut self, network: &mut Network, gradients: &[Dense]) {
        self.taken = self.taken.saturating_add(1);
        for (index, (layer, gradient)) in zip(&mut network.layers, gradients).enumerate() {
            let parts = zip(layer.numbers_mut(), gradient.numbers());
            let parts = zip(parts, self.first[index].numbers_mut());
            match self.optimizer {
                Optimizer::AdamW {
                    learning_rate,
                    weight_decay,
                } => {
                    let rates = AdamW::at(self.taken, learning_rate, weight_decay);
                    let parts = zip(parts, self.second[index].numbers_mut());
                    for (((weights, gradient), mean), squares) in parts {
                        rates.step(weights, gradient, mean, squares);
                    }
                }
                Optimizer::Sgd {
                    learning_rate,
                    momentum,
                    weight_decay,
                } => {
                    let rates = [learning_rate, momentum, weight_decay].map(|rate| rate as f32);
                    for ((weights, gradient), velocity) in parts {
                        descend(rates, weights, gradient, velocity);
                    }
                }
            }
        }
    }
}

/// What AdamW multiplies by in a step.
#[derive(Clone, Copy)]
struct AdamW {
    keep: f32,
    rate: f32,
    unbias_mean: f32,
    unbias_squares: f32,
}

impl AdamW {
    const BETA: (f64, f64) = (0.9, 0.999);
    const EPSILON: f32 = 1e-8;

    /// For the step of this number, from 1 on.
    fn at(step: i32, learning_rate: f64, weight_decay: f64) -> Self {
        let unbias = |beta: f64| (1.0 / (1.0 - beta.powi(step))) as f32;
        Self {
            keep: (1.0 - learning_rate * weight_decay) as f32,
            rate: learning_rate as f32,
            unbias_mean: unbias(Self::BETA.0),
            unbias_squares: unbias(Self::BETA.1),
        }
    }

    /// Source: Loshchilov and Hutter 2019, algorithm 2, with a decay that is multiplied by the rate as
    /// PyTorch has it.
    fn step(self, weights: &mut [f32], gradient: &[f32], mean: &mut [f32], squares: &mut [f32]) {
        let toward = |beta: f64, old: f32, new: f32| beta as f32 * old + (1.0 - beta) as f32 * new;
        let numbers = zip(zip(weights, gradient), zip(mean, squares));
        for ((weight, &gradient), (mean, square)) in numbers {
            *mean = toward(Self::BETA.0, *mean, gradient);
            *square = toward(Self::BETA.1, *square, gradient * gradient);
            let deviation = (*square * self.unbias_squares).sqrt();
            let step = *mean * self.unbias_mean / (deviation + Self::EPSILON);
            *weight = *weight * self.keep - self.rate * step;
        }
    }
}

/// Gradient descent with momentum: v = momentum · v + (g + decay · w), w = w - rate · v, as PyTorch defines
/// `SGD`.
fn descend(
    [rate, momentum, decay]: [f32; 3],
    weights: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
) {
    for ((weight, gradient), velocity) in zip(zip(weights, gradient), velocity) {
        *velocity = momentum * *velocity + (gradient + decay * *weight);
        *weight -= rate * *velocity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_cross_entropy_is_that_computed_by_hand_and_finite_far_out() {
        // A logit of 3 to 1: probability 0.75.
        let three = 3f32.ln();
        let (loss, slope) = binary_cross_entropy(three, 1.0);
        assert!((loss + 0.75f32.ln()).abs() < 1e-6 && (slope + 0.25).abs() < 1e-6);
        let (loss, slope) = binary_cross_entropy(-three, 1.0);
        assert!((loss + 0.25f32.ln()).abs() < 1e-6 && (slope + 0.75).abs() < 1e-6);
        assert_eq!(binary_cross_entropy(200.0, 1.0), (0.0, 0.0));
        assert_eq!(binary_cross_entropy(-200.0, 1.0), (200.0, -1.0));
        assert_eq!(binary_cross_entropy(200.0, 0.0), (200.0, 1.0));
    }

    #[test]
    fn momentum_steps_are_those_computed_by_hand() {
        let (mut weight, mut velocity) = ([1.0], [0.0]);
        // The loss 3w has the gradient 3: v = 3 + 0.2 · 1 = 3.2, w = 1 - 0.32 = 0.68;
        // v = 0.5 · 3.2 + 3 + 0.2 · 0.68 = 4.736, w = 0.68 - 0.4736 = 0.2064.
        for expected in [0.68_f32, 0.2064] {
            descend([0.1, 0.5, 0.2], &mut weight, &[3.0], &mut velocity);
            assert!((weight[0] - expected).abs() < 1e-6, "{weight:?} {expected}");
        }
    }

    #[test]
    fn steps_of_adam_are_those_computed_by_hand() {
        let (mut weight, mut mean, mut square) = ([1.0], [0.0], [0.0]);
        // A first step is the rate whatever the gradient, from what the decay leaves: 1 · (1 - 0.1 · 0.2) - 0.1.
        AdamW::at(1, 0.1, 0.2).step(&mut weight, &[3.0], &mut mean, &mut square);
        assert!((weight[0] - 0.88_f32).abs() < 1e-6, "{weight:?}");
        // Then g = -1: mean 0.9 · 0.3 - 0.1 = 0.17, of squares 0.999 · 0.009 + 0.001 = 0.009991; without bias
        // 0.17 / 0.19 = 0.894737 and 0.009991 / 0.001999 = 4.997999; 0.88 · 0.98 - 0.1 · 0.894737 / 2.235621.
        AdamW::at(2, 0.1, 0.2).step(&mut weight, &[-1.0], &mut mean, &mut square);
        assert!((weight[0] - 0.822_378_f32).abs() < 1e-5, "{weight:?}");
    }
}
