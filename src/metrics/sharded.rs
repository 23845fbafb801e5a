//! Numbers that many threads count into at once without sharing a cache line.
//!
//! An atomic that two cores write in turns costs each of them the transfer of its cache line, some
//! 50 ns; a request counts into about twenty. So each number here has one copy a shard, each thread
//! writes to its own, and a reader adds them up: exact at every scrape.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// The values of one cache line.
const LINE: usize = 8;

/// The most shards: beyond that a number takes more memory than its contention is worth.
const MAX_SHARDS: usize = 16;

/// One cache line of values, so that no two shards share one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE]);

/// Two a core: the threads that answer and those that compute.
static SHARDS: LazyLock<usize> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    (2 * cores).next_power_of_two().min(MAX_SHARDS)
});

/// The calling thread's shard. Threads beyond the number of shards share.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % *SHARDS);
        }
        shard.get()
    })
}

/// Some values, once a shard.
#[derive(Debug)]
pub(super) struct Cells {
    lines: Box<[Line]>,
    lines_a_shard: usize,
}

impl Cells {
    pub(super) fn new(values: usize) -> Self {
        let lines_a_shard = values.div_ceil(LINE);
        let lines = (0..lines_a_shard * *SHARDS).map(|_| Line::default());
        Self {
            lines: lines.collect(),
            lines_a_shard,
        }
    }

    fn own(&self, value: usize) -> &AtomicU64 {
        &self.lines[shard() * self.lines_a_shard + value / LINE].0[value % LINE]
    }

    /// Adds to a value.
    pub(super) fn add(&self, value: usize, count: u64) {
        self.own(value).fetch_add(count, Ordering::Relaxed);
    }

    /// The sum over all shards, modulo 2^64.
    pub(super) fn total(&self, value: usize) -> u64 {
        self.each(value).fold(0, u64::wrapping_add)
    }

    /// A value as each shard has it.
    fn each(&self, value: usize) -> impl Iterator<Item = u64> {
        let lines = self.lines.iter().skip(value / LINE);
        lines
            .step_by(self.lines_a_shard)
            .map(move |line| line.0[value % LINE].load(Ordering::Relaxed))
    }
}

/// A number that only grows. Clones count into the same.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Cells>);

impl Default for Counter {
    fn default() -> Self {
        Self(Arc::new(Cells::new(1)))
    }
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// Adds `count`.
    pub fn inc_by(&self, count: u64) {
        self.0.own(0).fetch_add(count, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.total(0)
    }
}

/// A number that goes up and down by what each thread adds and takes. Clones share it.
#[derive(Clone, Debug)]
pub struct UpDown(Arc<Cells>);

impl Default for UpDown {
    fn default() -> Self {
        Self(Arc::new(Cells::new(1)))
    }
}

impl UpDown {
    /// Adds one.
    pub fn inc(&self) {
        self.0.own(0).fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one; on any thread.
    pub fn dec(&self) {
        // A shard that others subtracted from wraps around, and so does the sum: the total is right.
        self.0.own(0).fetch_sub(1, Ordering::Relaxed);
    }

    /// What is left.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.total(0).cast_signed()
    }
}

/// When something happened last, to the millisecond.
#[derive(Debug)]
pub(super) struct Latest {
    /// Milliseconds from `since` on, and one more: 0 is never.
    cells: Cells,
    since: Instant,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            cells: Cells::new(1),
            since: Instant::now(),
        }
    }
}

impl Latest {
    /// It happened at that time.
    pub(super) fn report(&self, at: Instant) {
        let since = at.saturating_duration_since(self.since).as_millis();
        let since = u64::try_from(since).map_or(u64::MAX, |since| since.saturating_add(1));
        let cell = self.cells.own(0);
        // Of all that happens in one millisecond, one writes.
        if cell.load(Ordering::Relaxed) < since {
            cell.fetch_max(since, Ordering::Relaxed);
        }
    }

    /// How long ago the last was; `None` if there was none.
    pub(super) fn age(&self) -> Option<Duration> {
        let last = self.cells.each(0).max()?.checked_sub(1)?;
        let since = self.since.elapsed();
        Some(since.saturating_sub(Duration::from_millis(last)))
    }
}

