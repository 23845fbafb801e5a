//! Rows as CSV: a cell a value, a line a row. The rows of an input with tokens have as many cells as
//! each has values.

use std::borrow::Cow;

use super::error::{ApiError, ErrorCode, Place};
use super::intake::{InputRows, Rows, row_hint, too_many_rows};
use super::predict::MinBytes;
use super::rows::{self, Columns};
use crate::csv::{self, Cells};
use crate::messages::excerpt;
use crate::model::Signature;
use crate::tensor::{DataType, Shape, TensorSpec, View};

/// The least that a body takes. A number has a digit and a comma after it; a text may have no more than
/// the comma.
pub(super) const MIN_BYTES: MinBytes = MinBytes::PerValue {
    single: 2,
    other: 1,
};

/// Reads a body; says too whether its first line named the columns.
///
/// `header` is what the head says of that. If it says nothing, a first line with a number in it is a
/// row, unless it has the names of all features. Named columns may come in any order. Without names
/// in the model a header only has to be as wide as the rows.
///
/// # Errors
/// 400 with the line and the column.
pub(super) fn decode(
    body: &[u8],
    header: Option<bool>,
    signature: &Signature,
    max_rows: usize,
) -> Result<(Rows, bool), ApiError> {
    let spec = rows::single_input(signature, "CSV")?;
    // Excel writes one.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let width = match spec.shape.axis() {
        None => Width::Fixed(spec.shape.elements()),
        Some(_) => Width::Tokens(spec.shape.elements()),
    };
    let mut table = Table {
        text,
        spec,
        width,
        names: Columns::of(signature),
        allow_non_finite: signature.allow_non_finite,
        at: 0,
        order: None,
        cells: None,
        input: InputRows::none(spec),
    };
    let most = match width {
        Width::Fixed(width) => width.saturating_mul(max_rows),
        Width::Tokens(_) => usize::MAX,
    };
    table.input.reserve(most.min(text.len() / 2 + 1));
    let has_header = table.header(header)?;
    while !table.is_at_end() {
        let count = table.input.rows();
        if count == max_rows {
            let left = table.text[table.at..]
                .trim_ascii()
                .split(|byte| *byte == b'\n');
            return Err(too_many_rows("the body", count + left.count(), max_rows));
        }
        table.row()?;
    }
    if let Some(order) = &table.order {
        table.input.reorder(0, order);
    }
    let rows = Rows::join("the body", vec![table.input], max_rows)?;
    Ok((rows, has_header))
}

/// The most cells of a line with quotes that holds a row of tokens.
const MAX_QUOTED_CELLS: usize = 4096;

fn counts_up_error() -> ApiError {
    ApiError::invalid(
        ErrorCode::AmbiguousRequest,
        "line 1: expected names or a row, got 0, 1, 2 and so on, which may be either; say which it is: \
         Content-Type: text/csv; header=present, or header=absent",
    )
    .at(Place::line(1))
}

/// How many cells a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// As many.
    Fixed(usize),
    /// As many for each of its tokens.
    Tokens(usize),
}

impl Width {
    fn is(self, cells: usize) -> bool {
        match self {
            Self::Fixed(width) => cells == width,
            Self::Tokens(width) => cells > 0 && cells.is_multiple_of(width),
        }
    }
}

/// A body of CSV, being read.
struct Table<'a> {
    text: &'a [u8],
    spec: &'a TensorSpec,
    width: Width,
    names: Columns<'a>,
    allow_non_finite: bool,
    /// Where the next line begins.
    at: usize,
    /// The feature that each column holds, if they are not in the features' order.
    order: Option<Vec<usize>>,
    /// Made for the first line that is not plain.
    cells: Option<Cells>,
    input: InputRows<'a>,
}

