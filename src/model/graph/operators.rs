//! How ONNX' operators become the engine's.
//!
//! A new operator is a function here and its line in [`TABLE`].

use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};

use super::node::NodeCall;
use crate::engine::kernels::Activation;
use crate::engine::ops::{
    BatchNormalization, Binary, Concat, Elementwise, Expand, Gemm, Identity, LayerNormalization,
    LogSoftmax, LpNormalization, Max, Mean, Min, Mul, PRelu, Reduce, Reshape, Softmax, Sum,
    Transpose, Unary,
};
use crate::engine::{self, Constant, MAX_ROW_ELEMENTS, ValueId};
use crate::model::activations::{self, ACTIVATIONS, NamedActivation};
use crate::model::lowering::{Call, Refusal, Value};

/// Adds what computes a node.
pub(super) type Lower = fn(&mut NodeCall<'_, '_>) -> Result<ValueId, Refusal>;

/// By ONNX' name, sorted. Operators that are nothing but an activation are in the table of
/// [`activations`].
const TABLE: &[(&str, Lower)] = &[
    ("Abs", |call| unary(call, Unary::Abs)),
    ("Add", |call| fold(call, Sum, 2)),
    ("BatchNormalization", batch_normalization),
    ("Ceil", |call| unary(call, Unary::Ceil)),
    ("Clip", clip),
    ("Concat", concat),
    ("Cos", |call| unary(call, Unary::Cos)),
    ("Div", |call| binary(call, Binary::Div)),
    ("Dropout", identity),
    ("Erf", |call| function(call, Activation::Erf)),
    ("Flatten", flatten),
    ("Floor", |call| unary(call, Unary::Floor)),
    ("Gelu", gelu),
    ("Gemm", gemm),
    ("Identity", identity),
    ("LayerNormalization", layer_normalization),
    ("Log", |call| unary(call, Unary::Log)),
    ("LogSoftmax", |call| along_an_axis(call, LogSoftmax)),
    ("LpNormalization", lp_normalization),
    ("MatMul", mat_mul),
    ("Max", |call| fold(call, Max, usize::MAX)),
    ("Mean", |call| fold(call, Mean, usize::MAX)),
    ("Min", |call| fold(call, Min, usize::MAX)),
    ("Mul", |call| fold(call, Mul, 2)),
    ("Neg", |call| unary(call, Unary::Neg)),
    ("PRelu", prelu),
    ("Pow", |call| binary(call, Binary::Pow)),
    ("Reciprocal", |call| unary(call, Unary::Reciprocal)),
    ("ReduceL1", |call| reduce(call, Reduce::L1)),
    ("ReduceL2", |call| reduce(call, Reduce::L2)),
    ("ReduceLogSum", |call| reduce(call, Reduce::LogSum)),
    ("ReduceLogSumExp", |call| reduce(call, Reduce::LogSumExp)),
    ("ReduceMax", |call| reduce(call, Reduce::Max)),
    ("ReduceMean", |call| reduce(call, Reduce::Mean)),
    ("ReduceMin", |call| reduce(call, Reduce::Min)),
    ("ReduceProd", |call| reduce(call, Reduce::Prod)),
    ("ReduceSum", |call| reduce(call, Reduce::Sum)),
    ("ReduceSumSquare", |call| reduce(call, Reduce::SumSquare)),
    ("Reshape", reshape),
    ("Round", |call| unary(call, Unary::Round)),
    ("Selu", selu),
    ("Sign", |call| unary(call, Unary::Sign)),
    ("Sin", |call| unary(call, Unary::Sin)),
    ("Softmax", |call| along_an_axis(call, Softmax)),
    ("Sqrt", |call| unary(call, Unary::Sqrt)),
    ("Squeeze", squeeze),
    ("Sub", subtract),
    ("Sum", |call| fold(call, Sum, usize::MAX)),
    ("Swish", swish),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

/// An operator that nodes may have.
pub(super) enum Operator {
    /// One of the table.
    Function(Lower),
    /// An activation.
    Activation(&'static NamedActivation),
}

/// The operator of this name.
pub(super) fn find(name: &str) -> Option<Operator> {
    match TABLE.binary_search_by_key(&name, |(name, _)| name) {
        Ok(at) => Some(Operator::Function(TABLE[at].1)),
        Err(_) => activations::onnx(name).map(Operator::Activation),
    }
}

/// The names of all operators, sorted.
pub(super) fn names() -> Vec<&'static str> {
    let activations = ACTIVATIONS.iter().map(|activation| activation.onnx);
    let table = TABLE.iter().map(|(name, _)| *name);
    let names = table.chain(activations).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Operator {
    /// Adds what computes a node of this operator.
    pub(super) fn lower(&self, call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
        match self {
            Self::Function(lower) => lower(call),
            Self::Activation(activation) => {
                let attributes = &mut call.attributes;
                let function = activation.with_attributes(|name| attributes.float(name))?;
                let x = call.only()?;
                function.lower(call, x)
            }
        }
    }
}

fn identity(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    call.emit(Identity, &[x])
}

fn unary(call: &mut NodeCall<'_, '_>, operator: Unary) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    call.emit(operator, &[x])
}

fn function(call: &mut NodeCall<'_, '_>, function: Activation) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    call.emit(Elementwise(function), &[x])
}

