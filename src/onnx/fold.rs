//! What does not depend on the rows, computed once.

use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::attributes::NodeAttributes;
use super::constants::{Constant, Integer};
use super::proto::NodeProto;
use super::tensors;

/// The operators that are computed, sorted.
const KNOWN: &[&str] = &[
    "Add",
    "Cast",
    "CastLike",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Exp",
    "Expand",
    "Gather",
    "Identity",
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
    "Reshape",
    "Shape",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

/// Whether an operator is folded when none of its inputs depends on the rows.
pub(super) fn has(operator: &str) -> bool {
    KNOWN.binary_search(&operator).is_ok()
}

/// Computes a node of constants.
pub(super) fn fold(
    node: &NodeProto,
    inputs: &[Option<&Constant>],
    opset: i64,
    directory: &Path,
) -> Result<Constant, String> {
    let given = NodeAttributes::of(node);
    let input = |index: usize| -> Result<&Constant, String> {
        let input = inputs.get(index).copied().flatten();
        input.ok_or_else(|| format!("input {index} is missing"))
    };
    // Older versions have an attribute where newer ones have an input.
    let list = |name: &str, index: usize| -> Result<Option<Vec<i64>>, String> {
        match inputs.get(index).copied().flatten() {
            Some(constant) => constant.known().map(Some),
            None => given.ints(name),
        }
    };
    match &*node.op_type {
        "Constant" => constant(&given, directory),
        "Identity" => Ok(input(0)?.clone()),
        "Cast" => cast(input(0)?, given.int("to")?.unwrap_or(1)),
        "CastLike" => match input(1)? {
            Constant::Integers(_) => cast(input(0)?, 7),
            _ => cast(input(0)?, 1),
        },
        "Shape" => {
            let shape = match input(0)? {
                Constant::Floats(values) => values.shape().to_vec(),
                Constant::Integers(values) => values.shape().to_vec(),
                Constant::Texts(values) => vec![values.len()],
            };
            let shape = shape
                .into_iter()
                .map(|extent| Integer::Known(extent as i64));
            part_of_shape(node, shape.collect())
        }
        "ConstantOfShape" => {
            let shape = extents(&input(0)?.known()?)?;
            let value = match given.tensor("value")? {
                Some(value) => tensors::constant(value, directory)?,
                None => Constant::from_floats(ArrayD::zeros(IxDyn(&[1]))),
            };
            match &value {
                Constant::Integers(values) => {
                    let value = *values.first().ok_or("its value is empty")?;
                    Ok(Constant::from_integers(ArrayD::from_elem(
                        IxDyn(&shape),
                        value,
                    )))
                }
                _ => {
                    let value = value.single()?;
                    Ok(Constant::from_floats(ArrayD::from_elem(
                        IxDyn(&shape),
                        value,
                    )))
                }
            }
        }
        "Reshape" => {
            let shape = list("shape", 1)?.ok_or("its shape is missing")?;
            moved(input(0)?, &Move::Reshape(shape))
        }
        "Expand" => {
            let shape = list("shape", 1)?.ok_or("its shape is missing")?;
            moved(input(0)?, &Move::Expand(shape))
        }
        "Squeeze" => moved(input(0)?, &Move::Squeeze(list("axes", 1)?)),
        "Unsqueeze" => {
            let axes = list("axes", 1)?.ok_or("its axes are missing")?;
            moved(input(0)?, &Move::Unsqueeze(axes))
        }
        "Transpose" => moved(input(0)?, &Move::Transpose(given.ints("perm")?)),
        "Gather" => {
            let axis = given.int("axis")?.unwrap_or(0);
            let indices = input(1)?;
            let is_scalar = match indices {
                Constant::Integers(values) if values.ndim() > 1 => {
                    return Err("only indices of one axis are supported".into());
                }
                Constant::Integers(values) => values.ndim() == 0,
                _ => false,
            };
            moved(input(0)?, &Move::Gather(axis, indices.known()?, is_scalar))
        }
        "Slice" => {
            let (starts, ends, axes, steps) = match opset {
                ..10 => (
                    given.ints("starts")?.ok_or("its starts are missing")?,
                    given.ints("ends")?.ok_or("its ends are missing")?,
                    given.ints("axes")?,
                    None,
                ),
                _ => (
                    input(1)?.known()?,
                    input(2)?.known()?,
                    list("", 3)?,
                    list("", 4)?,
                ),
            };
            moved(input(0)?, &Move::Slice(starts, ends, axes, steps))
        }
        "Concat" => {
            let axis = given.int("axis")?.ok_or("its axis is missing")?;
            concat(inputs, axis)
        }
        "Add" => pairwise(input(0)?, input(1)?, |a, b| a + b, i64::checked_add),
        "Sub" => pairwise(input(0)?, input(1)?, |a, b| a - b, i64::checked_sub),
        "Mul" => pairwise(input(0)?, input(1)?, |a, b| a * b, i64::checked_mul),
        "Div" => pairwise(input(0)?, input(1)?, |a, b| a / b, i64::checked_div),
        "Pow" => pairwise(input(0)?, input(1)?, f32::powf, |a, b| {
            a.checked_pow(u32::try_from(b).ok()?)
        }),
        "Max" => several(inputs, larger, |a, b| Some(a.max(b))),
        "Min" => several(inputs, smaller, |a, b| Some(a.min(b))),
        "Neg" => each(input(0)?, |x| -x),
        "Sqrt" => each(input(0)?, f32::sqrt),
        "Exp" => each(input(0)?, f32::exp),
        "Log" => each(input(0)?, f32::ln),
        "Reciprocal" => each(input(0)?, |x| 1.0 / x),
        _ => Err("it depends on no input of the model, and its result is not computed here".into()),
    }
}

/// The extents from `start` to `end` of a shape.
pub(super) fn part_of_shape(node: &NodeProto, shape: Vec<Integer>) -> Result<Constant, String> {
    let given = NodeAttributes::of(node);
    let rank = shape.len() as i64;
    let place = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize;
    let start = place(given.int("start")?.unwrap_or(0));
    let end = place(given.int("end")?.unwrap_or(rank));
    let part = shape.get(start..end).unwrap_or_default().to_vec();
    Ok(vector(part))
}

fn vector(values: Vec<Integer>) -> Constant {
    let shape = IxDyn(&[values.len()]);
    Constant::from_integers(ArrayD::from_shape_vec(shape, values).expect("as long as it is"))
}

fn constant(given: &NodeAttributes<'_>, directory: &Path) -> Result<Constant, String> {
    if let Some(tensor) = given.tensor("value")? {
        return tensors::constant(tensor, directory);
    }
    if let Some(value) = given.float("value_float")? {
        return Ok(Constant::from_floats(ArrayD::from_elem(IxDyn(&[]), value)));
    }
    if let Some(values) = given.floats("value_floats")? {
        let shape = IxDyn(&[values.len()]);
        let values = ArrayD::from_shape_vec(shape, values).map_err(|error| error.to_string())?;
        return Ok(Constant::from_floats(values));
    }
    if let Some(value) = given.int("value_int")? {
        let value = ArrayD::from_elem(IxDyn(&[]), Integer::Known(value));
        return Ok(Constant::from_integers(value));
    }
    if let Some(values) = given.ints("value_ints")? {
        return Ok(vector(values.into_iter().map(Integer::Known).collect()));
    }
    match given.texts("value_strings")? {
        Some(texts) => Ok(Constant::Texts(texts)),
        None => Err("its value is missing, or of a kind that is not supported".into()),
    }
}

/// To a datatype by ONNX' number: floats of any size are 32-bit here, whole numbers 64-bit.
fn cast(constant: &Constant, to: i64) -> Result<Constant, String> {
    match to {
        1 | 10 | 11 | 16 => constant.floats().map(Constant::Floats),
        2..=7 | 12 | 13 => match constant {
            Constant::Floats(values) => Ok(Constant::from_integers(
                values.mapv(|value| Integer::Known(value as i64)),
            )),
            other => Ok(other.clone()),
        },
        _ => Err(format!(
            "attribute \"to\": expected floats or whole numbers, got datatype {to}"
        )),
    }
}

/// An operation that moves values without changing them.
enum Move {
    Reshape(Vec<i64>),
    Expand(Vec<i64>),
    Squeeze(Option<Vec<i64>>),
    Unsqueeze(Vec<i64>),
    Transpose(Option<Vec<i64>>),
    /// Axis, indices, whether they are a single one without an axis.
    Gather(i64, Vec<i64>, bool),
    /// Starts, ends, axes, steps.
    Slice(Vec<i64>, Vec<i64>, Option<Vec<i64>>, Option<Vec<i64>>),
}

fn moved(constant: &Constant, how: &Move) -> Result<Constant, String> {
    match constant {
        Constant::Floats(values) => how.of(values).map(Constant::from_floats),
        Constant::Integers(values) => how.of(values).map(Constant::from_integers),
        Constant::Texts(_) => Err("expected numbers, got text".into()),
    }
}

impl Move {
    fn of<T: Clone>(&self, values: &ArrayD<T>) -> Result<ArrayD<T>, String> {
        let rank = values.ndim();
        Ok(match self {
            Self::Reshape(shape) => {
                let shape = whole_shape(shape, values.shape())?;
                let items: Vec<T> = values.iter().cloned().collect();
                ArrayD::from_shape_vec(IxDyn(&shape), items).map_err(|error| error.to_string())?
            }
            Self::Expand(shape) => {
                let shape = common(values.shape(), &extents(shape)?)?;
                let whole = values.broadcast(IxDyn(&shape));
                whole.ok_or("its shapes do not go together")?.to_owned()
            }
            Self::Squeeze(axes) => {
                let mut left = values.clone();
                let mut axes = match axes {
                    Some(axes) => places(axes, rank)?,
                    None => (0..rank)
                        .filter(|axis| values.shape()[*axis] == 1)
                        .collect(),
                };
                axes.sort_unstable();
                axes.dedup();
                for axis in axes.into_iter().rev() {
                    if left.shape()[axis] != 1 {
                        return Err(format!("axis {axis} has extent {}", left.shape()[axis]));
                    }
                    left = left.index_axis_move(Axis(axis), 0);
                }
                left
            }
            Self::Unsqueeze(axes) => {
                let mut axes = places(axes, rank + axes.len())?;
                axes.sort_unstable();
                if axes.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err("an axis appears twice".into());
                }
                axes.into_iter().fold(values.clone(), |values, axis| {
                    values.insert_axis(Axis(axis))
                })
            }
            Self::Transpose(permutation) => {
                let axes = match permutation {
                    Some(axes) => places(axes, rank)?,
                    None => (0..rank).rev().collect(),
                };
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..rank) {
                    return Err(format!(
                        "attribute \"perm\": expected each axis once, got {axes:?}"
                    ));
                }
                let moved = values.view().permuted_axes(axes);
                moved.as_standard_layout().into_owned()
            }
            Self::Gather(axis, indices, is_scalar) => {
                let axis = places(&[*axis], rank)?[0];
                let indices = places(indices, values.shape()[axis])?;
                let mut shape = values.shape().to_vec();
                shape[axis] = indices.len();
                limited(shape)?;
                let gathered = values.select(Axis(axis), &indices);
                match is_scalar {
                    true => gathered.index_axis_move(Axis(axis), 0),
                    false => gathered,
                }
            }
            Self::Slice(starts, ends, axes, steps) => {
                let mut left = values.clone();
                for (index, (start, end)) in starts.iter().zip(ends).enumerate() {
                    let axis = match axes {
                        Some(axes) => *axes.get(index).ok_or("an axis is missing")?,
                        None => index as i64,
                    };
                    let axis = places(&[axis], rank)?[0];
                    let step = steps.as_ref().and_then(|steps| steps.get(index)).copied();
                    if step.unwrap_or(1) != 1 {
                        return Err("only steps of 1 are supported".into());
                    }
                    let extent = left.shape()[axis] as i64;
                    let place = |at: i64| {
                        (if at < 0 {
                            at.saturating_add(extent)
                        } else {
                            at
                        })
                        .clamp(0, extent)
                    };
                    let (start, end) = (place(*start), place(*end));
                    let slice = Slice::from(start as usize..end.max(start) as usize);
                    left = left.slice_axis(Axis(axis), slice).to_owned();
                }
                left
            }
        })
    }
}

