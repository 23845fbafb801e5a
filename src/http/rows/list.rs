//! A list of rows; each is its values or an object that holds them by name.

use super::{Columns, Row, buffers, count, object_of, rows, tensor, too_many_rows};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::predict::Rows;
use crate::json::{Kind, Reader};
use crate::model::Signature;

/// Reads a list of rows: for a single input a row may be its values, and always an object with each
/// input by its name, or with each feature of a model that has names for them.
///
/// `place` is what the list is called in messages.
pub(in crate::http) fn list(
    reader: &mut Reader<'_>,
    signature: &Signature,
    max_rows: usize,
    place: &str,
) -> Result<Rows, ApiError> {
    if reader.peek_element()? == Some(Kind::Object) {
        return objects(reader, &Columns::of(signature), None, max_rows, place);
    }
    let [spec] = &*signature.inputs else {
        return Err(ApiError::invalid(
            ErrorCode::WrongType,
            format!(
                "{place}: the model has several inputs; send each row as an object: {}",
                object_of(signature)
            ),
        ));
    };
    let mut inputs = buffers(signature);
    let count = tensor(reader, spec, max_rows, &mut inputs[0])?;
    rows(place, count, max_rows, inputs)
}

/// Reads a list of objects, each over what all of them share.
pub(in crate::http) fn objects(
    reader: &mut Reader<'_>,
    columns: &Columns<'_>,
    shared: Option<&Row>,
    max_rows: usize,
    place: &str,
) -> Result<Rows, ApiError> {
    let mut inputs = buffers(columns.signature());
    let mut row = match shared {
        Some(shared) => shared.clone(),
        None => Row::empty(columns),
    };
    let mut came = 0;
    let all = reader.mark();
    reader.array(|reader, index| {
        if index == max_rows {
            return Err(too_many_rows(place, count(reader, all)?, max_rows));
        }
        came += 1;
        match shared {
            Some(shared) => row.reset_to(shared),
            None => row.forget(),
        }
        row.read_whole(reader, columns, &mut inputs)
    })?;
    rows(place, came, max_rows, inputs)
}
