//! CSV (RFC 4180): lines into cells, and cells into numbers.
//!
//! Numbers are read as those of JSON are, to the same bits. Lines that hold nothing but plain numbers,
//! as nearly all do, are read in place; quoted cells go through `csv-core`.

mod cells;

pub(crate) use cells::Cells;

use memchr::{memchr, memchr2, memrchr};

use crate::json::{parse_f32, read_run};
use crate::messages::excerpt;

/// Reads a line of `width` plain numbers; returns the position after it.
///
/// `None` if it is no such line; the numbers appended to `values` until then stay.
pub(crate) fn plain_row(
    text: &[u8],
    at: usize,
    width: usize,
    values: &mut Vec<f32>,
) -> Option<usize> {
    let start = values.len();
    // A comma follows all but the last.
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

/// Where the record that begins at `at` ends, with its line end; `None` if the text ends before.
///
/// A quote opens where a cell begins, and a quoted cell may contain line ends. A quote inside a cell is
/// treated as `csv-core` treats it.
pub(crate) fn record_end(text: &[u8], at: usize) -> Option<usize> {
    let special = at + memchr2(b'\n', b'"', &text[at..])?;
    if text[special] == b'\n' {
        return Some(special + 1);
    }
    let mut place = Place::CellStart;
    for (index, &byte) in text.iter().enumerate().skip(at) {
        place = match (place, byte) {
            (Place::Quoted, b'"') => Place::QuoteInQuoted,
            (Place::Quoted, _) => Place::Quoted,
            (_, b'\n') => return Some(index + 1),
            (_, b',') => Place::CellStart,
            (Place::CellStart | Place::QuoteInQuoted, b'"') => Place::Quoted,
            _ => Place::Plain,
        };
    }
    None
}

/// Where the last record that is whole ends; `None` if none is.
pub(crate) fn last_record_end(text: &[u8]) -> Option<usize> {
    if memchr(b'"', text).is_none() {
        return memrchr(b'\n', text).map(|end| end + 1);
    }
    let mut last = None;
    while let Some(end) = record_end(text, last.unwrap_or(0)) {
        last = Some(end);
        if end == text.len() {
            break;
        }
    }
    last
}

/// Where in a record a character is.
#[derive(Clone, Copy)]
enum Place {
    CellStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the closing quote, or the first half of an escaped one.
    QuoteInQuoted,
}

/// The number of a cell, blanks around it aside.
///
/// # Errors
/// Why the cell has no number. `allow_non_finite` says whether `NaN` and `Infinity` are numbers.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<&str> {
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some(end) = record_end(text.as_bytes(), at) {
            records.push(&text[at..end]);
            at = end;
        }
        records
    }

    #[test]
    fn records_end_at_line_ends_outside_of_quotes() {
        for (text, expected) in [
            ("a,b\nc\n", &["a,b\n", "c\n"][..]),
            ("\"a\n\",b\nc", &["\"a\n\",b\n"]),
            (
                "x,\"a\"\"\n\"\"\"\r\nc\n",
                &["x,\"a\"\"\n\"\"\"\r\n", "c\n"],
            ),
            // A quote that does not begin a cell is a character as others are.
            ("5\" pipe\nb\n", &["5\" pipe\n", "b\n"]),
            ("\"a\"b\"\nc\n", &["\"a\"b\"\n", "c\n"]),
            ("\"a\nb\n", &[]),
        ] {
            assert_eq!(records(text), expected, "{text:?}");
            let whole: usize = expected.iter().map(|record| record.len()).sum();
            let last = last_record_end(text.as_bytes());
            assert_eq!(last.unwrap_or(0), whole, "{text:?}");
        }
    }

    #[test]
    fn records_end_where_csv_core_ends_them() {
        // All texts of 7 of these characters: each way into and out of quotes.
        const CHARACTERS: &[u8] = b"a,\"\n";
        for number in 0..4usize.pow(7) {
            let text: Vec<u8> = (0..7)
                .map(|digit| CHARACTERS[number / 4usize.pow(digit) % 4])
                .collect();
            // `csv-core` skips empty lines.
            if text[0] == b'\n' {
                continue;
            }
            let mut cells = Cells::new(100);
            let length = cells.split(&text).unwrap();
            let expected = record_end(&text, 0).unwrap_or(text.len());
            assert_eq!(length, expected, "{:?}", String::from_utf8_lossy(&text));
        }
    }
}
