//! The calls that wait for one lane, first in, first out, counted in load. Plain data: the
//! lock around it, and the threads, are in `dispatch.rs`.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::Call;
use crate::request::Load;

/// Calls that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    waiting: VecDeque<Waiting>,
    /// The sum of what is `left` over `waiting`.
    load: Load,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Grows from each call to the next, so that one is found by binary search.
    number: u64,
    call: Arc<Call>,
    /// The rows before this one were taken.
    next_row: usize,
}

impl Waiting {
    fn left(&self) -> Load {
        self.call.load_of(self.next_row..self.call.rows())
    }
}

/// Some rows of a call, in a batch.
#[derive(Debug)]
pub(super) struct Part {
    /// The call.
    pub(super) call: Arc<Call>,
    /// Which of its rows.
    pub(super) rows: Range<usize>,
}

impl Part {
    /// How much there is to compute for them.
    pub(super) fn load(&self) -> Load {
        self.call.load_of(self.rows.clone())
    }
}

/// What one look at the queue took out of it.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// To be computed together, in the order of the queue.
    pub(super) parts: Vec<Part>,
    /// The sum of their loads.
    pub(super) load: Load,
    /// Calls to be refused, because their deadline passed while they waited, or will have when they
    /// are computed.
    pub(super) expired: Vec<Arc<Call>>,
    /// Calls with a part that failed: answered already, to be dropped.
    pub(super) failed: Vec<Arc<Call>>,
}

impl Taken {
    /// Forgets everything but the allocations.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.load = Load::default();
        self.expired.clear();
        self.failed.clear();
    }
}

impl LaneQueue {
    /// What waits.
    pub(super) fn load(&self) -> Load {
        self.load
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long the first call has waited; zero if none does.
    pub(super) fn oldest_age(&self, now: Instant) -> Duration {
        self.waiting.front().map_or(Duration::ZERO, |first| {
            now.saturating_duration_since(first.call.queued_at())
        })
    }

    /// Appends a call and returns the number by which it can be removed.
    pub(super) fn push(&mut self, call: Arc<Call>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.load += call.load();
        self.waiting.push_back(Waiting {
            number,
            call,
            next_row: 0,
        });
        number
    }

    /// Takes a batch within `limit` from the front; its forward pass is expected to take `pass`.
    ///
    /// A call that fits a batch is never split: it waits for the next one, which begins with
    /// it. A call larger than a batch fills this one, and its rest stays at the front. A single row
    /// is taken whatever its load.
    /// Failed calls, and those that have expired or will have when the pass ends, leave without
    /// counting as load of the batch. Where that would leave nothing to compute, only what has
    /// expired already leaves: an expectation that is wrong is put right by passes that run.
    pub(super) fn take(&mut self, limit: Load, now: Instant, pass: Duration, taken: &mut Taken) {
        // Mostly the first that is asked, the one that came last, has the time.
        let has_time =
            |waiting: &Waiting| !waiting.call.has_failed() && !waiting.call.is_expired(now + pass);
        let ends = match self.waiting.iter().rev().any(has_time) {
            true => now + pass,
            false => now,
        };
        while let Some(first) = self.waiting.front_mut() {
            let left = first.left();
            let drop_to = if first.call.has_failed() {
                Some(&mut taken.failed)
            } else if first.call.is_expired(ends) {
                Some(&mut taken.expired)
            } else {
                None
            };
            if let Some(dropped) = drop_to {
                self.load -= left;
                dropped.extend(self.waiting.pop_front().map(|first| first.call));
                continue;
            }
            let room = Load {
                rows: limit.rows - taken.load.rows,
                units: limit.units.saturating_sub(taken.load.units),
            };
            let count = if left.is_within(room) {
                left.rows
            } else if left.is_within(limit) {
                break;
            } else {
                let fits = first.call.rows_within(first.next_row, room);
                fits.max(usize::from(taken.load.rows == 0))
            };
            if count == 0 {
                break;
            }
            let part = Part {
                call: Arc::clone(&first.call),
                rows: first.next_row..first.next_row + count,
            };
            let load = part.load();
            taken.parts.push(part);
            taken.load += load;
            self.load -= load;
            first.next_row += count;
            if count == left.rows {
                self.waiting.pop_front();
            }
        }
    }

    /// The calls that wait, oldest first.
    pub(super) fn into_calls(self) -> impl Iterator<Item = Arc<Call>> {
        self.waiting.into_iter().map(|waiting| waiting.call)
    }

    /// Removes what is left of a call; `None` if no rows of it wait any more.
    pub(super) fn remove(&mut self, number: u64) -> Option<Arc<Call>> {
        let position = self
            .waiting
            .binary_search_by_key(&number, |waiting| waiting.number)
            .ok()?;
        let removed = self.waiting.remove(position)?;
        self.load -= removed.left();
        Some(removed.call)
    }
}
