//! What is scored: blocks of a file's rows, and the positions of the model's columns in them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::BatchError;
use super::rows::{CsvRows, NdjsonRows, Refusal, Rows, names};
use super::settings::{Format, STANDARD, Settings};
use super::table::{Layout, Table};
use super::tally::Position;
use super::text::{Block, MAX_LINE_BYTES, Records as Cut, Text};
use crate::csv;
use crate::model::open_regular;

/// A file or stream of rows, before the first is read.
pub(super) struct Source {
    blocks: Blocks,
    layouts: Layouts,
    /// What identifies the input, if it can be read again.
    file: Option<File>,
    /// The bytes of text or the rows of Parquet, if known.
    total: Option<u64>,
}

/// The blocks of a source, in order.
pub(super) enum Blocks {
    Text(Text<Box<dyn Read + Send>>, PathBuf),
    #[cfg(feature = "parquet")]
    Parquet(super::parquet::Batches),
}

/// Some rows of a source.
pub(super) enum Body {
    Text(Block),
    #[cfg(feature = "parquet")]
    Parquet(super::parquet::Batch),
}

/// The positions of the model's columns in the rows of a source.
#[derive(Clone, Debug)]
pub(super) enum Layouts {
    Csv(Layout),
    /// Each row names its columns.
    Ndjson,
    #[cfg(feature = "parquet")]
    Parquet(Layout),
}

