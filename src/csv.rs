//! CSV (RFC 4180): lines into cells, and cells into numbers.
//!
//! Numbers are read as those of JSON are, to the same bits. Lines that hold nothing but plain numbers,
//! as nearly all do, are read where they stand; what is quoted goes through `csv-core`.

mod cells;

pub(crate) use cells::Cells;

use crate::json::{parse_f32, read_run};
use crate::spelling::excerpt;

/// Reads a line of `width` plain numbers; returns the position behind it.
///
/// `None` if it is no such line; the numbers that were appended to `values` till then stay.
pub(crate) fn plain_row(
    text: &[u8],
    at: usize,
    width: usize,
    values: &mut Vec<f32>,
) -> Option<usize> {
    let start = values.len();
    // All but the last have a comma behind.
    let mut at = at + read_run(&text[at..], values, width.saturating_sub(1));
    loop {
        let (value, end) = parse_f32(text, at).ok()?;
        if !value.is_finite() {
            return None;
        }
        values.push(value);
        let is_last = values.len() - start == width;
        match (text.get(end), text.get(end + 1)) {
            (Some(b','), _) if !is_last => at = end + 1,
            (Some(b'\r'), Some(b'\n')) if is_last => return Some(end + 2),
            (Some(b'\n'), _) if is_last => return Some(end + 1),
            (None, _) if is_last => return Some(end),
            _ => return None,
        }
    }
}

/// The number of a cell, blanks around it aside.
///
/// # Errors
/// What the cell is instead. `allow_non_finite` says whether `NaN` and `Infinity` are numbers.
pub(crate) fn number(cell: &[u8], allow_non_finite: bool) -> Result<f32, Fault> {
    let cell = cell.trim_ascii();
    let value = match cell {
        b"NaN" => f32::NAN,
        b"Infinity" => f32::INFINITY,
        b"-Infinity" => f32::NEG_INFINITY,
        b"" => return Err(Fault::Empty),
        _ => match parse_f32(cell, 0) {
            Ok((value, end)) if end == cell.len() => value,
            _ => return Err(Fault::NoNumber),
        },
    };
    match value.is_finite() || allow_non_finite {
        true => Ok(value),
        false => Err(Fault::NotFinite),
    }
}

/// Why a cell has no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Empty,
    /// Text that is no number of JSON.
    NoNumber,
    /// A number, or the name of one, that is not finite as an `f32`.
    NotFinite,
}

impl Fault {
    /// The code and the words for it.
    pub(crate) fn told(self, cell: &[u8]) -> (&'static str, String) {
        let cell = excerpt(&String::from_utf8_lossy(cell), 32);
        match self {
            Self::Empty => (
                "wrong_type",
                "expected a number, got an empty cell; replace missing values by numbers".into(),
            ),
            Self::NoNumber => (
                "wrong_type",
                format!("expected a number as in JSON, got {cell}; write for example 0.5 or 1e-3"),
            ),
            Self::NotFinite => (
                "not_finite",
                format!(
                    "expected a number that is finite as FP32 (at most 3.4028235e38), got {cell}; \
                     replace it by another"
                ),
            ),
        }
    }
}
