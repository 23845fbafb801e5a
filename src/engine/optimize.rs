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

/// Applies every rewrite until none finds anything more.
pub(super) fn optimize(graph: &mut Graph, isa: Isa) {
    fold_constants(graph, isa);
    drop_identities(graph);
    while fold_scale_shift(graph) {}
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

/// Folds each scale and shift of columns (a `BatchNormalization`, a bias) into the weights of a
/// neighbour. Returns whether it found one.
fn fold_scale_shift(graph: &mut Graph) -> bool {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let operands = graph.operands(node);
        let Some(affine) = node.operator.as_scale_shift(&operands) else {
            continue;
        };
        let (input, output) = (node.inputs[0], node.output);
        if let Some(producer) = graph.nodes.iter().position(|node| node.output == input)
            && graph.uses(input) == 1
            && absorb(graph, producer, Side::Output, &affine)
        {
            graph.nodes[producer].output = output;
            graph.nodes.remove(index);
            return true;
        }
        if affine
            .shift
            .iter()
            .all(|shift| shift.abs() <= MAX_FOLDED_SHIFT)
            && let Some(consumer) = sole_consumer(graph, output)
            && absorb(graph, consumer, Side::Input, &affine)
        {
            graph.nodes[consumer].inputs[0] = input;
            graph.nodes.remove(index);
            return true;
        }
    }
    false
}

/// The node that alone uses the value, as its first operand.
fn sole_consumer(graph: &Graph, value: ValueId) -> Option<usize> {
    let index = graph
        .nodes
        .iter()
        .position(|node| node.inputs.first() == Some(&value))?;
    (graph.uses(value) == 1).then_some(index)
}

/// Replaces the node's constants so that it computes the scale and shift too.
fn absorb(graph: &mut Graph, index: usize, side: Side, affine: &ScaleShift) -> bool {
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
        let inputs = &mut graph.nodes[index].inputs;
        if position == inputs.len() {
            // An operand that was left out, a bias for example.
            inputs.push(replacement);
            continue;
        }
        let replaced = std::mem::replace(&mut inputs[position], replacement);
        if graph.uses(replaced) == 0 {
            graph.values[replaced.0].constant = None;
        }
    }
    true
}

/// Lets each element-wise function run in the kernel of the node before it.
fn fuse_activations(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let fused = node.operator.as_activation().and_then(|activation| {
            let input = node.inputs[0];
            let producer = graph.nodes.iter().position(|node| node.output == input)?;
            if graph.uses(input) != 1 {
                return None;
            }
            let operator = graph.nodes[producer].operator.with_activation(activation)?;
            Some((producer, operator))
        });
        match fused {
            Some((producer, operator)) => {
                let output = graph.nodes.remove(index).output;
                graph.nodes[producer].operator = operator;
                graph.nodes[producer].output = output;
            }
            None => index += 1,
        }
    }
}

/// Removes nodes whose output nobody uses.
fn drop_unused(graph: &mut Graph) {
    for index in (0..graph.nodes.len()).rev() {
        if graph.uses(graph.nodes[index].output) == 0 {
            graph.nodes.remove(index);
        }
    }
}
