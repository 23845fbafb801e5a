//! Rows of a block of CSV.

use memchr::{memchr, memchr_iter};

use super::{Refusal, Rows};
use crate::batch::table::{Layout, Table, text};
use crate::batch::text::{Block, MAX_RECORD_BYTES};
use crate::csv::{self, Cells};
use crate::messages::excerpt;

/// The rows of a block, being read.
pub(in crate::batch) struct CsvRows<'a> {
    table: &'a Table,
    layout: &'a Layout,
    /// Whether lines are first tried as plain numbers.
    is_plain: bool,
    text: &'a [u8],
    at: usize,
    line: u64,
    /// Created at the first record with quotes.
    cells: Option<Cells>,
    scratch: Vec<f32>,
}

impl<'a> CsvRows<'a> {
    pub(in crate::batch) fn new(table: &'a Table, layout: &'a Layout, block: &'a Block) -> Self {
        Self {
            table,
            layout,
            is_plain: layout.is_plain(table),
            text: &block.text,
            at: 0,
            line: block.start.line,
            cells: None,
            scratch: vec![0.0; table.features],
        }
    }

    /// The line that comes next.
    pub(in crate::batch) fn line(&self) -> u64 {
        self.line
    }

    /// Reads up to `max_rows` more rows; returns whether any are left.
    pub(in crate::batch) fn read(&mut self, max_rows: usize, rows: &mut Rows) -> bool {
        while self.at < self.text.len() {
            if rows.count() + rows.faults.len() >= max_rows {
                return true;
            }
            if !(self.is_plain && self.plain_row(rows)) {
                self.record(rows);
            }
        }
        false
    }

    /// Reads a line of plain numbers; returns false and changes nothing if it is not one.
    fn plain_row(&mut self, rows: &mut Rows) -> bool {
        let values = &mut rows.inputs[0];
        let start = values.len();
        let Some(end) = csv::plain_row(self.text, self.at, self.layout.width, values) else {
            values.truncate(start);
            return false;
        };
        if !self.layout.cells.is_sorted() {
            self.scratch.copy_from_slice(&values[start..]);
            for (column, &cell) in self.layout.cells.iter().enumerate() {
                values[start + column] = self.scratch[cell];
            }
        }
        self.at = end;
        rows.lines.push(self.line);
        self.line += u64::from(self.text[end - 1] == b'\n');
        true
    }

    /// Reads any record.
    fn record(&mut self, rows: &mut Rows) {
        let end = csv::record_end(self.text, self.at);
        let record = &self.text[self.at..end.unwrap_or(self.text.len())];
        let line = self.line;
        let line_ends = memchr_iter(b'\n', record).count() as u64;
        self.at += record.len();
        self.line += line_ends;
        if record.trim_ascii().is_empty() {
            rows.blank += 1;
            return;
        }
        // The block was cut inside it because its quote is too long, or runs to the end of the file.
        if end.is_none() && line_ends > 0 {
            rows.add(line, |_| Err(open_quote()));
            return;
        }
        if memchr(b'"', record).is_none() {
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            let record = record.strip_suffix(b"\r").unwrap_or(record);
            let cells: Vec<&[u8]> = record.split(|byte| *byte == b',').collect();
            rows.add(line, |rows| self.cells(&cells, 1, rows));
            return;
        }
        // More than the room for the text of its cells.
        if record.len() > MAX_RECORD_BYTES {
            rows.add(line, |_| Err(long_record()));
            return;
        }
        let mut splitter = self
            .cells
            .take()
            .unwrap_or_else(|| Cells::with_text(self.layout.width, MAX_RECORD_BYTES));
        let length = splitter.split(record);
        let cells: Vec<&[u8]> = splitter.iter().collect();
        rows.add(line, |rows| match length {
            Some(length) if length == record.len() => self.cells(&cells, line_ends, rows),
            Some(_) => Err(lone_return()),
            None => Err(self.wrong_width(cells.len(), line_ends)),
        });
        self.cells = Some(splitter);
    }

    /// Appends the row of these cells.
    fn cells(&self, cells: &[&[u8]], line_ends: u64, rows: &mut Rows) -> Result<(), Refusal> {
        if cells.len() != self.layout.width {
            return Err(self.wrong_width(cells.len(), line_ends));
        }
        for (column, &cell) in self.layout.cells.iter().enumerate() {
            let encoded = self.table.encode(column, cells[cell], &mut rows.inputs[0]);
            encoded.map_err(Refusal::of_column(&self.table.columns[column].name))?;
        }
        for (name, &cell) in self.table.keep.iter().zip(&self.layout.keep) {
            rows.kept
                .push(text(cells[cell]).map_err(Refusal::of_column(name))?);
        }
        Ok(())
    }

    #[cold]
    fn wrong_width(&self, found: usize, line_ends: u64) -> Refusal {
        let width = self.layout.width;
        let over = match line_ends {
            0 | 1 => String::new(),
            lines => format!(" in {lines} lines, which a quote joins"),
        };
        let hint = match found > width {
            true => "quote cells that hold a comma",
            false => "write a cell for each column, an empty one for what is missing",
        };
        Refusal::of_row(
            "shape_mismatch",
            format!("expected {width} cells, got {found}{over}; {hint}"),
        )
    }
}

#[cold]
fn open_quote() -> Refusal {
    Refusal::of_row(
        "syntax",
        format!(
            "expected the quote that opens in this line to be closed within {MAX_RECORD_BYTES} bytes \
             and before the file's end; close it, or double quotes that are meant as such"
        ),
    )
}

#[cold]
fn long_record() -> Refusal {
    Refusal::of_row(
        "too_long",
        format!(
            "expected at most {MAX_RECORD_BYTES} bytes in a row with quotes, got one that is longer \
             than {MAX_RECORD_BYTES} bytes; close the quote that opens in it, or take the quotes out"
        ),
    )
}

#[cold]
fn lone_return() -> Refusal {
    Refusal::of_row(
        "syntax",
        "expected a line feed after the carriage return in this line; end lines with \\n or \\r\\n, \
         and quote cells that hold line ends"
            .to_owned(),
    )
}

/// The names in a header's record.
///
/// # Errors
/// What is wrong with it.
pub(in crate::batch) fn names(record: &[u8]) -> Result<Vec<String>, String> {
    // As wide as a record can be: headers are not refused for their width here.
    let mut cells = Cells::with_text(MAX_RECORD_BYTES, 2 * MAX_RECORD_BYTES);
    if record.trim_ascii().is_empty() || cells.split(record) != Some(record.len()) {
        let shown = excerpt(&String::from_utf8_lossy(record), 40);
        return Err(format!(
            "expected the names of the columns, got {shown}; give the file a header, or say --no-header"
        ));
    }
    let names = cells.iter().map(|cell| {
        let name = text(cell).map_err(|(_, message)| message)?;
        Ok(name.trim().to_owned())
    });
    let names: Vec<String> = names.collect::<Result<_, String>>()?;
    let other = [";", "\t"]
        .into_iter()
        .find(|other| names[0].contains(other));
    match (&*names, other) {
        ([name], Some(_)) => Err(format!(
            "expected names with commas between them, got {}; separate the cells by commas",
            excerpt(name, 40)
        )),
        _ => Ok(names),
    }
}
