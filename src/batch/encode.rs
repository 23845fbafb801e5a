//! Predictions in the forms that files take.

use super::error::BatchError;
use super::rows::{Fault, Kept, Refusal};
use super::settings::Format;
use crate::engine::Outputs;
use crate::json::Writer;
use crate::messages::nearest;
use crate::model::{Output, OutputSource, Signature};
use crate::tensor::{Values, View};

/// The column that says from which line of the input a row is.
pub(super) const LINE: &str = "line";

/// What the model says of some rows.
pub(super) struct Answers<'a> {
    pub(super) lines: &'a [u64],
    pub(super) kept: &'a Kept,
    pub(super) outputs: Outputs<'a>,
    /// How many outputs the engine has.
    pub(super) engine_outputs: usize,
    /// The outputs of the step after it.
    pub(super) finished: Vec<Values>,
}

impl Answers<'_> {
    /// The values that the output at this position in the signature has for a row.
    pub(super) fn of_row(&self, position: usize, output: &Output, row: usize) -> View<'_> {
        let elements = output.spec.shape.elements();
        let values = match position.checked_sub(self.engine_outputs) {
            None => View::F32(self.outputs.get(position)),
            Some(finished) => self.finished[finished].view(),
        };
        values.slice(row * elements..(row + 1) * elements)
    }
}

/// Which columns the output has.
pub(super) struct Encoder<'m> {
    signature: &'m Signature,
    /// With their positions in the signature.
    pub(super) outputs: Vec<(usize, &'m Output)>,
    pub(super) keep: Vec<String>,
    pub(super) has_line: bool,
}

impl<'m> Encoder<'m> {
    /// With the line if it is wanted, the columns that are kept, and the outputs with these names, or
    /// all if none is named.
    ///
    /// # Errors
    /// If the model has no such output, or two columns would have one name.
    pub(super) fn new(
        signature: &'m Signature,
        names: &[String],
        keep: &[String],
        has_line: bool,
    ) -> Result<Self, BatchError> {
        let all = || signature.outputs.iter().enumerate();
        let named = |name: &String| {
            all()
                .find(|(_, output)| output.spec.name == *name)
                .ok_or_else(|| {
                    let known: Vec<&str> = all().map(|(_, output)| &*output.spec.name).collect();
                    let meant = nearest(name, known.iter().copied());
                    let meant =
                        meant.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
                    BatchError::refused(format!(
                        "--outputs: the model has no output {name:?}; it has {}{meant}",
                        known.join(", ")
                    ))
                })
        };
        let outputs = match names {
            [] => all().collect(),
            names => names.iter().map(named).collect::<Result<_, _>>()?,
        };
        let encoder = Self {
            signature,
            outputs,
            keep: keep.to_vec(),
            has_line,
        };
        let mut seen = std::collections::HashSet::new();
        let columns = encoder.columns();
        match columns.iter().find(|name| !seen.insert(&***name)) {
            Some(twice) => Err(BatchError::refused(format!(
                "the output: two columns would be named {twice:?}; choose others with --keep and \
                 --outputs, or leave the line out with --no-line"
            ))),
            None => Ok(encoder),
        }
    }

    /// The names of the output's columns.
    pub(super) fn columns(&self) -> Vec<String> {
        let line = self.has_line.then(|| LINE.to_owned());
        let outputs = self.outputs.iter();
        let outputs = outputs.flat_map(|(_, output)| self.signature.cell_names(output));
        line.into_iter()
            .chain(self.keep.iter().cloned())
            .chain(outputs)
            .collect()
    }

    /// What an output begins with.
    pub(super) fn header(&self, format: Format) -> Vec<u8> {
        let mut text = Writer::default();
        if format == Format::Csv {
            self.columns().iter().for_each(|name| text.cell(name));
            text.line();
        }
        text.into_bytes()
    }

    /// How many numbers or texts a row of the output has.
    pub(super) fn width(&self) -> usize {
        let outputs = self
            .outputs
            .iter()
            .map(|(_, output)| output.spec.shape.elements());
        usize::from(self.has_line) + self.keep.len() + outputs.sum::<usize>()
    }

    /// Appends a row as a line.
    pub(super) fn line(
        &self,
        format: Format,
        answers: &Answers<'_>,
        row: usize,
        into: &mut Writer,
    ) {
        match format {
            Format::Ndjson => into.object(|into| self.object(answers, row, into)),
            Format::Csv | Format::Parquet => self.record(answers, row, into),
        }
        into.line();
    }

    /// Whether the answer of a row is finite, or need not be.
    pub(super) fn is_told(&self, answers: &Answers<'_>, row: usize) -> bool {
        self.signature.allow_non_finite
            || self
                .signature
                .engine_outputs()
                .enumerate()
                .all(|(position, output)| {
                    let values = answers.of_row(position, output, row).f32s();
                    values.iter().all(|value| value.is_finite())
                })
    }

    /// Whether any output is wanted that the step after the engine makes.
    pub(super) fn wants_finished(&self) -> bool {
        let mut outputs = self.outputs.iter();
        outputs.any(|(_, output)| output.source == OutputSource::Finish)
    }

    fn record(&self, answers: &Answers<'_>, row: usize, into: &mut Writer) {
        if self.has_line {
            into.integer(answers.lines[row]);
        }
        for cell in 0..self.keep.len() {
            into.cell(answers.kept.get(row * self.keep.len() + cell));
        }
        for (position, output) in &self.outputs {
            into.cells(answers.of_row(*position, output, row));
        }
    }

    fn object(&self, answers: &Answers<'_>, row: usize, into: &mut Writer) {
        if self.has_line {
            into.key(LINE).integer(answers.lines[row]);
        }
        for (cell, name) in self.keep.iter().enumerate() {
            into.key(name)
                .string(answers.kept.get(row * self.keep.len() + cell));
        }
        for (position, output) in &self.outputs {
            let values = answers.of_row(*position, output, row);
            into.key(&output.spec.name)
                .nested(values, &output.spec.shape.extents);
        }
    }
}

pub(super) fn non_finite(line: u64) -> Fault {
    let message = "expected a finite answer, got NaN or an infinity from the model; check the row's \
                   values, or set \"allow_non_finite\" in the model's config.json";
    Fault {
        line,
        refusal: Refusal::of_row("non_finite_answer", message.to_owned()),
    }
}

/// What the file of bad rows begins with.
pub(super) const FAULTS_HEADER: &[u8] = b"line,column,code,message\n";

/// Appends bad rows, those of the first lines first.
pub(super) fn faults(faults: &mut [Fault], into: &mut Writer) {
    faults.sort_by_key(|fault| fault.line);
    for Fault { line, refusal } in faults {
        into.integer(*line);
        into.cell(&refusal.column);
        into.cell(refusal.code);
        into.cell(&refusal.message);
        into.line();
    }
}
