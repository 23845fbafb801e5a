//! The engine's forward passes beside ndarray's `dot`, one thread.
//!
//! `cargo bench --bench engine` measures every network at 1, 8, 32 and 128 rows and prints, after
//! criterion's own lines, one table: the fastest sample of each as rows/s and GFLOP/s, and how many
//! times faster that is than the same layers through `ndarray`.

// A benchmark prints what it measured.
#![allow(clippy::print_stdout)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use ndarray::{Array1, Array2, ArrayD, IxDyn};
use safeserve::engine::kernels::{Activation, Isa};
use safeserve::engine::ops::{Elementwise, Gemm, Softmax};
use safeserve::engine::{Engine, GraphBuilder, Workspace};
use safeserve::model::Model;
use safeserve::tensor::{DataType, TensorSpec};

/// The batches of the published table.
const ROWS: [usize; 4] = [1, 8, 32, 128];

/// A network: its engine, and the widths of its dense layers for the reference.
struct Network {
    name: &'static str,
    engine: Engine,
    widths: &'static [usize],
}

fn sample(name: &'static str, version: &str, widths: &'static [usize]) -> Network {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name)
        .join(version);
    let model = Model::load(name, 1, &directory).expect("the samples load");
    let engine = std::sync::Arc::into_inner(model.engine).expect("nobody else has the engine");
    Network {
        name,
        engine,
        widths,
    }
}

/// Dense layers with ReLU between them and a softmax at the end, with made-up weights.
fn dense(name: &'static str, widths: &'static [usize]) -> Network {
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(TensorSpec {
        name: "x".into(),
        datatype: DataType::Fp32,
        row_shape: vec![widths[0]],
        description: String::new(),
    });
    for (index, pair) in widths.windows(2).enumerate() {
        let weight =
            graph.constant(ArrayD::from_shape_vec(IxDyn(pair), weights(pair)).expect("fits"));
        let bias = graph.constant(ArrayD::zeros(IxDyn(&pair[1..])));
        let operator = Gemm {
            trans_b: false,
            activation: Activation::Linear,
        };
        x = graph
            .node("dense", operator, &[x, weight, bias])
            .expect("the widths fit");
        if index + 2 < widths.len() {
            x = graph
                .node("relu", Elementwise(Activation::Relu), &[x])
                .expect("takes any shape");
        }
    }
    let x = graph.node("softmax", Softmax, &[x]).expect("has columns");
    graph.output("y", x);
    Network {
        name,
        engine: Engine::compile(graph.build()),
        widths,
    }
}

/// Weights of the size that initialisers give, so that no value grows or dies out.
fn weights(pair: &[usize]) -> Vec<f32> {
    let scale = (6.0 / (pair[0] + pair[1]) as f32).sqrt();
    (0..pair[0] * pair[1])
        .map(|index| scale * (index as f32 * 0.618_034).fract().mul_add(2.0, -1.0))
        .collect()
}

/// The same layers through `ndarray`, as one would write them.
struct Reference(Vec<(Array2<f32>, Array1<f32>)>);

impl Reference {
    fn new(widths: &[usize]) -> Self {
        let layer = |pair: &[usize]| {
            let weight = Array2::from_shape_vec((pair[0], pair[1]), weights(pair)).expect("fits");
            (weight, Array1::zeros(pair[1]))
        };
        Self(widths.windows(2).map(layer).collect())
    }

    fn run(&self, x: &Array2<f32>) -> Array2<f32> {
        let (first, rest) = self.0.split_first().expect("has layers");
        let mut y = x.dot(&first.0) + &first.1;
        for (weight, bias) in rest {
            y.mapv_inplace(|value| value.max(0.0));
            y = y.dot(weight) + bias;
        }
        y
    }
}

/// The fastest time of one run that criterion's samples saw.
fn fastest(run: &mut dyn FnMut(), iterations: u64, best: &RefCell<Duration>) -> Duration {
    let started = Instant::now();
    for _ in 0..iterations {
        run();
    }
    let elapsed = started.elapsed();
    let each = elapsed.div_f64(iterations as f64);
    let mut best = best.borrow_mut();
    *best = each.min(*best);
    elapsed
}

fn main() {
    let networks = [
        sample("hello-keras", "", &[3, 10, 10, 1]),
        sample("iris", "1", &[4, 16, 3]),
        sample("breast-cancer", "1", &[30, 16, 8, 1]),
        sample("diabetes", "1", &[10, 32, 16, 1]),
        sample("digits", "2", &[64, 256, 128, 10]),
        dense("784-2048-2048-1000", &[784, 2048, 2048, 1000]),
    ];
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let mut lines = BTreeMap::new();
    for (position, network) in networks.iter().enumerate() {
        let reference = Reference::new(network.widths);
        let mut group = criterion.benchmark_group(network.name);
        for rows in ROWS {
            let columns = network.widths[0];
            let x = Array2::from_shape_fn((rows, columns), |(i, j)| {
                ((i * 31 + j) % 17) as f32 / 8.5 - 1.0
            });
            let input = [x.as_slice().expect("row-major")];
            let mut workspace = Workspace::new();
            group.throughput(Throughput::Elements(rows as u64));
            let [ours, theirs] = [(); 2].map(|()| RefCell::new(Duration::MAX));
            group.bench_function(BenchmarkId::new("safeserve", rows), |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut run = || {
                        black_box(network.engine.run(rows, &input, &mut workspace).get(0));
                    };
                    fastest(&mut run, iterations, &ours)
                });
            });
            group.bench_function(BenchmarkId::new("ndarray", rows), |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut run = || {
                        black_box(reference.run(black_box(&x)));
                    };
                    fastest(&mut run, iterations, &theirs)
                });
            });
            let (ours, theirs) = (ours.into_inner(), theirs.into_inner());
            if ours != Duration::MAX && theirs != Duration::MAX {
                lines.insert((position, rows), line(network, rows, ours, theirs));
            }
        }
        group.finish();
    }
    criterion.final_summary();
    println!("\nkernels: {}", Isa::detect().name());
    println!("| network | rows | µs | rows/s | GFLOP/s | ndarray µs | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for line in lines.values() {
        println!("{line}");
    }
}

fn line(network: &Network, rows: usize, ours: Duration, theirs: Duration) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let flops = network.engine.flops_per_row() as f64 * rows as f64;
    format!(
        "| {} | {rows} | {:.2} | {:.0} | {:.1} | {:.2} | {:.1} |",
        network.name,
        micros(ours),
        rows as f64 / ours.as_secs_f64(),
        flops / ours.as_secs_f64() / 1e9,
        micros(theirs),
        theirs.as_secs_f64() / ours.as_secs_f64(),
    )
}
