//! What waits, who is free, and who takes what: all lanes' queues behind one lock.
//!
//! Every critical section is a few instructions a call, so one lock serves all lanes, and the
//! model check can follow every order of its holders.
//!
//! Invariants, true whenever the lock is free:
//! - a lane is in `ready` exactly once if rows of it wait, else not at all;
//! - `sleeping + wakeups` workers are in [`Dispatch::sleep`];
//! - a worker that is not retired is idle, or its seat says since when it has its batch;
//! - if a lane is ready and a worker sleeps, then a wake-up is under way, or some worker is
//!   between two looks at the queue, or the lane's rows are held for company.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::call::{Answer, Call};
use super::policy::{BatchPolicy, Decision, Situation};
use super::queue::{LaneQueue, Taken};
use super::seats::{SeatId, Seats};
use super::sync::{Condvar, Mutex, MutexGuard, now};
use crate::engine::kernels::Team;
use crate::metrics::Release;
use crate::request::{InferError, InferRequest};

/// What a lane's calls are for; the dispatch only hands it to the worker along with them.
pub(super) trait Work {
    /// Learns how many rows wait, in the order of the changes: called with the lock held, or when
    /// the lane has left and nothing changes any more.
    fn set_queued_rows(&self, rows: usize);

    /// What a forward pass over so many rows costs, as far as that is known.
    fn cost(&self, rows: usize) -> Duration;

    /// Whether so many rows are so much work that several workers should share it.
    fn pays_to_share(&self, rows: usize) -> bool;
}

/// The bounds and policies of a dispatch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The number of workers that will call [`Dispatch::next_batch`].
    pub(super) workers: usize,
    /// The most rows that wait in one lane, a single larger call excepted.
    pub(super) max_queued_rows: usize,
    /// When a batch is taken.
    pub(super) batch: BatchPolicy,
}

/// The queues of all lanes, and the workers that wait for them.
pub(super) struct Dispatch<W> {
    rules: Rules,
    state: Mutex<State<W>>,
    work_or_close: Condvar,
    /// Whether there is a batch to take and nobody asleep to take it: helpers look now and then.
    wanted: AtomicBool,
}

/// A lane among its dispatch's; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(u64);

struct State<W> {
    lanes: BTreeMap<LaneId, LaneState<W>>,
    next_lane: u64,
    /// Lanes with rows, in the order of their turns.
    ready: VecDeque<LaneId>,
    /// The batches that several workers share, by lane. Such a lane has one batch at a time: two
    /// would each read all weights, and the first would be answered no sooner.
    shared: Vec<(LaneId, Arc<Team>)>,
    /// Workers without a batch; they may help with another's.
    idle_workers: usize,
    seats: Seats,
    /// Since when rows have waited without any worker looking at them; those that expire
    /// meanwhile change nothing.
    unseen_since: Option<Instant>,
    /// Whether a forward pass runs on a caller's thread that asked for permission.
    runs_inline: bool,
    /// Workers in [`Dispatch::sleep`] that nobody has woken.
    sleeping: usize,
    /// Workers that were woken and have not noticed yet.
    wakeups: usize,
    closing: bool,
}

struct LaneState<W> {
    queue: LaneQueue,
    work: Arc<W>,
}

impl<W: Work> LaneState<W> {
    /// What a row costs in a full batch, in seconds.
    fn row_seconds(&self, rules: &Rules) -> f64 {
        let rows = rules.batch.max_batch_rows;
        self.work.cost(rows).as_secs_f64() / rows as f64
    }
}

impl<W: Work> State<W> {
    /// Whether the lane's current batch is one that workers share.
    fn is_shared(&self, id: LaneId) -> bool {
        self.shared.iter().any(|&(shared, _)| shared == id)
    }

    /// Whether there is a lane with rows that a worker may take.
    fn has_takeable(&self) -> bool {
        self.ready.iter().any(|&ready| !self.is_shared(ready))
    }

