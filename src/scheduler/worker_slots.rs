//! The workers, and what is known of each from outside: whether it has a batch, since when, and
//! whom it helps. Plain data: the lock around it is in `dispatch.rs`.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::call::Call;
use super::queue::Part;
use crate::engine::kernels::Team;

/// A worker among its dispatch's; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerId(usize);

/// One slot for each worker that there has been.
#[derive(Default)]
pub(super) struct WorkerSlots {
    slots: Vec<WorkerSlot>,
}

/// What is known of a worker from outside.
#[derive(Default)]
struct WorkerSlot {
    /// When it took the batch that it has; `None` without one.
    taken_at: Option<Instant>,
    /// The calls of that batch, which the worker holds.
    calls: Vec<Weak<Call>>,
    /// The team of that batch if it is shared.
    team: Option<Arc<Team>>,
    /// Whose batch it helps with while it has none.
    helps: Option<Arc<Team>>,
    /// Whether the worker that it helps was given up meanwhile.
    is_abandoned: bool,
    /// Another worker replaces it: it is to end when it comes back.
    is_retired: bool,
}

/// What was taken from the workers that were given up.
#[derive(Default)]
pub(super) struct Retired {
    /// Who they are.
    pub(super) workers: Vec<WorkerId>,
    /// How many of them had a batch.
    pub(super) had_batch: usize,
    /// The calls of their batches.
    pub(super) calls: Vec<Weak<Call>>,
    /// The teams of their batches that were shared.
    pub(super) teams: Vec<Arc<Team>>,
}

impl WorkerSlots {
    /// Adds the slot of another worker.
    pub(super) fn add(&mut self) -> WorkerId {
        self.slots.push(WorkerSlot::default());
        WorkerId(self.slots.len() - 1)
    }

    /// Whether another worker replaces it by now.
    pub(super) fn is_retired(&self, WorkerId(index): WorkerId) -> bool {
        self.slots[index].is_retired
    }

    /// Notes that a worker took a batch; the team is its own, if the batch is shared.
    pub(super) fn took(
        &mut self,
        WorkerId(index): WorkerId,
        taken_at: Instant,
        parts: &[Part],
        team: Option<Arc<Team>>,
    ) {
        let slot = &mut self.slots[index];
        slot.taken_at = Some(taken_at);
        let calls = parts.iter().map(|part| &part.call);
        slot.calls.extend(calls.map(Arc::downgrade));
        slot.team = team;
    }

    /// Notes that a worker's batch is done. Its calls go to `calls`, which is empty: they may be the
    /// last that there is of them, and are not freed under the lock.
    pub(super) fn ended(&mut self, WorkerId(index): WorkerId, calls: &mut Vec<Weak<Call>>) {
        let slot = &mut self.slots[index];
        slot.taken_at = None;
        std::mem::swap(&mut slot.calls, calls);
        slot.team = None;
    }

    /// Notes whose batch a worker without one helps with from now on.
    pub(super) fn helps(&mut self, WorkerId(index): WorkerId, team: Option<Arc<Team>>) {
        let slot = &mut self.slots[index];
        slot.helps = team;
        slot.is_abandoned = false;
    }

    /// Gives up the workers that have had their batch for longer than `limit`, those that are
    /// `dead`, and those that still help with the batch of one that was given up by the call before
    /// this: their part of it does not end either.
    pub(super) fn retire(
        &mut self,
        now: Instant,
        limit: Option<Duration>,
        dead: &[WorkerId],
    ) -> Retired {
        let mut retired = Retired::default();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let id = WorkerId(index);
            let has_hung = limit.is_some_and(|limit| {
                let taken_at = slot.taken_at;
                slot.is_abandoned
                    || taken_at.is_some_and(|at| now.saturating_duration_since(at) > limit)
            });
            if slot.is_retired || !has_hung && !dead.contains(&id) {
                continue;
            }
            slot.is_retired = true;
            slot.helps = None;
            retired.workers.push(id);
            retired.had_batch += usize::from(slot.taken_at.is_some());
            retired.calls.append(&mut slot.calls);
            retired.teams.extend(slot.team.take());
        }
        for team in &retired.teams {
            // Helpers whose share does not hang leave it now.
            team.close();
            for slot in &mut self.slots {
                let helps = slot.helps.as_ref();
                slot.is_abandoned |= helps.is_some_and(|helped| Arc::ptr_eq(helped, team));
            }
        }
        retired
    }

    /// How many workers have a batch, of those that were not given up.
    #[cfg(test)]
    pub(super) fn busy(&self) -> usize {
        let busy = |slot: &&WorkerSlot| slot.taken_at.is_some() && !slot.is_retired;
        self.slots.iter().filter(busy).count()
    }
}
