//! The two choices of the scheduler, as pure functions: no clock, no lock, no thread.
//!
//! [`BatchPolicy`] says when a free worker takes a batch; [`InlinePolicy`] says which requests
//! are so cheap that handing them to a worker would cost more than computing them.

use std::time::Duration;

use crate::metrics::Release;

/// When a free worker takes a lane's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchPolicy {
    /// The most rows of one batch.
    pub(super) max_batch_rows: usize,
    /// How long rows may wait for company while every other worker is busy.
    pub(super) max_batch_delay: Duration,
}

/// What a free worker sees when it looks at a lane with rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Rows that wait in the lane, at least 1.
    pub(super) queued_rows: usize,
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
    /// Take what waits, up to `max_batch_rows`.
    Take(Release),
    /// Leave the rows for this long, unless more come.
    Hold(Duration),
}

impl BatchPolicy {
    /// Decides for one lane.
    ///
    /// Rows are held only while that may win something and costs no idle time: every other
    /// worker is busy, and there is at least one. So a lone request on an idle server starts at
    /// once, and a server with one worker never waits.
    pub(super) fn decide(&self, situation: &Situation) -> Decision {
        let Situation {
            queued_rows,
            oldest_age,
            idle_workers,
            busy_workers,
        } = *situation;
        if queued_rows >= self.max_batch_rows {
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
    /// The most forward passes that run inline at the same time.
    pub(super) max_inline_runs: usize,
}

/// What a request meets when it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The estimated forward pass of its rows.
    pub(super) cost: Duration,
    /// Whether any lane has rows that wait.
    pub(super) rows_wait: bool,
    /// Workers that compute a batch.
    pub(super) busy_workers: usize,
    /// Forward passes that run inline.
    pub(super) inline_runs: usize,
}

/// The processor time of a hand-off to a worker under load, measured: 2 to 5 µs. A cheaper
/// forward pass wins nothing from a batch, because its share of the hand-off is larger than it.
const HAND_OFF_COST: Duration = Duration::from_micros(5);

impl InlinePolicy {
    /// Whether the request runs at once on the calling thread.
    ///
    /// A pass below [`HAND_OFF_COST`] does so also under load. A dearer one (below
    /// `inline_cost`) only on an idle server: there it saves the hand-off's 10 to 40 µs of
    /// latency, while under load it would keep its thread from reading the requests that could
    /// share its batch.
    pub(super) fn runs_inline(&self, arrival: &Arrival) -> bool {
        let Arrival {
            cost,
            rows_wait,
            busy_workers,
            inline_runs,
        } = *arrival;
        if cost >= self.inline_cost || inline_runs >= self.max_inline_runs {
            return false;
        }
        cost < HAND_OFF_COST || (!rows_wait && busy_workers == 0 && inline_runs == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_batch_is_held_only_while_every_other_worker_is_busy() {
        use Decision::{Hold, Take};
        use Release::{Delay, Full, Idle};
        // (delay, rows queued, age of the oldest, idle, busy) -> decision; a batch has 32 rows.
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
            let policy = BatchPolicy {
                max_batch_rows: 32,
                max_batch_delay,
            };
            let situation = Situation {
                queued_rows,
                oldest_age,
                idle_workers,
                busy_workers,
            };
            assert_eq!(policy.decide(&situation), expected, "{row:?}");
        }
    }

    #[test]
    fn a_request_runs_inline_only_where_that_pays() {
        // (cost, rows wait, busy workers, inline runs) -> inline; inline_cost 25 µs, 2 at once.
        let table = [
            // Cheaper than the hand-off: inline under load too, but within the bound.
            ((us(1), false, 0, 0), true),
            ((us(4), true, 2, 1), true),
            ((us(1), true, 2, 2), false),
            // Between: only when nothing waits and nothing runs.
            ((us(5), false, 0, 0), true),
            ((us(24), false, 0, 0), true),
            ((us(24), true, 0, 0), false),
            ((us(24), false, 1, 0), false),
            ((us(24), false, 0, 1), false),
            // Dear: never.
            ((us(25), false, 0, 0), false),
            ((us(9_000), false, 0, 0), false),
        ];
        let policy = InlinePolicy {
            inline_cost: us(25),
            max_inline_runs: 2,
        };
        for (row, expected) in table {
            let (cost, rows_wait, busy_workers, inline_runs) = row;
            let arrival = Arrival {
                cost,
                rows_wait,
                busy_workers,
                inline_runs,
            };
            assert_eq!(policy.runs_inline(&arrival), expected, "{row:?}");
        }
    }

    #[test]
    fn an_inline_cost_of_zero_sends_every_request_to_a_worker() {
        let policy = InlinePolicy {
            inline_cost: us(0),
            max_inline_runs: 2,
        };
        assert!(!policy.runs_inline(&Arrival {
            cost: us(0),
            rows_wait: false,
            busy_workers: 0,
            inline_runs: 0,
        }));
    }
}
