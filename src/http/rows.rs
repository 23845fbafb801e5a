//! Rows that fit the model's inputs: what bodies that hold rows have in common.

mod columns;
mod list;
mod named;

pub(super) use columns::columns;
pub(super) use list::{list, objects};
pub(super) use named::{Columns, Row};

use std::cmp::Ordering;
use std::fmt;

use super::error::{ApiError, ErrorCode};
use super::predict::{Rows, row_hint, shape_with_rows};
use crate::json::{ErrorKind, Kind, Mark, Path, Reader};
use crate::model::Signature;
use crate::spelling::excerpt;
use crate::tensor::TensorSpec;

/// Starts to read a body, with tokens such as `NaN` if the model takes them.
pub(super) fn reader<'a>(body: &'a [u8], signature: &Signature) -> Result<Reader<'a>, ApiError> {
    Ok(Reader::new(body)?.allowing_non_finite(signature.allow_non_finite))
}

/// Puts the values of a row from the order of their columns into that of the features: `order` has the
/// feature of each column. `scratch` is as long as the row.
pub(super) fn reorder(row: &mut [f32], order: &[usize], scratch: &mut [f32]) {
    scratch.copy_from_slice(row);
    for (&to, &value) in order.iter().zip(&*scratch) {
        row[to] = value;
    }
}

/// The buffers of a request's inputs, empty at first.
pub(super) fn buffers(signature: &Signature) -> Vec<Vec<f32>> {
    vec![Vec::new(); signature.inputs.len()]
}

/// Checks that there are rows, and not too many.
pub(super) fn rows(
    place: &str,
    rows: usize,
    max_rows: usize,
    inputs: Vec<Vec<f32>>,
) -> Result<Rows, ApiError> {
    if rows == 0 {
        return Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!("{place}: expected at least 1 row, got none"),
        ));
    }
    if rows > max_rows {
        return Err(too_many_rows(place, rows, max_rows));
    }
    Ok(Rows {
        rows,
        inputs,
        timeout: None,
    })
}

pub(super) fn too_many_rows(place: &str, rows: usize, max_rows: usize) -> ApiError {
    ApiError::invalid(
        ErrorCode::TooManyRows,
        format!(
            "{place}: expected at most {max_rows} rows, got {rows}; split the request, or raise \
             limits.max_request_rows"
        ),
    )
}

/// The elements of the array at `place`, for messages.
pub(super) fn count(reader: &mut Reader<'_>, place: Mark) -> Result<usize, ApiError> {
    let mut count = 0;
    reader.revisit(place, |reader| {
        reader.array(|reader, _| {
            count += 1;
            Ok::<_, ApiError>(reader.skip()?)
        })
    })?;
    Ok(count)
}

/// Reads an input's tensor with its rows; returns how many there are.
pub(super) fn tensor(
    reader: &mut Reader<'_>,
    spec: &TensorSpec,
    max_rows: usize,
    values: &mut Vec<f32>,
) -> Result<usize, ApiError> {
    let place = reader.mark();
    let max_values = max_rows.saturating_mul(spec.shape.elements());
    // No body makes more room than its own bytes could fill, two for a number and its comma.
    values.reserve(max_values.min(reader.bytes_left() / 2 + 1));
    let extents = match reader.numbers(values, max_values) {
        Ok(extents) => extents,
        Err(error) if error.kind() == ErrorKind::TooMany => {
            return Err(too_many_values(reader, place, spec, max_rows)?);
        }
        Err(error) => return Err(error.into()),
    };
    match *extents {
        [rows, ref row_shape @ ..] if *row_shape == *spec.shape.extents || rows == 0 => Ok(rows),
        _ => {
            let hint = nesting_hint(spec, extents.len());
            let expected = format_args!("{spec}");
            Err(mismatch(
                reader.path(place),
                spec,
                expected,
                &extents,
                &hint,
            ))
        }
    }
}

/// What is wrong where more values came than the most rows hold: rows, or values in them.
#[cold]
fn too_many_values(
    reader: &mut Reader<'_>,
    place: Mark,
    spec: &TensorSpec,
    max_rows: usize,
) -> Result<ApiError, ApiError> {
    let path = reader.path(place);
    let rows = count(reader, place)?;
    let is_nested = reader.revisit(place, Reader::peek_element)? == Some(Kind::Array);
    if rows > max_rows && is_nested != spec.shape.extents.is_empty() {
        return Ok(too_many_rows(&path.to_string(), rows, max_rows).at(path));
    }
    let hint = if is_nested {
        row_hint(spec)
    } else {
        nesting_hint(spec, 1)
    };
    Ok(ApiError::invalid(
        ErrorCode::ShapeMismatch,
        format!(
            "{path}: input {:?}: expected {spec}, got more values than {max_rows} rows have; {hint}",
            spec.name
        ),
    )
    .at(path))
}

