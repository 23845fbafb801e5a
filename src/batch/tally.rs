//! How far an input is read, and the outcome of its rows.

use serde::{Deserialize, Serialize};

/// A place in an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// In bytes; in Parquet in rows.
    pub(super) offset: u64,
    /// From 1; in Parquet the row.
    pub(super) line: u64,
}

impl Position {
    pub(super) const START: Self = Self { offset: 0, line: 1 };
}

/// The outcome of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The rows of the input.
    pub rows: u64,
    /// Rows that were scored.
    pub scored: u64,
    /// Rows that were not scored; the file of bad rows says why.
    pub bad: u64,
    /// Blank lines, which are not rows.
    pub blank: u64,
}

impl Tally {
    pub(super) const NONE: Self = Self {
        rows: 0,
        scored: 0,
        bad: 0,
        blank: 0,
    };

    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.scored += other.scored;
        self.bad += other.bad;
        self.blank += other.blank;
    }
}
