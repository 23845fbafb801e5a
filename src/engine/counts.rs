//! How many items each domain has in a pass.

use crate::tensor::{Axis, Domain};

/// How many items each domain has in a pass.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a> {
    rows: usize,
    offsets: &'a [Vec<usize>],
}

impl<'a> Counts<'a> {
    /// The counts of a pass over constants alone.
    pub(super) const ONCE: Self = Self {
        rows: 0,
        offsets: &[],
    };

    pub(super) fn new(rows: usize, offsets: &'a [Vec<usize>]) -> Self {
        Self { rows, offsets }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Where the items of each row start along an axis, and where the last row's end.
    ///
    /// # Panics
    /// If the engine has no such axis.
    #[must_use]
    pub fn offsets(&self, axis: Axis) -> &'a [usize] {
        &self.offsets[axis.0]
    }

    /// The number of items of a domain.
    ///
    /// # Panics
    /// As [`Counts::offsets`].
    #[must_use]
    pub fn items(&self, domain: Domain) -> usize {
        match domain {
            Domain::Once => 1,
            Domain::Rows => self.rows,
            Domain::Tokens(axis) => self.offsets[axis.0][self.rows],
        }
    }
}
