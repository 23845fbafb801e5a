//! How much a lane's batches hold now: what passes cost, and the policy for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::cost::CostTable;
use super::policy::LimitPolicy;
use crate::request::Load;

/// The limit of a lane's batches, which follows what they cost.
#[derive(Debug)]
pub(super) struct BatchLimit {
    policy: LimitPolicy,
    costs: CostTable,
    /// The most, whatever it costs.
    max: Load,
    /// The most units, by what they cost now.
    max_units: AtomicUsize,
    /// The batches that held as many units as they might.
    full_batches: AtomicUsize,
}

impl BatchLimit {
    /// A limit of at most `max` and, while nothing is known of the cost, of `unknown_units` units.
    pub(super) fn new(policy: LimitPolicy, max: Load, unknown_units: usize) -> Self {
        Self {
            policy,
            costs: CostTable::default(),
            max,
            max_units: AtomicUsize::new(unknown_units),
            full_batches: AtomicUsize::new(0),
        }
    }

    /// The most that a batch holds now, at least 1 of each.
    pub(super) fn load(&self) -> Load {
        Load {
            rows: self.max.rows,
            units: self.max_units.load(Ordering::Relaxed),
        }
    }

    /// What a pass over this many units is expected to cost; `None` before the first.
    pub(super) fn estimate(&self, units: usize) -> Option<Duration> {
        self.costs.estimate(units)
    }

    /// How long a batch may take, where one unit takes `one`.
    pub(super) fn batch_time(&self, one: Duration) -> Duration {
        self.policy.batch_time(one)
    }

    /// Learns what a pass cost. Returns whether the limit was worked out anew.
    pub(super) fn record(&self, units: usize, elapsed: Duration) -> bool {
        let mut changed = self.costs.record(units, elapsed);
        let max_units = self.max_units.load(Ordering::Relaxed);
        // Only where the units are what limits a batch.
        if units >= max_units && max_units < self.max.units {
            let full_batches = self.full_batches.fetch_add(1, Ordering::Relaxed) + 1;
            if LimitPolicy::tries_larger(full_batches) {
                self.costs.forget_larger(max_units);
                changed = true;
            }
        }
        if changed && let Some(max_units) = self.policy.max_units(&self.costs) {
            let max_units = max_units.min(self.max.units);
            self.max_units.store(max_units, Ordering::Relaxed);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: LimitPolicy = LimitPolicy {
        max_batch_rows: 128,
        max_batch_time: Duration::from_millis(5),
        max_scratch_bytes: usize::MAX,
    };

    fn load(rows: usize, units: usize) -> Load {
        Load { rows, units }
    }

    #[test]
    fn a_limit_is_what_was_asked_for_until_a_cost_is_known_and_never_more() {
        let max = load(128, 1000);
        let limit = BatchLimit::new(POLICY, max, 1);
        assert_eq!(limit.load(), load(128, 1));
        assert!(limit.record(1, Duration::from_millis(1)));
        assert_eq!(limit.load(), load(128, 6));
        assert_eq!(limit.estimate(6), Some(Duration::from_millis(6)));
        let limit = BatchLimit::new(POLICY, max, 1000);
        assert_eq!(limit.load(), max);
        limit.record(1, Duration::from_nanos(1));
        assert_eq!(limit.load(), max);
    }

    #[test]
    fn a_limit_that_full_batches_confirm_is_tried_beyond_now_and_then() {
        let limit = BatchLimit::new(POLICY, load(128, 128), 1);
        limit.record(1, Duration::from_millis(12));
        limit.record(2, Duration::from_millis(24));
        for _ in 0..253 {
            limit.record(1, Duration::from_millis(12));
            assert_eq!(limit.load().units, 1);
        }
        // The 256th full batch, with the two at first.
        limit.record(1, Duration::from_millis(12));
        assert_eq!(limit.load().units, 2);
        limit.record(2, Duration::from_millis(24));
        assert_eq!(limit.load().units, 1);
        // Nothing is tried where the rows are what limits a batch.
        let rows = BatchLimit::new(POLICY, load(1, 1), 1);
        for _ in 0..1_000 {
            rows.record(1, Duration::from_millis(12));
            assert_eq!(rows.load(), load(1, 1));
        }
    }
}
