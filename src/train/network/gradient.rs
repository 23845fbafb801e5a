//! Back-propagation: what a loss changes by with each weight.

use ndarray::{Array2, Axis, Zip};

use super::product::product;
use super::{Dense, Network, Pass};

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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn gradients_of_all_weights_are_quotients_of_differences() {
        let layers = "5:tanh,4:gelu".parse().unwrap();
        let mut generator = StdRng::seed_from_u64(3);
        let mut network = Network::random(&[true; 3], &layers, 2, &mut generator);
        let rows = Array2::from_shape_fn((7, 3), |(row, column)| {
            ((row * 3 + column * 5) % 11) as f32 / 5.0 - 1.0
        });
        // Half the sum of squares, whose gradient by a number is the number.
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
