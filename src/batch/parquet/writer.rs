//! Predictions as Parquet: a column each, as CSV has them.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use crate::batch::encode::{Answers, Encoder};
use crate::batch::error::BatchError;
use crate::tensor::{Values, View};

/// What a row group may hold, in values and rows: it is in memory until it is whole.
const GROUP_VALUES: usize = 4 << 20;
const GROUP_ROWS: usize = 128 << 10;

/// Rows of predictions, being collected column by column.
pub(in crate::batch) struct Predictions {
    columns: Vec<Cells>,
    rows: usize,
    at: usize,
}

enum Cells {
    Integers(Vec<i64>),
    Numbers(Vec<f32>),
    Doubles(Vec<f64>),
    Texts(Texts),
}

/// Cells of text, one behind the other.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A column for each that the output has, without cells.
fn columns(encoder: &Encoder<'_>) -> Vec<Cells> {
    let integers = || Cells::Integers(Vec::new());
    let texts = || Cells::Texts(Texts::default());
    let mut columns = Vec::new();
    columns.extend(encoder.has_line.then(integers));
    columns.extend(encoder.keep.iter().map(|_| texts()));
    for (_, output) in &encoder.outputs {
        let column = || match Values::empty(output.spec.datatype) {
            Values::F32(_) => Cells::Numbers(Vec::new()),
            Values::F64(_) => Cells::Doubles(Vec::new()),
            Values::I64(_) => integers(),
            Values::Bytes(_) => texts(),
        };
        columns.extend((0..output.spec.shape.elements()).map(|_| column()));
    }
    columns
}

/// The schema of columns with these names.
fn schema(columns: impl Iterator<Item = (String, Cells)>) -> Result<Type, ParquetError> {
    let fields = columns.map(|(name, cells)| {
        let (physical, logical) = match cells {
            Cells::Integers(_) => (Physical::INT64, None),
            Cells::Numbers(_) => (Physical::FLOAT, None),
            Cells::Doubles(_) => (Physical::DOUBLE, None),
            Cells::Texts(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(&name, physical);
        let field = field.with_repetition(Repetition::REQUIRED);
        Ok(Arc::new(field.with_logical_type(logical).build()?))
    });
    let fields = fields.collect::<Result<_, ParquetError>>()?;
    Type::group_type_builder("predictions")
        .with_fields(fields)
        .build()
}

impl Cells {
    /// Takes the cells of the same column of later rows.
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Integers(cells), Self::Integers(mut more)) => cells.append(&mut more),
            (Self::Numbers(cells), Self::Numbers(mut more)) => cells.append(&mut more),
            (Self::Doubles(cells), Self::Doubles(mut more)) => cells.append(&mut more),
            (Self::Texts(cells), Self::Texts(mut more)) => {
                let start = cells.bytes.len();
                cells.bytes.append(&mut more.bytes);
                cells.ends.extend(more.ends.iter().map(|end| start + end));
            }
            _ => unreachable!("all pieces have the columns of one encoder"),
        }
    }

    /// Writes the cells, and leaves the column without any.
    fn write(&mut self, column: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self {
            Self::Integers(cells) => {
                let column = column.typed::<Int64Type>();
                column.write_batch(cells, None, None)?;
                cells.clear();
            }
            Self::Numbers(cells) => {
                let column = column.typed::<FloatType>();
                column.write_batch(cells, None, None)?;
                cells.clear();
            }
            Self::Doubles(cells) => {
                let column = column.typed::<DoubleType>();
                column.write_batch(cells, None, None)?;
                cells.clear();
            }
            Self::Texts(texts) => {
                let Texts { bytes, ends } = mem::take(texts);
                let bytes = Bytes::from(bytes);
                let mut start = 0;
                let cells = ends.into_iter().map(|end| {
                    let cell = bytes.slice(start..end);
                    start = end;
                    ByteArray::from(cell)
                });
                let cells: Vec<ByteArray> = cells.collect();
                let column = column.typed::<ByteArrayType>();
                column.write_batch(&cells, None, None)?;
            }
        }
        Ok(())
    }
}

impl Predictions {
    pub(in crate::batch) fn new(encoder: &Encoder<'_>) -> Self {
        Self::of(columns(encoder))
    }

    fn of(columns: Vec<Cells>) -> Self {
        Self {
            columns,
            rows: 0,
            at: 0,
        }
    }

