//! What callers and workers do in the model check, and what must hold of it.
//!
//! Every row carries a tag of its own, the model turns a tag into values that no other tag
//! gives, and a ledger notes which tags were computed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shuttle::future::block_on;
use shuttle::sync::Barrier;
use shuttle::thread::{self, JoinHandle};

use super::batch::{JoinBuffers, split};
use super::call::ForwardPass;
use super::dispatch::{Dispatch, Pending};
use super::lanes::{Rules, Work, WorkerBatch};
use super::place::LaneId;
use super::policy::HoldPolicy;
use super::queue::Part;
use super::sync::now;
use crate::request::{InferError, InferRequest, Load, Prepared};
use crate::scheduler::model_check::threads::{TICK, tick};
use crate::tensor::{DataType, Shape, TensorSpec, Values};

/// How the workers misbehave, to show that the check notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not at all.
    None,
    /// They forget the first part of each batch.
    Loses,
    /// They compute the first part of each batch twice.
    Doubles,
    /// They give each row its successor's answer.
    Swaps,
}

/// The most rows of a batch.
const MAX_BATCH_ROWS: usize = 2;

/// The most that a batch holds. Rows have one unit, but for those of [`texts`].
const LIMIT: Load = Load {
    rows: MAX_BATCH_ROWS,
    units: 4,
};

/// What a caller's rows are tagged with: `caller * TAGS + row`.
const TAGS: usize = 100;

/// The row with this tag has an answer that is not finite.
const POISON: usize = 2 * TAGS + 1;

const NO_DELAY: Duration = Duration::ZERO;

/// A lane's work in the model: its gauge and its number in the ledger.
struct Model {
    number: usize,
    queued_rows: AtomicUsize,
    /// Whether workers share its batches.
    is_shared: bool,
    /// Its batches that are being computed.
    running: AtomicUsize,
    /// Whether a batch holds one row, until the next one is computed.
    is_slow: AtomicBool,
    /// Whether that changes with each batch.
    changes: bool,
    /// The lane that its rows are prepared for, if they are.
    next: Option<LaneId>,
}

impl Work for Model {
    fn set_queued_rows(&self, rows: usize) {
        self.queued_rows.store(rows, Ordering::Relaxed);
    }

    fn limit(&self) -> Load {
        match self.is_slow.load(Ordering::Relaxed) {
            true => Load { rows: 1, units: 1 },
            false => LIMIT,
        }
    }

    fn cost(&self, _units: usize) -> Duration {
        TICK
    }

    fn pays_to_share(&self, _load: Load) -> bool {
        self.is_shared
    }
}

/// What was computed, noted as it happened.
#[derive(Default)]
struct Ledger {
    /// The tags of the rows.
    rows: BTreeSet<usize>,
    /// The tags of the rows that were prepared.
    prepared: BTreeSet<usize>,
    /// The lane of each batch.
    batches: Vec<usize>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Answered,
    Poisoned,
    Expired,
    Refused,
    /// Its worker was given up.
    GivenUp,
}

/// The queue with its workers; clones share it.
#[derive(Clone)]
struct Server {
    dispatch: Arc<Dispatch<Model>>,
    ledger: Arc<Mutex<Ledger>>,
    models: Arc<Mutex<Vec<Arc<Model>>>>,
    /// Where each batch waits before it is answered, if the scenario wants that.
    rendezvous: Option<Arc<Barrier>>,
    /// Whether workers are given up, and with them the batches that they have.
    gives_up: bool,
    /// The lane in which rows are prepared, if there is one.
    preparing: Option<LaneId>,
}

impl Server {
    fn new(workers: usize, max_queued_rows: usize, max_batch_delay: Duration) -> Self {
        let dispatch = Dispatch::new(Rules {
            workers,
            max_queued_rows,
            hold: HoldPolicy { max_batch_delay },
        });
        Self {
            dispatch: Arc::new(dispatch),
            ledger: Arc::default(),
            models: Arc::default(),
            rendezvous: None,
            gives_up: false,
            preparing: None,
        }
    }

