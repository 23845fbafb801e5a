//! Tests of graphs, rewrites and plans together: whole networks against a plain evaluation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array1, Array2, ArrayD, concatenate};
use proptest::prelude::*;

use super::kernels::{Activation, Isa};
use super::ops::{
    BatchNormalization, Concat, Elementwise, Gather, Gemm, Identity, LayerNormalization, Max, Mean,
    MeanPooling, Mul, Reshape, Scaler, Softmax, Sum,
};
use super::*;
use crate::tensor::{Axis, DataType, Shape, View};

fn spec(name: &str, row_shape: &[usize]) -> TensorSpec {
    TensorSpec::new(name, DataType::Fp32, Shape::rows(row_shape))
}

const LINEAR: Gemm = Gemm {
    trans_b: false,
    activation: Activation::Linear,
};

/// Numbers in -1..1 that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        // Knuth's MMIX generator; the high bits are good enough for test data.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next();
        (self.0 >> 33) as usize % bound
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, columns), |_| self.next())
    }

    fn vector(&mut self, len: usize) -> Array1<f32> {
        Array1::from_shape_fn(len, |_| self.next())
    }
}

fn run(engine: &Engine, rows: usize, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut workspace = Workspace::new();
    let inputs: Vec<View<'_>> = inputs.iter().map(|values| View::F32(values)).collect();
    let outputs = engine.run(Batch::of_rows(rows, &inputs), &mut workspace, None);
    (0..engine.outputs().len())
        .map(|index| outputs.get(index).to_vec())
        .collect()
}

#[test]
fn a_dense_layer_computes_what_was_computed_by_hand() {
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[2]));
    let weight = graph.weight(ndarray::arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn());
    let bias = graph.weight(ndarray::arr1(&[0.5, -100.0, 0.0]).into_dyn());
    let y = graph.node("dense", LINEAR, &[x, weight, bias]).unwrap();
    let y = graph
        .node("relu", Elementwise(Activation::Relu), &[y])
        .unwrap();
    graph.output("y", y).unwrap();
    let engine = Engine::compile(graph.build());
    assert_eq!(engine.parameters(), 9);
    let outputs = run(&engine, 2, &[&[1.0, 1.0, -1.0, 2.0]]);
    // [1, 1] · W = [5, 7, 9]; [-1, 2] · W = [7, 8, 9]
    assert_eq!(outputs, [[5.5, 0.0, 9.0, 7.5, 0.0, 9.0]]);
}

#[test]
fn constants_are_given_away_once_by_the_last_who_had_them_in_the_order_of_use() {
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(spec("x", &[2]));
    let shared = graph.weight(ndarray::arr2(&[[1.0, 2.0], [4.0, 5.0]]).into_dyn());
    let bias = graph.weight(ndarray::arr1(&[0.5, -100.0]).into_dyn());
    let wide = graph.weight(ndarray::arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn());
    for operands in [vec![shared], vec![shared, bias], vec![wide]] {
        let operands = [vec![x], operands].concat();
        x = graph.node("dense", LINEAR, &operands).unwrap();
        x = graph.node("softmax", Softmax, &[x]).unwrap();
    }
    graph.output("y", x).unwrap();
    let mut shapes = Vec::new();
    let engine = Engine::compile_releasing(graph.build(), Isa::detect(), &mut |constant| {
        assert_eq!(constant.owners(), 1);
        shapes.push(constant.shape().to_vec());
    });
    assert_eq!(shapes, [vec![2, 2], vec![2], vec![2, 3]]);
    assert_eq!(engine.parameters(), 12);
}

#[test]
fn a_weight_of_another_shape_is_refused_by_name() {
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[3]));
    let weight = graph.constant(ArrayD::zeros(vec![2, 4]));
    let error = graph.node("hidden", LINEAR, &[x, weight]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer \"hidden\" (Gemm): x: expected 2 features in the last axis, as the weight has, got \
         shape [3]"
    );
}