/// With the parameters for which it is defined, as every framework has it. Others are a scaled ELU.
fn selu(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    const ALPHA: f32 = 1.673_263_2;
    const GAMMA: f32 = 1.050_701;
    let alpha = call.attributes.float("alpha")?.unwrap_or(ALPHA);
    let gamma = call.attributes.float("gamma")?.unwrap_or(GAMMA);
    if (alpha - ALPHA).abs() < 1e-6 && (gamma - GAMMA).abs() < 1e-6 {
        return function(call, Activation::Selu);
    }
    let elu = function(call, Activation::Elu { alpha })?;
    let gamma = call.graph.constant(ArrayD::from_elem(IxDyn(&[]), gamma));
    call.emit(Mul, &[elu, gamma])
}

fn gelu(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    match call.attributes.text("approximate")?.as_deref() {
        None | Some("none") => function(call, Activation::Gelu),
        Some("tanh") => function(call, Activation::GeluTanh),
        Some(other) => Err(format!(
            "attribute \"approximate\": expected \"none\" or \"tanh\", got {other:?}"
        )
        .into()),
    }
}

/// `x · sigmoid(alpha · x)`
fn swish(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    if alpha == 1.0 {
        return function(call, Activation::Silu);
    }
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    let alpha = call.graph.constant(ArrayD::from_elem(IxDyn(&[]), alpha));
    let scaled = call.emit(Mul, &[x, alpha])?;
    let gate = call.emit(Elementwise(Activation::Sigmoid), &[scaled])?;
    call.emit(Mul, &[x, gate])
}

fn clip(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    let min = call.attributes.float("min")?.unwrap_or(f32::NEG_INFINITY);
    let max = call.attributes.float("max")?.unwrap_or(f32::INFINITY);
    // As ONNX has it: where the limits are crossed, the highest counts.
    let min = min.min(max);
    function(call, Activation::Clip { min, max })
}

/// Operators that combine any number of operands of one shape, in any order.
fn fold(
    call: &mut NodeCall<'_, '_>,
    operator: impl engine::Operator,
    most: usize,
) -> Result<ValueId, Refusal> {
    call.expect_operands(if most == 2 { 2 } else { 1 }, most)?;
    let operands = aligned(call)?;
    call.emit(operator, &operands)
}

fn binary(call: &mut NodeCall<'_, '_>, operator: Binary) -> Result<ValueId, Refusal> {
    call.expect_operands(2, 2)?;
    let operands = aligned(call)?;
    call.emit(operator, &operands)
}

/// `a - b`. If `b` is a weight it is the sum with `-b`, with the same bits, which is folded into the
/// neighbouring layers.
fn subtract(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    if let [Some(_), Some(Value::Constant(b))] = &mut *call.operands {
        *b = b.to_f32().mapv(|value| -value).into();
        return fold(call, Sum, 2);
    }
    binary(call, Binary::Sub)
}

