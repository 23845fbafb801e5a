//! Rows of a block of JSON documents, one a line.

use super::{Refusal, Rows};
use crate::batch::table::Table;
use crate::batch::text::Block;
use crate::json::{Error, ErrorKind, Kind, Reader};
use crate::tensor::TensorSpec;

/// The rows of a block, being read.
pub(in crate::batch) struct NdjsonRows<'a> {
    table: &'a Table,
    text: &'a [u8],
    line: u64,
    /// The features of one column.
    scratch: Vec<f32>,
}

/// What an object's key names.
enum Place {
    Column(usize),
    Input(usize),
    Nothing,
}

impl<'a> NdjsonRows<'a> {
    pub(in crate::batch) fn new(table: &'a Table, block: &'a Block) -> Self {
        Self {
            table,
            text: &block.text,
            line: block.start.line,
            scratch: Vec::new(),
        }
    }

    /// The line that comes next.
    pub(in crate::batch) fn line(&self) -> u64 {
        self.line
    }

    /// Reads up to `max_rows` more rows; returns whether any are left.
    pub(in crate::batch) fn read(&mut self, max_rows: usize, rows: &mut Rows) -> bool {
        while !self.text.is_empty() {
            if rows.count() + rows.faults.len() >= max_rows {
                return true;
            }
            let end = memchr::memchr(b'\n', self.text);
            let line = &self.text[..end.unwrap_or(self.text.len())];
            let number = self.line;
            self.text = &self.text[end.map_or(self.text.len(), |end| end + 1)..];
            self.line += u64::from(end.is_some());
            if line.trim_ascii().is_empty() {
                rows.blank += 1;
                continue;
            }
            rows.add(number, |rows| self.row(line, rows));
        }
        false
    }

    /// Appends the row of a line: an object, or the values of the single input.
    fn row(&mut self, line: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        let reader = Reader::new(line).map_err(of_row)?;
        let mut reader = reader.allowing_non_finite(self.table.allow_non_finite);
        match (reader.peek().map_err(of_row)?, &*self.table.inputs) {
            (Kind::Object, _) => self.object(&mut reader, rows)?,
            (_, [spec]) if self.table.keep.is_empty() => {
                values(&mut reader, spec, &mut rows.inputs[0])?;
            }
            (_, [_]) => {
                return Err(Refusal::of_row(
                    "wrong_type",
                    "expected an object, as columns are to be kept, got values without names; leave \
                     --keep out, or write objects"
                        .to_owned(),
                ));
            }
            (_, specs) => {
                let names: Vec<String> = specs
                    .iter()
                    .map(|spec| format!("{:?}: ...", spec.name))
                    .collect();
                return Err(Refusal::of_row(
                    "wrong_type",
                    format!(
                        "expected an object, as the model has several inputs; write {{{}}}",
                        names.join(", ")
                    ),
                ));
            }
        }
        reader.end().map_err(of_row)
    }

    fn object(&mut self, reader: &mut Reader<'_>, rows: &mut Rows) -> Result<(), Refusal> {
        let table = self.table;
        let mut has_columns = vec![false; table.columns.len()];
        let mut has_inputs = vec![false; table.inputs.len()];
        let mut kept: Vec<Option<String>> = vec![None; table.keep.len()];
        let starts: Vec<usize> = rows.inputs.iter().map(Vec::len).collect();
        let mut guess = 0;
        // Faults of the table stop the parser as errors of the document do.
        let mut refusal = None;
        let read = reader.object(|reader, key| {
            let place = self.place(key, guess);
            let keep = table.keep.iter().position(|name| name == key);
            let value = match (&place, keep) {
                (Place::Input(input), _) => {
                    has_inputs[*input] = true;
                    let spec = &table.inputs[*input];
                    return values(reader, spec, &mut rows.inputs[*input])
                        .map_err(|fault| stop(&mut refusal, fault));
                }
                (Place::Nothing, None) => return Ok(reader.skip()?),
                _ => reader
                    .cell()
                    .map_err(|error| stop(&mut refusal, Refusal::of_column(key)(told(error))))?,
            };
            if let Place::Column(column) = place {
                guess = column + 1;
                has_columns[column] = true;
                let row = &mut rows.inputs[0];
                // The first column reserves room for all.
                row.resize(starts[0] + table.features, 0.0);
                self.scratch.clear();
                let encoded = table.encode(column, value.as_bytes(), &mut self.scratch);
                encoded.map_err(|fault| stop(&mut refusal, Refusal::of_column(key)(fault)))?;
                let at = starts[0] + table.offsets[column];
                row[at..][..self.scratch.len()].copy_from_slice(&self.scratch);
            }
            if let Some(keep) = keep {
                kept[keep] = Some(value.into_owned());
            }
            Ok::<_, Stop>(())
        });
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        match read {
            Err(Stop::Document(error)) => return Err(of_row(error)),
            Err(Stop::Refused) | Ok(()) => {}
        }
        self.complete(&has_columns, &has_inputs)?;
        for (name, cell) in table.keep.iter().zip(kept) {
            let cell = cell.ok_or_else(|| missing(name))?;
            rows.kept.push(&cell);
        }
        Ok(())
    }