/// Axes or indices counted from the front.
fn places(axes: &[i64], count: usize) -> Result<Vec<usize>, String> {
    let place = |at: &i64| {
        let counted = if *at < 0 { *at + count as i64 } else { *at };
        usize::try_from(counted)
            .ok()
            .filter(|place| *place < count)
            .ok_or_else(|| format!("{at} is not below {count}"))
    };
    axes.iter().map(place).collect()
}

fn extents(shape: &[i64]) -> Result<Vec<usize>, String> {
    let extents: Option<Vec<usize>> = shape.iter().map(|e| usize::try_from(*e).ok()).collect();
    let extents = extents.ok_or_else(|| format!("the shape {shape:?} is none"))?;
    limited(extents)
}

/// A shape with 0 for the extent that was there and -1 for what is left over.
fn whole_shape(shape: &[i64], from: &[usize]) -> Result<Vec<usize>, String> {
    let elements: usize = from.iter().product();
    let known = shape.iter().enumerate().map(|(axis, extent)| match extent {
        0 => from.get(axis).map_or(0, |extent| *extent as i64),
        -1 => 1,
        other => *other,
    });
    let mut known = extents(&known.collect::<Vec<_>>())?;
    let product: usize = known.iter().product();
    if let Some(axis) = shape.iter().position(|extent| *extent == -1)
        && product > 0
    {
        known[axis] = elements / product;
    }
    Ok(known)
}

