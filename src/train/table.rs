//! A table of text, as a CSV file holds it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder, Trim};

use super::error::TrainError;
use super::observer::Stop;
use super::options::Options;
use crate::messages::{excerpt, nearest};

/// The most columns of a table: far more than suit a network of dense layers.
const MAX_COLUMNS: usize = 10_000;

/// The most bytes of a column's name: what a model's features may be named.
const MAX_NAME_BYTES: usize = 256;

/// Rows between two checks whether to stop.
const ROWS_A_LOOK: u64 = 4096;

/// A table, column by column.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<TextColumn>,
    /// The line of the file on which each row begins, from 1 on.
    lines: Vec<u64>,
}

/// One column: its cells' texts in one piece, trimmed; a missing one is empty.
#[derive(Debug)]
pub(super) struct TextColumn {
    pub(super) name: String,
    text: String,
    ends: Vec<usize>,
}

impl TextColumn {
    fn new(name: String) -> Self {
        Self {
            name,
            text: String::new(),
            ends: Vec::new(),
        }
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    pub(super) fn cell(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[row]]
    }
}

impl Table {
    /// Reads the file that the options name.
    pub(super) fn read(options: &Options, stop: &dyn Fn() -> Stop) -> Result<Self, TrainError> {
        let path = &options.data;
        let file = File::open(path).map_err(TrainError::file(path))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let error = io::Error::new(
                io::ErrorKind::IsADirectory,
                "a directory; expected a CSV file",
            );
            return Err(TrainError::file(path)(error));
        }
        Self::parse(BufReader::new(file), options, stop)
    }

    /// Reads CSV with a header: RFC 4180, in UTF-8, with or without a byte order mark.
    pub(super) fn parse(
        source: impl Read,
        options: &Options,
        stop: &dyn Fn() -> Stop,
    ) -> Result<Self, TrainError> {
        let mut source = Watched::new(source);
        let mut reader = ReaderBuilder::new()
            .delimiter(options.delimiter)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(&mut source);
        let failed = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(error) => TrainError::file(&options.data)(error),
            other => TrainError::table(format!("cannot be read as CSV: {other:?}")),
        };
        let header = reader.byte_headers().map_err(failed)?.clone();
        let mut columns = header_columns(&header, options.delimiter)?;
        let mut lines = Vec::new();
        let mut record = ByteRecord::new();
        let mut last_spans_lines = false;
        while reader.read_byte_record(&mut record).map_err(failed)? {
            let start = record.position().map_or(0, csv::Position::byte);
            let line = reader.get_ref().line_from(start);
            if (lines.len() as u64).is_multiple_of(ROWS_A_LOOK) && stop() != Stop::No {
                return Err(TrainError::Interrupted);
            }
            if record.len() != columns.len() {
                return Err(ragged(&record, line, columns.len()));
            }
            for (column, cell) in columns.iter_mut().zip(&record) {
                let cell = std::str::from_utf8(cell).map_err(|_| {
                    TrainError::cell(
                        line,
                        &column.name,
                        format!(
                            "expected text in UTF-8, got {}; save the file as UTF-8",
                            excerpt(&String::from_utf8_lossy(cell), 32)
                        ),
                    )
                })?;
                // Blanks beyond those of ASCII, which the reader trims, are no part of a cell either.
                let cell = cell.trim();
                let is_missing = options.missing.iter().any(|missing| missing == cell);
                column.push(if is_missing { "" } else { cell });
            }
            last_spans_lines = record.as_slice().contains(&b'\n');
            lines.push(line);
        }
        drop(reader);
        let table = Self { columns, lines };
        match (table.lines.last(), source.quotes % 2) {
            (None, _) => Err(TrainError::table(
                "the file has a header and no rows; expected a row or more",
            )),
            (Some(&line), 1) if last_spans_lines => Err(TrainError::line(
                line,
                "a quote that begins in this row is not closed; close it, or write \"\" for a quote \
                 inside of a quoted cell",
            )),
            _ => Ok(table),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The line of the file on which a row begins.
    pub(super) fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    /// The position of a column that an option names.
    pub(super) fn column(&self, flag: &'static str, name: &str) -> Result<usize, TrainError> {
        let found = self.columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| {
            let names = || self.columns.iter().map(|column| column.name.as_str());
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => {
                    let shown: Vec<String> =
                        names().take(20).map(|name| excerpt(name, 64)).collect();
                    let more = names().count().saturating_sub(20);
                    match more {
                        0 => format!("the columns are {}", shown.join(", ")),
                        more => format!("the columns are {} and {more} more", shown.join(", ")),
                    }
                }
            };
            TrainError::option(
                flag,
                format!("the table has no column {}; {hint}", excerpt(name, 64)),
            )
        })
    }
}

