//! A predict request and its answer, free of any wire format.

use std::fmt;
use std::time::{Duration, Instant};

use crate::tensor::Values;

/// A request whose inputs were checked against the model's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// The number of rows, at least 1.
    pub rows: usize,
    /// For each axis of the engine where the items of each row start among those of all rows, and
    /// where the last row's end: `rows + 1` places, the first 0, none smaller than the one before.
    /// Empty for a network without such axes.
    pub offsets: Vec<Vec<usize>>,
    /// One buffer an input, in the order of the signature and in the type that holds its
    /// datatype: the items of all rows, row-major.
    pub inputs: Vec<Values>,
    /// When the answer stops being of use; `None` waits as long as it takes.
    pub deadline: Option<Instant>,
}

/// The model's outputs for the rows of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The number of rows, as in the request.
    pub rows: usize,
    /// One buffer an output of the engine, in its order: `rows` rows, row-major.
    pub outputs: Vec<Vec<f32>>,
    /// Where the time went.
    pub timing: Timing,
}

/// How long a request waited and computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From being queued until its first row was taken; zero if it ran inline.
    pub queue: Duration,
    /// The forward passes of the batches that held its rows, summed.
    pub compute: Duration,
    /// The rows of the largest batch that held some of its rows, neighbours included.
    pub batch_rows: usize,
}

/// Why a well-formed request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InferError {
    /// The model's queue has no room for the rows.
    Overloaded {
        /// Rows that wait now.
        queued_rows: usize,
        /// The most rows that may wait.
        max_queued_rows: usize,
        /// When the rows that wait now should be done.
        retry_after: Duration,
    },
    /// The deadline passed before the answer, or could not be met.
    DeadlineExceeded,
    /// The server or the model is shutting down.
    Closing,
    /// An output holds NaN or an infinity, and the model does not allow it.
    NonFinite {
        /// The index of the output among the engine's outputs.
        output: usize,
        /// The first row of the request that holds such a value.
        row: usize,
    },
    /// The forward pass panicked on this request's rows: a fault of the server.
    Panicked,
}

impl InferError {
    /// After how many whole seconds it makes sense to ask again, if that may help; at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            // Rounded up: asking earlier would be refused again.
            Self::Overloaded { retry_after, .. } => {
                let part = u64::from(retry_after.subsec_nanos() > 0);
                Some(retry_after.as_secs().saturating_add(part).max(1))
            }
            Self::Closing => Some(1),
            Self::DeadlineExceeded | Self::NonFinite { .. } | Self::Panicked => None,
        }
    }
}

impl fmt::Display for InferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded {
                queued_rows,
                max_queued_rows,
                ..
            } => write!(
                f,
                "the model's queue has no room for this request: {queued_rows} of \
                 {max_queued_rows} rows wait; try again in {} s",
                self.retry_after_seconds().unwrap_or(1)
            ),
            Self::DeadlineExceeded => f.write_str(
                "the request's deadline passed before its answer; \
                 allow more time or send fewer rows",
            ),
            Self::Closing => {
                f.write_str("the server is shutting down; send the request to another replica")
            }
            Self::NonFinite { row, .. } => write!(
                f,
                "the model's answer for row {row} is not a finite number; \
                 check that row's inputs, or set \"allow_non_finite\" in the model's config.json"
            ),
            Self::Panicked => f.write_str(
                "the forward pass failed on this request; the server's log has the cause",
            ),
        }
    }
}

impl std::error::Error for InferError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_says_the_seconds_that_its_header_has() {
        let overloaded = |milliseconds| InferError::Overloaded {
            queued_rows: 7776,
            max_queued_rows: 8192,
            retry_after: Duration::from_millis(milliseconds),
        };
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (6_500, 7)] {
            let error = overloaded(milliseconds);
            assert_eq!(error.retry_after_seconds(), Some(seconds));
            assert_eq!(
                error.to_string(),
                format!(
                    "the model's queue has no room for this request: 7776 of 8192 rows wait; \
                     try again in {seconds} s"
                )
            );
        }
    }
}
