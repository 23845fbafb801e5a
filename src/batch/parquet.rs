//! Rows in Apache Parquet: row groups in, row groups out.
//!
//! Columns are read and written with the library's own readers and writers of values. Its alternative,
//! Arrow arrays, would add a dozen crates that nothing else here needs.

mod cells;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use writer::{Predictions, Writer};

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::printer::print_schema;
use parquet::schema::types::Type;

use self::cells::{Cells, Kind};
use super::error::BatchError;
use super::rows::{Refusal, Rows};
use super::table::{Layout, Table, text};
use super::tally::Position;
use crate::csv::Fault;
use crate::messages::excerpt;
use crate::model::ColumnKind;

/// The most that is read from the file at once: rows, and cells of all their columns.
const BATCH_ROWS: usize = 2048;
const BATCH_CELLS: usize = 1 << 20;

/// The rows of a file, some at a time.
pub(super) struct Batches {
    path: PathBuf,
    file: SerializedFileReader<File>,
    /// The columns of the file that are read, in the order of the file.
    columns: Vec<Column>,
    /// The positions of the model's columns among those that are read.
    layout: Layout,
    total: u64,
    position: Position,
    /// The row group that comes next.
    next_group: usize,
    /// A reader for each column of the current row group, and the rows that are left in it.
    readers: Vec<ColumnReader>,
    left: usize,
}

/// A column of the file that is read.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// Its index among the leaves of the schema.
    leaf: usize,
    kind: Kind,
    is_optional: bool,
}

/// Some rows of a file.
pub(super) struct Batch {
    columns: Vec<Cells>,
    rows: usize,
    start: Position,
}

impl Batches {
    /// Opens a file and finds the model's columns in it.
    pub(super) fn open(file: File, path: &Path, table: &Table) -> Result<Self, BatchError> {
        let file = SerializedFileReader::new(file).map_err(bad(path))?;
        let metadata = file.metadata().file_metadata();
        let fields = metadata.schema().get_fields();
        let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
        let found = Layout::named(table, &names)?;
        let mut wanted: Vec<usize> = found.cells.iter().chain(&found.keep).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let place = |cell: &usize| {
            let place = wanted.binary_search(cell);
            place.expect("all that are read are among the columns")
        };
        let layout = Layout {
            width: wanted.len(),
            cells: found.cells.iter().map(place).collect(),
            keep: found.keep.iter().map(place).collect(),
            unused: found.unused,
        };
        let schema = metadata.schema_descr();
        let leaf = |field| {
            (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == field)
        };
        let columns = wanted.iter().map(|&field| {
            let column = Kind::of(&fields[field]).zip(leaf(field));
            let Some((kind, leaf)) = column else {
                return Err(unreadable(path, &fields[field]));
            };
            Ok(Column {
                leaf,
                kind,
                is_optional: fields[field].is_optional(),
            })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_owned(),
            total: u64::try_from(metadata.num_rows()).unwrap_or(0),
            columns,
            file,
            layout,
            position: Position::START,
            next_group: 0,
            readers: Vec::new(),
            left: 0,
        })
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many rows the file has.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Continues after this position's rows.
    pub(super) fn go_to(&mut self, position: Position) -> Result<(), BatchError> {
        (self.next_group, self.left) = (0, 0);
        let mut rows =
            usize::try_from(position.offset).expect("files are smaller than the address space");
        while rows > 0 && self.next_group().map_err(bad(&self.path))? {
            let skipped = rows.min(self.left);
            // A group that is skipped whole is not even decompressed: its readers are dropped.
            if skipped < self.left {
                for reader in &mut self.readers {
                    skip(reader, skipped).map_err(bad(&self.path))?;
                }
            }
            self.left -= skipped;
            rows -= skipped;
        }
        self.position = position;
        Ok(())
    }

    /// Opens the next row group; returns whether there is one.
    fn next_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group == self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        let columns = self.columns.iter();
        self.readers = columns
            .map(|column| group.get_column_reader(column.leaf))
            .collect::<Result<_, _>>()?;
        self.left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        self.next_group += 1;
        Ok(true)
    }

