//! Back-propagation: what a loss changes by with each weight.

use ndarray::{Array2, Axis, Zip};

use super::product::product;
use super::{Dense, Network, Pass};
use crate::train::layers::Activation;

/// The constants of `selu`, as the engine has them. Source: Klambauer et al. 2017.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_SCALE: f32 = 1.050_701;

impl Network {
    /// A loss's gradient by each weight and bias, from its gradient by the last layer's numbers, `[rows, out]`.
    ///
    /// Source: Rumelhart, Hinton and Williams 1986, in matrices.
    pub(in crate::train) fn gradients(&self, pass: &Pass, by_values: Array2<f32>) -> Vec<Dense> {
        let mut by_sums = by_values;
        let mut gradients = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let input = &pass.inputs[index];
            gradients.push(Dense {
                weight: product(by_sums.t(), input.view()),
                bias: by_sums.sum_axis(Axis(0)),
            });
            if let Some(before) = index.checked_sub(1) {
                let mut by_inputs = product(by_sums.view(), layer.weight.view());
                let activation = self.activations[before];
                Zip::from(&mut by_inputs)
                    .and(&pass.sums[before])
                    .and(input)
                    .for_each(|gradient, &x, &y| *gradient *= activation.slope(x, y));
                by_sums = by_inputs;
            }
        }
        gradients.reverse();
        gradients
    }
}

impl Activation {
    /// The derivative at `x`, of which `y` is the value. At a corner it is that of the left side.
    fn slope(self, x: f32, y: f32) -> f32 {
        let step = |is_on: bool| f32::from(u8::from(is_on));
        match self {
            Self::Linear => 1.0,
            Self::Relu => step(x > 0.0),
            Self::Relu6 => step(x > 0.0 && x <= 6.0),
            Self::LeakyRelu if x > 0.0 => 1.0,
            Self::LeakyRelu => 0.01,
            Self::Elu if x > 0.0 => 1.0,
            Self::Elu => y + 1.0,
            Self::Selu if x > 0.0 => SELU_SCALE,
            Self::Selu => y + SELU_SCALE * SELU_ALPHA,
            Self::Sigmoid => y * (1.0 - y),
            Self::HardSigmoid => step(x > -3.0 && x <= 3.0) / 6.0,
            Self::Tanh => 1.0 - y * y,
            Self::Softplus => sigmoid(x),
            Self::Softsign => (1.0 + x.abs()).powi(-2),
            // The distribution function is y / x, its density that of the normal distribution.
            Self::Gelu => {
                const DENSITY_AT_0: f32 = 0.398_942_3;
                let below = if x == 0.0 { 0.5 } else { y / x };
                below + x * DENSITY_AT_0 * (-0.5 * x * x).exp()
            }
            Self::Silu => {
                let sigmoid = sigmoid(x);
                sigmoid + y * (1.0 - sigmoid)
            }
            // y = x tanh(softplus(x))
            Self::Mish => {
                let tanh = if x == 0.0 { 0.6 } else { y / x };
                tanh + x * sigmoid(x) * (1.0 - tanh * tanh)
            }
            Self::HardSwish if x > 3.0 => 1.0,
            Self::HardSwish => step(x > -3.0) * (x / 3.0 + 0.5),
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn slopes_are_those_of_their_functions() {
        // Away from the corners, in both tails, where e^x overflows, and where y / x is none.
        let places = [
            -95.0, -7.0, -3.3, -1.7, -0.4, 0.0, 0.3, 1.2, 2.9, 5.5, 7.0, 95.0_f32,
        ];
        let bends_at_0 = |activation| {
            use Activation::{Elu, LeakyRelu, Relu, Relu6, Selu, Softsign};
            matches!(activation, Relu | Relu6 | LeakyRelu | Elu | Selu | Softsign)
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

    #[test]
    fn gradients_of_all_weights_are_quotients_of_differences() {
        let layers = "5:tanh,4:gelu".parse().unwrap();
        let mut generator = StdRng::seed_from_u64(3);
        let mut network = Network::random(&[true; 3], &layers, 2, &mut generator);
        let rows = Array2::from_shape_fn((7, 3), |(row, column)| {
            ((row * 3 + column * 5) % 11) as f32 / 5.0 - 1.0
        });
        // Half the sum of squares, of which the gradient by a number is the number.
        let loss = |network: &Network| {
            let values = network.forward(rows.clone());
            values
                .iter()
                .map(|value| f64::from(*value).powi(2) / 2.0)
                .sum::<f64>()
        };
        let pass = network.pass(rows.clone());
        let gradients = network.gradients(&pass, pass.values.clone());
        const STEP: f32 = 1e-2;
        for (layer, gradient) in gradients.iter().enumerate() {
            for (part, gradient) in gradient.numbers().into_iter().enumerate() {
                for (index, gradient) in gradient.iter().enumerate() {
                    let mut loss_with = |shift: f32| {
                        network.layers[layer].numbers_mut()[part][index] += shift;
                        let loss = loss(&network);
                        network.layers[layer].numbers_mut()[part][index] -= shift;
                        loss
                    };
                    let quotient = (loss_with(STEP) - loss_with(-STEP)) / (2.0 * f64::from(STEP));
                    // The curvature within a step, and the rounding of the two losses.
                    assert!(
                        (f64::from(*gradient) - quotient).abs() < 2e-3,
                        "layer {layer}, part {part}, {index}: {gradient}, expected {quotient}"
                    );
                }
            }
        }
    }
}