    /// Why a lane has no room for a request of so many rows, if so. An empty lane has room for
    /// any: else a request with more rows than the lane may hold could never be served.
    fn overload(&self, id: LaneId, rows: usize, rules: &Rules) -> Option<InferError> {
        let queued_rows = self.lanes.get(&id)?.queue.rows();
        let max_queued_rows = rules.max_queued_rows;
        if queued_rows == 0 || rows <= max_queued_rows.saturating_sub(queued_rows) {
            return None;
        }
        Some(InferError::Overloaded {
            queued_rows,
            max_queued_rows,
            retry_after: self.wait(id, rules),
        })
    }

    /// How long the rows that wait in a lane take at the least: they, and of each other lane what
    /// its turns let through meanwhile, computed by all workers together.
    fn wait(&self, id: LaneId, rules: &Rules) -> Duration {
        let Some(own) = self.lanes.get(&id).map(|lane| lane.queue.rows()) else {
            return Duration::ZERO;
        };
        // Lanes take turns batch by batch.
        let most = own.next_multiple_of(rules.batch.max_batch_rows);
        let seconds: f64 = self
            .ready
            .iter()
            .map(|ready| {
                let lane = &self.lanes[ready];
                let rows = lane.queue.rows().min(most);
                lane.row_seconds(rules) * rows as f64
            })
            .sum();
        Duration::try_from_secs_f64(seconds / rules.workers as f64).unwrap_or(Duration::MAX)
    }
}

/// What a worker took: rows of one lane, to be computed together. Reused from batch to batch.
#[derive(Debug)]
pub(super) struct Batch<W> {
    seat: SeatId,
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
    /// What its seat knew of the calls of the batch before.
    done: Vec<Weak<Call>>,
}