    /// The next rows; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Batch>, BatchError> {
        while self.left == 0 {
            if self.next_group().map_err(bad(&self.path))? {
                continue;
            }
            return match self.position.offset == self.total {
                true => Ok(None),
                false => Err(BatchError::refused(format!(
                    "{}: expected the {} rows that its footer says, got {}; is the file whole?",
                    self.path.display(),
                    self.total,
                    self.position.offset
                ))),
            };
        }
        let most = (BATCH_CELLS / self.columns.len().max(1)).clamp(1, BATCH_ROWS);
        let rows = most.min(self.left);
        let columns = self.columns.iter().zip(&mut self.readers);
        let columns = columns
            .map(|(column, reader)| Cells::read(reader, column.kind, column.is_optional, rows))
            .collect::<Result<_, _>>();
        let batch = Batch {
            columns: columns.map_err(bad(&self.path))?,
            rows,
            start: self.position,
        };
        self.left -= rows;
        self.position = batch.end();
        Ok(Some(batch))
    }
}

/// Skips rows of a column.
fn skip(column: &mut ColumnReader, rows: usize) -> Result<usize, ParquetError> {
    match column {
        ColumnReader::BoolColumnReader(column) => column.skip_records(rows),
        ColumnReader::Int32ColumnReader(column) => column.skip_records(rows),
        ColumnReader::Int64ColumnReader(column) => column.skip_records(rows),
        ColumnReader::Int96ColumnReader(column) => column.skip_records(rows),
        ColumnReader::FloatColumnReader(column) => column.skip_records(rows),
        ColumnReader::DoubleColumnReader(column) => column.skip_records(rows),
        ColumnReader::ByteArrayColumnReader(column) => column.skip_records(rows),
        ColumnReader::FixedLenByteArrayColumnReader(column) => column.skip_records(rows),
    }
}

#[cold]
fn unreadable(path: &Path, column: &Type) -> BatchError {
    let found = match column.is_primitive() {
        true => {
            let mut written = Vec::new();
            print_schema(&mut written, column);
            let written = String::from_utf8_lossy(&written);
            excerpt(written.trim_end_matches(['\n', ';']), 80)
        }
        false => "a group of columns".to_owned(),
    };
    BatchError::refused(format!(
        "{}: column {}: expected numbers, true and false, or text, got {found}; cast it, or write CSV",
        path.display(),
        excerpt(column.name(), 40),
    ))
}

fn bad(path: &Path) -> impl Fn(ParquetError) -> BatchError {
    let path = path.display().to_string();
    move |error| {
        BatchError::refused(format!(
            "{path}: expected a whole file of Parquet: {error}; write it again"
        ))
    }
}

impl Batch {
    /// The position after it.
    pub(super) fn end(&self) -> Position {
        let rows = self.rows as u64;
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
    columns: &'a [Cells],
    count: usize,
    at: usize,
    first: u64,
}

impl<'a> ParquetRows<'a> {
    pub(super) fn new(table: &'a Table, layout: &'a Layout, batch: &'a Batch) -> Self {
        Self {
            table,
            layout,
            columns: &batch.columns,
            count: batch.rows,
            at: 0,
            first: batch.start.line,
        }
    }

    /// The number of the row that comes next.
    pub(super) fn line(&self) -> u64 {
        self.first + self.at as u64
    }

    /// Reads up to `max_rows` more rows; returns whether any are left.
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
        for (name, &cell) in self.table.keep.iter().zip(&self.layout.keep) {
            let cell = self.columns[cell].text(self.at);
            let kept = text(&cell).map_err(Refusal::of_column(name))?;
            rows.kept.push(kept);
        }
        Ok(())
    }

    /// Appends the features of a cell.
    fn cell(
        &self,
        column: usize,
        cells: &Cells,
        into: &mut Vec<f32>,
    ) -> Result<(), (&'static str, String)> {
        let is_number = matches!(self.table.columns[column].kind, ColumnKind::Number { .. });
        if is_number && let Some(value) = cells.number(self.at) {
            if !value.is_finite() && !self.table.allow_non_finite {
                return Err(Fault::NotFinite.told(value.to_string().as_bytes()));
            }
            into.push(value);
            return Ok(());
        }
        self.table.encode(column, &cells.text(self.at), into)
    }
}