/// A network in which everything can be rewritten: dropout, normalisations on both sides of a
/// product, a separate bias, an activation.
fn rewritable(noise: &mut Noise) -> (Graph, impl Fn(&Array2<f64>) -> Array2<f64> + use<>) {
    let (w1, w2) = (noise.matrix(5, 7), noise.matrix(7, 3));
    let bias = noise.vector(7);
    let statistics: Vec<Array1<f32>> = (0..4).map(|_| noise.vector(7).mapv(f32::abs)).collect();
    let rescale = 0.125_f32;

    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[5]));
    let c = graph.constant(ndarray::arr1(&[rescale]).into_dyn());
    let x = graph.node("rescale", Mul, &[x, c]).unwrap();
    let w = graph.constant(w1.clone().into_dyn());
    let x = graph.node("product", LINEAR, &[x, w]).unwrap();
    let b = graph.constant(bias.clone().into_dyn());
    let x = graph.node("bias", Sum, &[x, b]).unwrap();
    let x = graph.node("dropout", Identity, &[x]).unwrap();
    let normalize = |graph: &mut GraphBuilder, name, x| {
        let mut operands = vec![x];
        for values in &statistics {
            operands.push(graph.constant(values.clone().into_dyn()));
        }
        let operator = BatchNormalization { epsilon: 1e-3 };
        graph.node(name, operator, &operands).unwrap()
    };
    let x = normalize(&mut graph, "after", x);
    let x = graph
        .node("relu", Elementwise(Activation::Relu), &[x])
        .unwrap();
    let x = normalize(&mut graph, "before", x);
    let w = graph.constant(w2.clone().into_dyn());
    let x = graph.node("head", LINEAR, &[x, w]).unwrap();
    graph.output("y", x).unwrap();

    let wide = |array: &Array2<f32>| array.mapv(f64::from);
    let (w1, w2, bias) = (wide(&w1), wide(&w2), bias.mapv(f64::from));
    let statistics: Vec<Array1<f64>> = statistics.iter().map(|s| s.mapv(f64::from)).collect();
    let reference = move |x: &Array2<f64>| {
        let batch_norm = |x: Array2<f64>| {
            (x - &statistics[2]) / (&statistics[3] + 1e-3).sqrt() * &statistics[0] + &statistics[1]
        };
        let x = (x * f64::from(rescale)).dot(&w1) + &bias;
        let x = batch_norm(x).mapv(|v| v.max(0.0));
        batch_norm(x).dot(&w2)
    };
    (graph.build(), reference)
}

#[test]
fn rewrites_leave_two_products_and_the_same_function() {
    let mut noise = Noise(1);
    let (graph, reference) = rewritable(&mut noise);
    let mut optimized = graph.clone();
    optimize::optimize(&mut optimized, Isa::detect());
    let names: Vec<&str> = optimized
        .nodes()
        .iter()
        .map(|node| node.operator.name())
        .collect();
    assert_eq!(names, ["Gemm", "Gemm"]);

    let engine = Engine::compile(graph);
    let x = noise.matrix(9, 5);
    let expected = reference(&x.mapv(f64::from));
    let actual = run(&engine, 9, &[x.as_slice().unwrap()]).remove(0);
    for (actual, expected) in actual.iter().zip(&expected) {
        let error = (f64::from(*actual) - expected).abs();
        assert!(
            error <= 1e-5 * expected.abs().max(1.0),
            "{actual} but {expected}"
        );
    }
}

#[test]
fn a_value_that_others_need_keeps_its_own_node() {
    // The product is an output and feeds an activation: nothing may be fused into it.
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[1]));
    let w = graph.constant(ndarray::arr2(&[[-2.0]]).into_dyn());
    let product = graph.node("product", LINEAR, &[x, w]).unwrap();
    let relu = graph
        .node("relu", Elementwise(Activation::Relu), &[product])
        .unwrap();
    let shift = graph.constant(ndarray::arr1(&[10.0]).into_dyn());
    let shifted = graph.node("shift", Sum, &[product, shift]).unwrap();
    graph.output("product", product).unwrap();
    graph.output("relu", relu).unwrap();
    graph.output("shifted", shifted).unwrap();
    let engine = Engine::compile(graph.build());
    assert_eq!(
        run(&engine, 2, &[&[1.0, -1.0]]),
        [[-2.0, 2.0], [0.0, 2.0], [8.0, 12.0]]
    );
}

