//! What the bodies of all calls have in common: rows that fit the model's inputs.

use std::cmp::Ordering;
use std::fmt;

use super::super::error::ApiError;
use super::super::json::{ErrorKind, Kind, Mark, Reader, excerpt};
use super::super::predict::{Rows, row_mend, shape_with_rows};
use crate::model::Signature;
use crate::tensor::TensorSpec;

/// The only signature that a model has here.
pub(super) const SIGNATURE_NAME: &str = "serving_default";

/// Starts to read a body, with tokens such as `NaN` if the model takes them.
pub(super) fn reader<'a>(body: &'a [u8], signature: &Signature) -> Result<Reader<'a>, ApiError> {
    Ok(Reader::new(body)?.allowing_non_finite(signature.allow_non_finite))
}

/// Reads `signature_name`, which may only name the signature that there is.
pub(super) fn signature_name(reader: &mut Reader<'_>) -> Result<(), ApiError> {
    if reader.null()? {
        return Ok(());
    }
    expect_signature(&reader.string()?)
}

/// Checks the name of a signature.
pub(super) fn expect_signature(name: &str) -> Result<(), ApiError> {
    if !name.is_empty() && name != SIGNATURE_NAME {
        return Err(ApiError::invalid(
            "unknown_signature",
            format!(
                "signature_name: expected {SIGNATURE_NAME:?} or none, got {}",
                excerpt(name, 40)
            ),
        ));
    }
    Ok(())
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
            "shape_mismatch",
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
        "too_many_rows",
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
    let max_values = max_rows.saturating_mul(spec.row_elements());
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
        [rows, ref row_shape @ ..] if *row_shape == *spec.row_shape || rows == 0 => Ok(rows),
        _ => {
            let mend = nesting_mend(spec, extents.len());
            let expected = format_args!("{spec}");
            Err(mismatch(
                &reader.path(place),
                spec,
                expected,
                &extents,
                &mend,
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
    if rows > max_rows && is_nested != spec.row_shape.is_empty() {
        return Ok(too_many_rows(&path, rows, max_rows));
    }
    let mend = if is_nested {
        row_mend(spec)
    } else {
        nesting_mend(spec, 1)
    };
    Ok(ApiError::invalid(
        "shape_mismatch",
        format!(
            "{path}: input {:?}: expected {spec}, got more values than {max_rows} rows have; {mend}",
            spec.name
        ),
    ))
}

/// What to do about an input nested in so many arrays.
fn nesting_mend(spec: &TensorSpec, rank: usize) -> String {
    let shape = shape_with_rows(spec);
    match rank.cmp(&(spec.row_shape.len() + 1)) {
        Ordering::Equal => row_mend(spec),
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
    let extents = reader.numbers(values, spec.row_elements())?;
    if *extents == *spec.row_shape {
        return Ok(());
    }
    let mend = if extents.len() == spec.row_shape.len() {
        row_mend(spec)
    } else {
        format!("nest the row as {:?}", spec.row_shape)
    };
    let expected = format_args!("{} {:?}", spec.datatype, spec.row_shape);
    Err(mismatch(
        &reader.path(place),
        spec,
        expected,
        &extents,
        &mend,
    ))
}

fn mismatch(
    place: &str,
    spec: &TensorSpec,
    expected: fmt::Arguments<'_>,
    found: &[usize],
    mend: &str,
) -> ApiError {
    let found = match found {
        [] => "one number".into(),
        // Numbers of JSON are read as what the input takes.
        shape => format!("{} {shape:?}", spec.datatype),
    };
    ApiError::invalid(
        "shape_mismatch",
        format!(
            "{place}: input {:?}: expected {expected}, got {found}; {mend}",
            spec.name
        ),
    )
}

/// The error of an input that did not come: the first of them, with what it takes.
pub(super) fn missing_input(
    place: &str,
    spec: &TensorSpec,
    expected: fmt::Arguments<'_>,
) -> ApiError {
    ApiError::invalid(
        "missing_input",
        format!(
            "{place}: input {:?}: expected {expected}, got none; add the key {:?}",
            spec.name, spec.name
        ),
    )
}

/// Lists the names of features that did not come, the first few of them.
pub(super) fn missing_features<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> ApiError {
    /// So many names tell what is wrong.
    const SHOWN: usize = 5;
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    ApiError::invalid(
        "missing_input",
        format!(
            "{place}: expected every feature, got none for {}{more}; add them",
            names[..names.len().min(SHOWN)].join(", ")
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
        "unknown_input",
        format!(
            "{path}: the model has no input {}; it takes {}",
            excerpt(key, 40),
            known.join(", ")
        ),
    )
}