impl Table<'_> {
    /// Whether nothing but blanks is left.
    fn is_at_end(&self) -> bool {
        match self.text.get(self.at) {
            None => true,
            // From here on, and no further than the first that is none: rows may begin with blanks.
            Some(b' ' | b'\t' | b'\r' | b'\n') => {
                self.text[self.at..].iter().all(u8::is_ascii_whitespace)
            }
            Some(_) => false,
        }
    }

    /// Reads past the header, if there is one.
    fn header(&mut self, said: Option<bool>) -> Result<bool, ApiError> {
        if said == Some(false) || self.is_at_end() {
            return Ok(false);
        }
        let start = self.at;
        if self.has_tokens() {
            return Ok(self.token_header(said));
        }
        let has_numbers_for_names = self
            .names
            .features()
            .iter()
            .any(|name| csv::number(name.as_bytes(), self.allow_non_finite).is_ok());
        if said.is_none() && !has_numbers_for_names && self.plain_row() {
            let line = &self.text[start..self.at];
            self.at = start;
            if self.counts_up(line) {
                return Err(counts_up_error());
            }
            self.input.clear();
            return Ok(false);
        }
        self.split()?;
        let cells = self.cells.as_ref().expect("the line was just split");
        let names: Vec<Cow<'_, str>> = cells
            .iter()
            .map(|cell| String::from_utf8_lossy(cell.trim_ascii()))
            .collect();
        let counts_up = names.len() >= 3
            && self.spec.datatype != DataType::Bytes
            && names
                .iter()
                .enumerate()
                .all(|(index, name)| *name == index.to_string());
        if said.is_none() && !has_numbers_for_names && counts_up {
            return Err(counts_up_error());
        }
        let features = self.names.features();
        let is_named = |name: &Cow<'_, str>| self.names.feature(name, usize::MAX >> 1).is_some();
        let is_number =
            |name: &Cow<'_, str>| csv::number(name.as_bytes(), self.allow_non_finite).is_ok();
        let is_text = self.spec.datatype == DataType::Bytes;
        let is_header = said.unwrap_or_else(|| {
            // Any text may be a row of texts.
            if is_text {
                return *names == [&*self.spec.name];
            }
            !features.is_empty() && names.iter().all(is_named) || !names.iter().any(is_number)
        });
        if !is_header {
            self.at = start;
            return Ok(false);
        }
        // One cell where several are expected is a line with other separators.
        let is_one_cell = names.len() == 1 && !self.width.is(1);
        if is_one_cell || features.is_empty() && !self.width.is(names.len()) {
            return Err(self.wrong_width(1, names.len(), &names[0]));
        }
        if features.is_empty() {
            return Ok(true);
        }
        let order = self.names.order("line 1", names.iter().map(|name| &**name));
        let order = order.map_err(|error| match error {
            // What frames of pandas begin with.
            ApiError::Invalid { code, message, .. } if names[0].is_empty() => ApiError::invalid(
                code,
                format!(
                    "{message}; the column without a name is perhaps an index: write the file \
                     without it (in pandas: index=False)"
                ),
            ),
            error => error,
        });
        let order = order.map_err(|error| error.at(Place::line(1)))?;
        if !order.is_sorted() {
            self.order = Some(order);
        }
        Ok(true)
    }

    /// Reads past the header of rows of tokens, if there is one. It names no columns, since there are none:
    /// its first cell is no value, or the name of the input.
    fn token_header(&mut self, said: Option<bool>) -> bool {
        let rest = &self.text[self.at..];
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'\r' | b'\n'));
        let first = rest[..end.unwrap_or(rest.len())].trim_ascii();
        let first = first.strip_prefix(b"\"").unwrap_or(first);
        let first = first.strip_suffix(b"\"").unwrap_or(first);
        let is_header = said.unwrap_or(match self.spec.datatype {
            // Any text may be a row of texts.
            DataType::Bytes => first == self.spec.name.as_bytes(),
            _ => !first.is_empty() && csv::number(first, true).is_err(),
        });
        if is_header {
            self.at = csv::record_end(self.text, self.at).unwrap_or(self.text.len());
        }
        is_header
    }

    /// Whether a line may be the header of a frame whose columns have numbers for names.
    fn counts_up(&self, line: &[u8]) -> bool {
        let View::F32(values) = self.input.values() else {
            return false;
        };
        values.len() >= 3
            && values
                .iter()
                .enumerate()
                .all(|(index, value)| *value == index as f32)
            && !line.contains(&b'.')
    }

    /// Reads one row.
    fn row(&mut self) -> Result<(), ApiError> {
        if self.plain_row() {
            return Ok(());
        }
        let begin = self.at;
        if self.has_tokens()
            && let Some(length) = self.unquoted_line()
        {
            return self.token_row(begin, length);
        }
        self.split()?;
        let cells = self.cells.as_ref().expect("the line was just split");
        if !self.width.is(cells.len()) {
            let first = String::from_utf8_lossy(cells.iter().next().unwrap_or_default());
            return Err(self.wrong_width(self.line_at(begin), cells.len(), &first));
        }
        // One empty cell in quotes is how a row without tokens is written.
        if self.has_tokens() && cells.len() == 1 && cells.iter().all(<[u8]>::is_empty) {
            self.input.end_row();
            return Ok(());
        }
        for (column, cell) in cells.iter().enumerate() {
            let pushed = self.input.push_cell(cell, self.allow_non_finite);
            pushed.map_err(|(code, message)| {
                let order = self.order.as_ref().map_or(column, |order| order[column]);
                let name = self.names.features().get(order);
                let name = name.map(|name| format!(" ({})", excerpt(name, 40)));
                let line = line_at(self.text, begin);
                ApiError::invalid(
                    code,
                    format!(
                        "line {line}, column {}{}: {message}",
                        column + 1,
                        name.unwrap_or_default()
                    ),
                )
                .at(Place::cell(line, column + 1))
            })?;
        }
        self.input.end_row();
        Ok(())
    }

    /// The length of the next line without its end, if it holds no quotes.
    fn unquoted_line(&self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let length = memchr::memchr2(b'\n', b'"', rest).unwrap_or(rest.len());
        match rest.get(length) {
            Some(b'"') => None,
            _ => Some(length),
        }
    }

    /// Reads a row of tokens from a line without quotes, cell by cell: it may have any number of them.
    fn token_row(&mut self, begin: usize, length: usize) -> Result<(), ApiError> {
        let line = &self.text[begin..begin + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut count = 0;
        for cell in line.split(|byte| *byte == b',') {
            if line.is_empty() {
                break;
            }
            count += 1;
            let pushed = self.input.push_cell(cell, self.allow_non_finite);
            pushed.map_err(|(code, message)| {
                let line = line_at(self.text, begin);
                ApiError::invalid(code, format!("line {line}, column {count}: {message}"))
                    .at(Place::cell(line, count))
            })?;
        }
        if !self.width.is(count) {
            let first = String::from_utf8_lossy(line);
            return Err(self.wrong_width(self.line_at(begin), count, &first));
        }
        self.at = (begin + length + 1).min(self.text.len());
        self.input.end_row();
        Ok(())
    }

    /// Reads a row of plain numbers; changes nothing and says false if it is none.
    fn plain_row(&mut self) -> bool {
        let end = self.input.read_plain_line(self.text, self.at);
        self.at = end.unwrap_or(self.at);
        end.is_some()
    }

    /// Splits the next line into cells and goes past it.
    fn split(&mut self) -> Result<(), ApiError> {
        let (text, width) = (self.text, self.width);
        let is_text = self.spec.datatype == DataType::Bytes;
        let cells = self.cells.get_or_insert_with(|| match width {
            Width::Fixed(width) if is_text => Cells::with_text(width, text.len()),
            Width::Fixed(width) => Cells::new(width),
            // Of quoted lines only: what is longer is written without quotes.
            Width::Tokens(_) => Cells::with_text(MAX_QUOTED_CELLS, text.len()),
        });
        let rest = &self.text[self.at..];
        // `csv-core` skips empty lines, and the rows after them would move up.
        if let [b'\n', ..] | [b'\r', ..] = rest {
            return Err(self.wrong_width(self.line_at(self.at), 0, ""));
        }
        match cells.split(rest) {
            Some(length) => {
                self.at += length;
                Ok(())
            }
            None => Err(ApiError::invalid(
                ErrorCode::TooManyValues,
                format!(
                    "line {}: expected {}, got more than {} or more text than they have; {}",
                    self.line_at(self.at),
                    self.expected_cells(),
                    match self.width {
                        Width::Fixed(width) => Cells::most(width),
                        Width::Tokens(_) => Cells::most(MAX_QUOTED_CELLS),
                    },
                    "send a line a row"
                ),
            )
            .at(Place::line(self.line_at(self.at)))),
        }
    }

    /// The number of the line that begins at a place, from 1. Counted where it is told, not for each.
    fn line_at(&self, at: usize) -> usize {
        line_at(self.text, at)
    }

    fn has_tokens(&self) -> bool {
        matches!(self.width, Width::Tokens(_))
    }

    fn expected_cells(&self) -> String {
        match self.width {
            Width::Fixed(width) => format!("{width} cells"),
            Width::Tokens(1) => "a cell for each token".to_owned(),
            Width::Tokens(width) => format!("{width} cells for each token"),
        }
    }

    #[cold]
    fn wrong_width(&self, line: usize, found: usize, first: &str) -> ApiError {
        let other = [";", "\t"].into_iter().find(|other| first.contains(other));
        let hint = match (found, other) {
            (0, _) => "take empty lines out".to_owned(),
            (1, Some(_)) if !self.width.is(1) => "separate the cells by commas".to_owned(),
            _ => row_hint(&TensorSpec {
                shape: Shape {
                    domain: self.spec.shape.domain,
                    extents: vec![self.spec.shape.elements()],
                },
                ..self.spec.clone()
            }),
        };
        ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "line {line}: input {:?}: expected {}, got {found}; {hint}",
                self.spec.name,
                self.expected_cells()
            ),
        )
        .at(Place::line(line))
    }
}

/// The number of the line that begins at a place of a text, from 1.
fn line_at(text: &[u8], at: usize) -> usize {
    let before = &text[..at];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
