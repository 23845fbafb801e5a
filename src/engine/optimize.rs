//! Rewrites of a graph at load: less to compute, the same function.
//!
//! Operators say through the hooks of [`Operator`](super::op::Operator) what they can become;
//! the rewrites here know no operator by name.

use std::collections::HashMap;

use ndarray::ArrayD;

use super::counts::Counts;
use super::graph::{Graph, ValueId};
use super::kernels::Isa;
use super::op::{Operand, Operator, ScaleShift, Side};
use super::run::{Place, Source};
use super::step::Step;
use super::workspace::{Layout, Workspace};
use crate::tensor::{Domain, Shape, View};

/// The largest shift that is folded into the product after it. A larger one is there to cancel a
/// mean as large, and would cancel only after the product was rounded.
const MAX_FOLDED_SHIFT: f64 = 8.0;

/// Applies every rewrite once. Each is a pass or two over the nodes: the time grows with the
/// network's size and no faster, however long its chains are.
pub(super) fn optimize(graph: &mut Graph, isa: Isa) {
    fold_constants(graph, isa);
    drop_identities(graph);
    fold_scale_shifts(graph);
    fuse_activations(graph);
    drop_unused(graph);
}

/// Computes the nodes whose outputs are the same in every pass.
fn fold_constants(graph: &mut Graph, isa: Isa) {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let is_constant = |value: &ValueId| graph.values[value.0].shape.domain == Domain::Once;
        if !node.outputs.iter().all(is_constant) {
            graph.nodes.push(node);
            continue;
        }
        let operands = graph.operands(&node);
        let shapes = node.outputs.iter();
        let shapes: Vec<Shape> = shapes.map(|v| graph.values[v.0].shape.clone()).collect();
        let computed = compute_once(&*node.operator, operands, &shapes, isa);
        for (output, values) in node.outputs.iter().zip(computed) {
            graph.values[output.0].constant = Some(values.into());
        }
    }
}

/// Runs an operator on constants, for which there is one item.
///
/// A kernel takes at least one operand when it runs. That is the first of the output's shape,
/// since a kernel may work in place on it; the others it knows when it is prepared.
fn compute_once(
    operator: &dyn Operator,
    mut operands: Vec<Operand>,
    shapes: &[Shape],
    isa: Isa,
) -> Vec<ArrayD<f32>> {
    let like_output = operands.iter().position(|o| o.shape == shapes[0]);
    let operand = &mut operands[like_output.unwrap_or(0)];
    let values = operand.constant.take().expect("all are constants");
    let values = values.to_f32();
    let values = [View::F32(values.as_slice().expect("standard layout"))];
    let kernel = operator.prepare(&operands, isa);
    let sources = [Source::Input(0)];
    let mut workspace = Workspace::new();
    let scratch = kernel.scratch();
    let layout = Layout::new(shapes, &scratch);
    let step = Step {
        inputs: if kernel.in_place() {
            Vec::new()
        } else {
            sources.to_vec()
        },
        copy: kernel.in_place().then_some(sources[0]),
        kernel: kernel.into(),
        outputs: shapes
            .iter()
            .enumerate()
            .map(|(slot, shape)| Place::new(slot, shape))
            .collect(),
        scratch,
    };
    let arena = workspace.arena(&layout, Counts::ONCE);
    step.run(Counts::ONCE, &values, &layout, arena, None);
    let computed = step.outputs.iter().zip(shapes).map(|(place, shape)| {
        let values = place.values(&layout, Counts::ONCE, arena).to_vec();
        ArrayD::from_shape_vec(shape.extents.clone(), values).expect("the shape gave the length")
    });
    computed.collect()
}

/// Removes nodes whose output is their input, in the same shape.
///
/// Those that only reshape stay: the shapes that their neighbours see come from them. The plan
/// gives them no step.
fn drop_identities(graph: &mut Graph) {
    let mut same = HashMap::new();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        for input in &mut node.inputs {
            *input = *same.get(input).unwrap_or(input);
        }
        let shape = |value: ValueId| &graph.values[value.0].shape;
        match node.only_output() {
            Some(output)
                if node.operator.is_identity() && shape(node.inputs[0]) == shape(output) =>
            {
                same.insert(output, node.inputs[0]);
            }
            _ => graph.nodes.push(node),
        }
    }
    for (output, _) in &mut graph.outputs {
        *output = *same.get(output).unwrap_or(output);
    }
}

/// Which node computes each value of a graph and how many operands and outputs refer to it, by
/// [`ValueId`]. A rewrite that moves a value to another node keeps this up to date.
struct Links {
    producers: Vec<Option<usize>>,
    uses: Vec<usize>,
}

impl Links {
    fn of(graph: &Graph) -> Self {
        let mut links = Self {
            producers: vec![None; graph.values.len()],
            uses: vec![0; graph.values.len()],
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            for output in &node.outputs {
                links.producers[output.0] = Some(index);
            }
            for input in &node.inputs {
                links.uses[input.0] += 1;
            }
        }
        for (output, _) in &graph.outputs {
            links.uses[output.0] += 1;
        }
        links
    }

    /// The node that computes this value and no other, for one single user.
    fn producer_of_one(&self, graph: &Graph, value: ValueId) -> Option<usize> {
        self.producers[value.0]
            .filter(|node| self.uses[value.0] == 1 && graph.nodes[*node].only_output().is_some())
    }
}

/// Removes the nodes that are marked.
fn remove(graph: &mut Graph, marked: &[bool]) {
    let mut marks = marked.iter();
    graph.nodes.retain(|_| marks.next() == Some(&false));
}

