//! What a block becomes: text, or columns of Parquet.

use super::encode::{Answers, Encoder, non_finite};
use super::rows::Fault;
use super::settings::Format;
use crate::json::Writer;

/// What a block has become.
pub(super) enum Piece {
    /// Text that is written as it is.
    Text(Vec<u8>),
    #[cfg(feature = "parquet")]
    Rows(super::parquet::Predictions),
}

/// What a block becomes, under construction.
pub(super) enum PieceWriter {
    Text(Format, Writer),
    #[cfg(feature = "parquet")]
    Rows(super::parquet::Predictions),
}

impl PieceWriter {
    #[cfg_attr(
        not(feature = "parquet"),
        allow(unused_variables, reason = "text needs no columns beforehand")
    )]
    pub(super) fn new(format: Format, encoder: &Encoder<'_>) -> Self {
        match format {
            #[cfg(feature = "parquet")]
            Format::Parquet => Self::Rows(super::parquet::Predictions::new(encoder)),
            format => Self::Text(format, Writer::default()),
        }
    }

    /// Appends the rows whose answers are valid, and the others to the faults; returns how many were
    /// appended.
    pub(super) fn rows(
        &mut self,
        encoder: &Encoder<'_>,
        answers: &Answers<'_>,
        faults: &mut Vec<Fault>,
    ) -> u64 {
        let mut scored = 0;
        for row in 0..answers.lines.len() {
            if !encoder.is_told(answers, row) {
                faults.push(non_finite(answers.lines[row]));
                continue;
            }
            scored += 1;
            match self {
                Self::Text(format, text) => encoder.line(*format, answers, row, text),
                #[cfg(feature = "parquet")]
                Self::Rows(rows) => rows.push(encoder, answers, row),
            }
        }
        scored
    }

    pub(super) fn finish(self) -> Piece {
        match self {
            Self::Text(_, text) => Piece::Text(text.into_bytes()),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => Piece::Rows(rows),
        }
    }
}