    /// What a key names; fast if it is the column at `guess`.
    fn place(&self, key: &str, guess: usize) -> Place {
        let column = match self.table.is_named {
            true => self.table.column(key, guess),
            false => None,
        };
        if let Some(column) = column {
            return Place::Column(column);
        }
        match self.table.inputs.iter().position(|spec| spec.name == key) {
            Some(input) => Place::Input(input),
            None => Place::Nothing,
        }
    }

    /// Checks that all are present: each input, or each column. Only null and empty text are filled: a
    /// missing key may be misspelt, and would be filled on every row.
    fn complete(&self, has_columns: &[bool], has_inputs: &[bool]) -> Result<(), Refusal> {
        let table = self.table;
        let any_column = has_columns.contains(&true);
        let any_input = has_inputs.contains(&true);
        if any_column && any_input {
            return Err(Refusal::of_row(
                "ambiguous_request",
                format!(
                    "expected either {:?} or its columns, got both",
                    table.inputs[0].name
                ),
            ));
        }
        if any_input || !table.is_named {
            let first = has_inputs.iter().position(|has| !has);
            return match first {
                Some(first) => Err(missing(&table.inputs[first].name)),
                None => Ok(()),
            };
        }
        match has_columns.iter().position(|has| !has) {
            Some(column) if table.has_columns => Err(absent(&table.columns[column].name)),
            Some(column) => Err(missing(&table.columns[column].name)),
            None => Ok(()),
        }
    }
}

/// Why the reading of an object ends early.
enum Stop {
    Document(Error),
    /// The refusal itself is kept elsewhere.
    Refused,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Document(error)
    }
}

fn stop(refusal: &mut Option<Refusal>, fault: Refusal) -> Stop {
    *refusal = Some(fault);
    Stop::Refused
}

/// Appends the values of an input.
fn values(reader: &mut Reader<'_>, spec: &TensorSpec, into: &mut Vec<f32>) -> Result<(), Refusal> {
    let extents = reader.nested(into, spec.shape.elements());
    let extents = extents.map_err(|error| Refusal::of_column(&spec.name)(told(error)))?;
    if *extents == *spec.shape.extents {
        return Ok(());
    }
    Err(Refusal::of_column(&spec.name)((
        "shape_mismatch",
        format!(
            "expected numbers of shape {:?}, got {:?}; write {} values a row",
            spec.shape.extents,
            &*extents,
            spec.shape.elements()
        ),
    )))
}

fn missing(name: &str) -> Refusal {
    Refusal::of_column(name)((
        "missing_input",
        "expected a value, got none; add the key".to_owned(),
    ))
}

/// For a model that may fill missing values.
fn absent(name: &str) -> Refusal {
    Refusal::of_column(name)((
        "missing_input",
        "expected the key, got an object without it; add it, with null if its value is missing"
            .to_owned(),
    ))
}

fn of_row(error: Error) -> Refusal {
    let (code, message) = told(error);
    Refusal::of_row(code, message)
}

/// The code and the message for what is wrong with a document.
fn told(error: Error) -> (&'static str, String) {
    let code = match error.kind() {
        ErrorKind::Syntax | ErrorKind::TooDeep => "syntax",
        ErrorKind::Type => "wrong_type",
        ErrorKind::Range | ErrorKind::NotFinite => "not_finite",
        ErrorKind::DuplicateKey => "duplicate_input",
        ErrorKind::Ragged | ErrorKind::TooMany => "shape_mismatch",
    };
    (code, error.within("the row").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Position;
    use crate::model::{Column, ColumnKind};
    use crate::tensor::{DataType, Shape};

    #[test]
    fn null_is_filled_and_a_key_that_is_not_there_is_a_fault() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: ColumnKind::Number { fill: Some(7.0) },
        };
        let table = Table {
            columns: vec![column("age"), column("fare")],
            offsets: vec![0, 1],
            features: 2,
            is_named: true,
            has_columns: true,
            allow_non_finite: false,
            keep: Vec::new(),
            inputs: vec![TensorSpec::new(
                "input",
                DataType::Fp32,
                Shape::rows(vec![2]),
            )],
        };
        let text = "{\"age\":null,\"fare\":1}\n{\"age\":2,\"fair\":3}\n{\"fare\":\"\",\"age\":4}\n";
        let block = Block {
            text: text.as_bytes().to_vec(),
            start: Position::START,
            end: Position::START,
            is_too_long: false,
        };
        let mut rows = Rows::new(&table);
        assert!(!NdjsonRows::new(&table, &block).read(9, &mut rows));
        assert_eq!(rows.inputs, [[7.0, 1.0, 4.0, 7.0]]);
        assert_eq!(rows.lines, [1, 3]);
        let [fault] = &*rows.faults else {
            panic!("{:?}", rows.faults);
        };
        let Refusal { column, code, .. } = &fault.refusal;
        assert_eq!((fault.line, &**column, *code), (2, "fare", "missing_input"));
    }
}
