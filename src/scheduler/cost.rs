//! What a forward pass costs, learned from the passes that ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One entry for each power of two up to 2^19 rows; larger passes share the last.
const ENTRIES: usize = 20;

/// How much a new measurement counts against those before it: 1/8 follows a change of the
/// machine's load within tens of passes and smooths a single slow one.
const WEIGHT: f64 = 0.125;

/// Changes below this part of the average are not written: every write takes the entry's cache
/// line from the other threads, and a pass within an eighth of the average tells nothing new.
const LEAST_CHANGE: f64 = 1.0 / 64.0;

/// The cost of one row by the number of rows computed together, in nanoseconds.
///
/// Each entry is a moving average over passes of that power of two of rows (rounded down); 0
/// marks an entry that was never measured. Threads update it without a lock: an update that is
/// lost to another one changes nothing that matters.
#[derive(Debug, Default)]
pub(super) struct CostTable {
    row_nanos: [AtomicU64; ENTRIES],
}

impl CostTable {
    /// Takes in a forward pass over `rows` rows.
    ///
    /// A pass counts at most as twice the average before it: when the machine takes the thread
    /// away for a while, a pass of microseconds lasts milliseconds, and one such must not send
    /// the next hundred requests another way. A lasting change still doubles the average within
    /// six passes.
    pub(super) fn record(&self, rows: usize, elapsed: Duration) {
        let measured = elapsed.as_nanos() as f64 / rows as f64;
        let entry = &self.row_nanos[entry_of(rows)];
        let average = match f64::from_bits(entry.load(Ordering::Relaxed)) {
            0.0 => measured,
            before => {
                let change = WEIGHT * (measured.min(2.0 * before) - before);
                if change.abs() < before * LEAST_CHANGE {
                    return;
                }
                before + change
            }
        };
        // A clock too coarse to see the pass must not look like "never measured".
        entry.store(average.max(f64::MIN_POSITIVE).to_bits(), Ordering::Relaxed);
    }

    /// The expected duration of one forward pass over `rows` rows, or `None` before the first
    /// measurement.
    ///
    /// A number of rows that was never measured costs as much a row as the next smaller one that
    /// was (more than it will: rows get cheaper together), else as the next larger one.
    pub(super) fn estimate(&self, rows: usize) -> Option<Duration> {
        let entry = entry_of(rows);
        let row_nanos = (0..=entry)
            .rev()
            .chain(entry + 1..ENTRIES)
            .map(|entry| f64::from_bits(self.row_nanos[entry].load(Ordering::Relaxed)))
            .find(|&row_nanos| row_nanos > 0.0)?;
        Some(Duration::from_nanos((row_nanos * rows as f64) as u64))
    }
}

/// The table's entry for passes over `rows` rows.
fn entry_of(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(ENTRIES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_estimated_before_the_first_measurement() {
        assert_eq!(CostTable::default().estimate(1), None);
    }

    #[test]
    fn an_estimate_scales_the_cost_of_a_row_in_the_nearest_measured_pass() {
        let cost = CostTable::default();
        cost.record(1, Duration::from_micros(10));
        cost.record(8, Duration::from_micros(16));
        let micros = |rows| cost.estimate(rows).unwrap().as_micros();
        assert_eq!(micros(1), 10);
        assert_eq!(micros(8), 16);
        assert_eq!(micros(12), 24, "8 to 15 rows share an entry");
        assert_eq!(
            micros(3),
            30,
            "a row costs as much as in the next smaller pass"
        );
        assert_eq!(micros(64), 128);
        let large_only = CostTable::default();
        large_only.record(64, Duration::from_micros(64));
        assert_eq!(large_only.estimate(1), Some(Duration::from_micros(1)));
    }

    #[test]
    fn one_stalled_pass_moves_the_average_by_an_eighth() {
        let cost = CostTable::default();
        cost.record(1, Duration::from_micros(8));
        cost.record(1, Duration::from_secs(1));
        assert_eq!(cost.estimate(1), Some(Duration::from_micros(9)));
    }

    #[test]
    fn a_lasting_change_doubles_the_average_within_six_passes() {
        let cost = CostTable::default();
        cost.record(1, Duration::from_micros(10));
        for _ in 0..6 {
            cost.record(1, Duration::from_secs(1));
        }
        assert!(cost.estimate(1) >= Some(Duration::from_micros(20)));
    }

    #[test]
    fn passes_of_any_size_and_of_no_time_are_taken_in() {
        let cost = CostTable::default();
        cost.record(usize::MAX, Duration::ZERO);
        assert_eq!(cost.estimate(usize::MAX), Some(Duration::ZERO));
    }
}