/// Folds scales and shifts of columns (a `BatchNormalization`, a bias) into the weights of a
/// neighbour: of the node that computes what they are applied to, else of the node that takes
/// what they give.
///
/// Those that follow each other are composed in double precision first, so that the neighbour's
/// weights are rewritten and rounded once.
fn fold_scale_shifts(graph: &mut Graph) {
    let mut links = Links::of(graph);
    let mut folded = vec![false; graph.nodes.len()];
    for run in runs(graph, &links) {
        let last = *run.nodes.last().expect("a run begins with a node");
        if let Some(producer) = run.producer
            && let Some(affine) = composed(graph, &run.nodes)
            && absorb(graph, &mut links, producer, Side::Output, &affine)
        {
            graph.nodes[producer].outputs = graph.nodes[last].outputs.clone();
            run.nodes.iter().for_each(|node| folded[*node] = true);
            continue;
        }
        let Some(consumer) = run.consumer else {
            continue;
        };
        let after_large_shifts = run.nodes.iter().rposition(|node| {
            let affine = scale_shift(graph, *node);
            affine.is_none_or(|affine| affine.shift.iter().any(|s| s.abs() > MAX_FOLDED_SHIFT))
        });
        let near = &run.nodes[after_large_shifts.map_or(0, |index| index + 1)..];
        if let Some(first) = near.first()
            && let Some(affine) = composed(graph, near)
            && absorb(graph, &mut links, consumer, Side::Input, &affine)
        {
            graph.nodes[consumer].inputs[0] = graph.nodes[*first].inputs[0];
            near.iter().for_each(|node| folded[*node] = true);
        }
    }
    remove(graph, &folded);
}

/// Scales and shifts by their nodes, each applied to what the one before gives to it alone.
struct Run {
    nodes: Vec<usize>,
    /// The node that computes for the first of them alone.
    producer: Option<usize>,
    /// The node that alone takes what the last of them gives, as its first operand.
    consumer: Option<usize>,
}

/// Every scale and shift of the graph, in runs as long as they come.
fn runs(graph: &Graph, links: &Links) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // The run whose last node gives the value.
    let mut ends: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some(&input) = node.inputs.first() else {
            continue;
        };
        let is_used_once = links.uses[input.0] == 1;
        let before = ends.remove(&input).filter(|_| is_used_once);
        if scale_shift(graph, index).is_none() {
            if let Some(run) = before {
                runs[run].consumer = Some(index);
            }
            continue;
        }
        let run = before.unwrap_or_else(|| {
            runs.push(Run {
                nodes: Vec::new(),
                producer: links.producer_of_one(graph, input),
                consumer: None,
            });
            runs.len() - 1
        });
        runs[run].nodes.push(index);
        ends.insert(node.outputs[0], run);
    }
    runs
}

/// The scale and shift that a node is, if it is that.
fn scale_shift(graph: &Graph, index: usize) -> Option<ScaleShift> {
    let node = &graph.nodes[index];
    node.operator.as_scale_shift(&graph.operands(node))
}

/// One scale and shift for several, the first applied first; `None` for none.
fn composed(graph: &Graph, nodes: &[usize]) -> Option<ScaleShift> {
    nodes
        .iter()
        .filter_map(|node| scale_shift(graph, *node))
        .reduce(|first, second| first.then(&second))
}

/// Replaces the node's constants so that it computes the scale and shift too; false if it cannot.
fn absorb(
    graph: &mut Graph,
    links: &mut Links,
    index: usize,
    side: Side,
    affine: &ScaleShift,
) -> bool {
    let node = &graph.nodes[index];
    let operands = graph.operands(node);
    let Some(constants) = node.operator.absorb(&operands, side, affine) else {
        return false;
    };
    for (position, constant) in constants.into_iter().enumerate() {
        let Some(values) = constant else { continue };
        let replacement = ValueId(graph.values.len());
        graph.values.push(Operand::known(values.into()));
        links.producers.push(None);
        links.uses.push(1);
        let inputs = &mut graph.nodes[index].inputs;
        if position == inputs.len() {
            // An operand that was left out, a bias for example.
            inputs.push(replacement);
            continue;
        }
        let replaced = std::mem::replace(&mut inputs[position], replacement);
        links.uses[replaced.0] -= 1;
        if links.uses[replaced.0] == 0 {
            graph.values[replaced.0].constant = None;
        }
    }
    true
}

/// Lets each element-wise function run in the kernel of the node before it.
fn fuse_activations(graph: &mut Graph) {
    let mut links = Links::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let node = &graph.nodes[index];
        if let Some(activation) = node.operator.as_activation()
            && let Some(producer) = links.producer_of_one(graph, node.inputs[0])
            && let Some(operator) = graph.nodes[producer].operator.with_activation(activation)
        {
            let outputs = node.outputs.clone();
            links.producers[outputs[0].0] = Some(producer);
            graph.nodes[producer].operator = operator;
            graph.nodes[producer].outputs = outputs;
            *fused = true;
        }
    }
    remove(graph, &fused);
}

/// Removes nodes whose output is unused, and those that only such nodes used.
fn drop_unused(graph: &mut Graph) {
    let mut uses = Links::of(graph).uses;
    let mut unused = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().all(|output| uses[output.0] == 0) {
            unused[index] = true;
            for input in &node.inputs {
                uses[input.0] -= 1;
            }
        }
    }
    remove(graph, &unused);
}