/// What to do about an input nested in this many arrays.
fn nesting_hint(spec: &TensorSpec, rank: usize) -> String {
    let shape = shape_with_rows(spec);
    match rank.cmp(&(spec.shape.extents.len() + 1)) {
        Ordering::Equal => row_hint(spec),
        Ordering::Greater => format!("take away brackets: the shape is {shape}"),
        Ordering::Less if rank == 0 => format!("send a list of rows: the shape is {shape}"),
        Ordering::Less => format!("wrap each row in brackets: the shape is {shape}"),
    }
}

/// Reads one row of an input.
pub(super) fn row(
    reader: &mut Reader<'_>,
    spec: &TensorSpec,
    values: &mut Vec<f32>,
) -> Result<(), ApiError> {
    let place = reader.mark();
    let extents = reader.numbers(values, spec.shape.elements())?;
    if *extents == *spec.shape.extents {
        return Ok(());
    }
    let hint = if extents.len() == spec.shape.extents.len() {
        row_hint(spec)
    } else {
        format!("nest the row as {:?}", spec.shape.extents)
    };
    let expected = format_args!("{} {:?}", spec.datatype, spec.shape.extents);
    Err(mismatch(
        reader.path(place),
        spec,
        expected,
        &extents,
        &hint,
    ))
}

fn mismatch(
    place: Path,
    spec: &TensorSpec,
    expected: fmt::Arguments<'_>,
    found: &[usize],
    hint: &str,
) -> ApiError {
    let found = match found {
        [] => "one number".into(),
        // Numbers of JSON are read as what the input takes.
        shape => format!("{} {shape:?}", spec.datatype),
    };
    ApiError::invalid(
        ErrorCode::ShapeMismatch,
        format!(
            "{place}: input {:?}: expected {expected}, got {found}; {hint}",
            spec.name
        ),
    )
    .at(place)
}

/// The error of an input that did not come: the first of them, with what it takes.
pub(super) fn missing_input(
    place: &str,
    spec: &TensorSpec,
    expected: fmt::Arguments<'_>,
) -> ApiError {
    ApiError::invalid(
        ErrorCode::MissingInput,
        format!(
            "{place}: input {:?}: expected {expected}, got none; add the key {:?}",
            spec.name, spec.name
        ),
    )
}

/// The error of a key that names no input.
pub(super) fn unknown(key: &str, path: &str, signature: &Signature) -> ApiError {
    let known: Vec<_> = signature
        .inputs
        .iter()
        .map(|spec| format!("{:?}", spec.name))
        .collect();
    ApiError::invalid(
        ErrorCode::UnknownInput,
        format!(
            "{path}: the model has no input {}; it takes {}",
            excerpt(key, 40),
            known.join(", ")
        ),
    )
}

/// The input of a model that has one, for forms that can hold no more.
///
/// # Errors
/// 400 for a model of several.
pub(super) fn single_input<'a>(
    signature: &'a Signature,
    form: &str,
) -> Result<&'a TensorSpec, ApiError> {
    match &*signature.inputs {
        [spec] => Ok(spec),
        specs => Err(ApiError::invalid(
            ErrorCode::WrongType,
            format!(
                "the body: expected a model with one input for {form}, this one has {}; send JSON: \
                 {{\"instances\": [{}]}}",
                specs.len(),
                object_of(signature)
            ),
        )),
    }
}

/// Shows the object that holds all inputs.
pub(super) fn object_of(signature: &Signature) -> String {
    let inputs = signature.inputs.iter();
    let members: Vec<_> = inputs.map(|spec| format!("{:?}: ...", spec.name)).collect();
    format!("{{{}}}", members.join(", "))
}

/// Reads parameters of the model. There are none: those that would change nothing are
/// refused rather than ignored.
pub(super) fn no_parameters(reader: &mut Reader<'_>, place: &str) -> Result<(), ApiError> {
    if reader.null()? {
        return Ok(());
    }
    let mut first = None;
    reader.object(|reader, key| {
        first.get_or_insert_with(|| excerpt(key, 40));
        reader.skip()
    })?;
    match first {
        None => Ok(()),
        Some(first) => Err(ApiError::invalid(
            ErrorCode::NotServed,
            format!(
                "{place}: expected none, as models here take no parameters, got {first}; leave {place} out"
            ),
        )),
    }
}
