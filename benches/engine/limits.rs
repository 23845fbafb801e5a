//! The machine's limits, measured in the same run as the figures that are compared with them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use safeserve::engine::kernels::{Isa, machine_peak};

use crate::network::Network;

/// How often a loop is repeated; the fastest counts, as for the networks.
const REPEATS: usize = 20;

/// One thread's limits, the best that any measurement of the run has seen.
pub(crate) struct Limits {
    isa: Isa,
    /// Floating-point operations a second, of multiply-adds that do not wait for each other.
    pub(crate) flops_a_second: f64,
    /// Seconds of a multiply-add that waits for the one before.
    pub(crate) latency: f64,
    /// Values that take the memory of a network's weights, and how fast they are read.
    weights: Vec<Weights>,
}

struct Weights {
    values: Vec<f32>,
    bytes_a_second: f64,
}

impl Limits {
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            isa,
            flops_a_second: 0.0,
            latency: f64::INFINITY,
            weights: Vec::new(),
        }
    }

    /// Measures again, with as much memory as a network's weights.
    pub(crate) fn measure(&mut self, network: &Network) {
        let fastest = |run: &mut dyn FnMut()| {
            let times = (0..REPEATS).map(|_| {
                let started = Instant::now();
                run();
                started.elapsed()
            });
            times.min().unwrap_or_default().as_secs_f64()
        };
        const COUNT: usize = 200_000;
        let mut flops = 0;
        let time = fastest(&mut || {
            let (sum, done) = machine_peak::multiply_adds(self.isa, COUNT);
            black_box(sum);
            flops = done;
        });
        self.flops_a_second = self.flops_a_second.max(flops as f64 / time);
        let time = fastest(&mut || {
            black_box(machine_peak::dependent_multiply_adds(self.isa, COUNT));
        });
        self.latency = self.latency.min(time / COUNT as f64);

        let values = values(network);
        // Read often enough that the clock's own time does not show.
        let reads = (1 << 22) / values + 1;
        let known = self.weights.iter().position(|w| w.values.len() == values);
        let known = known.unwrap_or_else(|| {
            self.weights.push(Weights {
                values: vec![0.5; values],
                bytes_a_second: 0.0,
            });
            self.weights.len() - 1
        });
        let weights = &mut self.weights[known];
        // Which way is faster depends on how far away the values are.
        for read in [machine_peak::read, machine_peak::read_in_streams] {
            let time = fastest(&mut || {
                for _ in 0..reads {
                    black_box(read(self.isa, black_box(&weights.values)));
                }
            });
            let rate = (4 * values * reads) as f64 / time;
            weights.bytes_a_second = weights.bytes_a_second.max(rate);
        }
    }

    /// How fast a network's weights are read, in bytes a second.
    pub(crate) fn bytes_a_second(&self, network: &Network) -> f64 {
        let mut known = self.weights.iter();
        known
            .find(|weights| weights.values.len() == values(network))
            .map_or(f64::INFINITY, |weights| weights.bytes_a_second)
    }

    /// The least time of a pass. For each layer, the longest of its operations, reading its weights, and
    /// the chain of multiply-adds of one sum. What is not a product
    /// (activations, normalisation, softmax) is assumed to cost nothing.
    pub(crate) fn of(&self, network: &Network, rows: usize) -> Duration {
        let bytes_a_second = self.bytes_a_second(network);
        let seconds = network.widths.windows(2).map(|pair| {
            let (k, n) = (pair[0] as f64, pair[1] as f64);
            let operations = 2.0 * k * n * rows as f64 / self.flops_a_second;
            let reading = network.bytes_a_weight as f64 * k * n / bytes_a_second;
            operations.max(reading).max(k * self.latency)
        });
        Duration::from_secs_f64(seconds.sum())
    }
}

/// How many values take the memory of a network's weights.
fn values(network: &Network) -> usize {
    let layers = network.widths.windows(2);
    let weights: usize = layers.map(|pair| pair[0] * pair[1]).sum();
    weights * network.bytes_a_weight / size_of::<f32>()
}
