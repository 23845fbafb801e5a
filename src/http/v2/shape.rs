//! Does a tensor that a client declares fit the model's input?

use std::fmt;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::numbers::Element;
use crate::http::predict::{row_hint, shape_with_rows};
use crate::json::{ErrorKind, Extents, MAX_RANK, Reader};
use crate::spelling::excerpt;
use crate::tensor::TensorSpec;

/// How a tensor's values come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Binary,
}

/// The shape that a client wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared(Vec<u64>);

impl Declared {
    /// A shape that was read already.
    #[cfg(feature = "grpc")]
    pub(super) fn of(extents: Vec<u64>) -> Self {
        Self(extents)
    }

    /// Reads an array of at most [`MAX_RANK`] extents.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ApiError> {
        let mut extents = Vec::with_capacity(4);
        reader.array(|reader, index| {
            if index == MAX_RANK {
                let place = reader.mark();
                return Err(ApiError::invalid(
                    ErrorCode::ShapeMismatch,
                    format!(
                        "{}: a shape has at most {MAX_RANK} axes",
                        reader.path(place)
                    ),
                )
                .at(reader.path(place)));
            }
            let place = reader.mark();
            match reader.u64() {
                Ok(extent) => extents.push(extent),
                // As metadata writes the number of rows.
                Err(error) if index == 0 && error.kind() == ErrorKind::Range => {
                    return Err(ApiError::invalid(
                        ErrorCode::OutOfRange,
                        format!(
                            "{}: expected a number of rows, 1 or more, found {}; count the rows \
                             of \"data\"",
                            reader.path(place),
                            reader.found()
                        ),
                    )
                    .at(reader.path(place)));
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })?;
        Ok(Self(extents))
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Checks datatype and shape, before any value is read; returns the rows.
///
/// # Errors
/// 400 as `input "x": expected FP32 [-1, 64], got FP32 [2, 63]; send 64 values a row`.
pub(super) fn check(
    spec: &TensorSpec,
    datatype: &str,
    shape: &Declared,
    max_rows: usize,
    form: Form,
) -> Result<usize, ApiError> {
    let mismatch = |code, hint: fmt::Arguments<'_>| {
        let known = datatype.len() <= 6 && datatype.bytes().all(|b| b.is_ascii_alphanumeric());
        let datatype = if known {
            datatype.to_owned()
        } else {
            excerpt(datatype, 20)
        };
        Err(ApiError::invalid(
            code,
            format!(
                "input {:?}: expected {spec}, got {datatype} {shape}; {hint}",
                spec.name
            ),
        ))
    };
    if datatype != spec.datatype.as_str() {
        // Halves have no decimal text of their own, so that JSON carries none.
        match (form, Element::named(datatype).is_some()) {
            (Form::Binary, true) => {}
            (Form::Json, true) => {
                let hint = format_args!(
                    "send {0} values and say so, or {datatype} values as binary data",
                    spec.datatype
                );
                return mismatch(ErrorCode::DatatypeMismatch, hint);
            }
            (_, false) => {
                let hint = format_args!("send {} values and say so", spec.datatype);
                return mismatch(ErrorCode::DatatypeMismatch, hint);
            }
        }
    }
    let row_shape = spec.shape.extents.iter().map(|&extent| extent as u64);
    let rows = match *shape.0 {
        [rows, ref extents @ ..] if extents.iter().copied().eq(row_shape) => rows,
        _ if shape.0.len() == spec.shape.extents.len() + 1 => {
            return mismatch(ErrorCode::ShapeMismatch, format_args!("{}", row_hint(spec)));
        }
        _ => {
            let hint = format_args!(
                "write the shape as {}, the number of rows first",
                shape_with_rows(spec)
            );
            return mismatch(ErrorCode::ShapeMismatch, hint);
        }
    };
    match usize::try_from(rows) {
        Ok(0) => mismatch(
            ErrorCode::ShapeMismatch,
            format_args!("send at least 1 row"),
        ),
        Ok(rows) if rows <= max_rows && rows.checked_mul(spec.shape.elements()).is_some() => {
            Ok(rows)
        }
        _ => mismatch(
            ErrorCode::TooManyRows,
            format_args!(
                "send at most {max_rows} rows a request, or raise limits.max_request_rows"
            ),
        ),
    }
}

/// Checks the values that came: as many as the shape says, flat or nested as the shape is.
pub(super) fn needs_values(
    spec: &TensorSpec,
    rows: usize,
    found: usize,
    nesting: &Extents,
) -> Result<(), ApiError> {
    if found != rows * spec.shape.elements() {
        return Err(wrong_count(spec, rows, found));
    }
    let shape = shape_of(spec, rows);
    if nesting.len() > 1 && **nesting != *shape {
        return Err(ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "input {:?}: expected data nested as its shape {shape:?}, or flat, got nested as \
                 {:?}",
                spec.name, &**nesting
            ),
        ));
    }
    Ok(())
}

/// The refusal of values that are not as many as their shape says.
pub(super) fn wrong_count(spec: &TensorSpec, rows: usize, found: usize) -> ApiError {
    ApiError::invalid(
        ErrorCode::ShapeMismatch,
        format!(
            "input {:?}: shape {:?} needs {} values, got {found}; send as many values as the shape \
             says",
            spec.name,
            shape_of(spec, rows),
            rows * spec.shape.elements()
        ),
    )
}

fn shape_of(spec: &TensorSpec, rows: usize) -> Vec<usize> {
    let mut shape = vec![rows];
    shape.extend(&spec.shape.extents);
    shape
}
