//! Predictions as Parquet: a column each, as CSV has them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Float32Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::batch::encode::{Answers, Encoder};
use crate::batch::error::BatchError;
use crate::model::OutputSource;

/// What a row group may hold, in values and rows: it is in memory until it is whole.
const GROUP_VALUES: usize = 4 << 20;
const GROUP_ROWS: usize = 128 << 10;

/// Rows of predictions, being collected column by column.
pub(in crate::batch) struct Predictions {
    columns: Vec<Cells>,
    at: usize,
}

enum Cells {
    Integers(Int64Builder),
    Numbers(Float32Builder),
    Texts(StringBuilder),
}

impl Cells {
    fn of(datatype: &DataType) -> Self {
        match datatype {
            DataType::Int64 => Self::Integers(Int64Builder::new()),
            DataType::Float32 => Self::Numbers(Float32Builder::new()),
            _ => Self::Texts(StringBuilder::new()),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Integers(cells) => ArrayBuilder::finish(cells),
            Self::Numbers(cells) => ArrayBuilder::finish(cells),
            Self::Texts(cells) => ArrayBuilder::finish(cells),
        }
    }
}

/// The types of an output's columns.
fn datatypes(encoder: &Encoder<'_>) -> Vec<DataType> {
    let line = encoder.has_line.then_some(DataType::Int64);
    let keep = encoder.keep.iter().map(|_| DataType::Utf8);
    let outputs = encoder.outputs.iter().flat_map(|output| {
        let datatype = match output.source {
            OutputSource::Engine(_) => DataType::Float32,
            OutputSource::ClassId => DataType::Int64,
            OutputSource::Label => DataType::Utf8,
        };
        vec![datatype; output.spec.shape.elements()]
    });
    line.into_iter().chain(keep).chain(outputs).collect()
}

fn schema(encoder: &Encoder<'_>) -> SchemaRef {
    let names = encoder.columns().into_iter();
    let fields = names.zip(datatypes(encoder));
    let fields = fields.map(|(name, datatype)| Field::new(name, datatype, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl Predictions {
    pub(in crate::batch) fn new(encoder: &Encoder<'_>) -> Self {
        Self {
            columns: datatypes(encoder).iter().map(Cells::of).collect(),
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
            self.text(answers.kept.get(row * encoder.keep.len() + cell));
        }
        for output in &encoder.outputs {
            match output.source {
                OutputSource::Engine(index) => {
                    let values = answers.of_row(index, output, row);
                    values.iter().for_each(|value| self.number(*value));
                }
                OutputSource::ClassId => self.integer(encoder.class(answers, row) as i64),
                OutputSource::Label => self.text(encoder.label(answers, row)),
            }
        }
    }

    fn next(&mut self) -> &mut Cells {
        self.at += 1;
        &mut self.columns[self.at - 1]
    }

    fn integer(&mut self, value: i64) {
        if let Cells::Integers(cells) = self.next() {
            cells.append_value(value);
        }
    }

    fn number(&mut self, value: f32) {
        if let Cells::Numbers(cells) = self.next() {
            cells.append_value(value);
        }
    }

    fn text(&mut self, text: &str) {
        if let Cells::Texts(cells) = self.next() {
            cells.append_value(text);
        }
    }

    /// The rows that were collected.
    fn finish(mut self, schema: SchemaRef) -> Result<RecordBatch, ParquetError> {
        let columns = self.columns.iter_mut().map(Cells::finish).collect();
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// A file of predictions, being written.
pub(in crate::batch) struct Writer {
    schema: SchemaRef,
    writer: ArrowWriter<File>,
}

impl Writer {
    pub(in crate::batch) fn new(file: File, encoder: &Encoder<'_>) -> Result<Self, BatchError> {
        let schema = schema(encoder);
        let group_rows = (GROUP_VALUES / encoder.width().max(1)).clamp(1024, GROUP_ROWS);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(group_rows))
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
        Ok(Self {
            writer: writer.map_err(refused)?,
            schema,
        })
    }

    pub(in crate::batch) fn write(&mut self, rows: Predictions) -> io::Result<()> {
        let rows = rows.finish(self.schema.clone()).map_err(io::Error::other)?;
        self.writer.write(&rows).map_err(io::Error::other)
    }

    /// Writes what is left and the footer.
    pub(in crate::batch) fn finish(self) -> Result<File, BatchError> {
        self.writer.into_inner().map_err(refused)
    }
}

fn refused(error: ParquetError) -> BatchError {
    BatchError::refused(format!("the output: Parquet cannot hold it: {error}"))
}
