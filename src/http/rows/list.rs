//! A list of rows; each is its values or an object that holds them by name.

use super::{Columns, Row, none, object_of};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::{Rows, count, is_base64, too_many_rows};
use crate::json::{Kind, Reader};
use crate::model::Signature;
use crate::tensor::DataType;

/// Reads a list of rows: for a single input a row may be its values, and always an object with each
/// input by its name, or with each feature of a model that has names for them.
///
/// `place` is what the list is called in messages.
pub(in crate::http) fn list(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
    place: &'static str,
) -> Result<Rows, ApiError> {
    if reader.peek_element()? == Some(Kind::Object) && !is_list_of_base64(reader, signature)? {
        return objects(reader, &Columns::of(signature), None, max_rows, place);
    }
    let mut inputs = none(signature);
    let [input] = &mut *inputs else {
        return Err(ApiError::invalid(
            ErrorCode::WrongType,
            format!(
                "{place}: the model has several inputs; send each row as an object: {}",
                object_of(signature)
            ),
        ));
    };
    input.read(reader, max_rows)?;
    Rows::join(place, inputs, max_rows)
}

/// Whether the rows of a list are byte strings of the only input, and no objects of named inputs.
fn is_list_of_base64(reader: &mut Reader<'_>, signature: &Signature) -> Result<bool, ApiError> {
    if signature.inputs[0].datatype != DataType::Bytes {
        return Ok(false);
    }
    let mut is_first_base64 = false;
    let place = reader.mark();
    reader.revisit(place, |reader| {
        reader.array(|reader, index| {
            if index == 0 {
                is_first_base64 = is_base64(reader, signature);
            }
            Ok::<_, ApiError>(reader.skip()?)
        })
    })?;
    Ok(is_first_base64)
}

/// Reads a list of objects, each over what all of them share.
pub(in crate::http) fn objects(
    reader: &mut Reader<'_>,
    columns: &Columns<'_>,
    shared: Option<&Row>,
    max_rows: usize,
    place: &'static str,
) -> Result<Rows, ApiError> {
    let mut inputs = none(columns.signature());
    let mut row = match shared {
        Some(shared) => shared.clone(),
        None => Row::empty(columns),
    };
    let all = reader.mark();
    reader.array(|reader, index| {
        if index == max_rows {
            return Err(too_many_rows(place, count(reader, all)?, max_rows));
        }
        match shared {
            Some(shared) => row.reset_to(shared),
            None => row.forget(),
        }
        row.read_whole(reader, columns, &mut inputs)
    })?;
    Rows::join(place, inputs, max_rows)
}