/// The broadcast of two shapes, aligned by their last axes.
fn common(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        let leading = rank - shape.len();
        axis.checked_sub(leading).map_or(1, |axis| shape[axis])
    };
    let extent = |axis| match (at(a, axis), at(b, axis)) {
        (1, other) | (other, 1) => Ok(other),
        (a, b) if a == b => Ok(a),
        _ => Err(format!("shapes {a:?} and {b:?} do not go together")),
    };
    limited((0..rank).map(extent).collect::<Result<_, _>>()?)
}

/// The most elements of a result: a file of a few bytes may ask for more than the memory holds.
const MAX_ELEMENTS: usize = 1 << 26;

/// Refuses shapes of too many elements. The other extents are bounded even if one is 0.
fn limited(shape: Vec<usize>) -> Result<Vec<usize>, String> {
    let all = shape
        .iter()
        .fold(1, |all: usize, extent| all.saturating_mul((*extent).max(1)));
    match all <= MAX_ELEMENTS {
        true => Ok(shape),
        false => Err(format!(
            "expected at most {MAX_ELEMENTS} elements of what is computed at once, got shape {shape:?}"
        )),
    }
}

/// The larger one; NaN if either is NaN.
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller one; NaN if either is NaN.
fn smaller(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}

/// Combines any number of constants, one after the other.
fn several(
    inputs: &[Option<&Constant>],
    floats: fn(f32, f32) -> f32,
    integers: fn(i64, i64) -> Option<i64>,
) -> Result<Constant, String> {
    let mut inputs = inputs
        .iter()
        .map(|input| input.ok_or("an input is missing"));
    let first = inputs.next().ok_or("it has no inputs")??.clone();
    inputs.try_fold(first, |all, next| pairwise(&all, next?, floats, integers))
}

