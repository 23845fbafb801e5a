//! Rewrites of a graph at load: less to compute, the same function.
//!
//! Operators say through the hooks of [`Operator`](super::op::Operator) what they can become;
//! the rewrites here know no operator by name.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::graph::{Graph, ValueId};
use super::kernels::Isa;
use super::op::{Inputs, Operand, ScaleShift, Side};
use super::workspace::Layout;

/// The largest shift that is folded into the product behind it. A larger one is there to cancel a
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

/// Computes nodes whose operands are all known at load.
fn fold_constants(graph: &mut Graph, isa: Isa) {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let operands = graph.operands(&node);
        if operands.iter().all(|operand| operand.constant.is_some()) {
            let shape = graph.values[node.output.0].shape.clone();
            let values = compute_once(&node.operator, operands, &shape, isa);
            graph.values[node.output.0].constant = Some(Arc::new(values));
        } else {
            graph.nodes.push(node);
        }
    }
}

/// Runs an operator on constants, one operand standing for the one row of a batch: the first that
/// has the shape of the result, since that is where a kernel may work in place.
fn compute_once(
    operator: &Arc<dyn super::op::Operator>,
    mut operands: Vec<Operand>,
    shape: &[usize],
    isa: Isa,
) -> ArrayD<f32> {
    let like_result = operands.iter().position(|operand| operand.shape == shape);
    let row = &mut operands[like_result.unwrap_or(0)];
    let first = row.constant.take().expect("all are constants");
    let first: Vec<f32> = first.iter().copied().collect();
    let kernel = operator.prepare(&operands, isa);
    let mut output = vec![0.0; shape.iter().product()];
    let sources = [super::op::Source::Input(0)];
    let sources = if kernel.in_place() {
        output.copy_from_slice(&first);
        &sources[1..]
    } else {
        &sources[..]
    };
    let inputs = Inputs {
        rows: 1,
        sources,
        external: &[&first],
        layout: &Layout::default(),
        before: &[],
        after: &[],
        after_start: 0,
    };
    kernel.run(1, inputs, &mut output);
    ArrayD::from_shape_vec(IxDyn(shape), output).expect("the shape gave the length")
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
        if node.operator.is_identity() && shape(node.inputs[0]) == shape(node.output) {
            same.insert(node.output, node.inputs[0]);
        } else {
            graph.nodes.push(node);
        }
    }
    for (output, _) in &mut graph.outputs {
        *output = *same.get(output).unwrap_or(output);
    }
}

/// Who computes each value of a graph and how many operands and outputs refer to it, by
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
            links.producers[node.output.0] = Some(index);
            for input in &node.inputs {
                links.uses[input.0] += 1;
            }
        }
        for (output, _) in &graph.outputs {
            links.uses[output.0] += 1;
        }
        links
    }

    /// The node that computes a value for one single user.
    fn producer_of_one(&self, value: ValueId) -> Option<usize> {
        self.producers[value.0].filter(|_| self.uses[value.0] == 1)
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
            graph.nodes[producer].output = graph.nodes[last].output;
            run.nodes.iter().for_each(|node| folded[*node] = true);
            continue;
        }
        let Some(consumer) = run.consumer else {
            continue;
        };
        let behind_large_shifts = run.nodes.iter().rposition(|node| {
            let affine = scale_shift(graph, *node);
            affine.is_none_or(|affine| affine.shift.iter().any(|s| s.abs() > MAX_FOLDED_SHIFT))
        });
        let near = &run.nodes[behind_large_shifts.map_or(0, |index| index + 1)..];
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
                producer: links.producer_of_one(input),
                consumer: None,
            });
            runs.len() - 1
        });
        runs[run].nodes.push(index);
        ends.insert(node.output, run);
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
        graph.values.push(Operand {
            shape: values.shape().to_vec(),
            constant: Some(Arc::new(values)),
        });
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
            && let Some(producer) = links.producer_of_one(node.inputs[0])
            && let Some(operator) = graph.nodes[producer].operator.with_activation(activation)
        {
            let output = node.output;
            graph.nodes[producer].operator = operator;
            graph.nodes[producer].output = output;
            links.producers[output.0] = Some(producer);
            *fused = true;
        }
    }
    remove(graph, &fused);
}

/// Removes nodes whose output nobody uses, and those that only such nodes used.
fn drop_unused(graph: &mut Graph) {
    let mut uses = Links::of(graph).uses;
    let mut unused = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if uses[node.output.0] == 0 {
            unused[index] = true;
            for input in &node.inputs {
                uses[input.0] -= 1;
            }
        }
    }
    remove(graph, &unused);
}