#[test]
fn nodes_of_constants_are_computed_at_load() {
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[2]));
    let one = graph.constant(ndarray::arr1(&[1.0]).into_dyn());
    let b = graph.constant(ndarray::arr1(&[10.0, 21.0]).into_dyn());
    let sum = graph.node("sum", Sum, &[one, b]).unwrap();
    let same = graph
        .node("reshape", Reshape { shape: vec![2] }, &[sum])
        .unwrap();
    let y = graph.node("scale", Mul, &[x, same]).unwrap();
    graph.output("y", y).unwrap();
    let mut graph = graph.build();
    optimize::optimize(&mut graph, Isa::detect());
    assert_eq!(graph.nodes().len(), 1);
    let engine = Engine::compile(graph);
    assert_eq!(run(&engine, 1, &[&[1.0, 3.0]]), [[11.0, 66.0]]);
}

#[test]
fn nodes_that_apply_the_same_weights_share_them() {
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(spec("x", &[2]));
    let w = graph.weight(ndarray::arr2(&[[0.0, 1.0], [1.0, 0.0]]).into_dyn());
    for _ in 0..3 {
        x = graph.node("swap", LINEAR, &[x, w]).unwrap();
    }
    graph.output("y", x).unwrap();
    let thrice = Engine::compile(graph.build());
    assert_eq!(run(&thrice, 1, &[&[1.0, 2.0]]), [[2.0, 1.0]]);

    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[2]));
    let w = graph.weight(ndarray::arr2(&[[0.0, 1.0], [1.0, 0.0]]).into_dyn());
    let x = graph.node("swap", LINEAR, &[x, w]).unwrap();
    graph.output("y", x).unwrap();
    let once = Engine::compile(graph.build());
    assert_eq!(thrice.weight_bytes(), once.weight_bytes());
}

#[test]
fn a_large_shift_is_not_folded_into_the_product_after_it() {
    let build = |mean: f32| {
        let mut graph = GraphBuilder::new();
        let x = graph.input(spec("x", &[1]));
        let mut operands = vec![x];
        for value in [1.0, 0.0, mean, 1.0] {
            operands.push(graph.constant(ndarray::arr1(&[value]).into_dyn()));
        }
        let operator = BatchNormalization { epsilon: 0.0 };
        let x = graph.node("norm", operator, &operands).unwrap();
        let w = graph.weight(ndarray::arr2(&[[3.0]]).into_dyn());
        let x = graph.node("product", LINEAR, &[x, w]).unwrap();
        graph.output("y", x).unwrap();
        let mut graph = graph.build();
        optimize::optimize(&mut graph, Isa::detect());
        graph.nodes().len()
    };
    assert_eq!((build(2.0), build(2000.0)), (1, 2));
}

/// A scale by 2 that counts how often it is asked what it is, and an operator that absorbs
/// everything and counts how often.
#[derive(Debug)]
enum Counting {
    Double(Arc<AtomicUsize>),
    Absorb(Arc<AtomicUsize>),
}

impl PartialEq for Counting {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Operator for Counting {
    fn name(&self) -> &'static str {
        "Counting"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        unreachable!("only rewritten")
    }

    fn as_scale_shift(&self, _inputs: &[Operand]) -> Option<ScaleShift> {
        let Self::Double(asked) = self else {
            return None;
        };
        asked.fetch_add(1, Ordering::Relaxed);
        Some(ScaleShift {
            scale: vec![2.0],
            shift: vec![1.0],
        })
    }

    fn absorb(
        &self,
        _inputs: &[Operand],
        _side: Side,
        affine: &ScaleShift,
    ) -> Option<Vec<Option<ArrayD<f32>>>> {
        let Self::Absorb(absorbed) = self else {
            return None;
        };
        absorbed.fetch_add(1, Ordering::Relaxed);
        let scale = affine.scale.iter().map(|scale| *scale as f32).collect();
        Some(vec![None, Some(Array1::from_vec(scale).into_dyn())])
    }
}

