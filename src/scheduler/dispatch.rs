//! Callers and workers: who waits for rows, who is woken for them, and who has what. All lanes are
//! behind one lock.
//!
//! Every critical section is a few instructions a call, so one lock serves all lanes, and the
//! model check can follow every order of its holders.
//!
//! Invariants, true whenever the lock is free:
//! - `sleeping + wakeups` workers are in [`Dispatch::sleep`];
//! - a worker that is not retired is idle, or its slot says since when it has its batch;
//! - if a lane is ready and a worker sleeps, then a wake-up is under way, or some worker is
//!   between two looks at the queue, or the lane's rows are held for company.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::call::{Answer, Call};
use super::lanes::{Lanes, Look, Rules, Work, WorkerBatch};
use super::place::{Handover, LaneId, Place};
use super::sync::{Condvar, Mutex, MutexGuard, now};
use super::worker_slots::{WorkerId, WorkerSlots};
use crate::request::{InferError, InferRequest};

/// The queues of all lanes, and the workers that wait for them.
pub(super) struct Dispatch<W> {
    rules: Rules,
    state: Mutex<State<W>>,
    work_or_close: Condvar,
    /// Whether there is a batch to take and no one asleep to take it: helpers look now and then.
    wanted: AtomicBool,
}

struct State<W> {
    lanes: Lanes<W>,
    /// Workers without a batch; they may help with another's.
    idle_workers: usize,
    worker_slots: WorkerSlots,
    /// Since when rows have waited without any worker looking at them; those that expire
    /// meanwhile change nothing.
    unseen_since: Option<Instant>,
    /// Whether a forward pass runs on a caller's thread that asked for permission.
    runs_inline: bool,
    /// Workers in [`Dispatch::sleep`] that no one has woken.
    sleeping: usize,
    /// Workers that were woken and have not noticed yet.
    wakeups: usize,
    closing: bool,
}

impl<W: Work> Dispatch<W> {
    /// A dispatch without lanes, whose workers are all idle.
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: Mutex::new(State {
                lanes: Lanes::new(rules),
                idle_workers: rules.workers,
                worker_slots: WorkerSlots::default(),
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

    /// The id of another worker, which has a slot from now on.
    pub(super) fn add_worker(&self) -> WorkerId {
        self.lock().worker_slots.add()
    }

    /// Gives up the workers that [hang](WorkerSlots::retire), and those that are `dead`; says
    /// which. The calls of their batches fail. As many others are to be started in their place: to
    /// those that wait for a worker, they are there and idle.
    pub(super) fn retire(&self, limit: Option<Duration>, dead: &[WorkerId]) -> Vec<WorkerId> {
        let retired = {
            let mut state = self.lock();
            let retired = state.worker_slots.retire(now(), limit, dead);
            // One without a batch was idle, and so is its replacement.
            state.idle_workers += retired.had_batch;
            state.lanes.unshare(&retired.teams);
            // What its lane holds was not for others while it was shared.
            if !retired.workers.is_empty() && state.lanes.has_takeable() {
                self.call_one(&mut state);
            }
            retired
        };
        for call in retired.calls.iter().filter_map(Weak::upgrade) {
            call.fail(InferError::Panicked);
        }
        retired.workers
    }

    /// Whether rows came longer than `limit` ago, and no worker has looked for rows since.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        let since = self.lock().unseen_since;
        since.is_some_and(|since| now().saturating_duration_since(since) > limit)
    }

    /// Adds a lane.
    pub(super) fn add_lane(&self, work: Arc<W>) -> LaneId {
        self.lock().lanes.add(work, None)
    }

    /// Adds a lane whose calls are prepared for the lane `next`, which has to be there.
    pub(super) fn add_preparing_lane(&self, work: Arc<W>, next: LaneId) -> LaneId {
        self.lock().lanes.add(work, Some(next))
    }

    /// Removes a lane. What still waits in it is refused; batches that were taken are finished.
    pub(super) fn remove_lane(&self, id: LaneId) {
        let removed = self.lock().lanes.remove(id);
        // The lock is free by now.
        if let Some(lane) = removed {
            lane.close();
        }
    }

    /// Rows that wait in a lane.
    pub(super) fn queued_rows(&self, id: LaneId) -> usize {
        self.lock().lanes.queued_rows(id)
    }

    /// Why a lane has no room for a request of this many rows, if so.
    pub(super) fn overload(&self, id: LaneId, rows: usize) -> Option<InferError> {
        self.lock().lanes.overload(id, rows)
    }

    /// Permission to run a forward pass on the calling thread: if nothing waits and nothing runs,
    /// another such pass included. It counts as running until it is dropped.
    pub(super) fn start_inline(&self) -> Option<InlineRun<'_, W>> {
        let mut state = self.lock();
        let is_idle =
            state.lanes.is_idle() && state.idle_workers == self.rules.workers && !state.runs_inline;
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
    /// [`InferError::Closing`], and those of [`Lanes::admit`].
    pub(super) fn push(
        &self,
        id: LaneId,
        request: InferRequest,
    ) -> Result<Pending<'_, W>, InferError> {
        self.enqueue(id, request, None)
    }