/// All operands, with those of smaller shapes repeated as far as the engine does not do that itself.
///
/// ONNX aligns shapes by their last axes. Operands that depend on the rows must therefore have the
/// same number of axes, and weights none or one of extent 1 where the others have their rows.
fn aligned(call: &mut Call<'_>) -> Result<Vec<ValueId>, Refusal> {
    let mut shapes = Vec::with_capacity(call.operands.len());
    let rank = row_rank(call)?;
    for (index, operand) in call.operands.iter_mut().enumerate() {
        shapes.push(match operand {
            Some(Value::Rows(value)) => call.graph.shape(*value).to_vec(),
            Some(Value::Constant(values)) => {
                *values = without_rows(&values.to_f32(), rank)
                    .map_err(|problem| format!("input {index}: {problem}"))?
                    .into();
                values.shape().to_vec()
            }
            None => return Err(format!("input {index} is missing").into()),
        });
    }
    let target = common_shape(&shapes, rank)?;
    let operands = std::mem::take(&mut call.operands);
    let mut aligned = Vec::with_capacity(operands.len());
    for operand in operands.into_iter().flatten() {
        aligned.push(match operand {
            Value::Rows(value) if *call.graph.shape(value) == *target => value,
            Value::Rows(value) => {
                let shape = target.clone();
                call.emit(Expand { shape }, &[value])?
            }
            Value::Constant(values) => {
                let values = repeated(values.to_f32(), &target);
                call.graph.weight(values)
            }
        });
    }
    Ok(aligned)
}

/// The number of axes that a row of each operand has which depends on the rows.
fn row_rank(call: &Call<'_>) -> Result<usize, String> {
    let mut ranks = call
        .operands
        .iter()
        .flatten()
        .filter_map(|operand| match operand {
            Value::Rows(value) => Some(call.graph.shape(*value).len()),
            Value::Constant(_) => None,
        });
    let first = ranks.next().unwrap_or(0);
    match ranks.find(|rank| *rank != first) {
        None => Ok(first),
        Some(other) => Err(format!(
            "its inputs have {} and {} axes, so the rows of one would meet another axis of the \
             other; expected as many axes of both",
            first + 1,
            other + 1
        )),
    }
}

/// A weight without its first axis, where other values have their rows.
fn without_rows(values: &Arc<ArrayD<f32>>, rank: usize) -> Result<Arc<ArrayD<f32>>, String> {
    let shape = values.shape();
    if shape.len() <= rank {
        return Ok(values.clone());
    }
    if shape.len() == rank + 1 && shape[0] == 1 {
        let inner = values.index_axis(Axis(0), 0);
        return Ok(Arc::new(inner.to_owned()));
    }
    Err(format!(
        "a weight of shape {shape:?} has other numbers for other rows; expected 1 in place of \
         the rows, or at most {rank} axes"
    ))
}

/// What shapes become when they are repeated along axes of extent 1, aligned by their last axes.
fn common_shape(shapes: &[Vec<usize>], rank: usize) -> Result<Vec<usize>, String> {
    let mut target = vec![1; rank];
    for shape in shapes {
        let leading = rank - shape.len();
        for (target, extent) in target[leading..].iter_mut().zip(shape) {
            match (*target, *extent) {
                (1, extent) => *target = extent,
                (target, extent) if extent == target || extent == 1 => {}
                _ => {
                    return Err(format!(
                        "shapes {shapes:?} (without the rows' axis) do not go together; expected \
                         the same extents, or 1"
                    ));
                }
            }
        }
    }
    let elements = target
        .iter()
        .fold(1, |all: usize, extent| all.saturating_mul(*extent));
    match elements <= MAX_ROW_ELEMENTS {
        true => Ok(target),
        false => Err(format!(
            "expected at most {MAX_ROW_ELEMENTS} numbers a row, got shape {target:?}"
        )),
    }
}

/// A weight as the engine repeats it itself: one number, or the last axes of a row.
fn repeated(values: Arc<ArrayD<f32>>, target: &[usize]) -> Arc<ArrayD<f32>> {
    if values.len() == 1 || target.ends_with(values.shape()) {
        return values;
    }
    let whole = values.broadcast(IxDyn(target));
    Arc::new(whole.expect("the target is the common shape").to_owned())
}