/// Load time depends on it: a chain of 10,000 would take minutes if each of its nodes were visited
/// again whenever another was folded.
#[test]
fn a_chain_of_scales_is_folded_at_once_and_each_is_looked_at_a_few_times() {
    const LENGTH: usize = 20;
    let count = || Arc::new(AtomicUsize::new(0));
    for before in [true, false] {
        let (asked, absorbed) = (count(), count());
        let mut graph = GraphBuilder::new();
        let mut x = graph.input(spec("x", &[1]));
        let absorb = |graph: &mut GraphBuilder, x| {
            let operator = Counting::Absorb(Arc::clone(&absorbed));
            graph.node("absorb", operator, &[x]).unwrap()
        };
        if before {
            x = absorb(&mut graph, x);
        }
        for _ in 0..LENGTH {
            let operator = Counting::Double(Arc::clone(&asked));
            x = graph.node("double", operator, &[x]).unwrap();
        }
        if !before {
            x = absorb(&mut graph, x);
        }
        graph.output("y", x).unwrap();
        let mut graph = graph.build();
        optimize::optimize(&mut graph, Isa::detect());
        let [node] = graph.nodes() else {
            panic!("one node is left: {:?}", graph.nodes());
        };
        let scale = graph.operands(node)[1].weights();
        assert_eq!(scale, [2.0_f32.powi(LENGTH as i32)]);
        assert_eq!(absorbed.load(Ordering::Relaxed), 1);
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked <= 3 * LENGTH, "{asked} times");
    }
}

#[test]
fn scales_and_shifts_compose_in_their_order() {
    let first = ScaleShift {
        scale: vec![2.0, 3.0],
        shift: vec![1.0, -1.0],
    };
    let second = ScaleShift {
        scale: vec![10.0, 0.5],
        shift: vec![7.0, 0.25],
    };
    // (2 x + 1) · 10 + 7 and (3 x - 1) / 2 + 1/4
    let both = ScaleShift {
        scale: vec![20.0, 1.5],
        shift: vec![17.0, -0.25],
    };
    assert_eq!(first.then(&second), both);
}

#[test]
fn a_large_shift_in_a_chain_keeps_itself_and_what_is_before_it() {
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(spec("x", &[1]));
    for shift in [1.0, 2000.0, 0.5, 0.25] {
        let shift = graph.constant(ndarray::arr1(&[shift]).into_dyn());
        x = graph.node("shift", Sum, &[x, shift]).unwrap();
    }
    let w = graph.weight(ndarray::arr2(&[[3.0]]).into_dyn());
    x = graph.node("product", LINEAR, &[x, w]).unwrap();
    graph.output("y", x).unwrap();
    let graph = graph.build();
    let mut optimized = graph.clone();
    optimize::optimize(&mut optimized, Isa::detect());
    let names: Vec<&str> = optimized
        .nodes()
        .iter()
        .map(|n| n.operator.name())
        .collect();
    assert_eq!(names, ["Sum", "Sum", "Gemm"]);
    let [_, weight, bias] = &optimized.operands(&optimized.nodes()[2])[..] else {
        panic!("a bias was added");
    };
    assert_eq!((weight.weights(), bias.weights()), (vec![3.0], vec![2.25]));
    // (4 + 1 + 2000 + 0.5 + 0.25) · 3
    assert_eq!(run(&Engine::compile(graph), 1, &[&[4.0]]), [[6017.25]]);
}

#[test]
fn an_output_that_depends_on_no_input_is_refused() {
    let mut graph = GraphBuilder::new();
    let a = graph.constant(ndarray::arr1(&[1.0, 2.0]).into_dyn());
    let b = graph.constant(ndarray::arr1(&[3.0]).into_dyn());
    let sum = graph.node("sum", Sum, &[a, b]).unwrap();
    let error = graph.output("y", sum).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is a weight: the same for every row; expected what a node computes"
    );
}

