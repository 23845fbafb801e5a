//! The rows of a request, of all inputs.

use std::time::Duration;

use super::hints::{counted, too_many_rows};
use super::input::InputRows;
use crate::http::error::{ApiError, ErrorCode};
use crate::tensor::{Axis, Values};

/// The rows of a request, decoded and checked against the model's signature.
#[derive(Debug)]
pub(in crate::http) struct Rows {
    /// At least 1.
    pub(in crate::http) rows: usize,
    /// For each axis of the signature where the tokens of each row start, and where the last row's
    /// end.
    pub(in crate::http) offsets: Vec<Vec<usize>>,
    /// One buffer an input, in the signature's order.
    pub(in crate::http) inputs: Vec<Values>,
    /// How long the client wants to wait, if the body says so.
    pub(in crate::http) timeout: Option<Duration>,
    /// Whether the answer shows outputs that the step after the engine makes.
    pub(in crate::http) finish: bool,
}

impl Rows {
    /// Joins the rows of all inputs of a signature, in its order; `place` is what they are called in
    /// messages.
    ///
    /// # Errors
    /// 400 if there are none or more than `max_rows`, if an input has other rows than the first or
    /// other tokens in a row, or a value that it may not have.
    pub(in crate::http) fn join(
        place: &'static str,
        inputs: Vec<InputRows<'_>>,
        max_rows: usize,
    ) -> Result<Self, ApiError> {
        Self::joined(place, inputs, max_rows).map_err(|error| error.at(place))
    }

    fn joined(
        place: &str,
        mut inputs: Vec<InputRows<'_>>,
        max_rows: usize,
    ) -> Result<Self, ApiError> {
        let first = inputs.first().expect("a model has at least one input");
        let rows = first.rows;
        if let Some(other) = inputs.iter().find(|input| input.rows != rows) {
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!(
                    "{place}: input {:?} has {}, but input {:?} has {rows}; send as many of each",
                    other.spec.name,
                    counted(other.rows, "row"),
                    first.spec.name
                ),
            ));
        }
        if rows == 0 {
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!("{place}: expected at least 1 row, got none"),
            ));
        }
        if rows > max_rows {
            return Err(too_many_rows(place, rows, max_rows));
        }
        inputs.iter().try_for_each(|input| in_range(place, input))?;
        let offsets = offsets(place, &mut inputs)?;
        Ok(Self {
            rows,
            offsets,
            inputs: inputs.into_iter().map(|input| input.values).collect(),
            timeout: None,
            finish: false,
        })
    }

    /// The bytes that the rows take in memory.
    pub(in crate::http) fn bytes(&self) -> usize {
        let inputs: usize = self.inputs.iter().map(Values::bytes).sum();
        let offsets = self.offsets.iter().map(|offsets| size_of_val(&offsets[..]));
        inputs + offsets.sum::<usize>()
    }
}

/// Takes the offsets of each axis: of the first input along it. The others have the same.
fn offsets(place: &str, inputs: &mut [InputRows<'_>]) -> Result<Vec<Vec<usize>>, ApiError> {
    let mut axes: Vec<(Vec<usize>, &str)> = Vec::new();
    for input in inputs {
        let Some(Axis(axis)) = input.spec.shape.axis() else {
            continue;
        };
        let own = std::mem::take(&mut input.offsets);
        if axes.len() <= axis {
            axes.resize_with(axis + 1, Default::default);
        }
        let (first, name) = &mut axes[axis];
        if first.is_empty() {
            (*first, *name) = (own, &input.spec.name);
            continue;
        }
        // The first row that ends elsewhere.
        let Some(end) = own
            .iter()
            .zip(&*first)
            .position(|(own, other)| own != other)
        else {
            continue;
        };
        return Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "{place}: row {}: input {:?} has {}, but input {name:?} has {}; send as many of each",
                end - 1,
                input.spec.name,
                counted(own[end] - own[end - 1], "token"),
                first[end] - first[end - 1]
            ),
        ));
    }
    Ok(axes.into_iter().map(|(offsets, _)| offsets).collect())
}

/// Checks integers against the values that the input may have.
fn in_range(place: &str, input: &InputRows<'_>) -> Result<(), ApiError> {
    let (Values::I64(values), Some(range)) = (&input.values, &input.spec.range) else {
        return Ok(());
    };
    let Some(element) = values.iter().position(|value| !range.contains(value)) else {
        return Ok(());
    };
    let (first, last) = (range.start(), range.end());
    Err(ApiError::invalid(
        ErrorCode::OutOfRange,
        format!(
            "{place}: input {:?}: row {}: expected integers from {first} to {last}, got {}",
            input.spec.name,
            input.row_of(element),
            values[element]
        ),
    ))
}
