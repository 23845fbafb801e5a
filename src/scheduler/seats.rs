//! Who works: the workers' places, and what is known from outside of what each of them does. Plain
//! data: the lock around it is in `dispatch.rs`.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::call::Call;
use super::queue::Part;
use crate::engine::kernels::Team;

/// A worker's place; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatId(usize);

/// The places of all workers there have been.
#[derive(Default)]
pub(super) struct Seats {
    seats: Vec<Seat>,
}

/// What is known of a worker from outside.
#[derive(Default)]
struct Seat {
    /// When it took the batch that it has; `None` without one.
    taken_at: Option<Instant>,
    /// The calls of that batch, which the worker holds.
    calls: Vec<Weak<Call>>,
    /// The team of that batch if it is shared.
    team: Option<Arc<Team>>,
    /// Whose batch it helps with while it has none.
    helps: Option<Arc<Team>>,
    /// Whether whom it helps was given up meanwhile.
    is_abandoned: bool,
    /// Another worker has its place: it is to end when it comes back.
    is_retired: bool,
}

/// What was taken from the workers that were given up.
#[derive(Default)]
pub(super) struct Retired {
    /// Their places.
    pub(super) seats: Vec<SeatId>,
    /// How many of them had a batch.
    pub(super) had_batch: usize,
    /// The calls of their batches.
    pub(super) calls: Vec<Weak<Call>>,
    /// The teams of their batches that were shared.
    pub(super) teams: Vec<Arc<Team>>,
}

impl Seats {
    /// The place of another worker.
    pub(super) fn add(&mut self) -> SeatId {
        self.seats.push(Seat::default());
        SeatId(self.seats.len() - 1)
    }

    /// Whether another worker has the place by now.
    pub(super) fn is_retired(&self, SeatId(place): SeatId) -> bool {
        self.seats[place].is_retired
    }

    /// Notes that a worker took a batch; the team is its own, if the batch is shared.
    pub(super) fn took(
        &mut self,
        SeatId(place): SeatId,
        taken_at: Instant,
        parts: &[Part],
        team: Option<Arc<Team>>,
    ) {
        let seat = &mut self.seats[place];
        seat.taken_at = Some(taken_at);
        let calls = parts.iter().map(|part| &part.call);
        seat.calls.extend(calls.map(Arc::downgrade));
        seat.team = team;
    }

    /// Notes that a worker's batch is done. Its calls go to `calls`, which is empty: they may be the
    /// last that there is of them, and are not freed under the lock.
    pub(super) fn ended(&mut self, SeatId(place): SeatId, calls: &mut Vec<Weak<Call>>) {
        let seat = &mut self.seats[place];
        seat.taken_at = None;
        std::mem::swap(&mut seat.calls, calls);
        seat.team = None;
    }

    /// Notes whose batch a worker without one helps with from now on.
    pub(super) fn helps(&mut self, SeatId(place): SeatId, team: Option<Arc<Team>>) {
        let seat = &mut self.seats[place];
        seat.helps = team;
        seat.is_abandoned = false;
    }

    /// Gives up the workers that have had their batch for longer than `limit`, those that are
    /// `dead`, and those that still help with the batch of one who was given up by the call before
    /// this: their part of it does not end either.
    pub(super) fn retire(
        &mut self,
        now: Instant,
        limit: Option<Duration>,
        dead: &[SeatId],
    ) -> Retired {
        let mut retired = Retired::default();
        for (place, seat) in self.seats.iter_mut().enumerate() {
            let id = SeatId(place);
            let has_hung = limit.is_some_and(|limit| {
                let taken_at = seat.taken_at;
                seat.is_abandoned
                    || taken_at.is_some_and(|at| now.saturating_duration_since(at) > limit)
            });
            if seat.is_retired || !has_hung && !dead.contains(&id) {
                continue;
            }
            seat.is_retired = true;
            seat.helps = None;
            retired.seats.push(id);
            retired.had_batch += usize::from(seat.taken_at.is_some());
            retired.calls.append(&mut seat.calls);
            retired.teams.extend(seat.team.take());
        }
        for team in &retired.teams {
            // Who helps with nothing that hangs leaves it now.
            team.close();
            for seat in &mut self.seats {
                let helps = seat.helps.as_ref();
                seat.is_abandoned |= helps.is_some_and(|helped| Arc::ptr_eq(helped, team));
            }
        }
        retired
    }

    /// How many workers have a batch, of those that were not given up.
    #[cfg(test)]
    pub(super) fn busy(&self) -> usize {
        let busy = |seat: &&Seat| seat.taken_at.is_some() && !seat.is_retired;
        self.seats.iter().filter(busy).count()
    }
}