#[test]
fn an_output_may_be_an_input_or_be_named_twice() {
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[2]));
    let flat = graph
        .node("flat", Reshape { shape: vec![1, 2] }, &[x])
        .unwrap();
    let double = graph.node("double", Sum, &[x, x]).unwrap();
    graph.output("same", flat).unwrap();
    graph.output("double", double).unwrap();
    graph.output("again", double).unwrap();
    let engine = Engine::compile(graph.build());
    assert_eq!(engine.outputs()[0].shape.extents, [1, 2]);
    assert_eq!(
        run(&engine, 1, &[&[1.0, -3.0]]),
        [[1.0, -3.0], [2.0, -6.0], [2.0, -6.0]]
    );
}

#[test]
#[should_panic(expected = "input x")]
fn an_input_of_another_length_is_a_bug_of_the_caller() {
    let mut graph = GraphBuilder::new();
    let x = graph.input(spec("x", &[2]));
    graph.output("y", x).unwrap();
    run(&Engine::compile(graph.build()), 2, &[&[1.0, 2.0, 3.0]]);
}

/// One random node and its plain evaluation in double precision.
struct Random {
    graph: GraphBuilder,
    values: Vec<(ValueId, Array2<f64>)>,
    noise: Noise,
}

impl Random {
    fn pick(&mut self) -> (ValueId, Array2<f64>) {
        let index = self.noise.below(self.values.len());
        self.values[index].clone()
    }

    /// A value of the same width as `like`, possibly itself.
    fn partner(&mut self, like: usize) -> (ValueId, Array2<f64>) {
        let fitting: Vec<usize> = (0..self.values.len())
            .filter(|index| self.values[*index].1.ncols() == like)
            .collect();
        let index = fitting[self.noise.below(fitting.len())];
        self.values[index].clone()
    }