/// `alpha · A · B + beta · C` with weights `B` and `C`.
fn gemm(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(2, 3)?;
    call.attributes.only("transA", 0)?;
    let trans_b = call.attributes.int("transB")?.unwrap_or(0) != 0;
    let alpha = call.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = call.attributes.float("beta")?.unwrap_or(1.0);
    let x = call.rows(0)?;
    let shape = call.shape(x);
    if shape.len() != 1 {
        return Err(format!("input 0: expected 2 axes, got {}", shape.len() + 1).into());
    }
    let weight = required_matrix(call)?;
    let columns = weight.shape()[usize::from(!trans_b)];
    let weight = match alpha {
        1.0 => weight,
        alpha => weight.to_f32().mapv(|value| alpha * value).into(),
    };
    let mut operands = vec![x, call.graph.weight(weight)];
    if let Some(bias) = call.constant(2)? {
        let bias = without_rows(&bias, 1).map_err(|problem| format!("input 2: {problem}"))?;
        let whole = bias.broadcast(IxDyn(&[columns])).ok_or_else(|| {
            format!(
                "input 2: expected shape [{columns}], as the product has columns, got {:?}",
                bias.shape()
            )
        })?;
        let bias = match beta == 1.0 && *bias.shape() == [columns] {
            true => bias,
            false => Arc::new(whole.mapv(|value| beta * value)),
        };
        operands.push(call.graph.weight(bias));
    }
    let activation = Activation::Linear;
    call.emit(
        Gemm {
            trans_b,
            activation,
        },
        &operands,
    )
}

/// The weight of two axes that is a product's operand 1, as it is stored.
fn required_matrix(call: &Call<'_>) -> Result<Constant, Refusal> {
    let weight = call.stored_constant(1)?;
    let weight = weight.ok_or_else(|| "input 1 is missing".to_owned())?;
    match weight.shape().len() {
        2 => Ok(weight),
        _ => Err(format!(
            "input 1: expected a weight of 2 axes, got shape {:?}",
            weight.shape()
        )
        .into()),
    }
}

/// The product of the last axis with a weight of one or two axes.
fn mat_mul(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(2, 2)?;
    let x = call.rows(0)?;
    let stored = call.stored_constant(1)?;
    let is_vector = stored.is_some_and(|weight| weight.shape().len() == 1);
    let weight = match is_vector {
        true => Arc::unwrap_or_clone(call.required_constant(1)?)
            .insert_axis(Axis(1))
            .into(),
        false => required_matrix(call)?,
    };
    let weight = call.graph.weight(weight);
    let product = Gemm {
        trans_b: false,
        activation: Activation::Linear,
    };
    let output = call.emit(product, &[x, weight])?;
    if !is_vector {
        return Ok(output);
    }
    let shape = call.shape(output);
    reshaped(call, output, &shape[..shape.len() - 1])
}

fn prelu(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(2, 2)?;
    let x = call.rows(0)?;
    let shape = call.shape(x);
    let slope = without_rows(&call.required_constant(1)?, shape.len())
        .map_err(|problem| format!("input 1: {problem}"))?;
    let whole = slope.broadcast(IxDyn(&shape)).ok_or_else(|| {
        format!(
            "input 1: a slope of shape {:?} does not go with rows of shape {shape:?}",
            slope.shape()
        )
    })?;
    let slope = match slope.len() {
        1 => (*slope).clone().into_shape_with_order(IxDyn(&[1])),
        _ => whole.to_owned().into_shape_with_order(IxDyn(&shape)),
    };
    let slope = slope.map_err(|error| error.to_string())?;
    let slope = call.graph.weight(slope);
    call.emit(PRelu, &[x, slope])
}

/// A value with other extents of a row.
fn reshaped(call: &mut Call<'_>, value: ValueId, shape: &[usize]) -> Result<ValueId, Refusal> {
    let shape = shape.iter().map(|extent| *extent as i64).collect();
    call.emit(Reshape { shape }, &[value])
}

/// Computes along the axis `axis` (the last) with what computes along the last.
fn along_an_axis(
    call: &mut NodeCall<'_, '_>,
    operator: impl engine::Operator,
) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let axis = call.attributes.int("axis")?.unwrap_or(-1);
    let x = call.rows(0)?;
    let rank = call.shape(x).len();
    let axis = call.row_axis(axis, rank)?;
    let there = Transpose::to_the_end(rank, axis);
    let back = there.inverse();
    let x = call.emit(there, &[x])?;
    let output = call.emit(operator, &[x])?;
    call.emit(back, &[output])
}

