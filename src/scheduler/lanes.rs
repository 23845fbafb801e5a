//! The queues of all lanes: what may wait in them, and whose turn it is. Plain data: the lock
//! around it, and the workers that wait for rows, are in `dispatch.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::call::Call;
use super::place::{LaneId, Place};
use super::policy::{Decision, HoldPolicy, Situation};
use super::queue::{LaneQueue, Taken};
use super::sync::now;
use super::worker_slots::WorkerId;
use crate::engine::kernels::Team;
use crate::metrics::Release;
use crate::request::{InferError, Load};

/// What a lane's calls are for; the lanes only hand it to the worker along with them.
pub(super) trait Work {
    /// Learns how many rows wait, in the order of the changes: called with the lock held, or when
    /// the lane has left and nothing changes any more.
    fn set_queued_rows(&self, rows: usize);

    /// The most that a batch holds now, at least 1 of each.
    fn limit(&self) -> Load;

    /// What a forward pass over this many units costs, as far as that is known.
    fn cost(&self, units: usize) -> Duration;

    /// Whether this is so much work that several workers should share it.
    fn pays_to_share(&self, load: Load) -> bool;
}

/// The bounds and policies of a dispatch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The number of workers that take batches.
    pub(super) workers: usize,
    /// The most rows that wait in one lane, a single larger call excepted.
    pub(super) max_queued_rows: usize,
    /// When a batch is taken.
    pub(super) hold: HoldPolicy,
}

/// All lanes.
///
/// Invariant: a lane is in `ready` exactly once if rows of it wait, else not at all.
pub(super) struct Lanes<W> {
    rules: Rules,
    lanes: BTreeMap<LaneId, LaneState<W>>,
    next_lane: u64,
    /// Lanes with rows, in the order of their turns.
    ready: VecDeque<LaneId>,
    /// The batches that several workers share, by lane. Such a lane has one batch at a time: two
    /// would each read all weights, and the first would be answered no sooner.
    shared: Vec<(LaneId, Arc<Team>)>,
}

/// One lane.
pub(super) struct LaneState<W> {
    queue: LaneQueue,
    work: Arc<W>,
    /// Where its calls go when its work on them is done; `None` if they are answered then.
    next: Option<LaneId>,
}

/// What a worker took: rows of one lane, to be computed together. Reused from batch to batch.
#[derive(Debug)]
pub(super) struct WorkerBatch<W> {
    /// Whose it is.
    pub(super) worker: WorkerId,
    /// The lane's work; `None` before the first batch.
    pub(super) work: Option<Arc<W>>,
    /// The rows, and the calls that only need to be told. Either may be empty.
    pub(super) taken: Taken,
    /// Why it was taken now.
    pub(super) release: Release,
    /// When it was taken.
    pub(super) taken_at: Instant,
    /// Whether other workers may help with it.
    pub(super) is_shared: bool,
    /// The worker's team, open while its batch is shared.
    pub(super) team: Arc<Team>,
    /// What the worker's slot knew of the calls of the batch before.
    pub(super) done: Vec<Weak<Call>>,
}

impl<W> WorkerBatch<W> {
    /// A worker's batch, which holds nothing yet.
    pub(super) fn empty(worker: WorkerId) -> Self {
        Self {
            worker,
            work: None,
            taken: Taken::default(),
            release: Release::Idle,
            taken_at: now(),
            is_shared: false,
            team: Arc::new(Team::new()),
            done: Vec::new(),
        }
    }
}

/// What a worker found when it looked for rows.
pub(super) enum Look {
    /// A batch, which it has now.
    Took,
    /// No rows, or only rows that are held until then.
    Nothing {
        /// When the first of them need no longer be held.
        held_until: Option<Instant>,
    },
}

impl<W: Work> LaneState<W> {
    /// How many batches a load takes, and a part of one.
    fn batches(&self, load: Load) -> f64 {
        let limit = self.work.limit();
        let by_rows = load.rows as f64 / limit.rows as f64;
        by_rows.max(load.units as f64 / limit.units as f64)
    }

    /// The units of a full batch of rows like these, at least 1.
    fn full_batch_units(&self, load: Load) -> f64 {
        let limit = self.work.limit();
        let row_units = load.units as f64 / load.rows.max(1) as f64;
        (limit.rows as f64 * row_units).clamp(1.0, limit.units as f64)
    }

    /// What a load costs as a part of full batches, in seconds: the least that it may.
    fn seconds(&self, load: Load) -> f64 {
        let units = self.full_batch_units(load);
        self.work.cost(units as usize).as_secs_f64() / units * load.units as f64
    }