    fn add_lane(&self) -> LaneId {
        self.add_lane_of(false, false)
    }

    fn add_shared_lane(&self) -> LaneId {
        self.add_lane_of(true, false)
    }

    fn add_lane_of(&self, is_shared: bool, changes: bool) -> LaneId {
        let model = self.add_model(is_shared, changes, None);
        self.dispatch.add_lane(model)
    }

    /// A lane whose rows are prepared for the lane `next`.
    fn add_preparing_lane(&mut self, next: LaneId) -> LaneId {
        let model = self.add_model(false, false, Some(next));
        let lane = self.dispatch.add_preparing_lane(model, next);
        self.preparing = Some(lane);
        lane
    }

    fn add_model(&self, is_shared: bool, changes: bool, next: Option<LaneId>) -> Arc<Model> {
        let mut models = self.models.lock().unwrap();
        let model = Arc::new(Model {
            number: models.len(),
            queued_rows: AtomicUsize::new(0),
            is_shared,
            running: AtomicUsize::new(0),
            is_slow: AtomicBool::new(false),
            changes,
            next,
        });
        models.push(Arc::clone(&model));
        model
    }

    fn push(&self, lane: LaneId, request: InferRequest) -> Result<Pending<'_, Model>, InferError> {
        match self.preparing == Some(lane) {
            true => self.dispatch.push_unprepared(lane, request),
            false => self.dispatch.push(lane, request),
        }
    }

    fn start_workers(&self, count: usize, fault: Fault) -> Vec<JoinHandle<()>> {
        let spawn = |server: Self| thread::spawn(move || server.work(fault));
        (0..count).map(|_| spawn(self.clone())).collect()
    }

    /// What `worker.rs` does, with a model of one line.
    fn work(&self, fault: Fault) {
        let mut batch = WorkerBatch::empty(self.dispatch.add_worker());
        let mut buffers = JoinBuffers::default();
        while self.dispatch.next_batch(&mut batch) {
            for call in &batch.taken.expired {
                call.fail(InferError::DeadlineExceeded);
            }
            let model = batch.work.as_ref().unwrap();
            let mut parts = batch.taken.parts.as_slice();
            if parts.is_empty() {
                continue;
            }
            let load = batch.taken.load;
            assert!(load.is_within(LIMIT) || load.rows == 1, "{load:?}");
            if model.changes {
                model.is_slow.fetch_not(Ordering::Relaxed);
            }
            if let Some(next) = model.next {
                self.prepare(parts, next);
                continue;
            }
            self.ledger.lock().unwrap().batches.push(model.number);
            match fault {
                Fault::Loses => parts = &parts[1..],
                Fault::Doubles => self.answer(&parts[..1], &mut buffers, fault),
                Fault::None | Fault::Swaps => {}
            }
            let running = model.running.fetch_add(1, Ordering::SeqCst);
            let may_run = !model.is_shared || running == 0 || self.gives_up;
            assert!(may_run, "two batches share");
            thread::yield_now();
            self.answer(parts, &mut buffers, fault);
            model.running.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// What `prepare.rs` does, with a step that changes nothing.
    fn prepare(&self, parts: &[Part], next: LaneId) {
        for part in parts {
            if !part.call.is_awaited() {
                continue;
            }
            let [first, second] = specs();
            let inputs = [(0, first), (1, second)].map(|(input, spec)| {
                let rows = part.call.input(input, &spec.shape, part.rows.clone());
                rows.f32s().to_vec()
            });
            for &tag in &inputs[0] {
                let is_new = self.ledger.lock().unwrap().prepared.insert(tag as usize);
                assert!(is_new, "row {tag} was prepared twice");
            }
            let pass = ForwardPass {
                taken_at: now(),
                compute: TICK,
                batch_rows: part.rows.len(),
            };
            let prepared = Prepared {
                offsets: Vec::new(),
                inputs: inputs.map(Values::F32).into(),
            };
            let rows = part.rows.clone();
            if let Some(call) = part.call.deliver_prepared(rows, prepared, pass, now()) {
                // Its caller may leave here.
                thread::yield_now();
                self.dispatch.push_prepared(next, &part.call, call);
            }
        }
    }

    fn answer(&self, parts: &[Part], buffers: &mut JoinBuffers, fault: Fault) {
        if parts.is_empty() {
            return; // A worker that loses parts has none left.
        }
        let (tags, offsets) = buffers.join(parts, &specs(), |batch| {
            (batch.inputs[0].f32s().to_vec(), batch.offsets.to_vec())
        });
        for &tag in &tags {
            let is_new = self.ledger.lock().unwrap().rows.insert(tag as usize);
            assert!(is_new, "row {tag} was computed twice");
        }
        if let Some(rendezvous) = &self.rendezvous {
            rendezvous.wait();
        }
        let mut outputs = [
            tags.iter().map(|&tag| value(tag as usize)).collect(),
            tags.iter().flat_map(|&tag| [tag, -tag]).collect::<Vec<_>>(),
        ];
        if fault == Fault::Swaps {
            outputs[0].rotate_left(1);
        }
        let pass = ForwardPass {
            taken_at: now(),
            compute: TICK,
            batch_rows: tags.len(),
        };
        let output = |i: usize| outputs[i].as_slice();
        split(
            parts,
            &specs(),
            &offsets,
            output,
            false,
            pass,
            |_, response| Ok(response),
        );
    }

    /// Makes a call and waits for its end, which must be its own.
    fn ask(&self, lane: LaneId, caller: usize, rows: usize, deadline: Option<Instant>) -> Ending {
        self.ask_for(lane, caller, request(caller, rows, deadline))
    }

    fn ask_for(&self, lane: LaneId, caller: usize, request: InferRequest) -> Ending {
        let rows = request.rows;
        let ending = match self.push(lane, request) {
            Ok(pending) => match block_on(pending) {
                Ok(response) => {
                    assert_eq!(response.rows, rows);
                    assert!((1..=MAX_BATCH_ROWS).contains(&response.timing.batch_rows));
                    for row in 0..rows {
                        let tag = caller * TAGS + row;
                        let answers = [0, 1].map(|output| response.outputs[output].view().f32s());
                        assert!(
                            answers[0][row] == value(tag)
                                && answers[1][2 * row..2 * row + 2] == [tag as f32, -(tag as f32)],
                            "row {tag} got another row's answer",
                        );
                    }
                    Ending::Answered
                }
                Err(InferError::NonFinite { output: 0, row }) => {
                    assert_eq!(caller * TAGS + row, POISON);
                    Ending::Poisoned
                }
                Err(InferError::DeadlineExceeded) => Ending::Expired,
                Err(InferError::Panicked) if self.gives_up => Ending::GivenUp,
                Err(error) => panic!("call {caller} was never answered: {error:?}"),
            },
            Err(InferError::DeadlineExceeded) => Ending::Expired,
            Err(InferError::Closing | InferError::Overloaded { .. }) => Ending::Refused,
            Err(error) => panic!("a call cannot be refused with {error:?}"),
        };
        self.dispatch.check_invariants();
        let computed = self.computed_rows(caller);
        match ending {
            Ending::Answered => assert_eq!(computed, rows),
            Ending::Refused => assert_eq!(computed, 0),
            // A call larger than a batch may expire or fail between its parts.
            Ending::Expired => assert!(computed == 0 || rows > MAX_BATCH_ROWS && computed < rows),
            Ending::Poisoned => assert!(computed > 0),
            // The worker may have computed its rows, or do so yet.
            Ending::GivenUp => {}
        }
        ending
    }

    fn spawn_ask(
        &self,
        lane: LaneId,
        caller: usize,
        rows: usize,
        deadline: Option<Instant>,
    ) -> JoinHandle<Ending> {
        let server = self.clone();
        thread::spawn(move || server.ask(lane, caller, rows, deadline))
    }

    fn computed_rows(&self, caller: usize) -> usize {
        let tags = caller * TAGS..(caller + 1) * TAGS;
        self.ledger.lock().unwrap().rows.range(tags).count()
    }

    /// Closes, waits for the workers, and checks that nothing is left.
    fn finish(&self, workers: Vec<JoinHandle<()>>) {
        self.dispatch.close();
        for worker in workers {
            worker.join().unwrap();
        }
        for model in self.models.lock().unwrap().iter() {
            assert_eq!(model.queued_rows.load(Ordering::Relaxed), 0, "rows left");
        }
    }
}

/// The first output for a row: NaN for the poison, else a value of this tag alone.
fn value(tag: usize) -> f32 {
    if tag == POISON {
        f32::NAN
    } else {
        tag as f32 + 0.5
    }
}

/// The model's inputs, and its outputs.
fn specs() -> [TensorSpec; 2] {
    [("tag", vec![]), ("twice", vec![2])]
        .map(|(name, extents)| TensorSpec::new(name, DataType::Fp32, Shape::rows(extents)))
}

/// Rows that carry their caller's tags in two inputs of one and two elements.
fn request(caller: usize, rows: usize, deadline: Option<Instant>) -> InferRequest {
    let tags = (0..rows).map(|row| (caller * TAGS + row) as f32);
    InferRequest {
        rows,
        offsets: Vec::new(),
        inputs: vec![
            Values::F32(tags.clone().collect()),
            Values::F32(tags.flat_map(|tag| [tag; 2]).collect()),
        ],
        finish: false,
        deadline,
    }
}

/// A [`request`] whose rows have these units.
fn texts(caller: usize, units: &[usize]) -> InferRequest {
    let mut offsets = vec![0];
    for units in units {
        offsets.push(offsets[offsets.len() - 1] + units);
    }
    InferRequest {
        offsets: vec![offsets],
        ..request(caller, units.len(), None)
    }
}

fn join(calls: impl IntoIterator<Item = JoinHandle<Ending>>) -> Vec<Ending> {
    let calls = calls.into_iter();
    calls.map(|call| call.join().unwrap()).collect()
}

/// One row, a full batch, and more than two batches, in two lanes before two workers.
pub(super) fn mixed_sizes_in_two_lanes(fault: Fault) {
    let server = Server::new(2, 100, NO_DELAY);
    let lanes = [server.add_lane(), server.add_lane()];
    let workers = server.start_workers(2, fault);
    let calls = [(lanes[0], 1), (lanes[0], 5), (lanes[1], 2), (lanes[0], 1)];
    let calls = calls.into_iter().enumerate();
    let calls = calls.map(|(index, (lane, rows))| server.spawn_ask(lane, index + 3, rows, None));
    for ending in join(calls.collect::<Vec<_>>()) {
        assert_eq!(ending, Ending::Answered);
    }
    server.finish(workers);
}

/// Four callers before a lane of two rows, while another thread closes.
pub(super) fn close_while_full(fault: Fault) {
    let server = Server::new(1, 2, NO_DELAY);
    let lane = server.add_lane();
    let workers = server.start_workers(1, fault);
    let calls: Vec<_> = (3..7).map(|n| server.spawn_ask(lane, n, 1, None)).collect();
    let closing = server.clone();
    let closer = thread::spawn(move || closing.dispatch.close());
    for ending in join(calls) {
        assert!(matches!(ending, Ending::Answered | Ending::Refused));
    }
    closer.join().unwrap();
    assert_eq!(server.ask(lane, 9, 1, None), Ending::Refused);
    server.finish(workers);
}

/// Callers that leave at any moment, with others that stay.
pub(super) fn cancel_while_taken(fault: Fault) {
    let server = Server::new(2, 100, NO_DELAY);
    let lane = server.add_lane();
    let workers = server.start_workers(2, fault);
    let leave = |caller, rows| {
        let server = server.clone();
        thread::spawn(move || {
            let request = request(caller, rows, None);
            let pending = server.dispatch.push(lane, request).unwrap();
            thread::yield_now();
            drop(pending);
        })
    };
    let calls = [
        server.spawn_ask(lane, 3, 1, None),
        server.spawn_ask(lane, 4, 3, None),
    ];
    let leavers = [leave(5, 1), leave(6, 5)];
    for ending in join(calls) {
        assert_eq!(ending, Ending::Answered);
    }
    for leaver in leavers {
        leaver.join().unwrap();
    }
    server.finish(workers);
    // What was computed of them before they left is a beginning, without a gap.
    for (leaver, rows) in [(5, 1), (6, 5)] {
        let computed = server.computed_rows(leaver);
        assert!(computed <= rows);
        let ledger = server.ledger.lock().unwrap();
        let tags = (0..computed).map(|row| leaver * TAGS + row);
        assert!(tags.into_iter().all(|tag| ledger.rows.contains(&tag)));
    }
}

/// Deadlines that pass while calls wait, are taken, or are halfway through.
pub(super) fn expire_while_taken(fault: Fault) {
    let server = Server::new(1, 100, NO_DELAY);
    let lane = server.add_lane();
    let deadline = Some(now() + TICK);
    let workers = server.start_workers(1, fault);
    let mortal = [
        server.spawn_ask(lane, 3, 1, deadline),
        server.spawn_ask(lane, 4, 5, deadline),
    ];
    let patient = server.spawn_ask(lane, 5, 1, None);
    let clock = thread::spawn(tick);
    for ending in join(mortal) {
        assert!(matches!(ending, Ending::Answered | Ending::Expired));
    }
    assert_eq!(join([patient]), [Ending::Answered]);
    clock.join().unwrap();
    assert_eq!(server.ask(lane, 6, 1, deadline), Ending::Expired);
    server.finish(workers);
}

/// A call with a row whose answer is not finite, among others.
pub(super) fn poison_among_neighbours(fault: Fault) {
    let server = Server::new(2, 100, NO_DELAY);
    let lane = server.add_lane();
    let workers = server.start_workers(2, fault);
    let healthy = [
        server.spawn_ask(lane, 3, 1, None),
        server.spawn_ask(lane, 4, 3, None),
    ];
    let poisoned = server.spawn_ask(lane, 2, 5, None);
    for ending in join(healthy) {
        assert_eq!(ending, Ending::Answered);
    }
    assert_eq!(join([poisoned]), [Ending::Poisoned]);
    server.finish(workers);
}

/// One call in a lane of its own, and another lane with a backlog of six batches.
pub(super) fn turns(fault: Fault) {
    let server = Server::new(1, 100, NO_DELAY);
    let [crowded, quiet] = [server.add_lane(), server.add_lane()];
    let backlog = server.spawn_ask(crowded, 3, 6 * MAX_BATCH_ROWS, None);
    let workers = server.start_workers(1, fault);
    let request = request(4, 1, None);
    let pending = server.dispatch.push(quiet, request).unwrap();
    let taken_before = server.ledger.lock().unwrap().batches.len();
    assert!(block_on(pending).is_ok());
    let batches = server.ledger.lock().unwrap().batches.clone();
    let position = batches.iter().position(|&lane| lane == 1).unwrap();
    // One batch may have been taken but not noted, and one has its turn first.
    assert!(position <= taken_before + 2, "{taken_before}: {batches:?}");
    assert_eq!(join([backlog]), [Ending::Answered]);
    server.finish(workers);
}

/// A call of two batches whose workers wait for each other: both must have been woken.
pub(super) fn parts_in_parallel(fault: Fault) {
    let mut server = Server::new(2, 100, NO_DELAY);
    server.rendezvous = Some(Arc::new(Barrier::new(2)));
    let lane = server.add_lane();
    let workers = server.start_workers(2, fault);
    assert_eq!(
        server.ask(lane, 3, 2 * MAX_BATCH_ROWS, None),
        Ending::Answered
    );
    server.finish(workers);
}

/// Batches that are held for company, which may or may not come.
pub(super) fn delayed_batches(fault: Fault) {
    let server = Server::new(2, 100, TICK * 3);
    let lanes = [server.add_lane(), server.add_lane()];
    let workers = server.start_workers(2, fault);
    let calls = [(lanes[0], 1), (lanes[0], 1), (lanes[1], 1), (lanes[0], 3)];
    let calls = calls.into_iter().enumerate();
    let calls = calls.map(|(index, (lane, rows))| server.spawn_ask(lane, index + 3, rows, None));
    for ending in join(calls.collect::<Vec<_>>()) {
        assert_eq!(ending, Ending::Answered);
    }
    server.finish(workers);
}

/// Workers that share the batches of some lanes, and one whose batches they do not.
pub(super) fn shared_batches(fault: Fault) {
    let server = Server::new(2, 100, NO_DELAY);
    let lanes = [true, true, false].map(|is_shared| server.add_lane_of(is_shared, false));
    let workers = server.start_workers(2, fault);
    let calls = [(0, 1), (0, 2), (1, 3), (2, 1), (2, 2)];
    let calls = calls.into_iter().enumerate();
    let calls =
        calls.map(|(index, (lane, rows))| server.spawn_ask(lanes[lane], index + 3, rows, None));
    for ending in join(calls.collect::<Vec<_>>()) {
        assert_eq!(ending, Ending::Answered);
    }
    server.finish(workers);
}

/// Callers that compute for themselves if they may, else queue.
pub(super) fn inline_while_workers_run(fault: Fault) {
    let server = Server::new(1, 100, NO_DELAY);
    let lane = server.add_lane();
    let workers = server.start_workers(1, fault);
    let running = Arc::new(AtomicUsize::new(0));
    let callers = (3..6).map(|caller| {
        let (server, running) = (server.clone(), Arc::clone(&running));
        thread::spawn(move || {
            // Costs more than a hand-off: only on an idle server.
            let Some(run) = server.dispatch.start_inline() else {
                return server.ask(lane, caller, 1, None);
            };
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            drop(run);
            Ending::Answered
        })
    });
    for ending in join(callers.collect::<Vec<_>>()) {
        assert_eq!(ending, Ending::Answered);
    }
    server.finish(workers);
    assert!(server.dispatch.start_inline().is_none(), "it is closed");
}

/// A lane that is removed with a call in it that no one awaits, while another stays.
pub(super) fn lane_leaves(fault: Fault) {
    let server = Server::new(1, 100, NO_DELAY);
    let [leaving, staying] = [server.add_lane(), server.add_lane()];
    let workers = server.start_workers(1, fault);
    let calls = [
        server.spawn_ask(staying, 3, 3, None),
        server.spawn_ask(staying, 4, 1, None),
    ];
    let pending = server.dispatch.push(leaving, request(5, 5, None));
    let pending = pending.unwrap();
    server.dispatch.remove_lane(leaving);
    assert_eq!(server.dispatch.queued_rows(leaving), 0);
    assert_eq!(server.ask(leaving, 6, 1, None), Ending::Refused);
    for ending in join(calls) {
        assert_eq!(ending, Ending::Answered);
    }
    // Answered if a worker had all of it before, else told so at once.
    assert!(matches!(
        block_on(pending),
        Ok(_) | Err(InferError::Closing)
    ));
    server.finish(workers);
}

/// Workers that are given up at any moment and replaced, with batches of their own and shared ones.
pub(super) fn given_up_workers(fault: Fault) {
    let mut server = Server::new(2, 100, NO_DELAY);
    server.gives_up = true;
    let lanes = [server.add_lane(), server.add_shared_lane()];
    let workers = server.start_workers(2, fault);
    let calls = [(lanes[0], 1), (lanes[1], 2), (lanes[0], 5), (lanes[1], 1)];
    let calls = calls.into_iter().enumerate();
    let calls = calls.map(|(index, (lane, rows))| server.spawn_ask(lane, index + 3, rows, None));
    let calls: Vec<_> = calls.collect();
    let supervised = server.clone();
    let supervisor = thread::spawn(move || {
        let mut others = Vec::new();
        for _ in 0..2 {
            tick();
            let given_up = supervised.dispatch.retire(Some(Duration::ZERO), &[]).len();
            supervised.dispatch.check_invariants();
            others.extend(supervised.start_workers(given_up, Fault::None));
            thread::yield_now();
        }
        others
    });
    for ending in join(calls) {
        assert!(matches!(ending, Ending::Answered | Ending::GivenUp));
    }
    let others = supervisor.join().unwrap();
    assert_eq!(server.ask(lanes[0], 9, 1, None), Ending::Answered);
    assert_eq!(server.ask(lanes[1], 10, 1, None), Ending::Answered);
    tick();
    assert!(!server.dispatch.is_stalled(Duration::ZERO));
    server.finish(workers.into_iter().chain(others).collect());
}

/// Calls whose rows have unequal units, some more than a batch holds, in a lane whose limit changes
/// with each batch.
pub(super) fn unequal_rows(fault: Fault) {
    let server = Server::new(2, 100, NO_DELAY);
    let lane = server.add_lane_of(false, true);
    let workers = server.start_workers(2, fault);
    let calls = [
        texts(3, &[1, 1, 1]),
        texts(4, &[2, 1, 0, 5, 3]),
        texts(5, &[9]),
        texts(6, &[1]),
    ];
    let calls = calls.into_iter().zip(3..);
    let calls = calls.map(|(request, caller)| {
        let server = server.clone();
        thread::spawn(move || server.ask_for(lane, caller, request))
    });
    for ending in join(calls.collect::<Vec<_>>()) {
        assert_eq!(ending, Ending::Answered);
    }
    server.finish(workers);
}

/// Calls whose rows are prepared first: some stay, some leave at any moment, some expire, while
/// others come to where they are computed.
pub(super) fn prepared_calls(fault: Fault) {
    let mut server = Server::new(2, 100, NO_DELAY);
    let lane = server.add_lane();
    let preparing = server.add_preparing_lane(lane);
    let deadline = Some(now() + TICK);
    let workers = server.start_workers(2, fault);
    let leaver = {
        let server = server.clone();
        thread::spawn(move || {
            let pending = server.push(preparing, request(3, 3, None)).unwrap();
            thread::yield_now();
            drop(pending);
            server.dispatch.check_invariants();
        })
    };
    let staying = [
        server.spawn_ask(preparing, 4, 5, None),
        server.spawn_ask(lane, 5, 1, None),
    ];
    let mortal = server.spawn_ask(preparing, 6, 1, deadline);
    let clock = thread::spawn(tick);
    for ending in join(staying) {
        assert_eq!(ending, Ending::Answered);
    }
    let ending = join([mortal])[0];
    assert!(matches!(ending, Ending::Answered | Ending::Expired));
    leaver.join().unwrap();
    clock.join().unwrap();
    server.finish(workers);
    let prepared = &server.ledger.lock().unwrap().prepared;
    assert_eq!(prepared.range(4 * TAGS..5 * TAGS).count(), 5);
    assert!(!prepared.contains(&(5 * TAGS)));
}

/// A server that closes while rows are prepared: what was let in is answered.
pub(super) fn close_while_preparing(fault: Fault) {
    let mut server = Server::new(2, 2, NO_DELAY);
    let lane = server.add_lane();
    let preparing = server.add_preparing_lane(lane);
    let workers = server.start_workers(2, fault);
    let calls: Vec<_> = (3..6)
        .map(|caller| server.spawn_ask(preparing, caller, 1, None))
        .collect();
    let closing = server.clone();
    let closer = thread::spawn(move || closing.dispatch.close());
    for ending in join(calls) {
        assert!(matches!(ending, Ending::Answered | Ending::Refused));
    }
    closer.join().unwrap();
    assert_eq!(server.ask(preparing, 9, 1, None), Ending::Refused);
    server.finish(workers);
    // Nothing is prepared in vain.
    let ledger = server.ledger.lock().unwrap();
    assert_eq!(ledger.prepared, ledger.rows);
}