/// What the values of a [`Histogram`] are counted in, so that their sum is a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, summed in nanoseconds.
    Seconds,
    /// Whole numbers.
    Count,
}

impl Unit {
    fn scale(self) -> f64 {
        match self {
            Self::Seconds => 1e9,
            Self::Count => 1.0,
        }
    }
}

/// How many observed values lie below each of some bounds. Clones observe into the same.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    unit: Unit,
    /// The values up to each bound and above the one before; those above all; the sum.
    cells: Arc<Cells>,
}

impl Histogram {
    /// Counts by `bounds`, which rise.
    #[must_use]
    pub fn new(bounds: &'static [f64], unit: Unit) -> Self {
        Self {
            bounds,
            unit,
            cells: Arc::new(Cells::new(bounds.len() + 2)),
        }
    }

    /// Counts a value, not negative.
    pub fn observe(&self, value: f64) {
        // Counted rather than searched: no branch to mispredict.
        let bucket = self.bounds.iter().filter(|&&bound| value > bound).count();
        self.cells.own(bucket).fetch_add(1, Ordering::Relaxed);
        let sum = (value * self.unit.scale()).round() as u64;
        let cell = self.cells.own(self.bounds.len() + 1);
        cell.fetch_add(sum, Ordering::Relaxed);
    }

    /// Each bound with the values that do not exceed it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        self.bounds.iter().enumerate().map(move |(index, &bound)| {
            below += self.cells.total(index);
            (bound, below)
        })
    }

    /// The values observed so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        (0..=self.bounds.len())
            .map(|index| self.cells.total(index))
            .sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.whole_sum() as f64 / self.unit.scale()
    }

    /// Their sum in what it is counted in: of seconds, nanoseconds.
    pub(super) fn whole_sum(&self) -> u64 {
        self.cells.total(self.bounds.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_many_threads_count_adds_up() {
        let (counter, open) = (Counter::default(), UpDown::default());
        let histogram = Histogram::new(&[1.0, 2.0, 4.0], Unit::Count);
        thread::scope(|scope| {
            // More threads than shards.
            for thread in 0..3 * MAX_SHARDS {
                let (counter, open, histogram) = (&counter, &open, &histogram);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        counter.inc();
                        histogram.observe((thread % 6) as f64);
                    }
                    open.inc();
                });
            }
        });
        assert_eq!(counter.get(), 48_000);
        assert_eq!(open.get(), 48);
        // Eight threads each observed 0, 1, ... 5.
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative, [(1.0, 16_000), (2.0, 24_000), (4.0, 40_000)]);
        assert_eq!((histogram.count(), histogram.sum()), (48_000, 120_000.0));
    }

    #[test]
    fn what_one_thread_added_another_may_take() {
        let open = UpDown::default();
        thread::scope(|scope| {
            scope.spawn(|| (0..5).for_each(|_| open.inc()));
        });
        thread::scope(|scope| {
            scope.spawn(|| (0..7).for_each(|_| open.dec()));
        });
        assert_eq!(open.get(), -2);
    }

    #[test]
    fn the_latest_of_all_threads_counts() {
        let latest = Latest::default();
        assert_eq!(latest.age(), None);
        let now = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| latest.report(now + Duration::from_secs(3600)));
            scope.spawn(|| latest.report(now));
        });
        assert_eq!(latest.age(), Some(Duration::ZERO), "it is yet to come");
        let latest = Latest::default();
        latest.report(now - Duration::from_secs(1));
        assert!(
            latest.age() < Some(Duration::from_secs(3600)),
            "before the first moment"
        );
    }

    #[test]
    fn seconds_are_summed_to_the_nanosecond() {
        let histogram = Histogram::new(&[0.5], Unit::Seconds);
        (0..1000).for_each(|_| histogram.observe(0.000_000_001));
        histogram.observe(0.5);
        assert_eq!(histogram.sum(), 0.500_001);
        assert_eq!(histogram.cumulative().next(), Some((0.5, 1001)));
    }
}
