//! A predict request and its answer, free of any wire format.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Range, SubAssign};
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
    /// Whether the outputs that the last step of the model's program makes are wanted, and not the
    /// engine's alone.
    pub finish: bool,
    /// When the answer stops being of use; `None` waits as long as it takes.
    pub deadline: Option<Instant>,
}

impl InferRequest {
    /// How much there is to compute for all its rows.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load_of(0..self.rows)
    }

    /// How much there is to compute for some of its rows. The loads of two ranges add up to that
    /// of both.
    ///
    /// # Panics
    /// If it has no such rows.
    #[must_use]
    pub fn load_of(&self, rows: Range<usize>) -> Load {
        let units = match self.widest_offsets() {
            Some(offsets) => offsets[rows.end] - offsets[rows.start],
            None => rows.len(),
        };
        Load {
            rows: rows.len(),
            units,
        }
    }

    /// How many rows, from `first` on, are within a load.
    ///
    /// # Panics
    /// If it has no such row.
    #[must_use]
    pub fn rows_within(&self, first: usize, load: Load) -> usize {
        let rows = load.rows.min(self.rows - first);
        match self.widest_offsets() {
            Some(offsets) => offsets[first + 1..=first + rows]
                .partition_point(|&end| end - offsets[first] <= load.units),
            None => rows.min(load.units),
        }
    }

    /// The offsets of the axis with the most tokens, if these are more than the rows: the prefix
    /// sums of the rows' units.
    fn widest_offsets(&self) -> Option<&[usize]> {
        let tokens = |offsets: &&Vec<usize>| offsets.last().copied().unwrap_or(0);
        let widest = self.offsets.iter().max_by_key(tokens)?;
        (tokens(&widest) > self.rows).then_some(widest)
    }
}

/// How much there is to compute, in a request, in some of its rows, or in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Rows.
    pub rows: usize,
    /// Items of the request's widest domain, which the cost of a forward pass grows with: its
    /// rows, or the tokens of its longest axis if these are more.
    pub units: usize,
}

impl Load {
    /// Whether neither its rows nor its units are more than the limit's.
    #[must_use]
    pub fn is_within(self, limit: Self) -> bool {
        self.rows <= limit.rows && self.units <= limit.units
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            units: self.units + other.units,
        }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.rows -= other.rows;
        self.units -= other.units;
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Add::add)
    }
}

/// The first step of a model's program: makes what the engine takes of what requests send, on the
/// threads that compute.
///
/// Rows are prepared alone or with others, in any order and on any thread: what becomes of a row
/// depends on that row only.
pub trait Prepare: fmt::Debug + Send + Sync {
    /// Prepares some rows of a request.
    ///
    /// # Errors
    /// The first of them that cannot be prepared.
    fn prepare(&self, request: &InferRequest, rows: Range<usize>) -> Result<Prepared, RowError>;
}

/// The last step of a model's program: makes outputs of what its engine computed, such as classes
/// of scores, on the thread that computed it.
pub trait Finish: fmt::Debug + Send + Sync {
    /// The outputs that it makes of the rows of one request, in the order of the signature, which
    /// lists them after the engine's.
    fn finish(&self, computed: Computed<'_>) -> Vec<Values>;
}

/// What an engine computed for some rows.
#[derive(Clone, Copy, Debug)]
pub struct Computed<'a> {
    /// The number of rows.
    pub rows: usize,
    /// For each axis of the engine where the items of each row start, and where the last row's end.
    pub offsets: &'a [Vec<usize>],
    /// One slice an output of the engine: the items of all rows, row-major.
    pub outputs: &'a [&'a [f32]],
}

/// Rows as an engine takes them, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// For each axis of the engine where the items of each of these rows start, and where the last
    /// row's end; the first is 0.
    pub offsets: Vec<Vec<usize>>,
    /// One buffer an input of the engine: the items of these rows, row-major.
    pub inputs: Vec<Values>,
}

