//! Rows from nested arrays of JSON, which have no other shape than their nesting.

use std::cmp::Ordering;
use std::fmt;

use super::base64::Texts;
use super::hints::{row_hint, shape_with_rows, too_many_rows};
use super::input::InputRows;
use crate::http::error::{ApiError, ErrorCode};
use crate::json::{Bools, Error, ErrorKind, Extents, Kind, Mark, Path, Reader};
use crate::tensor::{DataType, TensorSpec, Values};

/// Reads nested arrays of an input's elements, at most so many.
pub(super) fn nested(
    reader: &mut Reader<'_>,
    datatype: DataType,
    values: &mut Values,
    max: usize,
) -> Result<Extents, Error> {
    // No body makes more room than its own bytes could fill, two for a number and its comma; and none for
    // a row of any length, which may be short.
    let room = match max {
        usize::MAX => 0,
        max => max.min(reader.bytes_left() / 2 + 1),
    };
    match values {
        Values::F32(values) => {
            values.reserve(room);
            reader.nested(values, max)
        }
        Values::F64(values) => {
            values.reserve(room);
            reader.nested(values, max)
        }
        Values::I64(values) if datatype == DataType::Bool => reader.nested(&mut Bools(values), max),
        Values::I64(values) => {
            values.reserve(room);
            reader.nested(values, max)
        }
        Values::Bytes(texts) => reader.nested(&mut Texts(texts), max),
    }
}

impl InputRows<'_> {
    /// Reads a list of rows; returns how many there are.
    ///
    /// # Errors
    /// 400 if they are no list of the input's rows, or more than `max_rows`.
    pub(in crate::http) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        max_rows: usize,
    ) -> Result<usize, ApiError> {
        match self.offsets.is_empty() {
            true => self.read_even(reader, max_rows),
            false => self.read_uneven(reader, max_rows),
        }
    }

    /// Reads rows of one size: all of them as one tensor.
    fn read_even(&mut self, reader: &mut Reader<'_>, max_rows: usize) -> Result<usize, ApiError> {
        let spec = self.spec;
        let place = reader.mark();
        let max_values = max_rows.saturating_mul(spec.shape.elements());
        let extents = match nested(reader, spec.datatype, &mut self.values, max_values) {
            Ok(extents) => extents,
            Err(error) if error.kind() == ErrorKind::TooMany => {
                return Err(too_many_values(reader, place, spec, max_rows)?);
            }
            Err(error) => return Err(error.into()),
        };
        match *extents {
            [rows, ref row_shape @ ..] if *row_shape == *spec.shape.extents || rows == 0 => {
                self.end_rows(rows, 0);
                Ok(rows)
            }
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

    /// Reads rows of as many tokens as each has: row by row.
    fn read_uneven(&mut self, reader: &mut Reader<'_>, max_rows: usize) -> Result<usize, ApiError> {
        let place = reader.mark();
        let mut rows = 0;
        reader.array(|reader, index| {
            if index == max_rows {
                let path = reader.path(place);
                let found = count(reader, place)?;
                return Err(too_many_rows(&path.to_string(), found, max_rows).at(path));
            }
            rows += 1;
            self.read_row(reader)
        })?;
        Ok(rows)
    }

    /// Reads one row.
    ///
    /// # Errors
    /// 400 if it is none of the input's.
    pub(in crate::http) fn read_row(&mut self, reader: &mut Reader<'_>) -> Result<(), ApiError> {
        read_row(reader, self.spec, &mut self.values)?;
        self.end_row();
        Ok(())
    }
}

impl InputRows<'_> {
    /// Reads a cell of a table: a row, or the bare value of an input of one value a row.
    ///
    /// # Errors
    /// As [`Self::read_row`].
    pub(in crate::http) fn read_cell(&mut self, reader: &mut Reader<'_>) -> Result<(), ApiError> {
        let shape = &self.spec.shape;
        let is_one = shape.axis().is_none() && shape.elements() == 1;
        if !is_one || reader.peek()? == Kind::Array {
            return self.read_row(reader);
        }
        nested(reader, self.spec.datatype, &mut self.values, 1)?;
        self.end_row();
        Ok(())
    }
}

/// Reads one row of an input and adds it to `values`.
///
/// # Errors
/// 400 if it is none of the input's.
pub(in crate::http) fn read_row(
    reader: &mut Reader<'_>,
    spec: &TensorSpec,
    values: &mut Values,
) -> Result<(), ApiError> {
    let place = reader.mark();
    let has_tokens = spec.shape.axis().is_some();
    let max = if has_tokens {
        usize::MAX
    } else {
        spec.shape.elements()
    };
    let extents = nested(reader, spec.datatype, values, max)?;
    let fits = match (has_tokens, &*extents) {
        (false, extents) => *extents == *spec.shape.extents,
        // A row without tokens has nothing that tells their shape.
        (true, [0]) => true,
        (true, [_, token @ ..]) => *token == *spec.shape.extents,
        (true, []) => false,
    };
    if fits {
        return Ok(());
    }
    let shape: Vec<String> = spec.wire_shape().skip(1).map(|n| n.to_string()).collect();
    let shape = format!("[{}]", shape.join(", "));
    let rank = spec.shape.row_extents().count();
    let hint = match extents.len() == rank {
        true => row_hint(spec),
        false if has_tokens && rank == 1 => "send the tokens of a row as one list".to_owned(),
        false => format!("nest the row as {shape}"),
    };
    let expected = format_args!("{} {shape}", spec.datatype);
    Err(mismatch(
        reader.path(place),
        spec,
        expected,
        &extents,
        &hint,
    ))
}

/// The elements of the array at `place`, for messages.
pub(in crate::http) fn count(reader: &mut Reader<'_>, place: Mark) -> Result<usize, ApiError> {
    let mut count = 0;
    reader.revisit(place, |reader| {
        reader.array(|reader, _| {
            count += 1;
            Ok::<_, ApiError>(reader.skip()?)
        })
    })?;
    Ok(count)
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
    match rank.cmp(&spec.wire_shape().count()) {
        Ordering::Equal => row_hint(spec),
        Ordering::Greater => format!("take away brackets: the shape is {shape}"),
        Ordering::Less if rank == 0 => format!("send a list of rows: the shape is {shape}"),
        Ordering::Less => format!("wrap each row in brackets: the shape is {shape}"),
    }
}

fn mismatch(
    place: Path,
    spec: &TensorSpec,
    expected: fmt::Arguments<'_>,
    found: &[usize],
    hint: &str,
) -> ApiError {
    let found = match found {
        [] if spec.datatype == DataType::Bytes => "one string".into(),
        [] => "one number".into(),
        // Values of JSON are read as what the input takes.
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