fn pairwise(
    a: &Constant,
    b: &Constant,
    floats: fn(f32, f32) -> f32,
    integers: fn(i64, i64) -> Option<i64>,
) -> Result<Constant, String> {
    if let (Constant::Integers(x), Constant::Integers(y)) = (a, b) {
        let (left, right) = (a.known()?, b.known()?);
        let left = ArrayD::from_shape_vec(x.raw_dim(), left).map_err(|error| error.to_string())?;
        let right =
            ArrayD::from_shape_vec(y.raw_dim(), right).map_err(|error| error.to_string())?;
        let results = combined(&left, &right, integers)?;
        let results: Option<Vec<Integer>> = results.iter().map(|r| r.map(Integer::Known)).collect();
        let results = results.ok_or("whole numbers overflow, or are divided by 0")?;
        let shape = common(x.shape(), y.shape())?;
        let results = ArrayD::from_shape_vec(IxDyn(&shape), results);
        return Ok(Constant::from_integers(
            results.map_err(|error| error.to_string())?,
        ));
    }
    let (a, b) = (a.floats()?, b.floats()?);
    combined(&a, &b, floats).map(Constant::from_floats)
}

fn combined<T: Copy, R>(
    a: &ArrayD<T>,
    b: &ArrayD<T>,
    function: fn(T, T) -> R,
) -> Result<ArrayD<R>, String> {
    let shape = common(a.shape(), b.shape())?;
    let whole = IxDyn(&shape);
    let (Some(a), Some(b)) = (a.broadcast(whole.clone()), b.broadcast(whole.clone())) else {
        return Err("its shapes do not go together".into());
    };
    let results = a.iter().zip(b.iter()).map(|(a, b)| function(*a, *b));
    ArrayD::from_shape_vec(whole, results.collect()).map_err(|error| error.to_string())
}

