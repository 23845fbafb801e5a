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
}

/// Where a request's forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
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
    pub(super) fn place(&self, cost: Duration) -> Place {
        if cost >= self.inline_cost {
            Place::Worker
        } else if cost < HAND_OFF_COST {
            Place::Caller
        } else {
            Place::CallerIfIdle
        }
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
        let place = |inline_cost, cost| {
            let policy = InlinePolicy {
                inline_cost: us(inline_cost),
            };
            policy.place(us(cost))
        };
        assert_eq!(place(25, 0), Place::Caller);
        assert_eq!(place(25, 4), Place::Caller);
        assert_eq!(place(25, 5), Place::CallerIfIdle);
        assert_eq!(place(25, 24), Place::CallerIfIdle);
        assert_eq!(place(25, 25), Place::Worker);
        assert_eq!(place(25, 9_000), Place::Worker);
        assert_eq!(place(3, 3), Place::Worker);
        assert_eq!(place(0, 0), Place::Worker, "zero sends every request");
    }
}
