//! What a forward pass costs, learned from the passes that ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One entry for each power of two up to 2^19 units; larger passes share the last.
const ENTRIES: usize = 20;

/// How much a new measurement counts against those before it: 1/8 follows a change of the
/// machine's load within tens of passes and smooths a single slow one.
const WEIGHT: f64 = 0.125;

/// Changes below this part of the estimate are not written: every write takes the table's cache
/// line from the other threads, and a pass within an eighth of the estimate tells nothing new.
const LEAST_CHANGE: f64 = 1.0 / 64.0;

/// How many times its estimate a single pass may count as: when the machine takes the thread away
/// for a while, a pass of microseconds lasts milliseconds, and one such must not send the next
/// hundred requests another way. A lasting change still doubles the estimate within six passes.
const MOST_OF_ESTIMATE: f64 = 2.0;

/// How much of a change is the entry's own; the rest is the machine's, and changes all entries.
const OWN: f64 = 0.125;

/// The slowest and the fastest that the machine may become: beyond, a clock is wrong.
const SPEEDS: [f64; 2] = [1.0 / 1024.0, 1024.0];

/// The cost of one unit by the number of units computed together.
///
/// Each entry is a moving average over passes of that power of two of units (rounded down), and all
/// have a factor in common. What slows a pass down is mostly the machine, and it does so whatever
/// the size of the pass: without the factor, passes of one size would be compared with what others
/// cost in better times. Threads update both without a lock: an update that is lost to another one
/// changes nothing that matters.
#[derive(Debug)]
pub(super) struct CostTable {
    /// How many times as long a pass takes now as its entry says.
    slowness: AtomicU64,
    /// Nanoseconds: 0 was never measured, and what is negative is a guess that waits for its first
    /// pass.
    unit_nanos: [AtomicU64; ENTRIES],
}

impl Default for CostTable {
    fn default() -> Self {
        Self {
            slowness: AtomicU64::new(1f64.to_bits()),
            unit_nanos: Default::default(),
        }
    }
}

impl CostTable {
    /// Takes in a forward pass over `units` units. Returns whether any estimate changed.
    ///
    /// A single slow pass changes little: it counts as at most [a multiple](MOST_OF_ESTIMATE) of
    /// the estimate before it, or of what a unit costs in smaller passes if it is the first of its
    /// size.
    pub(super) fn record(&self, units: usize, elapsed: Duration) -> bool {
        let entry = entry_of(units);
        let measured = elapsed.as_nanos() as f64 / units.max(1) as f64;
        let slowness = load(&self.slowness);
        let before = load(&self.unit_nanos[entry]);
        let average = if before > 0.0 {
            let ratio = (measured / (slowness * before)).min(MOST_OF_ESTIMATE);
            let change = WEIGHT * (ratio - 1.0);
            if change.abs() < LEAST_CHANGE {
                return false;
            }
            let common = 1.0 + (1.0 - OWN) * change;
            let [least, most] = SPEEDS;
            store(&self.slowness, (slowness * common).clamp(least, most));
            before * (1.0 + change) / common
        } else {
            let smaller = (0..entry)
                .rev()
                .find_map(|smaller| self.unit_nanos(smaller));
            let most = smaller.map_or(f64::INFINITY, |smaller| MOST_OF_ESTIMATE * smaller);
            (measured / slowness).min(most)
        };
        // A clock too coarse to see the pass must not look like "never measured".
        store(&self.unit_nanos[entry], average.max(f64::MIN_POSITIVE));
        if let Some(smaller) = entry.checked_sub(1) {
            // A pass over fewer units costs no more than the largest of this entry.
            let most = average * (last_of(entry) as f64 / first_of(smaller) as f64);
            if self
                .unit_nanos(smaller)
                .is_some_and(|smaller| smaller > most)
            {
                store(&self.unit_nanos[smaller], most.max(f64::MIN_POSITIVE));
            }
        }
        true
    }

    /// Forgets what passes cost that are larger than those of `units` units. The next larger ones
    /// are guessed to cost no more, until the first of them runs: an estimate that keeps its own
    /// passes from running would never be corrected.
    pub(super) fn forget_larger(&self, units: usize) {
        let entry = entry_of(units);
        let Some(unit_nanos) = self.unit_nanos(entry) else {
            return;
        };
        for (larger, nanos) in self.unit_nanos.iter().enumerate().skip(entry + 1) {
            let guess = match larger == entry + 1 {
                true => -unit_nanos * units as f64 / first_of(larger) as f64,
                false => 0.0,
            };
            store(nanos, guess);
        }
    }

