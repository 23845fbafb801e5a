//! The outputs of an answer, row by row or as one tensor, in whatever format they go out.

use std::borrow::Cow;

use crate::json::Writer;
use crate::model::{Model, Output, OutputSource};
use crate::request::InferResponse;
use crate::tensor::{Axis, TensorSpec, Values, View};

/// An output of an answer, with its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputRows<'a> {
    pub(super) output: &'a Output,
    rows: usize,
    /// Where the tokens of each row start, and where the last row's end, of an output of tokens.
    offsets: Option<&'a [usize]>,
    values: View<'a>,
}

impl<'a> OutputRows<'a> {
    /// The output at this position in the signature; `None` if the answer was asked for without it.
    pub(super) fn at(
        position: usize,
        model: &'a Model,
        response: &'a InferResponse,
    ) -> Option<Self> {
        let output = &model.signature.outputs[position];
        let axis = output.spec.shape.axis();
        Some(Self {
            output,
            rows: response.rows,
            offsets: axis.map(|Axis(axis)| &*response.offsets[axis]),
            values: response.outputs.get(position)?.view(),
        })
    }

    /// The engine's outputs. Those of the step after it, such as classes, have calls of their own, and
    /// the clients of most formats expect what the network gives.
    pub(super) fn of_engine(model: &'a Model, response: &'a InferResponse) -> Vec<Self> {
        let outputs = model.signature.outputs.iter().enumerate();
        outputs
            .filter(|(_, output)| output.source == OutputSource::Engine)
            .filter_map(|(position, _)| Self::at(position, model, response))
            .collect()
    }

    pub(super) fn spec(&self) -> &'a TensorSpec {
        &self.output.spec
    }

    /// All values, row-major.
    pub(super) fn values(&self) -> View<'a> {
        self.values
    }

    /// The values of a row.
    pub(super) fn row(&self, row: usize) -> View<'a> {
        let elements = self.spec().shape.elements();
        let items = match self.offsets {
            None => row..row + 1,
            Some(offsets) => offsets[row]..offsets[row + 1],
        };
        self.values
            .slice(items.start * elements..items.end * elements)
    }

    /// Writes a row as nested arrays.
    pub(super) fn write_row(&self, row: usize, body: &mut Writer) {
        let extents = &self.spec().shape.extents;
        match self.offsets {
            None => body.nested(self.row(row), extents),
            Some(offsets) => {
                let tokens = offsets[row + 1] - offsets[row];
                body.nested(self.row(row), &with(tokens, extents));
            }
        }
    }

    /// Writes the values of a row as cells of CSV.
    pub(super) fn write_cells(&self, row: usize, body: &mut Writer) {
        let values = self.row(row);
        match values.is_empty() {
            // An empty line would be no row to those who read it.
            true => body.cell(""),
            false => body.cells(values),
        }
    }

    /// Writes all rows as nested arrays.
    pub(super) fn write_rows(&self, body: &mut Writer) {
        match self.offsets {
            None => body.nested(self.values, &with(self.rows, &self.spec().shape.extents)),
            Some(_) => {
                body.array(|body| (0..self.rows).for_each(|row| self.write_row(row, body)));
            }
        }
    }

    /// The extents of one row of the output as one tensor: of the longest row, if it has tokens.
    pub(super) fn row_shape(&self) -> Cow<'a, [usize]> {
        let extents = &self.spec().shape.extents;
        match self.offsets {
            None => Cow::Borrowed(extents),
            Some(offsets) => Cow::Owned(with(longest(offsets), extents)),
        }
    }

    /// The values of the output as one tensor: rows with fewer tokens than the longest end in zeros.
    pub(super) fn padded(&self) -> TensorValues<'a> {
        let Some(offsets) = self.offsets else {
            return TensorValues::Borrowed(self.values);
        };
        let elements = self.spec().shape.elements();
        let (longest, rows) = (longest(offsets), self.rows);
        if self.values.len() == rows * longest * elements {
            return TensorValues::Borrowed(self.values);
        }
        let mut padded = self.values.to_empty();
        for row in 0..rows {
            padded.extend(self.row(row));
            let missing = ((row + 1) * longest * elements) - padded.len();
            let zeros = Values::zeros(self.spec().datatype, missing);
            padded.extend(zeros.view());
        }
        TensorValues::Owned(padded)
    }
}

/// The values of an output as one tensor.
#[derive(Clone, Debug)]
pub(super) enum TensorValues<'a> {
    /// As the model gave them.
    Borrowed(View<'a>),
    /// Made for the answer.
    Owned(Values),
}

impl TensorValues<'_> {
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Self::Borrowed(values) => *values,
            Self::Owned(values) => values.view(),
        }
    }
}

fn longest(offsets: &[usize]) -> usize {
    let rows = offsets.windows(2);
    rows.map(|row| row[1] - row[0]).max().unwrap_or(0)
}

/// These extents, with another before them.
fn with(outer: usize, extents: &[usize]) -> Vec<usize> {
    let mut all = Vec::with_capacity(1 + extents.len());
    all.push(outer);
    all.extend(extents);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Shape};

    #[test]
    fn shorter_rows_end_in_zeros_where_a_tensor_is_wanted() {
        let output = Output {
            spec: TensorSpec::new("y", DataType::Fp32, Shape::tokens(Axis(0), [2])),
            source: OutputSource::Engine,
        };
        let of = |offsets: &'static [usize], values: &'static [f32]| OutputRows {
            output: &output,
            rows: offsets.len() - 1,
            offsets: Some(offsets),
            values: View::F32(values),
        };
        let uneven = of(&[0, 1, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(&*uneven.row_shape(), [2, 2]);
        let expected = [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(uneven.padded().view(), View::F32(&expected));
        let even = of(&[0, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert!(matches!(even.padded(), TensorValues::Borrowed(_)));
    }
}
