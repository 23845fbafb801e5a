//! Rows as JSON documents, one a line.

use super::error::{ApiError, ErrorCode, Place};
use super::intake::{InputRows, Rows, is_base64, too_many_rows};
use super::rows::{self, Columns, Row};
use crate::json::Kind;
use crate::model::Signature;

/// Reads a body: on each line a row, as its values or as an object that holds them by name. Empty
/// lines are no rows.
///
/// # Errors
/// 400 with the line.
pub(super) fn decode(
    body: &[u8],
    signature: &Signature,
    max_rows: usize,
) -> Result<Rows, ApiError> {
    let columns = Columns::of(signature);
    let mut row = Row::empty(&columns);
    let mut inputs = rows::none(signature);
    let mut count = 0;
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if count == max_rows {
            let lines = body.split(|byte| *byte == b'\n');
            let all = lines.filter(|line| !line.trim_ascii().is_empty()).count();
            return Err(too_many_rows("the body", all, max_rows));
        }
        row.forget();
        read(line, &columns, &mut row, &mut inputs).map_err(|error| on_line(error, index + 1))?;
        count += 1;
    }
    Rows::join("the body", inputs, max_rows)
}

fn read(
    line: &[u8],
    columns: &Columns<'_>,
    row: &mut Row,
    inputs: &mut [InputRows<'_>],
) -> Result<(), ApiError> {
    let signature = columns.signature();
    let mut reader = rows::reader(line, signature)?;
    let is_named = reader.peek()? == Kind::Object && !is_base64(&mut reader, signature);
    match &mut *inputs {
        _ if is_named => row.read_whole(&mut reader, columns, inputs)?,
        [input] => input.read_row(&mut reader)?,
        _ => {
            return Err(ApiError::invalid(
                ErrorCode::WrongType,
                format!(
                    "the body: the model has several inputs; send each row as an object: {}",
                    rows::object_of(signature)
                ),
            ));
        }
    }
    Ok(reader.end()?)
}

/// The same error, with the line of its document.
#[cold]
fn on_line(error: ApiError, line: usize) -> ApiError {
    let place = format!("line {line}");
    match error {
        ApiError::Body(error) => {
            let at = Place::from(error.path().clone()).on_line(line);
            let code = ErrorCode::from(error.kind());
            ApiError::invalid(code, error.within(&place).to_string()).at(at)
        }
        ApiError::Invalid {
            code,
            message,
            place: at,
        } => {
            let message = match message.strip_prefix("the body") {
                Some(after) => place + after,
                None => format!("{place}, {message}"),
            };
            let at = match at {
                Some(at) => at.on_line(line),
                None => Place::line(line),
            };
            ApiError::invalid(code, message).at(at)
        }
        error => error,
    }
}
