//! What is measured: the samples, a large network, and the same layers through `ndarray`.

use std::path::Path;

use half::bf16;
use ndarray::{Array1, Array2, ArrayD, IxDyn};
use safeserve::engine::kernels::Activation;
use safeserve::engine::ops::{Elementwise, Gemm, Softmax};
use safeserve::engine::{Constant, Engine, GraphBuilder};
use safeserve::model::Model;
use safeserve::tensor::{DataType, Shape, TensorSpec};

/// A network: its engine, and the widths of its dense layers for the reference.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) engine: Engine,
    pub(crate) widths: &'static [usize],
    /// The memory of one weight of its layers.
    pub(crate) bytes_a_weight: usize,
}

impl Network {
    /// Floating-point operations of the dense layers for one row.
    pub(crate) fn flops_per_row(&self) -> usize {
        let layers = self.widths.windows(2);
        layers.map(|widths| 2 * widths[0] * widths[1]).sum()
    }
}

pub(crate) fn sample(name: &'static str, version: &str, widths: &'static [usize]) -> Network {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name)
        .join(version);
    let model = Model::load(name, 1, &directory).expect("the samples load");
    let engine = std::sync::Arc::into_inner(model.engine).expect("no one else has the engine");
    Network {
        name,
        engine,
        widths,
        bytes_a_weight: size_of::<f32>(),
    }
}

/// How the weights of a made-up network are stored.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    F32,
    Bf16,
}

/// Dense layers with ReLU between them and a softmax at the end, with made-up weights.
pub(crate) fn dense(name: &'static str, widths: &'static [usize], stored: Stored) -> Network {
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(TensorSpec::new(
        "x",
        DataType::Fp32,
        Shape::rows(vec![widths[0]]),
    ));
    for (index, pair) in widths.windows(2).enumerate() {
        let weight = ArrayD::from_shape_vec(IxDyn(pair), weights(pair)).expect("fits");
        let weight = graph.constant(match stored {
            Stored::F32 => Constant::from(weight),
            Stored::Bf16 => Constant::from_bf16(weight.mapv(bf16::from_f32)),
        });
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
    graph.output("y", x).expect("computed");
    Network {
        name,
        engine: Engine::compile(graph.build()),
        widths,
        bytes_a_weight: match stored {
            Stored::F32 => size_of::<f32>(),
            Stored::Bf16 => size_of::<bf16>(),
        },
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
pub(crate) struct Reference(Vec<(Array2<f32>, Array1<f32>)>);

impl Reference {
    pub(crate) fn new(widths: &[usize]) -> Self {
        let layer = |pair: &[usize]| {
            let weight = Array2::from_shape_vec((pair[0], pair[1]), weights(pair)).expect("fits");
            (weight, Array1::zeros(pair[1]))
        };
        Self(widths.windows(2).map(layer).collect())
    }

    pub(crate) fn run(&self, x: &Array2<f32>) -> Array2<f32> {
        let (first, rest) = self.0.split_first().expect("has layers");
        let mut y = x.dot(&first.0) + &first.1;
        for (weight, bias) in rest {
            y.mapv_inplace(|value| value.max(0.0));
            y = y.dot(weight) + bias;
        }
        y
    }
}