    /// The expected duration of one forward pass over `units` units, or `None` before the first
    /// measurement.
    ///
    /// A number of units that was never measured costs as much a unit as the next smaller one that
    /// was (more than it will: units get cheaper together), else as the next larger one.
    pub(super) fn estimate(&self, units: usize) -> Option<Duration> {
        let unit_nanos = self.nearest(entry_of(units))? * load(&self.slowness);
        Some(Duration::from_nanos((unit_nanos * units as f64) as u64))
    }

    /// The most units whose forward pass is [expected](Self::estimate) to take no longer than
    /// `time`; 0 if one unit takes longer. `None` before the first measurement.
    pub(super) fn units_within(&self, time: Duration) -> Option<usize> {
        let nanos = time.as_nanos() as f64 / load(&self.slowness);
        // From the largest down: a pass over more units may cost less than one over fewer.
        for entry in (0..ENTRIES).rev() {
            let most = (nanos / self.nearest(entry)?) as usize;
            if most >= first_of(entry) {
                return Some(most.min(last_of(entry)));
            }
        }
        Some(0)
    }

    /// The cost of a unit in the entry, measured or guessed, but for the slowness.
    fn unit_nanos(&self, entry: usize) -> Option<f64> {
        let unit_nanos = load(&self.unit_nanos[entry]).abs();
        (unit_nanos > 0.0).then_some(unit_nanos)
    }

    /// The cost of a unit in the entry, or in the nearest one that has a cost.
    fn nearest(&self, entry: usize) -> Option<f64> {
        let mut nearest = (0..=entry).rev().chain(entry + 1..ENTRIES);
        nearest.find_map(|entry| self.unit_nanos(entry))
    }
}

fn load(number: &AtomicU64) -> f64 {
    f64::from_bits(number.load(Ordering::Relaxed))
}

fn store(number: &AtomicU64, value: f64) {
    number.store(value.to_bits(), Ordering::Relaxed);
}

/// The table's entry for passes over `units` units.
fn entry_of(units: usize) -> usize {
    (units.max(1).ilog2() as usize).min(ENTRIES - 1)
}

/// The fewest units of an entry.
fn first_of(entry: usize) -> usize {
    1 << entry
}