impl Prepared {
    /// Adds the rows that follow.
    ///
    /// # Panics
    /// If they are for another engine.
    pub fn extend(&mut self, more: &Self) {
        for (offsets, more) in self.offsets.iter_mut().zip(&more.offsets) {
            extend_offsets(offsets, more);
        }
        for (values, more) in self.inputs.iter_mut().zip(&more.inputs) {
            values.extend(more.view());
        }
    }
}

/// Adds the offsets of rows that follow: places along one axis, from any on.
pub(crate) fn extend_offsets(offsets: &mut Vec<usize>, more: &[usize]) {
    let (end, start) = (offsets[offsets.len() - 1], more[0]);
    offsets.extend(more[1..].iter().map(|offset| end + (offset - start)));
}

/// Why a row cannot be prepared: a fault of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// The row, counted from the request's first.
    pub row: usize,
    /// What was expected there, what came, and how to fix it.
    pub message: String,
}

/// The model's outputs for the rows of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The number of rows, as in the request.
    pub rows: usize,
    /// For each axis of the engine where the items of each row start, and where the last row's end.
    pub offsets: Vec<Vec<usize>>,
    /// One buffer an output, in the order of the signature: the items of all rows, row-major. First
    /// the engine's, then those of the program's last step, if the request wants them.
    pub outputs: Vec<Values>,
    /// Where the time went.
    pub timing: Timing,
}

/// How long a request waited and computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From being queued until its first row was taken; zero if it ran inline. Rows that are
    /// prepared first wait a second time, which counts too.
    pub queue: Duration,
    /// What prepared its rows, and the forward passes of the batches that held them, summed.
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
    /// A row cannot be prepared for the engine: a fault of the request.
    InvalidRow(RowError),
    /// The forward pass, or what prepares its rows, panicked on this request's rows: a fault of the
    /// server.
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
            Self::DeadlineExceeded
            | Self::NonFinite { .. }
            | Self::InvalidRow(_)
            | Self::Panicked => None,
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
            Self::InvalidRow(RowError { row, message }) => write!(f, "row {row}: {message}"),
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

    fn request(rows: usize, offsets: &[&[usize]]) -> InferRequest {
        InferRequest {
            rows,
            offsets: offsets.iter().map(|offsets| offsets.to_vec()).collect(),
            inputs: Vec::new(),
            finish: false,
            deadline: None,
        }
    }

    fn load(rows: usize, units: usize) -> Load {
        Load { rows, units }
    }

    #[test]
    fn units_are_the_rows_or_the_tokens_of_the_longest_axis() {
        assert_eq!(request(3, &[]).load(), load(3, 3));
        let texts = request(3, &[&[0, 5, 5, 12]]);
        assert_eq!(texts.load(), load(3, 12));
        assert_eq!(texts.load_of(0..1), load(1, 5));
        assert_eq!(texts.load_of(1..3), load(2, 7));
        let pairs = request(2, &[&[0, 9, 10], &[0, 1, 30]]);
        assert_eq!(pairs.load(), load(2, 30));
        assert_eq!(pairs.load_of(0..1), load(1, 1), "by the same axis");
        // Hardly any tokens: the rows are more.
        assert_eq!(request(4, &[&[0, 1, 1, 1, 2]]).load(), load(4, 4));
    }

    #[test]
    fn the_rows_within_a_load_are_whole() {
        let rows = request(10, &[]);
        assert_eq!(rows.rows_within(0, load(4, 100)), 4);
        assert_eq!(rows.rows_within(0, load(100, 3)), 3);
        assert_eq!(rows.rows_within(8, load(4, 4)), 2);
        let texts = request(5, &[&[0, 5, 5, 12, 13, 40]]);
        assert_eq!(texts.rows_within(0, load(10, 4)), 0);
        assert_eq!(texts.rows_within(0, load(10, 5)), 2, "an empty text joins");
        assert_eq!(texts.rows_within(0, load(10, 12)), 3);
        assert_eq!(texts.rows_within(0, load(1, 12)), 1);
        assert_eq!(texts.rows_within(2, load(10, 8)), 2);
        assert_eq!(texts.rows_within(2, load(10, 1_000)), 3);
        assert_eq!(texts.rows_within(4, load(10, 26)), 0);
    }

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