fn lp_normalization(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    match call.attributes.int("p")?.unwrap_or(2) {
        1 => along_an_axis(call, LpNormalization::L1),
        2 => along_an_axis(call, LpNormalization::L2),
        other => Err(format!("attribute \"p\": expected 1 or 2, got {other}").into()),
    }
}

/// Along axis 1, the first of the row.
fn batch_normalization(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(5, 5)?;
    call.attributes.only("training_mode", 0)?;
    call.attributes.float("momentum")?;
    let epsilon = f64::from(call.attributes.float("epsilon")?.unwrap_or(1e-5));
    let x = call.rows(0)?;
    let rank = call.shape(x).len();
    let axis = call.row_axis(1, rank)?;
    let there = Transpose::to_the_end(rank, axis);
    let back = there.inverse();
    let mut operands = vec![call.emit(there, &[x])?];
    for index in 1..5 {
        let weight = call.required_constant(index)?;
        operands.push(call.graph.weight(weight));
    }
    let output = call.emit(BatchNormalization { epsilon }, &operands)?;
    call.emit(back, &[output])
}

/// Over the axes from `axis` on.
fn layer_normalization(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(2, 3)?;
    call.attributes.only("stash_type", 1)?;
    let axis = call.attributes.int("axis")?.unwrap_or(-1);
    let epsilon = call.attributes.float("epsilon")?.unwrap_or(1e-5);
    let x = call.rows(0)?;
    let shape = call.shape(x);
    let axis = call.row_axis(axis, shape.len())?;
    let (kept, normalized) = shape.split_at(axis);
    let columns: usize = normalized.iter().product();
    let mut flat = kept.to_vec();
    flat.push(columns);
    let scale = call.required_constant(1)?;
    let shift = match call.constant(2)? {
        Some(shift) => shift,
        None => Arc::new(ArrayD::zeros(scale.raw_dim())),
    };
    let mut operands = vec![reshaped(call, x, &flat)?];
    for (index, weight) in [(1, scale), (2, shift)] {
        let whole = weight.broadcast(IxDyn(normalized)).ok_or_else(|| {
            format!(
                "input {index}: expected shape {normalized:?}, got {:?}",
                weight.shape()
            )
        })?;
        let values: Vec<f32> = whole.iter().copied().collect();
        let values = ArrayD::from_shape_vec(IxDyn(&[columns]), values);
        operands.push(
            call.graph
                .weight(values.map_err(|error| error.to_string())?),
        );
    }
    let output = call.emit(LayerNormalization { epsilon }, &operands)?;
    reshaped(call, output, &shape)
}

/// Over the axes `axes`, which stay with extent 1 unless `keepdims` is 0.
fn reduce(call: &mut NodeCall<'_, '_>, operator: Reduce) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let keeps = call.attributes.int("keepdims")?.unwrap_or(1) != 0;
    let does_nothing = call.attributes.int("noop_with_empty_axes")?.unwrap_or(0) != 0;
    let axes = call.attributes.ints("axes")?.unwrap_or_default();
    let x = call.rows(0)?;
    if axes.is_empty() {
        return match does_nothing {
            true => call.emit(Identity, &[x]),
            false => {
                Err("without \"axes\" it takes all rows together; expected axes from 1 on".into())
            }
        };
    }
    let shape = call.shape(x);
    let mut reduced = axes
        .iter()
        .map(|axis| call.row_axis(*axis, shape.len()))
        .collect::<Result<Vec<_>, _>>()?;
    reduced.sort_unstable();
    reduced.dedup();
    let kept: Vec<usize> = (0..shape.len())
        .filter(|axis| !reduced.contains(axis))
        .collect();
    let mut flat: Vec<usize> = kept.iter().map(|axis| shape[*axis]).collect();
    flat.push(reduced.iter().map(|axis| shape[*axis]).product());
    let permutation = kept.into_iter().chain(reduced.iter().copied()).collect();
    let moved = call.emit(Transpose { permutation }, &[x])?;
    let moved = reshaped(call, moved, &flat)?;
    let output = call.emit(operator, &[moved])?;
    if !keeps {
        return Ok(output);
    }
    let whole: Vec<usize> = (0..shape.len())
        .map(|axis| {
            if reduced.contains(&axis) {
                1
            } else {
                shape[axis]
            }
        })
        .collect();
    reshaped(call, output, &whole)
}

