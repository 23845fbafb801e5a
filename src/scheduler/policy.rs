//! The choices of the scheduler, as pure functions: no clock, no lock, no thread.
//!
//! [`LimitPolicy`] says how much a batch holds; [`HoldPolicy`] when a free worker takes one;
//! [`InlinePolicy`] which requests are so cheap that handing them to a worker would cost more than
//! computing them.

use std::time::Duration;

use super::cost::CostTable;
use crate::metrics::Release;
use crate::request::Load;

/// How much a lane's batches hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitPolicy {
    /// The most rows, whatever they cost.
    pub(super) max_batch_rows: usize,
    /// How much longer than one unit a batch may take: everyone in it waits for all of it.
    pub(super) max_batch_time: Duration,
    /// The most bytes of scratch memory of a batch of several rows.
    pub(super) max_scratch_bytes: usize,
}

impl LimitPolicy {
    /// The most rows that the scratch memory has room for, at least 1; `scratch_bytes` says what a
    /// number of rows takes, and more rows take no less.
    pub(super) fn max_rows(&self, scratch_bytes: impl Fn(usize) -> usize) -> usize {
        self.largest(self.max_batch_rows, scratch_bytes)
    }

    /// As [`max_rows`](Self::max_rows) for the tokens along an axis. One takes a byte at the least.
    pub(super) fn max_tokens(&self, scratch_bytes: impl Fn(usize) -> usize) -> usize {
        self.largest(self.max_scratch_bytes, scratch_bytes)
    }

    /// The largest number up to `most` that there is memory for, at least 1.
    fn largest(&self, mut most: usize, scratch_bytes: impl Fn(usize) -> usize) -> usize {
        let mut fits = 1;
        while fits < most {
            let middle = most - (most - fits) / 2;
            match scratch_bytes(middle) <= self.max_scratch_bytes {
                true => fits = middle,
                false => most = middle - 1,
            }
        }
        fits
    }

    /// How long a batch may take, where one unit takes `one`.
    pub(super) fn batch_time(&self, one: Duration) -> Duration {
        one.saturating_add(self.max_batch_time)
    }

    /// The most units of a batch, at least 1: those that are expected to take no longer than
    /// [it may](Self::batch_time). `None` if no cost is known.
    pub(super) fn max_units(&self, costs: &CostTable) -> Option<usize> {
        let one = costs.estimate(1)?;
        let units = costs.units_within(self.batch_time(one))?;
        Some(units.max(1))
    }

    /// Whether larger batches are to be tried again after this many that held as many units as
    /// they might. What they cost is known from the time before they were too large, and may be
    /// wrong by now. One in 256 takes twice as long as it may at the most.
    pub(super) fn tries_larger(full_batches: usize) -> bool {
        full_batches.is_multiple_of(256)
    }
}

/// When a free worker takes a lane's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldPolicy {
    /// How long rows may wait for company while every other worker is busy.
    pub(super) max_batch_delay: Duration,
}

/// What a free worker sees when it looks at a lane with rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// What waits in the lane, at least one row.
    pub(super) queued: Load,
    /// The most that a batch of the lane holds.
    pub(super) limit: Load,
    /// How long the lane's first row has waited.
    pub(super) oldest_age: Duration,
    /// Workers without a batch, the one that looks included.
    pub(super) idle_workers: usize,
    /// Workers that compute a batch.
    pub(super) busy_workers: usize,
}

/// What a free worker does with a lane's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take what waits, up to the limit.
    Take(Release),
    /// Leave the rows for this long, unless more come.
    Hold(Duration),
}

impl HoldPolicy {
    /// Decides for one lane.
    ///
    /// Rows are held only while that may win something and costs no idle time: every other
    /// worker is busy, and there is at least one. So a lone request on an idle server starts at
    /// once, and a server with one worker never waits.
    pub(super) fn decide(&self, situation: &Situation) -> Decision {
        let Situation {
            queued,
            limit,
            oldest_age,
            idle_workers,
            busy_workers,
        } = *situation;
        if queued.rows >= limit.rows || queued.units >= limit.units {
            return Decision::Take(Release::Full);
        }
        if self.max_batch_delay.is_zero() || idle_workers > 1 || busy_workers == 0 {
            return Decision::Take(Release::Idle);
        }
        match self.max_batch_delay.checked_sub(oldest_age) {
            Some(left) if !left.is_zero() => Decision::Hold(left),
            _ => Decision::Take(Release::Delay),
        }
    }
}

/// Which requests run on the thread that decoded them.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlinePolicy {
    /// Forward passes that cost this much or more always go to a worker; zero sends all of them.
    pub(super) inline_cost: Duration,
}

/// Where a request's forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunsOn {
    /// On the calling thread, whatever else there is.
    Caller,
    /// On the calling thread if nothing waits and nothing runs, else on a worker's.
    CallerIfIdle,
    /// On a worker's thread.
    Worker,
}

