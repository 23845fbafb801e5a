//! The rows of one input, as they come.

use crate::tensor::{TensorSpec, Values, View};

/// The rows of one input, as they come.
#[derive(Clone, Debug)]
pub(in crate::http) struct InputRows<'a> {
    pub(super) spec: &'a TensorSpec,
    pub(super) rows: usize,
    /// The items of all rows, row-major, in the type that holds the input's datatype.
    pub(super) values: Values,
    /// Where the tokens of each row start, and where the last row's end; empty for an input whose
    /// rows are all of one size.
    pub(super) offsets: Vec<usize>,
}

impl<'a> InputRows<'a> {
    /// Of an input for which nothing came yet.
    pub(in crate::http) fn none(spec: &'a TensorSpec) -> Self {
        Self {
            spec,
            rows: 0,
            values: Values::empty(spec.datatype),
            offsets: match spec.shape.axis() {
                Some(_) => vec![0],
                None => Vec::new(),
            },
        }
    }

    /// Of rows that are in `values` already: as many items as the input's rows have, of one size.
    pub(in crate::http) fn whole(spec: &'a TensorSpec, rows: usize, values: Values) -> Self {
        Self {
            rows,
            values,
            ..Self::none(spec)
        }
    }

    /// Adds a row of these values.
    pub(in crate::http) fn push(&mut self, row: View<'_>) {
        self.values.extend(row);
        self.end_row();
    }

    /// Makes room for this many values more.
    pub(in crate::http) fn reserve(&mut self, values: usize) {
        match &mut self.values {
            Values::F32(all) => all.reserve(values),
            Values::F64(all) => all.reserve(values),
            Values::I64(all) => all.reserve(values),
            Values::Bytes(_) => {}
        }
    }

    /// Puts the values of each row, from `first` on, from the order of their columns into that of the
    /// features: `order` has the feature of each column. Rows with features are of single precision.
    pub(in crate::http) fn reorder(&mut self, first: usize, order: &[usize]) {
        let Values::F32(values) = &mut self.values else {
            return;
        };
        let mut columns = vec![0.0; order.len()];
        for row in values[first * order.len()..].chunks_exact_mut(order.len()) {
            columns.copy_from_slice(row);
            for (&feature, &value) in order.iter().zip(&columns) {
                row[feature] = value;
            }
        }
    }

    /// The input.
    #[cfg(feature = "grpc")]
    pub(in crate::http) fn spec(&self) -> &'a TensorSpec {
        self.spec
    }

    /// The rows that are there.
    pub(in crate::http) fn rows(&self) -> usize {
        self.rows
    }

    /// Forgets the rows, and keeps their room.
    pub(in crate::http) fn clear(&mut self) {
        self.rows = 0;
        self.values.clear();
        self.offsets.truncate(1);
    }

    /// The values that are there.
    pub(in crate::http) fn values(&self) -> View<'_> {
        self.values.view()
    }

    /// Notes that the values of one more row are there.
    pub(in crate::http) fn end_row(&mut self) {
        self.rows += 1;
        if !self.offsets.is_empty() {
            self.offsets
                .push(self.values.len() / self.spec.shape.elements());
        }
    }

    /// Notes that the values of this many rows are there, each with as many tokens if it has any.
    pub(super) fn end_rows(&mut self, rows: usize, tokens: usize) {
        self.rows += rows;
        if let Some(&last) = self.offsets.last() {
            self.offsets
                .extend((1..=rows).map(|row| last + row * tokens));
        }
    }

    /// The row, from 0, that holds the element at this position among the values.
    pub(super) fn row_of(&self, element: usize) -> usize {
        let item = element / self.spec.shape.elements();
        match self.offsets.is_empty() {
            true => item,
            false => self.offsets.partition_point(|start| *start <= item) - 1,
        }
    }
}
