//! Values from cells of CSV.

use std::ops::RangeInclusive;

use super::input::InputRows;
use crate::csv::{self, Fault};
use crate::http::error::ErrorCode;
use crate::messages::excerpt;
use crate::tensor::Values;

impl InputRows<'_> {
    /// Reads a row that is a line of plain numbers; returns the position after it. Changes nothing and
    /// says `None` if the line is none, or the input takes others.
    pub(in crate::http) fn read_plain_line(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let Values::F32(values) = &mut self.values else {
            return None;
        };
        if !self.offsets.is_empty() {
            return None;
        }
        let start = values.len();
        match csv::plain_row(text, at, self.spec.shape.elements(), values) {
            Some(end) => {
                self.end_row();
                Some(end)
            }
            None => {
                values.truncate(start);
                None
            }
        }
    }

    /// Adds the value of a cell to the row that is being read.
    ///
    /// # Errors
    /// Why the cell holds none of the input's, as a code and in words.
    pub(in crate::http) fn push_cell(
        &mut self,
        cell: &[u8],
        allow_non_finite: bool,
    ) -> Result<(), (ErrorCode, String)> {
        match &mut self.values {
            Values::F32(values) => {
                let value = csv::number(cell, allow_non_finite);
                values.push(value.map_err(|fault| told(fault, cell))?);
            }
            Values::F64(values) => values.push(double(cell, allow_non_finite)?),
            Values::I64(values) => {
                let range = self.spec.datatype.integers().unwrap_or(i64::MIN..=i64::MAX);
                values.push(integer(cell, &range)?);
            }
            Values::Bytes(strings) => strings.push(cell),
        }
        Ok(())
    }
}

fn told(fault: Fault, cell: &[u8]) -> (ErrorCode, String) {
    let code = match fault {
        Fault::NotFinite => ErrorCode::NotFinite,
        Fault::Empty | Fault::NoNumber => ErrorCode::WrongType,
    };
    let (_, message) = fault.told(cell);
    (code, message)
}

/// A number of JSON's grammar in double precision.
fn double(cell: &[u8], allow_non_finite: bool) -> Result<f64, (ErrorCode, String)> {
    // The same texts are numbers, whatever their precision.
    let single = csv::number(cell, true).map_err(|fault| told(fault, cell))?;
    let text = String::from_utf8_lossy(cell.trim_ascii());
    let value = text.parse().unwrap_or(f64::from(single));
    match value.is_finite() || allow_non_finite {
        true => Ok(value),
        false => Err((
            ErrorCode::NotFinite,
            format!(
                "expected a number that is finite as FP64 (at most 1.7976931348623157e308), got {}; replace \
                 it by another",
                excerpt(&String::from_utf8_lossy(cell), 32)
            ),
        )),
    }
}

fn integer(cell: &[u8], range: &RangeInclusive<i64>) -> Result<i64, (ErrorCode, String)> {
    let text = str::from_utf8(cell.trim_ascii()).unwrap_or_default();
    let shown = || excerpt(&String::from_utf8_lossy(cell), 32);
    let is_number = text
        .strip_prefix('-')
        .unwrap_or(text)
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    if text.is_empty() || !is_number || text == "-" {
        return Err((
            ErrorCode::WrongType,
            format!("expected an integer, got {}; write for example 12", shown()),
        ));
    }
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err((
            ErrorCode::OutOfRange,
            format!(
                "expected an integer from {} to {}, got {}",
                range.start(),
                range.end(),
                shown()
            ),
        )),
    }
}