fn concat(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    let axis = call.attributes.int("axis")?;
    let axis = axis.ok_or("the attribute \"axis\" is missing")?;
    let operands = (0..call.operands.len())
        .map(|index| call.rows(index))
        .collect::<Result<Vec<_>, _>>()?;
    let rank = call.shape(operands[0]).len();
    let axis = call.row_axis(axis, rank)? as isize;
    call.emit(Concat { axis }, &operands)
}

fn transpose(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    let rank = call.shape(x).len() as i64 + 1;
    let all = call.attributes.ints("perm")?;
    let all = all.unwrap_or_else(|| (0..rank).rev().collect());
    match all.split_first() {
        Some((0, row)) if row.iter().all(|axis| (1..rank).contains(axis)) => {
            let permutation = row.iter().map(|axis| *axis as usize - 1).collect();
            call.emit(Transpose { permutation }, &[x])
        }
        _ => Err(format!(
            "it moves the rows, or has another number of axes: expected \"perm\" of 0 and then 1 \
             to {} in any order, got {all:?}",
            rank - 1
        )
        .into()),
    }
}

fn flatten(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    let axis = call.attributes.int("axis")?.unwrap_or(1);
    let rank = call.shape(x).len() as i64 + 1;
    match axis {
        // A row of one number becomes a row of one axis.
        _ if axis == 1 || (axis < 0 && axis == 1 - rank) => call.emit(Reshape::flatten(), &[x]),
        _ => Err(
            format!("attribute \"axis\": expected 1, so that each row stays one, got {axis}")
                .into(),
        ),
    }
}

/// Of the shape the first extent is that of the rows: 0, or -1 where the others say all of a row.
fn reshape(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let copies = call.attributes.int("allowzero")?.unwrap_or(0) == 0;
    let x = call.rows(0)?;
    let from = call.shape(x);
    let shape = call.attributes.ints("shape")?;
    let shape = shape.ok_or("the attribute \"shape\" is missing")?;
    let Some((-1 | 0, row)) = shape.split_first() else {
        return Err(format!(
            "attribute \"shape\": expected 0 or -1 for the rows first, got {shape:?}"
        )
        .into());
    };
    let mut to = Vec::with_capacity(row.len());
    for (axis, extent) in row.iter().enumerate() {
        to.push(match (extent, from.get(axis)) {
            (0, Some(extent)) if copies => *extent as i64,
            (0, _) => {
                return Err(format!(
                    "attribute \"shape\": an extent of 0 at {} in {shape:?} has nothing to copy",
                    axis + 1
                )
                .into());
            }
            (extent, _) => *extent,
        });
    }
    call.emit(Reshape { shape: to }, &[x])
}

fn squeeze(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    let shape = call.shape(x);
    let axes = match call.attributes.ints("axes")? {
        Some(axes) => axes
            .iter()
            .map(|axis| call.row_axis(*axis, shape.len()))
            .collect::<Result<Vec<_>, _>>()?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|axis| shape[**axis] != 1) {
        return Err(format!(
            "axis {} has extent {}; only axes of extent 1 can go",
            axis + 1,
            shape[*axis]
        )
        .into());
    }
    let left: Vec<usize> = (0..shape.len())
        .filter(|axis| !axes.contains(axis))
        .map(|axis| shape[axis])
        .collect();
    reshaped(call, x, &left)
}

fn unsqueeze(call: &mut NodeCall<'_, '_>) -> Result<ValueId, Refusal> {
    call.expect_operands(1, 1)?;
    let x = call.rows(0)?;
    let mut shape = call.shape(x);
    let axes = call.attributes.ints("axes")?;
    let axes = axes.ok_or("the attribute \"axes\" is missing")?;
    let rank = shape.len() + axes.len();
    let mut new = axes
        .iter()
        .map(|axis| call.row_axis(*axis, rank))
        .collect::<Result<Vec<_>, _>>()?;
    new.sort_unstable();
    if new.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(format!("attribute \"axes\": an axis appears twice in {axes:?}").into());
    }
    for axis in new {
        shape.insert(axis, 1);
    }
    reshaped(call, x, &shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(TABLE.is_sorted_by_key(|(name, _)| *name));
        assert!(find("Gemm").is_some() && find("Conv").is_none());
    }
}