    /// Appends a row.
    pub(in crate::batch) fn push(
        &mut self,
        encoder: &Encoder<'_>,
        answers: &Answers<'_>,
        row: usize,
    ) {
        self.at = 0;
        if encoder.has_line {
            self.integer(answers.lines[row] as i64);
        }
        for cell in 0..encoder.keep.len() {
            self.text(answers.kept.get(row * encoder.keep.len() + cell).as_bytes());
        }
        for (position, output) in &encoder.outputs {
            match answers.of_row(*position, output, row) {
                View::F32(values) => values.iter().for_each(|value| self.number(*value)),
                View::F64(values) => values.iter().for_each(|value| self.double(*value)),
                View::I64(values) => values.iter().for_each(|value| self.integer(*value)),
                View::Bytes(texts) => texts.iter().for_each(|text| self.text(text)),
            }
        }
        self.rows += 1;
    }

    fn next(&mut self) -> &mut Cells {
        self.at += 1;
        &mut self.columns[self.at - 1]
    }

    fn integer(&mut self, value: i64) {
        if let Cells::Integers(cells) = self.next() {
            cells.push(value);
        }
    }

    fn number(&mut self, value: f32) {
        if let Cells::Numbers(cells) = self.next() {
            cells.push(value);
        }
    }

    fn double(&mut self, value: f64) {
        if let Cells::Doubles(cells) = self.next() {
            cells.push(value);
        }
    }

    fn text(&mut self, text: &[u8]) {
        if let Cells::Texts(cells) = self.next() {
            cells.bytes.extend_from_slice(text);
            cells.ends.push(cells.bytes.len());
        }
    }

    /// Appends the rows of a later piece.
    fn append(&mut self, other: Self) {
        self.rows += other.rows;
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            column.append(more);
        }
    }
}

/// A file of predictions, being written.
pub(in crate::batch) struct Writer {
    writer: SerializedFileWriter<File>,
    /// The row group that is being collected, and when it is whole.
    group: Predictions,
    group_rows: usize,
}

impl Writer {
    pub(in crate::batch) fn new(file: File, encoder: &Encoder<'_>) -> Result<Self, BatchError> {
        let names = encoder.columns().into_iter();
        let schema = schema(names.zip(columns(encoder))).map_err(refused)?;
        let group_rows = (GROUP_VALUES / encoder.width().max(1)).clamp(1024, GROUP_ROWS);
        Self::of(file, schema, Predictions::new(encoder), group_rows).map_err(refused)
    }

    /// A file without rows yet; `group` has its columns.
    fn of(
        file: File,
        schema: Type,
        group: Predictions,
        group_rows: usize,
    ) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Self {
            writer: SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?,
            group,
            group_rows,
        })
    }

    pub(in crate::batch) fn write(&mut self, rows: Predictions) -> io::Result<()> {
        self.group.append(rows);
        match self.group.rows < self.group_rows {
            true => Ok(()),
            false => self.write_group().map_err(io::Error::other),
        }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for cells in &mut self.group.columns {
            let column = group.next_column()?;
            let mut column = column.expect("the schema has each column of an encoder");
            cells.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        self.group.rows = 0;
        Ok(())
    }

    /// Writes what is left and the footer.
    pub(in crate::batch) fn finish(mut self) -> Result<File, BatchError> {
        if self.group.rows > 0 {
            self.write_group().map_err(refused)?;
        }
        self.writer.into_inner().map_err(refused)
    }
}

fn refused(error: ParquetError) -> BatchError {
    BatchError::refused(format!("the output: Parquet cannot hold it: {error}"))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn pieces_become_row_groups_and_keep_their_order() {
        let cells = || {
            vec![
                Cells::Integers(Vec::new()),
                Cells::Numbers(Vec::new()),
                Cells::Texts(Texts::default()),
            ]
        };
        let names = ["a", "b", "c"].map(str::to_owned);
        let piece = |rows: std::ops::Range<usize>| {
            let mut piece = Predictions::of(cells());
            for row in rows {
                piece.at = 0;
                piece.integer(row as i64);
                piece.number(row as f32 / 2.0);
                piece.text("x".repeat(row).as_bytes());
                piece.rows += 1;
            }
            piece
        };
        let file = tempfile::tempfile().unwrap();
        let schema = schema(names.into_iter().zip(cells())).unwrap();
        let mut writer = Writer::of(file, schema, piece(0..0), 4).unwrap();
        for rows in [0..3, 3..3, 3..5, 5..6] {
            writer.write(piece(rows)).unwrap();
        }
        let file = SerializedFileReader::new(writer.finish().unwrap()).unwrap();
        let groups = file.metadata().row_groups().iter();
        let group_rows: Vec<i64> = groups.map(|group| group.num_rows()).collect();
        assert_eq!(group_rows, [5, 1]);
        let rows = file.get_row_iter(None).unwrap();
        let rows: Vec<String> = rows.map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows[0], "{a: 0, b: 0E0, c: \"\"}");
        assert_eq!(rows[3], "{a: 3, b: 1.5, c: \"xxx\"}");
        assert_eq!(rows[5], "{a: 5, b: 2.5, c: \"xxxxx\"}");
    }
}