fn each(constant: &Constant, function: fn(f32) -> f32) -> Result<Constant, String> {
    Ok(Constant::Floats(Arc::new(
        constant.floats()?.mapv(function),
    )))
}

fn concat(inputs: &[Option<&Constant>], axis: i64) -> Result<Constant, String> {
    let inputs: Vec<&Constant> = inputs.iter().copied().flatten().collect();
    let integers: Option<Vec<_>> = inputs
        .iter()
        .map(|input| match input {
            Constant::Integers(values) => Some(values.view()),
            _ => None,
        })
        .collect();
    if let Some(parts) = integers {
        let axis = places(&[axis], parts.first().map_or(0, |part| part.ndim()))?[0];
        let joined = ndarray::concatenate(Axis(axis), &parts);
        return Ok(Constant::from_integers(
            joined.map_err(|error| error.to_string())?,
        ));
    }
    let floats: Vec<_> = inputs
        .iter()
        .map(|input| input.floats())
        .collect::<Result<_, _>>()?;
    let parts: Vec<_> = floats.iter().map(|values| values.view()).collect();
    let axis = places(&[axis], parts.first().map_or(0, |part| part.ndim()))?[0];
    let joined = ndarray::concatenate(Axis(axis), &parts);
    Ok(Constant::from_floats(
        joined.map_err(|error| error.to_string())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_are_sorted_for_the_search() {
        assert!(KNOWN.is_sorted());
    }

    fn integers(values: &[i64]) -> Constant {
        vector(values.iter().copied().map(Integer::Known).collect())
    }

    #[test]
    fn the_number_of_rows_passes_through_moves_and_stops_arithmetic() {
        let shape = vector(vec![Integer::Rows, Integer::Known(3), Integer::Known(4)]);
        let gather = Move::Gather(0, vec![0], false);
        let rows = moved(&shape, &gather).unwrap();
        assert_eq!(rows, vector(vec![Integer::Rows]));
        let joined = concat(&[Some(&rows), Some(&integers(&[-1]))], 0).unwrap();
        assert_eq!(
            joined.integers().unwrap(),
            [Integer::Rows, Integer::Known(-1)]
        );
        let product = pairwise(&rows, &integers(&[2]), |a, b| a * b, i64::checked_mul);
        assert!(product.unwrap_err().contains("how many rows"));
        let known = moved(&shape, &Move::Slice(vec![1], vec![i64::MAX], None, None)).unwrap();
        assert_eq!(known, integers(&[3, 4]));
        let twelve = pairwise(
            &moved(&known, &Move::Gather(0, vec![0], true)).unwrap(),
            &moved(&known, &Move::Gather(0, vec![-1], true)).unwrap(),
            |a, b| a * b,
            i64::checked_mul,
        );
        assert_eq!(twelve.unwrap().known().unwrap(), [12]);
    }

    #[test]
    fn shapes_go_together_as_onnx_says() {
        assert_eq!(common(&[2, 1], &[3]).unwrap(), [2, 3]);
        assert_eq!(common(&[], &[3]).unwrap(), [3]);
        assert!(common(&[2], &[3]).is_err());
        assert_eq!(whole_shape(&[0, -1], &[2, 3, 4]).unwrap(), [2, 12]);
        assert_eq!(whole_shape(&[-1], &[2, 3]).unwrap(), [6]);
    }

    #[test]
    fn moves_that_do_not_fit_are_refused() {
        let x = integers(&[1, 2, 3]);
        for how in [
            Move::Reshape(vec![2]),
            Move::Reshape(vec![-2]),
            Move::Squeeze(Some(vec![0])),
            Move::Transpose(Some(vec![1])),
            Move::Gather(0, vec![3], false),
            Move::Gather(1, vec![0], false),
            Move::Expand(vec![2]),
            Move::Slice(vec![0], vec![1], None, Some(vec![2])),
        ] {
            assert!(moved(&x, &how).is_err());
        }
    }
}
