//! Rows as CSV: a cell a number, a line a row.

use std::borrow::Cow;

use super::error::{ApiError, ErrorCode, Place};
use super::predict::Rows;
use super::rows::{self, Columns};
use crate::csv::{self, Cells};
use crate::model::Signature;
use crate::spelling::excerpt;
use crate::tensor::{Shape, TensorSpec};

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
    let width = spec.shape.elements();
    let mut table = Table {
        text,
        spec,
        width,
        names: Columns::of(signature),
        allow_non_finite: signature.allow_non_finite,
        at: 0,
        order: None,
        cells: None,
        values: Vec::with_capacity((text.len() / 2 + 1).min(width.saturating_mul(max_rows))),
    };
    let has_header = table.header(header)?;
    let mut scratch = vec![0.0; width];
    let mut count = 0;
    while !table.is_at_end() {
        if count == max_rows {
            let left = table.text[table.at..]
                .trim_ascii()
                .split(|byte| *byte == b'\n');
            return Err(rows::too_many_rows(
                "the body",
                count + left.count(),
                max_rows,
            ));
        }
        let start = table.values.len();
        table.row()?;
        if let Some(order) = &table.order {
            rows::reorder(&mut table.values[start..], order, &mut scratch);
        }
        count += 1;
    }
    let rows = rows::rows("the body", count, max_rows, vec![table.values])?;
    Ok((rows, has_header))
}

/// A body of CSV, being read.
struct Table<'a> {
    text: &'a [u8],
    spec: &'a TensorSpec,
    /// The values of a row.
    width: usize,
    names: Columns<'a>,
    allow_non_finite: bool,
    /// Where the next line begins.
    at: usize,
    /// The feature that each column holds, if they are not in the features' order.
    order: Option<Vec<usize>>,
    /// Made for the first line that is not plain.
    cells: Option<Cells>,
    values: Vec<f32>,
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
        let has_numbers_for_names = self
            .names
            .features()
            .iter()
            .any(|name| csv::number(name.as_bytes(), self.allow_non_finite).is_ok());
        if said.is_none() && !has_numbers_for_names && self.plain_row() {
            let values = std::mem::take(&mut self.values);
            let line = &self.text[start..self.at];
            self.at = start;
            if self.counts_up(&values, line) {
                return Err(ApiError::invalid(
                    ErrorCode::AmbiguousRequest,
                    "line 1: expected names or a row, got 0, 1, 2 and so on, which may be either; say \
                     which it is: Content-Type: text/csv; header=present, or header=absent",
                )
                .at(Place::line(1)));
            }
            // The room is kept.
            self.values = values;
            self.values.clear();
            return Ok(false);
        }
        self.split()?;
        let cells = self.cells.as_ref().expect("the line was just split");
        let names: Vec<Cow<'_, str>> = cells
            .iter()
            .map(|cell| String::from_utf8_lossy(cell.trim_ascii()))
            .collect();
        let features = self.names.features();
        let is_named = |name: &Cow<'_, str>| self.names.feature(name, usize::MAX >> 1).is_some();
        let is_number =
            |name: &Cow<'_, str>| csv::number(name.as_bytes(), self.allow_non_finite).is_ok();
        let is_header = said.unwrap_or_else(|| {
            !features.is_empty() && names.iter().all(is_named) || !names.iter().any(is_number)
        });
        if !is_header {
            self.at = start;
            return Ok(false);
        }
        // One cell where several are expected is a line with other separators.
        let is_one_cell = names.len() == 1 && self.width > 1;
        if is_one_cell || features.is_empty() && names.len() != self.width {
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

    /// Whether a line may be the header of a frame whose columns have numbers for names.
    fn counts_up(&self, values: &[f32], line: &[u8]) -> bool {
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
        self.split()?;
        let cells = self.cells.as_ref().expect("the line was just split");
        if cells.len() != self.width {
            let first = String::from_utf8_lossy(cells.iter().next().unwrap_or_default());
            return Err(self.wrong_width(self.line_at(begin), cells.len(), &first));
        }
        let start = self.values.len();
        let mut values = std::mem::take(&mut self.values);
        for (column, cell) in cells.iter().enumerate() {
            let value = csv::number(cell, self.allow_non_finite).map_err(|fault| {
                let order = self.order.as_ref().map_or(column, |order| order[column]);
                let name = self.names.features().get(order);
                let name = name.map(|name| format!(" ({})", excerpt(name, 40)));
                let code = match fault {
                    csv::Fault::NotFinite => ErrorCode::NotFinite,
                    csv::Fault::Empty | csv::Fault::NoNumber => ErrorCode::WrongType,
                };
                let (_, message) = fault.told(cell);
                let line = self.line_at(begin);
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
            values.push(value);
        }
        debug_assert_eq!(values.len() - start, self.width, "a value a cell");
        self.values = values;
        Ok(())
    }

    /// Reads a row of plain numbers; changes nothing and says false if it is none.
    fn plain_row(&mut self) -> bool {
        let start = self.values.len();
        match csv::plain_row(self.text, self.at, self.width, &mut self.values) {
            Some(end) => {
                self.at = end;
                true
            }
            None => {
                self.values.truncate(start);
                false
            }
        }
    }

    /// Splits the next line into cells and goes past it.
    fn split(&mut self) -> Result<(), ApiError> {
        let cells = self.cells.get_or_insert_with(|| Cells::new(self.width));
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
                    "line {}: expected {} cells, got more than {} or more text than they have; {}",
                    self.line_at(self.at),
                    self.width,
                    Cells::most(self.width),
                    "send a line a row"
                ),
            )
            .at(Place::line(self.line_at(self.at)))),
        }
    }

    /// The number of the line that begins at a place, from 1. Counted where it is told, not for each.
    fn line_at(&self, at: usize) -> usize {
        let before = &self.text[..at];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    #[cold]
    fn wrong_width(&self, line: usize, found: usize, first: &str) -> ApiError {
        let other = [";", "\t"].into_iter().find(|other| first.contains(other));
        let hint = match (found, other) {
            (0, _) => "take empty lines out".to_owned(),
            (1, Some(_)) if self.width > 1 => "separate the cells by commas".to_owned(),
            _ => super::predict::row_hint(&TensorSpec {
                shape: Shape::rows(vec![self.width]),
                ..self.spec.clone()
            }),
        };
        ApiError::invalid(
            ErrorCode::ShapeMismatch,
            format!(
                "line {line}: input {:?}: expected {} cells, got {found}; {hint}",
                self.spec.name, self.width
            ),
        )
        .at(Place::line(line))
    }
}