impl<W> Batch<W> {
    /// A worker's batch, which holds nothing yet.
    pub(super) fn empty(seat: SeatId) -> Self {
        Self {
            seat,
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

impl<W: Work> Dispatch<W> {
    /// A dispatch without lanes, whose workers are all idle.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: Mutex::new(State {
                lanes: BTreeMap::new(),
                next_lane: 0,
                ready: VecDeque::new(),
                shared: Vec::new(),
                idle_workers: rules.workers,
                seats: Seats::default(),
                unseen_since: None,
                runs_inline: false,
                sleeping: 0,
                wakeups: 0,
                closing: false,
            }),
            work_or_close: Condvar::new(),
            wanted: AtomicBool::new(false),
        }
    }

    /// The place of another worker.
    pub(super) fn add_seat(&self) -> SeatId {
        self.lock().seats.add()
    }

    /// Gives up the workers that [hang](Seats::retire), and those that are `dead`; says which. The
    /// calls of their batches fail. As many others are to take their places: to those that wait for
    /// a worker, they are there and idle.
    pub(super) fn retire(&self, limit: Option<Duration>, dead: &[SeatId]) -> Vec<SeatId> {
        let retired = {
            let mut state = self.lock();
            let retired = state.seats.retire(now(), limit, dead);
            // One without a batch was idle, and so is who comes.
            state.idle_workers += retired.had_batch;
            state.shared.retain(|(_, team)| {
                let is_of = |retired: &Arc<Team>| Arc::ptr_eq(retired, team);
                !retired.teams.iter().any(is_of)
            });
            // What its lane holds was not for others while it was shared.
            if !retired.seats.is_empty() && state.has_takeable() {
                self.call_one(&mut state);
            }
            retired
        };
        for call in retired.calls.iter().filter_map(Weak::upgrade) {
            call.fail(InferError::Panicked);
        }
        retired.seats
    }

    /// Whether rows came longer than `limit` ago, and no worker has looked for rows since.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        let since = self.lock().unseen_since;
        since.is_some_and(|since| now().saturating_duration_since(since) > limit)
    }

    /// Adds a lane.
    pub(super) fn add_lane(&self, work: Arc<W>) -> LaneId {
        let mut state = self.lock();
        let id = LaneId(state.next_lane);
        state.next_lane += 1;
        let queue = LaneQueue::default();
        state.lanes.insert(id, LaneState { queue, work });
        id
    }

    /// Removes a lane. What still waits in it is refused; batches that were taken are finished.
    pub(super) fn remove_lane(&self, id: LaneId) {
        let removed = {
            let mut state = self.lock();
            state.ready.retain(|&ready| ready != id);
            state.lanes.remove(&id)
        };
        // The engine may go with it, which takes a while: the lock is free by now.
        if let Some(lane) = removed {
            lane.work.set_queued_rows(0);
            for call in lane.queue.into_calls() {
                call.fail(InferError::Closing);
            }
        }
    }

    /// Rows that wait in a lane.
    pub(super) fn queued_rows(&self, id: LaneId) -> usize {
        let state = self.lock();
        state.lanes.get(&id).map_or(0, |lane| lane.queue.rows())
    }

    /// Why a lane has no room for a request of so many rows, if so.
    pub(super) fn overload(&self, id: LaneId, rows: usize) -> Option<InferError> {
        self.lock().overload(id, rows, &self.rules)
    }

    /// Permission to run a forward pass on the calling thread: if nothing waits and nothing runs,
    /// another such pass included. It counts as running until it is dropped.
    pub(super) fn start_inline(&self) -> Option<InlineRun<'_, W>> {
        let mut state = self.lock();
        let is_idle = state.ready.is_empty()
            && state.idle_workers == self.rules.workers
            && !state.runs_inline;
        if state.closing || !is_idle {
            return None;
        }
        state.runs_inline = true;
        Some(InlineRun { dispatch: self })
    }

    /// Queues a request.
    ///
    /// A request with more rows than the lane may hold is queued if the lane is empty: else it
    /// could never be served, however idle the server.
    ///
    /// # Errors
    /// [`InferError::Closing`]; [`InferError::Overloaded`] if the lane has no room;
    /// [`InferError::DeadlineExceeded`] if the deadline has passed, or will have after the
    /// [wait](State::wait) and its own rows (an empty lane refuses none, so that a wrong estimate cannot keep
    /// itself alive).
    pub(super) fn push(
        &self,
        id: LaneId,
        request: InferRequest,
    ) -> Result<Pending<'_, W>, InferError> {
        let arrived_at = now();
        let (call, receiver) = Call::new(request, arrived_at);
        let mut state = self.lock();
        if state.closing {
            return Err(InferError::Closing);
        }
        if !state.lanes.contains_key(&id) {
            return Err(InferError::Closing);
        }
        let mut wait = state.wait(id, &self.rules);
        if !wait.is_zero() {
            // And its own rows, once it is their turn.
            let own = state.lanes[&id].row_seconds(&self.rules) * call.rows() as f64;
            wait = wait.saturating_add(Duration::try_from_secs_f64(own).unwrap_or(Duration::MAX));
        }
        if let Some(deadline) = call.deadline()
            && (deadline <= arrived_at || deadline - arrived_at < wait)
        {
            return Err(InferError::DeadlineExceeded);
        }
        if let Some(overload) = state.overload(id, call.rows(), &self.rules) {
            return Err(overload);
        }
        let lane = state.lanes.get_mut(&id).expect("it was there above");
        let was_empty = lane.queue.is_empty();
        let number = lane.queue.push(call);
        lane.work.set_queued_rows(lane.queue.rows());
        if was_empty {
            state.ready.push_back(id);
        }
        state.unseen_since.get_or_insert(arrived_at);
        if !state.is_shared(id) {
            self.call_one(&mut state);
        }
        Ok(Pending {
            dispatch: self,
            place: Some((id, number)),
            receiver,
        })
    }

    /// Waits for rows and takes a batch of them; meanwhile helps with other workers' batches.
    /// `batch` holds the worker's last one, which ends here. Returns `false` when the dispatch is
    /// closed and nothing waits any more, or when the worker was [retired](Self::retire).
    pub(super) fn next_batch(&self, batch: &mut Batch<W>) -> bool {
        // Requests, and at times an engine, are freed here, outside the lock.
        let had_batch = batch.work.take().is_some();
        batch.taken.clear();
        batch.done.clear();
        let was_shared = std::mem::replace(&mut batch.is_shared, false);
        if was_shared {
            batch.team.close();
        }

        let mut state = self.lock();
        if had_batch && !state.seats.is_retired(batch.seat) {
            state.idle_workers += 1;
            state.seats.ended(batch.seat, &mut batch.done);
        }
        if was_shared {
            state
                .shared
                .retain(|(_, team)| !Arc::ptr_eq(team, &batch.team));
        }
        // After a help in vain a worker sleeps: the batch's rest is not for sharing.
        let mut may_help = true;
        while !state.seats.is_retired(batch.seat) {
            self.wanted.store(false, Ordering::Relaxed);
            state.unseen_since = None;
            match self.look(&mut state, now(), batch) {
                Look::Took => {
                    state.idle_workers -= 1;
                    let team = batch.is_shared.then(|| Arc::clone(&batch.team));
                    let (taken_at, parts) = (batch.taken_at, &batch.taken.parts);
                    state.seats.took(batch.seat, taken_at, parts, team);
                    // A push wakes one worker, but may bring work for several: pass it on.
                    if state.has_takeable() || batch.is_shared {
                        self.call_one(&mut state);
                    }
                    return true;
                }
                Look::Nothing { .. } if state.closing => return false,
                Look::Nothing { held_until } => {
                    if let Some((_, team)) = state.shared.first()
                        && may_help
                    {
                        let team = Arc::clone(team);
                        // Others who sleep may help too.
                        self.wake_one(&mut state);
                        state.seats.helps(batch.seat, Some(Arc::clone(&team)));
                        drop(state);
                        may_help = !team.help(|| !self.wanted.load(Ordering::Relaxed));
                        state = self.lock();
                        state.seats.helps(batch.seat, None);
                    } else {
                        state = self.sleep(state, held_until);
                        may_help = true;
                    }
                }
            }
        }
        false
    }

    /// Lets no request in any more. Workers finish what waits, then
    /// [`next_batch`](Self::next_batch) returns `false` to them.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        while state.sleeping > 0 {
            self.wake_one(&mut state);
        }
    }

    /// Takes a batch from the first lane, in the order of turns, that need not be held.
    fn look(&self, state: &mut State<W>, now: Instant, batch: &mut Batch<W>) -> Look {
        let mut held_until = None;
        for turn in 0..state.ready.len() {
            let id = state.ready[turn];
            if state.is_shared(id) {
                continue;
            }
            let lane = state.lanes.get_mut(&id).expect("ready lanes exist");
            let decision = self.rules.batch.decide(&Situation {
                queued_rows: lane.queue.rows(),
                oldest_age: lane.queue.oldest_age(now),
                idle_workers: state.idle_workers,
                busy_workers: self.rules.workers - state.idle_workers,
            });
            let release = match decision {
                Decision::Take(release) => release,
                Decision::Hold(_) if state.closing => Release::Idle,
                Decision::Hold(left) => {
                    let until = now + left;
                    held_until = Some(held_until.map_or(until, |first: Instant| first.min(until)));
                    continue;
                }
            };
            let max_batch_rows = self.rules.batch.max_batch_rows;
            let pass = lane.work.cost(lane.queue.rows().min(max_batch_rows));
            lane.queue.take(max_batch_rows, now, pass, &mut batch.taken);
            lane.work.set_queued_rows(lane.queue.rows());
            batch.work = Some(Arc::clone(&lane.work));
            batch.release = release;
            batch.taken_at = now;
            batch.is_shared = self.rules.workers > 1 && lane.work.pays_to_share(batch.taken.rows);
            if batch.is_shared {
                batch.team.open();
                state.shared.push((id, Arc::clone(&batch.team)));
            }
            let lane = state.lanes.get(&id).expect("ready lanes exist");
            let more = !lane.queue.is_empty();
            state.ready.remove(turn);
            if more {
                state.ready.push_back(id);
            }
            return Look::Took;
        }
        Look::Nothing { held_until }
    }

    /// Waits until woken, or until the given time.
    ///
    /// The count of wake-ups tells a wake-up from a spurious return, and makes it certain that
    /// two pushes wake two workers.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<W>>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State<W>> {
        state.sleeping += 1;
        loop {
            state = match until {
                None => self.work_or_close.wait(state).expect(LOCK),
                Some(until) => {
                    let left = until.saturating_duration_since(now());
                    if left.is_zero() {
                        state.sleeping -= 1;
                        return state;
                    }
                    self.work_or_close.wait_timeout(state, left).expect(LOCK).0
                }
            };
            if state.wakeups > 0 {
                state.wakeups -= 1;
                return state;
            }
        }
    }

    /// Wakes a worker; if none sleeps, calls the helpers.
    fn call_one(&self, state: &mut State<W>) {
        if state.sleeping == 0 {
            self.wanted.store(true, Ordering::Relaxed);
        }
        self.wake_one(state);
    }

    fn wake_one(&self, state: &mut State<W>) {
        if state.sleeping > 0 {
            state.sleeping -= 1;
            state.wakeups += 1;
            self.work_or_close.notify_one();
        }
    }

    /// Takes a call's remaining rows out of its lane.
    fn cancel(&self, (id, number): (LaneId, u64)) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&id) else {
            return;
        };
        let removed = lane.queue.remove(number);
        if removed.is_some() {
            lane.work.set_queued_rows(lane.queue.rows());
            if lane.queue.is_empty() {
                state.ready.retain(|&ready| ready != id);
            }
        }
        drop(state);
        drop(removed); // Frees the request's inputs outside the lock.
    }

    /// Checks what is said of `ready` and the queues above.
    ///
    /// # Panics
    /// If it does not hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let state = self.lock();
        for (id, lane) in &state.lanes {
            let turns = state.ready.iter().filter(|&ready| ready == id).count();
            assert_eq!(turns, usize::from(!lane.queue.is_empty()), "{id:?}");
            assert_eq!(lane.queue.rows() == 0, lane.queue.is_empty(), "{id:?}");
        }
        assert!(state.ready.iter().all(|id| state.lanes.contains_key(id)));
        assert!(state.idle_workers <= self.rules.workers);
        assert!(state.sleeping + state.wakeups <= self.rules.workers);
        assert_eq!(state.idle_workers + state.seats.busy(), self.rules.workers);
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().expect(LOCK)
    }
}

