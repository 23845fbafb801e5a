//! The outcome of the requests: counts by class, and the latencies of correct answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The finest and the longest latency that percentiles tell apart, in ns.
const LATENCY_NS: (u64, u64) = (1_000, 3_600_000_000_000);

/// Three digits: a percentile is at most a thousandth above its exact value.
const DIGITS: u8 = 3;

/// The longest message that is kept of an error.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a request got no answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// 503 with `Retry-After`: the server refuses what it cannot do in time.
    Overloaded,
    /// Another status than 200.
    Status(u16),
    /// Nothing listens at the address.
    Refused,
    /// No connection for another reason: no route, no TLS handshake.
    Unreachable,
    /// The answer did not come in time.
    TimedOut,
    /// The connection was closed or reset before the whole answer.
    Closed,
    /// Not HTTP, or not the predictions that were asked for.
    Malformed,
}

/// The name in results for programs: `status_429`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("overloaded_503"),
            Self::Status(status) => write!(f, "status_{status}"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("timed_out"),
            Self::Closed => f.write_str("closed"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

/// A failure and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) message: String,
}

impl Failed {
    pub(super) fn new(failure: Failure, message: impl fmt::Display) -> Self {
        let message = message
            .to_string()
            .chars()
            .take(MAX_MESSAGE_CHARS)
            .collect();
        Self { failure, message }
    }
}

/// How often something failed, and the first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many requests.
    pub count: u64,
    /// What the first said.
    pub first: String,
}

/// All requests of one step, or of one of its threads.
#[derive(Clone)]
pub struct Tally {
    /// Requests that were begun. Counted before their outcome, so that a lost one would show.
    begun: u64,
    correct: u64,
    rows: u64,
    latency: Histogram<u64>,
    sum: Duration,
    max: Duration,
    failures: BTreeMap<Failure, Failures>,
}

impl Default for Tally {
    fn default() -> Self {
        let (low, high) = LATENCY_NS;
        Self {
            begun: 0,
            correct: 0,
            rows: 0,
            latency: Histogram::new_with_bounds(low, high, DIGITS)
                .expect("the bounds are those of a histogram"),
            sum: Duration::ZERO,
            max: Duration::ZERO,
            failures: BTreeMap::new(),
        }
    }
}

impl Tally {
    pub(super) fn begin(&mut self) {
        self.begun += 1;
    }

    /// Counts the outcome of a request: its rows, or why it failed.
    pub(super) fn end(&mut self, outcome: Result<usize, Failed>, latency: Duration) {
        match outcome {
            Ok(rows) => {
                self.correct += 1;
                self.rows += rows as u64;
                self.sum += latency;
                self.max = self.max.max(latency);
                let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                self.latency.saturating_record(ns);
            }
            Err(Failed { failure, message }) => {
                let failures = self.failures.entry(failure).or_insert(Failures {
                    count: 0,
                    first: message,
                });
                failures.count += 1;
            }
        }
    }

    /// Adds the counts of another tally.
    pub(super) fn add(&mut self, other: Self) {
        self.begun += other.begun;
        self.correct += other.correct;
        self.rows += other.rows;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
        for (failure, failures) in other.failures {
            let own = self.failures.entry(failure).or_insert(Failures {
                count: 0,
                first: failures.first,
            });
            own.count += failures.count;
        }
    }

    /// The requests that were sent, or tried to.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.begun
    }

    /// Those answered with 200 and a prediction for every row.
    #[must_use]
    pub fn correct(&self) -> u64 {
        self.correct
    }

    /// The rows of correct answers.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The requests that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|failures| failures.count).sum()
    }

    /// The failures by kind.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<Failure, Failures> {
        &self.failures
    }

    /// Whether every request that was begun is in exactly one class, and every correct one is among the
    /// latencies.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.begun == self.correct + self.failed() && self.latency.len() == self.correct
    }

    /// The latency that `percent` of the correct answers did not exceed; `None` without any.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let ns = self.latency.value_at_percentile(percent);
        // The histogram knows the longest only by its bucket.
        (self.correct > 0).then(|| Duration::from_nanos(ns).min(self.max))
    }

    /// The mean latency of the correct answers.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum.as_secs_f64() / self.correct as f64;
        (self.correct > 0).then(|| Duration::from_secs_f64(mean))
    }

    /// The longest latency of the correct answers.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.correct > 0).then_some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failure: Failure, message: &str) -> Result<usize, Failed> {
        Err(Failed::new(failure, message))
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list_within_a_thousandth() {
        let mut tally = Tally::default();
        // Latencies of 10 µs to some seconds, dense at the start as real ones are.
        let mut sorted: Vec<u64> = (0..20_000_u64)
            .map(|i| 10_000 + (i * 7919 % 20_000).pow(3) / 1000)
            .collect();
        for ns in &sorted {
            tally.begin();
            tally.end(Ok(1), Duration::from_nanos(*ns));
        }
        sorted.sort_unstable();
        for percent in [1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
            let exact = sorted[rank - 1] as f64;
            let given = tally.percentile(percent).unwrap().as_nanos() as f64;
            assert!(
                (exact..=exact * 1.001 + 1_000.0).contains(&given),
                "p{percent}: {given} of {exact}"
            );
        }
        assert_eq!(tally.max(), Some(Duration::from_nanos(sorted[19_999])));
        let mean = sorted.iter().sum::<u64>() as f64 / sorted.len() as f64;
        let given = tally.mean().unwrap().as_nanos() as f64;
        assert!((given - mean).abs() < 1.0, "{given} of {mean}");
    }

    #[test]
    fn every_request_is_in_one_class_and_one_that_is_lost_shows() {
        let mut tally = Tally::default();
        for outcome in [
            Ok(3),
            failed(Failure::Closed, "first"),
            failed(Failure::Closed, "second"),
            failed(Failure::Status(429), "slow down"),
            Ok(4),
        ] {
            tally.begin();
            tally.end(outcome, Duration::from_millis(2));
        }
        assert!(tally.adds_up());
        assert_eq!((tally.requests(), tally.correct(), tally.rows()), (5, 2, 7));
        let closed = &tally.failures()[&Failure::Closed];
        assert_eq!((closed.count, closed.first.as_str()), (2, "first"));
        tally.begin();
        assert!(!tally.adds_up());
    }

    #[test]
    fn threads_add_up() {
        let mut one = Tally::default();
        one.begin();
        one.end(Ok(1), Duration::from_millis(1));
        let mut other = Tally::default();
        for outcome in [Ok(2), failed(Failure::TimedOut, "late")] {
            other.begin();
            other.end(outcome, Duration::from_millis(5));
        }
        one.add(other);
        assert!(one.adds_up());
        assert_eq!((one.requests(), one.rows(), one.failed()), (3, 3, 1));
        assert_eq!(one.max(), Some(Duration::from_millis(5)));
        assert_eq!(one.mean(), Some(Duration::from_millis(3)));
    }

    #[test]
    fn without_answers_there_are_no_latencies() {
        let mut tally = Tally::default();
        tally.begin();
        tally.end(failed(Failure::Refused, "no"), Duration::from_millis(1));
        assert_eq!(tally.percentile(50.0), None);
        assert_eq!(tally.mean(), None);
        assert_eq!(tally.max(), None);
    }
}