/// The processor time of a hand-off to a worker under load, measured: 2 to 5 µs. A cheaper
/// forward pass wins nothing from a batch, because its share of the hand-off is larger than it.
const HAND_OFF_COST: Duration = Duration::from_micros(5);

impl InlinePolicy {
    /// Where a forward pass of this estimated cost runs.
    ///
    /// A pass below [`HAND_OFF_COST`] runs on its caller's thread also under load; as many at once
    /// as there are such threads, and without a look at what others do, which would cost a lock. One
    /// that costs more (below `inline_cost`) only on an idle server: there it saves the hand-off's 10
    /// to 40 µs of latency, while under load it would keep its thread from reading the requests
    /// that could share its batch.
    pub(super) fn runs_on(&self, cost: Duration) -> RunsOn {
        if cost >= self.inline_cost {
            RunsOn::Worker
        } else if cost < HAND_OFF_COST {
            RunsOn::Caller
        } else {
            RunsOn::CallerIfIdle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn load(rows: usize, units: usize) -> Load {
        Load { rows, units }
    }

    #[test]
    fn a_batch_is_held_only_while_every_other_worker_is_busy() {
        use Decision::{Hold, Take};
        use Release::{Delay, Full, Idle};
        // (delay, rows queued, age of the oldest, idle, busy) -> decision; a batch has 32 rows of
        // two units.
        let table = [
            // Without a delay what waits is taken at once, whatever the load.
            ((us(0), 1, us(0), 1, 0), Take(Idle)),
            ((us(0), 1, us(0), 1, 3), Take(Idle)),
            ((us(0), 31, us(9), 4, 0), Take(Idle)),
            ((us(0), 32, us(0), 1, 3), Take(Full)),
            // A lone request on an idle server starts at once.
            ((us(500), 1, us(0), 4, 0), Take(Idle)),
            // A server with one worker never waits.
            ((us(500), 1, us(0), 1, 0), Take(Idle)),
            // A second free worker would idle.
            ((us(500), 1, us(0), 2, 2), Take(Idle)),
            // The last free worker waits for company, for what is left of the delay.
            ((us(500), 1, us(0), 1, 3), Hold(us(500))),
            ((us(500), 31, us(499), 1, 1), Hold(us(1))),
            ((us(500), 1, us(500), 1, 3), Take(Delay)),
            ((us(500), 1, us(9_999), 1, 3), Take(Delay)),
            // A full batch has nothing to wait for.
            ((us(500), 32, us(0), 1, 3), Take(Full)),
            ((us(500), 33, us(0), 1, 3), Take(Full)),
        ];
        for (row, expected) in table {
            let (max_batch_delay, queued_rows, oldest_age, idle_workers, busy_workers) = row;
            let policy = HoldPolicy { max_batch_delay };
            let situation = Situation {
                queued: load(queued_rows, 2 * queued_rows),
                limit: load(32, 64),
                oldest_age,
                idle_workers,
                busy_workers,
            };
            assert_eq!(policy.decide(&situation), expected, "{row:?}");
            // The same where the units are what fills a batch.
            let by_units = Situation {
                queued: load(1, queued_rows),
                limit: load(2, 32),
                ..situation
            };
            assert_eq!(policy.decide(&by_units), expected, "{row:?}");
        }
    }

    const LIMITS: LimitPolicy = LimitPolicy {
        max_batch_rows: 128,
        max_batch_time: us(5_000),
        max_scratch_bytes: 64 << 20,
    };

    /// The most units of a batch after passes of these units and microseconds.
    fn max_units(passes: &[(usize, u64)]) -> usize {
        let costs = CostTable::default();
        for &(units, micros) in passes {
            costs.record(units, us(micros));
        }
        LIMITS.max_units(&costs).unwrap()
    }

    #[test]
    fn a_batch_takes_no_longer_than_one_unit_and_the_time_beyond_it() {
        // Measured with one row, as at load: a picture network, and one whose rows cost nothing.
        assert_eq!(max_units(&[(1, 12_000)]), 1);
        assert_eq!(max_units(&[(1, 1)]), 5_001);
        assert_eq!(max_units(&[(1, 5_000)]), 2, "one beyond the first");
        assert_eq!(max_units(&[(1, 2_000)]), 3, "7 ms hold three");
        assert_eq!(max_units(&[(1, 900_000)]), 1, "however long one takes");
        assert_eq!(LIMITS.max_units(&CostTable::default()), None);
    }

    #[test]
    fn units_that_get_cheaper_together_make_larger_batches() {
        // One row reads all weights, and so do eight.
        let weights = [(1, 4_000), (2, 4_100), (4, 4_400), (8, 5_000)];
        assert_eq!(max_units(&weights[..1]), 2);
        assert_eq!(max_units(&weights[..2]), 4);
        assert_eq!(max_units(&weights[..3]), 8);
        // 0.625 ms each in a pass of eight, and 9 ms for a batch.
        assert_eq!(max_units(&weights), 14);
        // Beyond the caches they get dearer again: what was measured counts.
        assert_eq!(max_units(&[(1, 1_000), (2, 2_000), (4, 7_000)]), 3);
    }

    #[test]
    fn a_limit_follows_the_cost_and_not_one_outlier() {
        let costs = CostTable::default();
        for rows in [1, 2, 4, 8, 16, 32, 64, 128] {
            costs.record(rows, us(40 * rows as u64));
        }
        assert_eq!(LIMITS.max_units(&costs).unwrap(), 126);
        // The machine takes a thread away for a second.
        costs.record(100, us(1_000_000));
        let rows = LIMITS.max_units(&costs).unwrap();
        assert!((112..126).contains(&rows), "{rows}");
        // Twice the load for good: half the batch.
        for _ in 0..100 {
            let rows = LIMITS.max_units(&costs).unwrap();
            costs.record(1, us(80));
            costs.record(rows, us(80 * rows as u64));
        }
        let rows = LIMITS.max_units(&costs).unwrap();
        // An estimate settles within an eighth of the cost.
        assert!((56..=71).contains(&rows), "{rows}");
    }

    #[test]
    fn a_slow_machine_takes_no_batches_apart_that_cost_what_one_row_costs() {
        // A network that reads all its weights for one row as for many.
        let costs = CostTable::default();
        for rows in [1, 2, 4, 8, 16, 32, 64, 128] {
            costs.record(rows, us(50_000 + 25 * rows as u64));
        }
        assert!(LIMITS.max_units(&costs).unwrap() >= 128);
        let slow = |rows: usize| us(2 * (50_000 + 25 * rows as u64));
        for _ in 0..100 {
            let rows = LIMITS.max_units(&costs).unwrap().min(128);
            costs.record(rows, slow(rows));
        }
        let rows = LIMITS.max_units(&costs).unwrap();
        assert!(rows >= 32, "{rows}");
    }

    #[test]
    fn a_limit_that_is_too_low_is_tried_again() {
        // Two rows were measured while the machine was busy with something else.
        let costs = CostTable::default();
        costs.record(1, us(50_000));
        costs.record(2, us(100_000));
        assert_eq!(LIMITS.max_units(&costs).unwrap(), 1);
        let mut batches = 0;
        let mut limits = vec![1];
        while limits[limits.len() - 1] < 128 {
            let rows = LIMITS.max_units(&costs).unwrap().min(128);
            costs.record(rows, us(50_000 + 25 * rows as u64));
            batches += 1;
            if LimitPolicy::tries_larger(batches) {
                costs.forget_larger(rows);
            }
            if rows != limits[limits.len() - 1] {
                limits.push(rows);
            }
            assert!(batches < 10_000, "{limits:?}");
        }
        // Where a batch of two takes twice as long, it is one in 256.
        let costs = CostTable::default();
        costs.record(1, us(12_000));
        costs.record(2, us(24_000));
        let too_large = (1..=2_560).filter(|&batches| {
            let rows = LIMITS.max_units(&costs).unwrap();
            costs.record(rows, us(12_000 * rows as u64));
            if LimitPolicy::tries_larger(batches) {
                costs.forget_larger(rows);
            }
            assert!(rows <= 2);
            rows == 2
        });
        assert_eq!(too_large.count(), 9);
    }

    #[test]
    fn scratch_memory_bounds_the_rows_of_a_batch() {
        let max_rows = |row_bytes: usize| LIMITS.max_rows(|rows| rows * row_bytes + 4096);
        assert_eq!(max_rows(1000), 128);
        assert_eq!(max_rows(512 << 10), 127, "4096 bytes are not for rows");
        assert_eq!(max_rows(20 << 20), 3);
        assert_eq!(max_rows(33 << 20), 1);
        assert_eq!(max_rows(1 << 40), 1, "one row has what it needs");
        assert_eq!(LIMITS.max_tokens(|tokens| 4096 * tokens), 16_384);
        assert_eq!(LIMITS.max_tokens(|_| 0), 64 << 20, "none is free");
        let alone = LimitPolicy {
            max_batch_rows: 1,
            ..LIMITS
        };
        assert_eq!(alone.max_rows(|_| 0), 1);
    }

    #[test]
    fn a_request_runs_inline_only_where_that_pays() {
        let runs_on = |inline_cost, cost| {
            let policy = InlinePolicy {
                inline_cost: us(inline_cost),
            };
            policy.runs_on(us(cost))
        };
        assert_eq!(runs_on(25, 0), RunsOn::Caller);
        assert_eq!(runs_on(25, 4), RunsOn::Caller);
        assert_eq!(runs_on(25, 5), RunsOn::CallerIfIdle);
        assert_eq!(runs_on(25, 24), RunsOn::CallerIfIdle);
        assert_eq!(runs_on(25, 25), RunsOn::Worker);
        assert_eq!(runs_on(25, 9_000), RunsOn::Worker);
        assert_eq!(runs_on(3, 3), RunsOn::Worker);
        assert_eq!(runs_on(0, 0), RunsOn::Worker, "zero sends every request");
    }
}
