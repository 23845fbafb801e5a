//! Rows on their way from a file to the engine, and what is wrong with the bad ones.

mod csv;
mod ndjson;

pub(super) use csv::{CsvRows, names};
pub(super) use ndjson::NdjsonRows;

use super::table::Table;

/// Why a row is not scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The column; empty if it is the row as a whole.
    pub(super) column: String,
    /// The kind of fault, as a code.
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn of_row(code: &'static str, message: String) -> Self {
        Self {
            column: String::new(),
            code,
            message,
        }
    }

    /// From the code and message of a column's fault.
    pub(super) fn of_column(column: &str) -> impl FnOnce((&'static str, String)) -> Self {
        move |(code, message)| Self {
            column: column.to_owned(),
            code,
            message,
        }
    }
}

/// A row that is not scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line on which it begins, from 1; in Parquet its row number.
    pub(super) line: u64,
    pub(super) refusal: Refusal,
}

/// Rows that the engine takes at once.
#[derive(Debug)]
pub(super) struct Rows {
    /// The values of each input.
    pub(super) inputs: Vec<Vec<f32>>,
    /// How many values a row has in each.
    elements: Vec<usize>,
    /// The line of each row.
    pub(super) lines: Vec<u64>,
    /// The cells that are carried along, row by row.
    pub(super) kept: Kept,
    /// The rows between these that are bad.
    pub(super) faults: Vec<Fault>,
    /// Lines that hold nothing.
    pub(super) blank: u64,
}

impl Rows {
    pub(super) fn new(table: &Table) -> Self {
        Self {
            inputs: vec![Vec::new(); table.inputs.len()],
            elements: table
                .inputs
                .iter()
                .map(|spec| spec.shape.elements())
                .collect(),
            lines: Vec::new(),
            kept: Kept::default(),
            faults: Vec::new(),
            blank: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.inputs.iter_mut().for_each(Vec::clear);
        self.lines.clear();
        self.kept.truncate(0);
        self.faults.clear();
        self.blank = 0;
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Adds the row that `read` appends to the inputs and the kept cells. If `read` refuses it, only the
    /// fault is kept.
    pub(super) fn add(&mut self, line: u64, read: impl FnOnce(&mut Self) -> Result<(), Refusal>) {
        let kept = self.kept.len();
        match read(self) {
            Ok(()) => self.lines.push(line),
            Err(refusal) => {
                self.kept.truncate(kept);
                let rows = self.count();
                for (values, elements) in self.inputs.iter_mut().zip(&self.elements) {
                    values.truncate(rows * elements);
                }
                self.faults.push(Fault { line, refusal });
            }
        }
    }
}

/// Cells of text, one after the other.
#[derive(Debug, Default)]
pub(super) struct Kept {
    text: String,
    ends: Vec<usize>,
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn truncate(&mut self, cells: usize) {
        self.ends.truncate(cells);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    pub(super) fn get(&self, cell: usize) -> &str {
        let start = cell.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[cell]]
    }
}