    fn grow(&mut self, step: usize) {
        let name = step.to_string();
        let (x, value) = self.pick();
        let columns = value.ncols();
        let (id, result) = match self.noise.below(13) {
            9 => {
                let len = if self.noise.below(2) == 0 { 1 } else { columns };
                let shift = self.noise.vector(len);
                let c = self.graph.constant(shift.clone().into_dyn());
                let result = value + shift.mapv(f64::from);
                (self.graph.node(&name, Sum, &[x, c]), result)
            }
            10 => {
                let len = if self.noise.below(2) == 0 { 1 } else { columns };
                let scale = self.noise.vector(len);
                let c = self.graph.constant(scale.clone().into_dyn());
                let result = value * scale.mapv(f64::from);
                (self.graph.node(&name, Mul, &[x, c]), result)
            }
            11 => {
                let statistics: Vec<Array1<f32>> = (0..4)
                    .map(|_| self.noise.vector(columns).mapv(|v| 1.5 + v))
                    .collect();
                let mut operands = vec![x];
                for values in &statistics {
                    operands.push(self.graph.constant(values.clone().into_dyn()));
                }
                let [scale, bias, mean, variance] =
                    [0, 1, 2, 3].map(|index| statistics[index].mapv(f64::from));
                let operator = BatchNormalization { epsilon: 0.01 };
                (
                    self.graph.node(&name, operator, &operands),
                    (value - mean) / (variance + 0.01).sqrt() * scale + bias,
                )
            }
            12 => {
                // There and back again: two nodes without a step.
                let shape = vec![1, -1];
                let folded = self.graph.node(&name, Reshape { shape }, &[x]).unwrap();
                let flat = self.graph.node(&name, Reshape::flatten(), &[folded]);
                (flat, value)
            }
            0 => {
                let n = 1 + self.noise.below(9);
                let weight = self.noise.matrix(n, columns);
                let bias = self.noise.vector(n);
                let w = self.graph.constant(weight.clone().into_dyn());
                let b = self.graph.constant(bias.clone().into_dyn());
                let operator = Gemm {
                    trans_b: true,
                    activation: Activation::Linear,
                };
                let weight = weight.mapv(f64::from);
                (
                    self.graph.node(&name, operator, &[x, w, b]),
                    value.dot(&weight.t()) + bias.mapv(f64::from),
                )
            }
            1 => (
                self.graph.node(&name, Elementwise(Activation::Tanh), &[x]),
                value.mapv(f64::tanh),
            ),
            2 => (
                self.graph.node(&name, Elementwise(Activation::Relu), &[x]),
                value.mapv(|v| v.max(0.0)),
            ),
            3 => {
                let (y, other) = self.partner(columns);
                (self.graph.node(&name, Mean, &[x, y]), (value + other) / 2.0)
            }
            4 => {
                let (y, other) = self.partner(columns);
                let mut largest = value;
                largest.zip_mut_with(&other, |a, b| *a = a.max(*b));
                (self.graph.node(&name, Max, &[x, y]), largest)
            }
            5 => {
                let (y, other) = self.pick();
                let joined = concatenate(ndarray::Axis(1), &[value.view(), other.view()]).unwrap();
                (self.graph.node(&name, Concat { axis: -1 }, &[x, y]), joined)
            }
            6 => {
                let offset = self.noise.vector(columns);
                let divisor = self.noise.vector(columns).mapv(|v| 1.5 + v);
                let o = self.graph.constant(offset.clone().into_dyn());
                let d = self.graph.constant(divisor.clone().into_dyn());
                (
                    self.graph.node(&name, Scaler, &[x, o, d]),
                    (value - offset.mapv(f64::from)) / divisor.mapv(f64::from),
                )
            }
            7 => {
                let mut result = value;
                for mut row in result.rows_mut() {
                    let max = row.fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                    row.mapv_inplace(|v| (v - max).exp());
                    let sum = row.sum();
                    row.mapv_inplace(|v| v / sum);
                }
                (self.graph.node(&name, Softmax, &[x]), result)
            }
            _ => {
                let (scale, bias) = (self.noise.vector(columns), self.noise.vector(columns));
                let s = self.graph.constant(scale.clone().into_dyn());
                let b = self.graph.constant(bias.clone().into_dyn());
                let mut result = value;
                for mut row in result.rows_mut() {
                    let mean = row.mean().unwrap();
                    let variance = row.mapv(|v| (v - mean).powi(2)).mean().unwrap();
                    row.mapv_inplace(|v| (v - mean) / (variance + 0.1).sqrt());
                }
                (
                    self.graph
                        .node(&name, LayerNormalization { epsilon: 0.1 }, &[x, s, b]),
                    result * scale.mapv(f64::from) + bias.mapv(f64::from),
                )
            }
        };
        self.values.push((id.unwrap(), result));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random graphs in which values live long and short: slots that are reused too early, or
    /// computed in place over a value still needed, give another answer.
    #[test]
    fn any_graph_computes_what_its_operators_say(seed in any::<u64>(), rows in 1_usize..20) {
        let mut noise = Noise(seed);
        let mut graph = GraphBuilder::new();
        let mut values = Vec::new();
        let mut inputs = Vec::new();
        for name in ["a", "b"] {
            let columns = 1 + noise.below(8);
            let x = noise.matrix(rows, columns);
            values.push((graph.input(spec(name, &[columns])), x.mapv(f64::from)));
            inputs.push(x);
        }
        let mut random = Random { graph, values, noise };
        for step in 0..12 {
            random.grow(step);
        }
        let mut expected = Vec::new();
        for index in [7, 11, 13] {
            let (value, result) = random.values[index].clone();
            random.graph.output(&index.to_string(), value).unwrap();
            expected.push(result);
        }
        let graph = random.graph.build();
        let inputs: Vec<&[f32]> = inputs.iter().map(|x| x.as_slice().unwrap()).collect();
        for isa in Isa::available() {
            let engine = Engine::compile_for(graph.clone(), isa);
            for (actual, expected) in run(&engine, rows, &inputs).iter().zip(&expected) {
                for (actual, expected) in actual.iter().zip(expected) {
                    let error = (f64::from(*actual) - expected).abs();
                    prop_assert!(
                        error <= 2e-4 * expected.abs().max(1.0),
                        "{}: {actual} but {expected}", isa.name()
                    );
                }
            }
        }
    }
}

/// The promise of the product: a row's bits do not depend on how many rows it is computed with,
/// nor on its position among them.
#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    const ROWS: usize = 130;
    let mut noise = Noise(7);
    let widths = [21, 67, 33, 10];
    let mut graph = GraphBuilder::new();
    let mut x = graph.input(spec("x", &[widths[0]]));
    for (layer, pair) in widths.windows(2).enumerate() {
        let weight = graph.constant(noise.matrix(pair[0], pair[1]).into_dyn());
        let bias = graph.constant(noise.vector(pair[1]).into_dyn());
        x = graph
            .node(&format!("dense{layer}"), LINEAR, &[x, weight, bias])
            .unwrap();
        let function = [Activation::Gelu, Activation::Tanh, Activation::Sigmoid][layer];
        x = graph.node("function", Elementwise(function), &[x]).unwrap();
    }
    let (scale, bias) = (noise.vector(10), noise.vector(10));
    let scale = graph.constant(scale.into_dyn());
    let bias = graph.constant(bias.into_dyn());
    let operator = LayerNormalization { epsilon: 1e-5 };
    x = graph.node("norm", operator, &[x, scale, bias]).unwrap();
    x = graph.node("softmax", Softmax, &[x]).unwrap();
    graph.output("y", x).unwrap();
    let graph = graph.build();