    /// Queues a request in a lane whose workers prepare its rows and
    /// [queue them again](Self::push_prepared).
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn push_unprepared(
        &self,
        id: LaneId,
        request: InferRequest,
    ) -> Result<Pending<'_, W>, InferError> {
        self.enqueue(id, request, Some(Arc::new(Mutex::new(Handover::default()))))
    }

    fn enqueue(
        &self,
        id: LaneId,
        request: InferRequest,
        handover: Option<Arc<Mutex<Handover>>>,
    ) -> Result<Pending<'_, W>, InferError> {
        let arrived_at = now();
        // A refused one is dropped after the lock.
        let (call, receiver) = Call::new(request, arrived_at, handover.clone());
        let mut state = self.lock();
        if state.closing {
            return Err(InferError::Closing);
        }
        state.lanes.admit(id, &call, arrived_at)?;
        let place = self.append(&mut state, id, call, arrived_at);
        Ok(Pending {
            dispatch: self,
            place: Some(place),
            handover,
            receiver,
        })
    }

    /// Queues a call whose rows a worker has prepared, in the lane after that of `unprepared`. It
    /// was let in before: neither a full queue nor the closing refuses it, since its worker looks
    /// for rows once more before it ends.
    pub(super) fn push_prepared(&self, id: LaneId, unprepared: &Call, call: Arc<Call>) {
        let arrived_at = now();
        let mut state = self.lock();
        let mut handover = unprepared
            .handover()
            .expect("a call of a lane that prepares")
            .lock()
            .expect(LOCK);
        if *handover == Handover::Cancelled {
            return;
        }
        if !state.lanes.has(id) {
            drop(handover);
            drop(state);
            return call.fail(InferError::Closing);
        }
        *handover = Handover::Moved(self.append(&mut state, id, call, arrived_at));
    }

    fn append(
        &self,
        state: &mut State<W>,
        id: LaneId,
        call: Arc<Call>,
        arrived_at: Instant,
    ) -> Place {
        let place = state.lanes.push(id, call);
        state.unseen_since.get_or_insert(arrived_at);
        if !state.lanes.is_shared(id) {
            self.call_one(state);
        }
        place
    }

    /// Waits for rows and takes a batch of them; meanwhile helps with other workers' batches.
    /// `batch` holds the worker's last one, which ends here. Returns `false` when the dispatch is
    /// closed and nothing waits any more, or when the worker was [retired](Self::retire).
    pub(super) fn next_batch(&self, batch: &mut WorkerBatch<W>) -> bool {
        // Requests, and at times an engine, are freed here, outside the lock.
        let had_batch = batch.work.take().is_some();
        batch.taken.clear();
        batch.done.clear();
        let was_shared = std::mem::replace(&mut batch.is_shared, false);
        if was_shared {
            batch.team.close();
        }

        let mut state = self.lock();
        if had_batch && !state.worker_slots.is_retired(batch.worker) {
            state.idle_workers += 1;
            state.worker_slots.ended(batch.worker, &mut batch.done);
        }
        if was_shared {
            state.lanes.unshare(std::slice::from_ref(&batch.team));
        }
        // After a help in vain a worker sleeps: the batch's rest is not for sharing.
        let mut may_help = true;
        while !state.worker_slots.is_retired(batch.worker) {
            self.wanted.store(false, Ordering::Relaxed);
            state.unseen_since = None;
            let (idle_workers, closing) = (state.idle_workers, state.closing);
            match state.lanes.take(idle_workers, closing, now(), batch) {
                Look::Took => {
                    state.idle_workers -= 1;
                    let team = batch.is_shared.then(|| Arc::clone(&batch.team));
                    let (taken_at, parts) = (batch.taken_at, &batch.taken.parts);
                    state.worker_slots.took(batch.worker, taken_at, parts, team);
                    // A push wakes one worker, but may bring work for several: pass it on.
                    if state.lanes.has_takeable() || batch.is_shared {
                        self.call_one(&mut state);
                    }
                    return true;
                }
                Look::Nothing { .. } if state.closing => return false,
                Look::Nothing { held_until } => {
                    if let Some(team) = state.lanes.first_shared()
                        && may_help
                    {
                        let team = Arc::clone(team);
                        // Others who sleep may help too.
                        self.wake_one(&mut state);
                        state
                            .worker_slots
                            .helps(batch.worker, Some(Arc::clone(&team)));
                        drop(state);
                        may_help = !team.help(|| !self.wanted.load(Ordering::Relaxed));
                        state = self.lock();
                        state.worker_slots.helps(batch.worker, None);
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

    /// Takes a call's remaining rows out of its lane, or of that in which they wait prepared.
    fn cancel(&self, place: Place, handover: Option<&Mutex<Handover>>) {
        let mut state = self.lock();
        let mut removed = state.lanes.cancel(place);
        if let Some(handover) = handover {
            let mut handover = handover.lock().expect(LOCK);
            if let Handover::Moved(place) = *handover {
                removed = state.lanes.cancel(place);
            }
            *handover = Handover::Cancelled;
        }
        drop(state);
        drop(removed); // Frees the request's inputs outside the lock.
    }

    /// Checks what is said of the lanes and workers above.
    ///
    /// # Panics
    /// If it does not hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let state = self.lock();
        state.lanes.check_invariants();
        assert!(state.idle_workers <= self.rules.workers);
        assert!(state.sleeping + state.wakeups <= self.rules.workers);
        assert_eq!(
            state.idle_workers + state.worker_slots.busy(),
            self.rules.workers
        );
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().expect(LOCK)
    }
}

/// Why the lock is never poisoned.
const LOCK: &str = "nothing that holds the lock panics";

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
    place: Option<Place>,
    /// What became of it, if its rows are to be prepared.
    handover: Option<Arc<Mutex<Handover>>>,
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
            self.dispatch.cancel(place, self.handover.as_deref());
        }
    }
}