/// The columns of a header, without rows.
fn header_columns(header: &ByteRecord, delimiter: u8) -> Result<Vec<TextColumn>, TrainError> {
    if header.is_empty() || header.iter().all(<[u8]>::is_empty) && header.len() == 1 {
        return Err(TrainError::table(
            "the file is empty; expected a header with the columns' names, and rows",
        ));
    }
    if header.len() > MAX_COLUMNS {
        let problem = format!(
            "expected at most {MAX_COLUMNS} columns, got {}",
            header.len()
        );
        return Err(TrainError::line(1, problem));
    }
    let mut seen = HashSet::new();
    let mut columns = Vec::with_capacity(header.len());
    for (index, name) in header.iter().enumerate() {
        let place = index + 1;
        let refused = |problem: String| Err(TrainError::line(1, problem));
        let Ok(name) = std::str::from_utf8(name) else {
            return refused(format!(
                "the name of column {place} is not UTF-8; save the file as UTF-8"
            ));
        };
        let name = name.trim();
        if name.is_empty() {
            return refused(format!(
                "column {place} of the header has no name; give it one"
            ));
        }
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return refused(format!(
                "column {place}: expected a name of at most {MAX_NAME_BYTES} bytes without control \
                 characters, got {}",
                excerpt(name, 40)
            ));
        }
        if !seen.insert(name.to_owned()) {
            return refused(format!(
                "two columns have the name {}; rename one of them",
                excerpt(name, 64)
            ));
        }
        columns.push(TextColumn::new(name.to_owned()));
    }
    if let ([only], b',') = (&columns[..], delimiter) {
        for (other, flag) in [(';', ";"), ('\t', "\\t"), ('|', "|")] {
            if only.name.contains(other) {
                return Err(TrainError::line(
                    1,
                    format!(
                        "a single column with {other:?} in its name; if that parts columns, give --delimiter '{flag}'"
                    ),
                ));
            }
        }
    }
    Ok(columns)
}

fn ragged(record: &ByteRecord, line: u64, expected: usize) -> TrainError {
    let spans = record
        .as_slice()
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count();
    let hint = match spans {
        0 => "add or remove cells, and quote those that hold a comma".to_owned(),
        spans => format!(
            "a quoted cell goes over {} lines here; is a quote not closed?",
            spans + 1
        ),
    };
    TrainError::line(
        line,
        format!(
            "expected {expected} cells as in the header, got {}; {hint}",
            record.len()
        ),
    )
}

/// Watches the bytes that pass: counts the quotes, which come in pairs in a whole CSV file, and records
/// where each line that is not empty begins. The reader's own positions are before the empty lines that it
/// skips.
struct Watched<R> {
    source: R,
    quotes: u64,
    /// The bytes that have passed.
    passed: u64,
    /// The number of the line that the next byte is on.
    line: u64,
    /// Whether no byte of that line has passed.
    is_empty: bool,
    /// (the byte at which a line begins, its number)
    starts: Vec<(u64, u64)>,
}

impl<R> Watched<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            quotes: 0,
            passed: 0,
            line: 1,
            is_empty: true,
            starts: Vec::new(),
        }
    }

    /// The number of the first line that is not empty from a byte on.
    fn line_from(&self, byte: u64) -> u64 {
        let before = self.starts.partition_point(|(start, _)| *start < byte);
        self.starts.get(before).map_or(self.line, |(_, line)| *line)
    }
}

impl<R: Read> Read for &mut Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        for &byte in &buffer[..read] {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.is_empty = true;
                }
                b'\r' => {}
                byte => {
                    if self.is_empty {
                        self.starts.push((self.passed, self.line));
                        self.is_empty = false;
                    }
                    self.quotes += u64::from(byte == b'"');
                }
            }
            self.passed += 1;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        let options = Options {
            missing: vec!["NA".into(), "?".into()],
            ..Options::new("t.csv".into(), "y", "models/m".into())
        };
        Table::parse(text.as_bytes(), &options, &|| Stop::No).unwrap()
    }

    fn cells(table: &Table, column: usize) -> Vec<&str> {
        (0..table.rows())
            .map(|row| table.columns[column].cell(row))
            .collect()
    }

    #[test]
    fn cells_are_trimmed_and_missing_ones_are_empty() {
        let table =
            table("\u{feff} x ,\"y, z\"\r\n 1 , \u{a0}a\r\n\r\nNA,?\r\n\"\",\"b \"\"c\"\"\"");
        assert_eq!(table.columns[0].name, "x");
        assert_eq!(table.columns[1].name, "y, z");
        assert_eq!(cells(&table, 0), ["1", "", ""]);
        assert_eq!(cells(&table, 1), ["a", "", "b \"c\""]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let table = table("x,y\n1,2\n\n\"3\n4\",5\n6,7\n");
        let lines: Vec<u64> = (0..table.rows()).map(|row| table.line(row)).collect();
        assert_eq!(lines, [2, 4, 6]);
    }

    #[test]
    fn lines_are_counted_alike_with_the_ends_of_windows() {
        let table = table("\u{feff}x,y\r\n1,2\r\n\r\n\r\n\"3\r\n4\",5\r\n6,7");
        let lines: Vec<u64> = (0..table.rows()).map(|row| table.line(row)).collect();
        assert_eq!(lines, [2, 5, 7]);
    }

    #[test]
    fn quotes_inside_of_a_last_cell_of_several_lines_are_no_fault() {
        let table = table("x,y\n1,\"a\n\"\"b\"\"\"\n");
        assert_eq!(cells(&table, 1), ["a\n\"b\""]);
    }
}