    let inputs = noise.matrix(ROWS, widths[0]).into_raw_vec_and_offset().0;
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for isa in Isa::available() {
        let engine = Engine::compile_for(graph.clone(), isa);
        let mut workspace = Workspace::new();
        let alone: Vec<Vec<u32>> = inputs
            .chunks(widths[0])
            .map(|row| {
                let row = [View::F32(row)];
                bits(
                    engine
                        .run(Batch::of_rows(1, &row), &mut workspace, None)
                        .get(0),
                )
            })
            .collect();
        for rows in 1..=ROWS {
            // The last rows, so that every row is met in many positions.
            let first = ROWS - rows;
            let part = [View::F32(&inputs[first * widths[0]..])];
            let outputs = engine.run(Batch::of_rows(rows, &part), &mut workspace, None);
            for (row, together) in outputs.get(0).chunks(10).enumerate() {
                assert_eq!(
                    bits(together),
                    alone[first + row],
                    "{}: row {row} of {rows}",
                    isa.name()
                );
            }
        }
    }
}

/// A text classifier in small: embeddings of two inputs over the same tokens, a layer for each token,
/// the mean of each row, a layer for each row; and the tokens' own values as a second output.
fn texts(noise: &mut Noise) -> Graph {
    let mut graph = GraphBuilder::new();
    let tokens = Axis(0);
    let ids = |name: &str| TensorSpec::new(name, DataType::Int64, Shape::tokens(tokens, []));
    let mut embedded = Vec::new();
    for (name, entries) in [("words", 50), ("segments", 2)] {
        let input = graph.input(ids(name));
        let table = graph.weight(noise.matrix(entries, 24).into_dyn());
        embedded.push(graph.node(name, Gather, &[table, input]).unwrap());
    }
    let mut x = graph.node("sum", Sum, &embedded).unwrap();
    let (scale, bias) = (noise.vector(24), noise.vector(24));
    let scale = graph.constant(scale.into_dyn());
    let bias = graph.constant(bias.into_dyn());
    let operator = LayerNormalization { epsilon: 1e-5 };
    x = graph.node("norm", operator, &[x, scale, bias]).unwrap();
    let weight = graph.weight(noise.matrix(24, 37).into_dyn());
    x = graph.node("token", LINEAR, &[x, weight]).unwrap();
    x = graph
        .node("gelu", Elementwise(Activation::Gelu), &[x])
        .unwrap();
    let pooled = graph.node("pool", MeanPooling, &[x]).unwrap();
    let weight = graph.weight(noise.matrix(37, 5).into_dyn());
    let y = graph.node("row", LINEAR, &[pooled, weight]).unwrap();
    let y = graph.node("softmax", Softmax, &[y]).unwrap();
    graph.output("y", y).unwrap();
    graph.output("tokens", x).unwrap();
    graph.build()
}