/// The most units of an entry.
fn last_of(entry: usize) -> usize {
    match entry + 1 < ENTRIES {
        true => (2 << entry) - 1,
        false => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn nothing_is_estimated_before_the_first_measurement() {
        assert_eq!(CostTable::default().estimate(1), None);
        assert_eq!(CostTable::default().units_within(us(1)), None);
    }

    #[test]
    fn an_estimate_scales_the_cost_of_a_unit_in_the_nearest_measured_pass() {
        let cost = CostTable::default();
        cost.record(1, us(10));
        cost.record(8, us(16));
        let micros = |units| cost.estimate(units).unwrap().as_micros();
        assert_eq!(micros(1), 10);
        assert_eq!(micros(8), 16);
        assert_eq!(micros(12), 24, "8 to 15 units share an entry");
        assert_eq!(
            micros(3),
            30,
            "a unit costs as much as in the next smaller pass"
        );
        assert_eq!(micros(64), 128);
        let large_only = CostTable::default();
        large_only.record(64, us(64));
        assert_eq!(large_only.estimate(1), Some(us(1)));
    }

    #[test]
    fn the_units_within_a_time_are_the_most_whose_estimate_is() {
        let cost = CostTable::default();
        cost.record(1, us(10));
        cost.record(8, us(16));
        assert_eq!(cost.units_within(us(9)), Some(0));
        assert_eq!(cost.units_within(us(10)), Some(1));
        // Seven units are estimated at 70 µs, eight at 16.
        assert_eq!(cost.units_within(us(16)), Some(8));
        assert_eq!(cost.units_within(us(31)), Some(15));
        assert_eq!(cost.units_within(us(200)), Some(100));
        for time in 10..300 {
            let units = cost.units_within(us(time)).unwrap();
            assert!(cost.estimate(units).unwrap() <= us(time), "{time}");
        }
    }

    #[test]
    fn one_stalled_pass_moves_the_average_by_an_eighth() {
        let cost = CostTable::default();
        cost.record(1, us(8));
        cost.record(1, Duration::from_secs(1));
        assert_eq!(cost.estimate(1), Some(us(9)));
    }

    #[test]
    fn a_lasting_change_doubles_the_average_within_six_passes() {
        let cost = CostTable::default();
        cost.record(1, us(10));
        for _ in 0..6 {
            cost.record(1, Duration::from_secs(1));
        }
        assert!(cost.estimate(1) >= Some(us(20)));
    }

    #[test]
    fn a_stall_in_the_first_pass_of_a_size_is_no_estimate() {
        let cost = CostTable::default();
        cost.record(1, us(10));
        cost.record(4, Duration::from_secs(1));
        assert_eq!(cost.estimate(4), Some(us(80)), "at most twice a unit alone");
        // Had the first pass of all been stalled, the next larger would tell.
        let cost = CostTable::default();
        cost.record(1, Duration::from_secs(1));
        cost.record(2, us(20));
        assert_eq!(cost.estimate(1), Some(us(30)), "no more than 3 units cost");
    }

    #[test]
    fn what_larger_passes_cost_is_forgotten_and_measured_again() {
        let cost = CostTable::default();
        for (units, micros) in [(1, 100), (2, 200), (4, 400), (8, 800)] {
            cost.record(units, us(micros));
        }
        cost.forget_larger(3);
        assert_eq!(cost.estimate(3), Some(us(300)));
        // As if four cost no more than three, and eight as much a unit as four.
        assert_eq!(cost.estimate(4), Some(us(300)));
        assert_eq!(cost.estimate(8), Some(us(600)));
        assert_eq!(cost.units_within(us(300)), Some(4));
        // The first pass counts as it is, if it is no stall.
        cost.record(4, us(360));
        assert_eq!(cost.estimate(4), Some(us(360)));
        cost.forget_larger(3);
        cost.record(4, Duration::from_secs(1));
        assert_eq!(cost.estimate(4), Some(us(800)));
    }

    #[test]
    fn a_machine_that_slows_down_slows_every_size_down() {
        let cost = CostTable::default();
        for (units, micros) in [(1, 1_000), (2, 1_010), (4, 1_020), (8, 1_040)] {
            cost.record(units, us(micros));
        }
        for _ in 0..100 {
            cost.record(8, us(2_080));
        }
        let one = cost.estimate(1).unwrap();
        assert!(one > us(1_500) && one < us(2_000), "{one:?}");
        // And faster again.
        for _ in 0..100 {
            cost.record(1, us(1_000));
        }
        let eight = cost.estimate(8).unwrap();
        assert!(eight > us(900) && eight < us(1_400), "{eight:?}");
    }

    /// An estimate settles within an eighth of what passes take.
    #[test]
    fn sizes_that_the_machine_treats_differently_part() {
        let cost = CostTable::default();
        for units in [1, 2, 4, 8] {
            cost.record(units, us(100) * units as u32);
        }
        for _ in 0..200 {
            cost.record(1, us(100));
            cost.record(8, us(1_600));
        }
        let micros = |units| cost.estimate(units).unwrap().as_micros();
        assert!((88..=115).contains(&micros(1)), "{}", micros(1));
        assert!((1_420..=1_830).contains(&micros(8)), "{}", micros(8));
    }

    #[test]
    fn a_steady_cost_changes_nothing() {
        let cost = CostTable::default();
        for units in [1, 2, 4, 8] {
            assert!(cost.record(units, us(100) * units as u32));
        }
        for units in [1, 2, 3, 4, 7, 8] {
            let nearly = us(104) * units as u32;
            assert!(!cost.record(units, nearly), "{units}");
        }
    }

    #[test]
    fn passes_of_any_size_and_of_no_time_are_taken_in() {
        let cost = CostTable::default();
        cost.record(usize::MAX, Duration::ZERO);
        assert_eq!(cost.estimate(usize::MAX), Some(Duration::ZERO));
        cost.record(0, Duration::ZERO);
        assert_eq!(cost.units_within(Duration::ZERO), Some(0));
        assert_eq!(cost.units_within(us(1)), Some(usize::MAX));
    }
}