/// The rows of a body, being read.
pub(super) enum Records<'a> {
    Csv(Box<CsvRows<'a>>),
    Ndjson(NdjsonRows<'a>),
    /// No rows: the line with the first number was skipped, up to the second.
    TooLong(u64, u64),
    #[cfg(feature = "parquet")]
    Parquet(super::parquet::ParquetRows<'a>),
}

impl Source {
    /// Opens a source and finds the model's columns in it.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column.
    pub(super) fn open(
        settings: &Settings,
        table: &Table,
        block_bytes: usize,
    ) -> Result<Self, BatchError> {
        let path = settings.input.clone();
        if table.inputs.len() > 1 && settings.from != Format::Ndjson {
            let names: Vec<&str> = table.inputs.iter().map(|spec| &*spec.name).collect();
            return Err(BatchError::refused(format!(
                "the input: expected NDJSON, as the model has several inputs ({}), got a table; write \
                 an object with the values of each a line",
                names.join(", ")
            )));
        }
        if settings.from == Format::Parquet {
            return Self::parquet(settings, table);
        }
        let (input, file, total): (Box<dyn Read + Send>, _, _) = match path == Path::new(STANDARD) {
            true => (Box::new(io::stdin()), None, None),
            // A pipe that has a name is a stream too.
            false => match open_regular(&path) {
                Ok((file, bytes)) => {
                    let again = file.try_clone().map_err(BatchError::at(&path))?;
                    (Box::new(file), Some(again), Some(bytes))
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && !path.is_dir() => {
                    let stream = File::open(&path).map_err(BatchError::at(&path))?;
                    (Box::new(stream), None, None)
                }
                Err(error) => return Err(BatchError::at(&path)(error)),
            },
        };
        let cut = match settings.from {
            Format::Csv => Cut::Csv,
            _ => Cut::Lines,
        };
        let mut text = Text::new(input, cut, Position::START, block_bytes);
        let layouts = match settings.from {
            Format::Csv if settings.header => {
                let header = text.header().map_err(BatchError::at(&path))?;
                Layouts::Csv(header_layout(&header.text, table)?)
            }
            Format::Csv => Layouts::Csv(Layout::in_order(table)?),
            _ => Layouts::Ndjson,
        };
        Ok(Self {
            blocks: Blocks::Text(text, path),
            layouts,
            file,
            total,
        })
    }

    #[cfg(feature = "parquet")]
    fn parquet(settings: &Settings, table: &Table) -> Result<Self, BatchError> {
        let path = settings.input.clone();
        let (file, _) = open_regular(&path).map_err(BatchError::at(&path))?;
        let again = file.try_clone().map_err(BatchError::at(&path))?;
        let batches = super::parquet::Batches::open(file, &path, table)?;
        Ok(Self {
            layouts: Layouts::Parquet(batches.layout().clone()),
            total: Some(batches.total()),
            blocks: Blocks::Parquet(batches),
            file: Some(again),
        })
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(_: &Settings, _: &Table) -> Result<Self, BatchError> {
        unreachable!("refused before")
    }

    /// The file, if it can be read again.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The columns that no one reads.
    pub(super) fn unused(&self) -> &[String] {
        match &self.layouts {
            Layouts::Csv(layout) => &layout.unused,
            Layouts::Ndjson => &[],
            #[cfg(feature = "parquet")]
            Layouts::Parquet(layout) => &layout.unused,
        }
    }

    pub(super) fn layouts(&self) -> Layouts {
        self.layouts.clone()
    }

    /// Continues at a position that an earlier run reached.
    pub(super) fn go_to(&mut self, position: Position) -> Result<(), BatchError> {
        match &mut self.blocks {
            Blocks::Text(text, path) => {
                let file = self.file.as_ref().expect("only files have a position");
                let again = file.try_clone().and_then(|mut file| {
                    file.seek(SeekFrom::Start(position.offset))?;
                    Ok(file)
                });
                let file = again.map_err(BatchError::at(path))?;
                *text = text.again(Box::new(file), position);
            }
            #[cfg(feature = "parquet")]
            Blocks::Parquet(batches) => batches.go_to(position)?,
        }
        Ok(())
    }

    pub(super) fn into_blocks(self) -> Blocks {
        self.blocks
    }
}

/// The positions of the columns that the header of CSV names.
fn header_layout(header: &[u8], table: &Table) -> Result<Layout, BatchError> {
    let names = names(header);
    let names = names.map_err(|message| BatchError::refused(format!("line 1: {message}")))?;
    let is_number = |name: &String| csv::number(name.as_bytes(), true).is_ok();
    if !table.is_named && names.iter().all(is_number) {
        return Err(BatchError::refused(format!(
            "line 1: expected the names of the columns, got the numbers {}; say --no-header if it is a \
             row, or give the columns names",
            names.join(", ")
        )));
    }
    Layout::named(table, &names)
}

impl Blocks {
    /// The next block; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Body>, BatchError> {
        match self {
            Self::Text(text, path) => {
                let block = text.next().map_err(BatchError::at(path))?;
                Ok(block.map(Body::Text))
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(batches) => Ok(batches.next()?.map(Body::Parquet)),
        }
    }
}

impl Body {
    /// The position after it.
    pub(super) fn end(&self) -> Position {
        match self {
            Self::Text(block) => block.end,
            #[cfg(feature = "parquet")]
            Self::Parquet(batch) => batch.end(),
        }
    }
}

impl Layouts {
    /// The rows of a body of this source.
    pub(super) fn records<'a>(&'a self, table: &'a Table, body: &'a Body) -> Records<'a> {
        match (self, body) {
            (Self::Csv(_) | Self::Ndjson, Body::Text(block)) if block.is_too_long => {
                Records::TooLong(block.start.line, block.end.line)
            }
            (Self::Csv(layout), Body::Text(block)) => {
                Records::Csv(Box::new(CsvRows::new(table, layout, block)))
            }
            (Self::Ndjson, Body::Text(block)) => Records::Ndjson(NdjsonRows::new(table, block)),
            #[cfg(feature = "parquet")]
            (Self::Parquet(layout), Body::Parquet(batch)) => {
                Records::Parquet(super::parquet::ParquetRows::new(table, layout, batch))
            }
            #[cfg(feature = "parquet")]
            _ => unreachable!("a source has bodies of one kind"),
        }
    }
}

impl Records<'_> {
    /// Reads up to `max_rows` more rows; returns whether any are left.
    pub(super) fn read(&mut self, max_rows: usize, rows: &mut Rows) -> bool {
        match self {
            Self::Csv(records) => records.read(max_rows, rows),
            Self::Ndjson(records) => records.read(max_rows, rows),
            Self::TooLong(line, end) => {
                rows.add(*line, |_| Err(too_long()));
                *line = *end;
                false
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(records) => records.read(max_rows, rows),
        }
    }

    /// The line that comes next.
    pub(super) fn line(&self) -> u64 {
        match self {
            Self::Csv(records) => records.line(),
            Self::Ndjson(records) => records.line(),
            Self::TooLong(line, _) => *line,
            #[cfg(feature = "parquet")]
            Self::Parquet(records) => records.line(),
        }
    }
}

#[cold]
fn too_long() -> Refusal {
    Refusal::of_row(
        "too_long",
        format!(
            "expected a line of at most {MAX_LINE_BYTES} bytes, got one that is longer than \
             {MAX_LINE_BYTES} bytes; end each row with \\n"
        ),
    )
}
