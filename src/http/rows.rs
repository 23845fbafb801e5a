//! Rows that fit the model's inputs: what bodies that hold rows have in common.

mod columns;
mod list;
mod named;

pub(super) use columns::columns;
pub(super) use list::{list, objects};
pub(super) use named::{Columns, Row};

use std::fmt;

use super::error::{ApiError, ErrorCode};
use super::intake::InputRows;
use crate::json::Reader;
use crate::messages::excerpt;
use crate::model::Signature;
use crate::tensor::TensorSpec;

/// Starts to read a body, with tokens such as `NaN` if the model takes them.
pub(super) fn reader<'a>(body: &'a [u8], signature: &Signature) -> Result<Reader<'a>, ApiError> {
    Ok(Reader::new(body)?.allowing_non_finite(signature.allow_non_finite))
}

/// The rows of each input, none at first.
pub(super) fn none(signature: &Signature) -> Vec<InputRows<'_>> {
    signature.inputs.iter().map(InputRows::none).collect()
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
