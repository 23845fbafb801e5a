//! Rows in Apache Parquet: row groups in, row groups out.

mod cells;
mod writer;

pub(super) use writer::{Predictions, Writer};

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::error::BatchError;
use super::rows::{Refusal, Rows};
use super::table::{Layout, Table};
use super::tally::Position;
use crate::csv::Fault;
use crate::model::ColumnKind;
use crate::spelling::excerpt;

/// The rows that are taken from the file at once.
const BATCH_ROWS: usize = 2048;

/// The rows of a file, some at a time.
pub(super) struct Batches {
    path: PathBuf,
    file: File,
    reader: ParquetRecordBatchReader,
    /// The columns of the file that are read, by their number.
    columns: Vec<usize>,
    /// Where the model's columns lie among those that are read.
    layout: Layout,
    total: u64,
    position: Position,
}

/// Some rows of a file.
pub(super) struct Batch {
    rows: RecordBatch,
    start: Position,
}

impl Batches {
    /// Opens a file and finds the model's columns in it.
    pub(super) fn open(file: File, path: &Path, table: &Table) -> Result<Self, BatchError> {
        let again = file.try_clone().map_err(BatchError::at(path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(again).map_err(bad(path))?;
        let total = builder.metadata().file_metadata().num_rows();
        let fields = builder.schema().fields();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let found = Layout::named(table, &names)?;
        for &cell in found.cells.iter().chain(&found.keep) {
            let field = &fields[cell];
            if !cells::is_read(field.data_type()) {
                return Err(BatchError::refused(format!(
                    "{}: column {}: expected numbers, true and false, or text, got {}; cast it, or \
                     write CSV",
                    path.display(),
                    excerpt(field.name(), 40),
                    field.data_type()
                )));
            }
        }
        let mut columns: Vec<usize> = found.cells.iter().chain(&found.keep).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        let place = |cell: &usize| {
            let place = columns.binary_search(cell);
            place.expect("all that are read are among the columns")
        };
        let layout = Layout {
            width: columns.len(),
            cells: found.cells.iter().map(place).collect(),
            keep: found.keep.iter().map(place).collect(),
            unused: found.unused,
        };
        Ok(Self {
            reader: reader(builder, &columns, 0, path)?,
            path: path.to_owned(),
            file,
            columns,
            layout,
            total: u64::try_from(total).unwrap_or(0),
            position: Position::START,
        })
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many rows the file has.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Goes on behind so many rows.
    pub(super) fn go_to(&mut self, position: Position) -> Result<(), BatchError> {
        let again = self.file.try_clone().map_err(BatchError::at(&self.path))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(again).map_err(bad(&self.path))?;
        self.reader = reader(builder, &self.columns, position.offset, &self.path)?;
        self.position = position;
        Ok(())
    }

    /// The next rows; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Batch>, BatchError> {
        let Some(rows) = self.reader.next() else {
            return match self.position.offset == self.total {
                true => Ok(None),
                false => Err(BatchError::refused(format!(
                    "{}: expected the {} rows that its footer says, got {}; is the file whole?",
                    self.path.display(),
                    self.total,
                    self.position.offset
                ))),
            };
        };
        let rows = rows.map_err(|error| bad(&self.path)(error.into()))?;
        let batch = Batch {
            rows,
            start: self.position,
        };
        self.position = batch.end();
        Ok(Some(batch))
    }
}

/// Reads these columns of a file from a row on.
fn reader(
    builder: ParquetRecordBatchReaderBuilder<File>,
    columns: &[usize],
    row: u64,
    path: &Path,
) -> Result<ParquetRecordBatchReader, BatchError> {
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let row = usize::try_from(row).expect("files are smaller than the address space");
    builder.with_offset(row).build().map_err(bad(path))
}

fn bad(path: &Path) -> impl Fn(ParquetError) -> BatchError {
    let path = path.display().to_string();
    move |error| {
        BatchError::refused(format!(
            "{path}: expected a whole file of Parquet: {error}; write it anew"
        ))
    }
}

impl Batch {
    /// The position behind it.
    pub(super) fn end(&self) -> Position {
        let rows = self.rows.num_rows() as u64;
        Position {
            offset: self.start.offset + rows,
            line: self.start.line + rows,
        }
    }
}

/// The rows of a batch, being read.
pub(super) struct ParquetRows<'a> {
    table: &'a Table,
    layout: &'a Layout,
    columns: &'a [ArrayRef],
    count: usize,
    at: usize,
    first: u64,
}

impl<'a> ParquetRows<'a> {
    pub(super) fn new(table: &'a Table, layout: &'a Layout, batch: &'a Batch) -> Self {
        Self {
            table,
            layout,
            columns: batch.rows.columns(),
            count: batch.rows.num_rows(),
            at: 0,
            first: batch.start.line,
        }
    }

    /// The number of the row that comes next.
    pub(super) fn line(&self) -> u64 {
        self.first + self.at as u64
    }

    /// Reads up to so many rows more; says whether any are left.
    pub(super) fn read(&mut self, max_rows: usize, rows: &mut Rows) -> bool {
        while self.at < self.count {
            if rows.count() + rows.faults.len() >= max_rows {
                return true;
            }
            rows.add(self.line(), |rows| self.row(rows));
            self.at += 1;
        }
        false
    }

    fn row(&self, rows: &mut Rows) -> Result<(), Refusal> {
        for (column, &cell) in self.layout.cells.iter().enumerate() {
            let encoded = self.cell(column, &self.columns[cell], &mut rows.inputs[0]);
            encoded.map_err(Refusal::of_column(&self.table.columns[column].name))?;
        }
        for &cell in &self.layout.keep {
            let text = cells::text(&self.columns[cell], self.at);
            rows.kept.push(text.as_deref().unwrap_or(""));
        }
        Ok(())
    }

    /// Appends the features of a cell.
    fn cell(
        &self,
        column: usize,
        array: &ArrayRef,
        into: &mut Vec<f32>,
    ) -> Result<(), (&'static str, String)> {
        let is_number = matches!(self.table.columns[column].kind, ColumnKind::Number { .. });
        if is_number && let Some(value) = cells::number(array, self.at) {
            if !value.is_finite() && !self.table.allow_non_finite {
                return Err(Fault::NotFinite.told(value.to_string().as_bytes()));
            }
            into.push(value);
            return Ok(());
        }
        let text = cells::text(array, self.at);
        let text = text.as_deref().unwrap_or("");
        self.table.encode(column, text.as_bytes(), into)
    }
}
