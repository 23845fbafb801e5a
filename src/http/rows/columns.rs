//! Rows by columns: the tensor of each input.

use super::{missing_input, none, object_of};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::{Rows, is_base64, unknown_input};
use crate::json::{Kind, Reader};
use crate::model::Signature;
use crate::tensor::TensorSpec;

/// Reads the tensor of the single input, or an object with the tensor of each.
///
/// `place` is what it is called in messages.
pub(in crate::http) fn columns(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
    place: &'static str,
) -> Result<Rows, ApiError> {
    let mut inputs = none(signature);
    if let [input] = &mut *inputs
        && (reader.peek()? != Kind::Object || is_base64(reader, signature))
    {
        input.read(reader, max_rows)?;
        return Rows::join(place, inputs, max_rows);
    }
    if reader.peek()? == Kind::Array {
        return Err(ApiError::invalid(
            ErrorCode::WrongType,
            format!(
                "{place}: the model has several inputs; send an object with the rows of each: {}",
                object_of(signature)
            ),
        ));
    }
    let mut taken = vec![false; inputs.len()];
    named(reader, signature, &mut taken, |reader, index| {
        inputs[index].read(reader, max_rows).map(|_| ())
    })?;
    if let Some(spec) = first_missing(signature, &taken) {
        return Err(missing_input(place, spec, format_args!("{spec}")));
    }
    Rows::join(place, inputs, max_rows)
}

/// Reads an object whose keys are inputs' names.
fn named(
    reader: &mut Reader<'_>,
    signature: &Signature,
    taken: &mut [bool],
    member: impl FnMut(&mut Reader<'_>, usize) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    reader.known_members(
        taken,
        |key| signature.inputs.iter().position(|spec| spec.name == key),
        |key, path| unknown_input(key, &path.to_string(), signature).at(path),
        member,
    )
}

/// The first input that did not come, if one did not.
fn first_missing<'a>(signature: &'a Signature, taken: &[bool]) -> Option<&'a TensorSpec> {
    let first = taken.iter().position(|taken| !taken)?;
    Some(&signature.inputs[first])
}