#[test]
fn a_text_has_the_same_bits_among_texts_of_any_length_as_alone() {
    let mut noise = Noise(11);
    let graph = texts(&mut noise);
    let lengths = [7, 0, 1, 33, 2, 130, 0, 5];
    let texts: Vec<[Vec<i64>; 2]> = lengths
        .iter()
        .map(|length| {
            [50, 2].map(|entries| (0..*length).map(|_| noise.below(entries) as i64).collect())
        })
        .collect();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for isa in Isa::available() {
        let engine = Engine::compile_for(graph.clone(), isa);
        assert_eq!(engine.axes(), 1);
        let mut workspace = Workspace::new();
        let mut run = |texts: &[[Vec<i64>; 2]]| {
            let mut offsets = vec![0];
            for [words, _] in texts {
                offsets.push(offsets[offsets.len() - 1] + words.len());
            }
            let joined = [0, 1].map(|input| {
                let parts: Vec<&[i64]> = texts.iter().map(|text| &text[input][..]).collect();
                parts.concat()
            });
            let inputs = [View::I64(&joined[0]), View::I64(&joined[1])];
            let offsets = [offsets];
            let batch = Batch {
                rows: texts.len(),
                offsets: &offsets,
                inputs: &inputs,
            };
            let outputs = engine.run(batch, &mut workspace, None);
            [bits(outputs.get(0)), bits(outputs.get(1))]
        };
        let alone: Vec<[Vec<u32>; 2]> = texts
            .iter()
            .map(|text| run(std::slice::from_ref(text)))
            .collect();
        for (text, [y, tokens]) in texts.iter().zip(&alone) {
            assert_eq!((y.len(), tokens.len()), (5, 37 * text[0].len()));
        }
        for first in 0..texts.len() {
            for last in first + 1..=texts.len() {
                let together = run(&texts[first..last]);
                for (output, together) in together.iter().enumerate() {
                    let alone: Vec<&[u32]> = alone[first..last]
                        .iter()
                        .map(|text| &text[output][..])
                        .collect();
                    assert_eq!(*together, alone.concat(), "{} {first}..{last}", isa.name());
                }
            }
        }
    }
}

#[test]
fn tokens_and_rows_do_not_go_together() {
    let mut graph = GraphBuilder::new();
    let row = graph.input(spec("row", &[2]));
    let tokens = TensorSpec::new("tokens", DataType::Fp32, Shape::tokens(Axis(0), [2]));
    let tokens = graph.input(tokens);
    let error = graph.node("sum", Sum, &[row, tokens]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer \"sum\" (Sum): expected operands with the same items, got rows and tokens; pool the \
         tokens of each row first"
    );
}

#[test]
#[should_panic(expected = "input words")]
fn tokens_are_as_many_as_the_offsets_say() {
    let engine = Engine::compile(texts(&mut Noise(1)));
    let inputs = [View::I64(&[1, 2, 3]), View::I64(&[0, 0])];
    let offsets = [vec![0, 2]];
    let batch = Batch {
        rows: 1,
        offsets: &offsets,
        inputs: &inputs,
    };
    engine.run(batch, &mut Workspace::new(), None);
}

/// Nodes with equal operators and weights share a kernel; those whose attributes differ do not.
#[test]
fn equal_operators_over_the_same_weights_are_packed_once() {
    let build = |functions: [Activation; 2]| {
        let mut graph = GraphBuilder::new();
        let mut x = graph.input(spec("x", &[16]));
        let weight = graph.weight(ArrayD::ones(vec![16, 16]));
        for activation in functions {
            let operator = Gemm {
                trans_b: false,
                activation,
            };
            x = graph.node("dense", operator, &[x, weight]).unwrap();
        }
        graph.output("y", x).unwrap();
        Engine::compile(graph.build()).weight_bytes()
    };
    let leaky = |alpha| Activation::LeakyRelu { alpha };
    let once = build([leaky(0.25), leaky(0.25)]);
    assert_eq!(build([leaky(0.25), leaky(0.5)]), 2 * once);
}