    fn report_queued_rows(&self) {
        self.work.set_queued_rows(self.queue.load().rows);
    }

    /// Refuses what still waits in a lane that has left. The engine may go with the lane, which
    /// takes a while: not to be called with the lock held.
    pub(super) fn close(self) {
        self.work.set_queued_rows(0);
        for call in self.queue.into_calls() {
            call.fail(InferError::Closing);
        }
    }
}

impl<W: Work> Lanes<W> {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            lanes: BTreeMap::new(),
            next_lane: 0,
            ready: VecDeque::new(),
            shared: Vec::new(),
        }
    }

    /// Adds a lane. Its calls go on to the lane `next`, if there is one; it has to be there.
    pub(super) fn add(&mut self, work: Arc<W>, next: Option<LaneId>) -> LaneId {
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        let queue = LaneQueue::default();
        self.lanes.insert(id, LaneState { queue, work, next });
        id
    }

    /// Whether there is such a lane.
    pub(super) fn has(&self, id: LaneId) -> bool {
        self.lanes.contains_key(&id)
    }

    /// The lane, and the one that its calls go on to.
    fn stages(&self, id: LaneId) -> impl Iterator<Item = &LaneState<W>> {
        let first = self.lanes.get(&id);
        let next = first.and_then(|lane| self.lanes.get(&lane.next?));
        first.into_iter().chain(next)
    }

    /// Takes a lane out, to be [closed](LaneState::close). Batches that were taken are finished.
    pub(super) fn remove(&mut self, id: LaneId) -> Option<LaneState<W>> {
        self.ready.retain(|&ready| ready != id);
        self.lanes.remove(&id)
    }

    /// Rows that wait in a lane.
    pub(super) fn queued_rows(&self, id: LaneId) -> usize {
        self.lanes.get(&id).map_or(0, |lane| lane.queue.load().rows)
    }

    /// Whether no rows wait in any lane.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether the lane's current batch is one that workers share.
    pub(super) fn is_shared(&self, id: LaneId) -> bool {
        self.shared.iter().any(|&(shared, _)| shared == id)
    }

    /// The team of the batch that has been shared for the longest.
    pub(super) fn first_shared(&self) -> Option<&Arc<Team>> {
        self.shared.first().map(|(_, team)| team)
    }

    /// Notes that the teams' batches are shared no longer.
    pub(super) fn unshare(&mut self, teams: &[Arc<Team>]) {
        let is_over = |team: &Arc<Team>| teams.iter().any(|over| Arc::ptr_eq(over, team));
        self.shared.retain(|(_, team)| !is_over(team));
    }

    /// Whether there is a lane with rows that a worker may take.
    pub(super) fn has_takeable(&self) -> bool {
        self.ready.iter().any(|&ready| !self.is_shared(ready))
    }

    /// Why a lane has no room for a request of this many rows, if so. An empty lane has room for
    /// any: else a request with more rows than the lane may hold could never be served. What waits
    /// in the lane after it counts too.
    pub(super) fn overload(&self, id: LaneId, rows: usize) -> Option<InferError> {
        let stages = self.stages(id);
        let queued_rows: usize = stages.map(|lane| lane.queue.load().rows).sum();
        let max_queued_rows = self.rules.max_queued_rows;
        if queued_rows == 0 || rows <= max_queued_rows.saturating_sub(queued_rows) {
            return None;
        }
        Some(InferError::Overloaded {
            queued_rows,
            max_queued_rows,
            retry_after: self.wait(id),
        })
    }

    /// How long the rows that wait in a lane, or in the one after it, take at the least: they, and
    /// of each other lane what its turns let through meanwhile, computed by all workers together.
    fn wait(&self, id: LaneId) -> Duration {
        // Lanes take turns batch by batch.
        let batches = self.stages(id).map(|lane| lane.batches(lane.queue.load()));
        let turns = batches.fold(0.0, f64::max).ceil();
        let seconds: f64 = self
            .ready
            .iter()
            .map(|ready| {
                let lane = &self.lanes[ready];
                let load = lane.queue.load();
                lane.seconds(load) * (turns / lane.batches(load)).min(1.0)
            })
            .sum();
        Duration::try_from_secs_f64(seconds / self.rules.workers as f64).unwrap_or(Duration::MAX)
    }

    /// Whether a call that arrives now may be [pushed](Self::push).
    ///
    /// # Errors
    /// [`InferError::Closing`] if there is no such lane; [`InferError::DeadlineExceeded`] if the
    /// deadline has passed, or will have after the [wait](Self::wait) and its own rows (an empty
    /// lane refuses none, so that a wrong estimate cannot keep itself alive);
    /// [`InferError::Overloaded`] if the lane has no room.
    pub(super) fn admit(&self, id: LaneId, call: &Call, now: Instant) -> Result<(), InferError> {
        if !self.has(id) {
            return Err(InferError::Closing);
        }
        let mut wait = self.wait(id);
        if !wait.is_zero() {
            // And its own rows, once it is their turn.
            let own = self.stages(id).map(|lane| lane.seconds(call.load())).sum();
            wait = wait.saturating_add(Duration::try_from_secs_f64(own).unwrap_or(Duration::MAX));
        }
        if let Some(deadline) = call.deadline()
            && (deadline <= now || deadline - now < wait)
        {
            return Err(InferError::DeadlineExceeded);
        }
        match self.overload(id, call.rows()) {
            Some(overload) => Err(overload),
            None => Ok(()),
        }
    }

    /// Appends a call to a lane's queue, and returns where it can be [cancelled](Self::cancel).
    ///
    /// # Panics
    /// If there is no such lane.
    pub(super) fn push(&mut self, id: LaneId, call: Arc<Call>) -> Place {
        let lane = self.lanes.get_mut(&id).expect("the lane is there");
        if lane.queue.is_empty() {
            self.ready.push_back(id);
        }
        let number = lane.queue.push(call);
        lane.report_queued_rows();
        Place { lane: id, number }
    }

    /// Takes a call's remaining rows out of its lane; `None` if no rows of it wait there any more.
    pub(super) fn cancel(&mut self, place: Place) -> Option<Arc<Call>> {
        let lane = self.lanes.get_mut(&place.lane)?;
        let removed = lane.queue.remove(place.number)?;
        lane.report_queued_rows();
        if lane.queue.is_empty() {
            self.ready.retain(|&ready| ready != place.lane);
        }
        Some(removed)
    }

    /// Takes a batch from the first lane, in the order of turns, that need not be held; none is if
    /// the dispatch is closing.
    pub(super) fn take(
        &mut self,
        idle_workers: usize,
        closing: bool,
        now: Instant,
        batch: &mut WorkerBatch<W>,
    ) -> Look {
        let rules = &self.rules;
        let mut held_until = None;
        for turn in 0..self.ready.len() {
            let id = self.ready[turn];
            if self.is_shared(id) {
                continue;
            }
            let lane = self.lanes.get_mut(&id).expect("ready lanes exist");
            let (queued, limit) = (lane.queue.load(), lane.work.limit());
            let decision = rules.hold.decide(&Situation {
                queued,
                limit,
                oldest_age: lane.queue.oldest_age(now),
                idle_workers,
                busy_workers: rules.workers - idle_workers,
            });
            let release = match decision {
                Decision::Take(release) => release,
                Decision::Hold(_) if closing => Release::Idle,
                Decision::Hold(left) => {
                    let until = now + left;
                    held_until = Some(held_until.map_or(until, |first: Instant| first.min(until)));
                    continue;
                }
            };
            let units = (queued.units as f64).min(lane.full_batch_units(queued));
            let pass = lane.work.cost(units as usize);
            lane.queue.take(limit, now, pass, &mut batch.taken);
            lane.report_queued_rows();
            batch.work = Some(Arc::clone(&lane.work));
            batch.release = release;
            batch.taken_at = now;
            batch.is_shared = rules.workers > 1 && lane.work.pays_to_share(batch.taken.load);
            let more = !lane.queue.is_empty();
            if batch.is_shared {
                batch.team.open();
                self.shared.push((id, Arc::clone(&batch.team)));
            }
            self.ready.remove(turn);
            if more {
                self.ready.push_back(id);
            }
            return Look::Took;
        }
        Look::Nothing { held_until }
    }

    /// Checks what is said of `ready` and the queues above.
    ///
    /// # Panics
    /// If it does not hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        for (id, lane) in &self.lanes {
            let turns = self.ready.iter().filter(|&ready| ready == id).count();
            assert_eq!(turns, usize::from(!lane.queue.is_empty()), "{id:?}");
            let load = lane.queue.load();
            assert_eq!(load.rows == 0, lane.queue.is_empty(), "{id:?}");
            assert!(load.rows > 0 || load.units == 0, "{id:?}");
        }
        assert!(self.ready.iter().all(|id| self.lanes.contains_key(id)));
    }
}