/// Why the lock is never poisoned.
const LOCK: &str = "nothing that holds the lock panics";

/// What a worker found.
enum Look {
    Took,
    /// No rows, or only rows that are held until then.
    Nothing {
        held_until: Option<Instant>,
    },
}

impl<W> fmt::Debug for Dispatch<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A forward pass on the calling thread, counted while it lives.
pub(super) struct InlineRun<'a, W: Work> {
    dispatch: &'a Dispatch<W>,
}

impl<W: Work> Drop for InlineRun<'_, W> {
    fn drop(&mut self) {
        self.dispatch.lock().runs_inline = false;
    }
}

/// A queued call, as its caller holds it: resolves to the answer. Dropped before that, the rows
/// that still wait leave the queue at once, and the answer of those that a worker has is dropped.
pub(super) struct Pending<'a, W: Work> {
    dispatch: &'a Dispatch<W>,
    /// Where it waits; `None` once answered.
    place: Option<(LaneId, u64)>,
    receiver: oneshot::Receiver<Answer>,
}

impl<W: Work> Future for Pending<'_, W> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let answer = Pin::new(&mut self.receiver).poll(context);
        answer.map(|answer| {
            self.place = None;
            // A call that was dropped unanswered went down with a worker that panicked.
            answer.unwrap_or(Err(InferError::Panicked))
        })
    }
}

impl<W: Work> Drop for Pending<'_, W> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.dispatch.cancel(place);
        }
    }
}
