//! Rows by columns: the tensor of each input.

use super::{buffers, missing_input, object_of, tensor, unknown};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::predict::Rows;
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
    place: &str,
) -> Result<Rows, ApiError> {
    let mut inputs = buffers(signature);
    if let [spec] = &*signature.inputs
        && reader.peek()? != Kind::Object
    {
        let rows = tensor(reader, spec, max_rows, &mut inputs[0])?;
        return super::rows(place, rows, max_rows, inputs);
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
    let mut rows = None;
    named(reader, signature, &mut taken, |reader, index| {
        let here = reader.mark();
        let spec = &signature.inputs[index];
        let its_rows = tensor(reader, spec, max_rows, &mut inputs[index])?;
        let first_rows = *rows.get_or_insert(its_rows);
        if its_rows != first_rows {
            return Err(ApiError::invalid(
                ErrorCode::ShapeMismatch,
                format!(
                    "{}: expected {first_rows} rows as in the input before it, got {its_rows}; send as \
                     many of each",
                    reader.path(here)
                ),
            )
            .at(reader.path(here)));
        }
        Ok(())
    })?;
    if let Some(spec) = first_missing(signature, &taken) {
        return Err(missing_input(place, spec, format_args!("{spec}")));
    }
    super::rows(place, rows.unwrap_or(0), max_rows, inputs)
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
        |key, path| unknown(key, &path.to_string(), signature).at(path),
        member,
    )
}

/// The first input that did not come, if one did not.
fn first_missing<'a>(signature: &'a Signature, taken: &[bool]) -> Option<&'a TensorSpec> {
    let first = taken.iter().position(|taken| !taken)?;
    Some(&signature.inputs[first])
}
