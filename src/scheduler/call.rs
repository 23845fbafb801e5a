//! A request between its arrival and its answer.
//!
//! A [`Call`] is shared by the lane's queue and by the workers that hold some of its rows. It
//! answers exactly once: with the last of its rows, or with its first failure. By then
//! no one may be listening any more; the answer is dropped in that case.
//!
//! Where rows are prepared first, the call whose rows are [prepared](Call::deliver_prepared) ends in
//! another one, which computes them for the same caller.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::place::Handover;
use super::sync::{Mutex, MutexGuard};
use crate::request::{InferError, InferRequest, InferResponse, Load, Prepared, Timing};
use crate::tensor::{Shape, TensorSpec, Values, View};

/// What a call's caller gets.
pub(super) type Answer = Result<InferResponse, InferError>;

/// A request that waits, or whose rows are being computed.
#[derive(Debug)]
pub(super) struct Call {
    request: InferRequest,
    queued_at: Instant,
    /// Set before a failure is sent, so that its remaining rows need not be computed.
    failed: AtomicBool,
    gathering: Mutex<Gathering>,
    /// What it took to prepare the rows.
    preparation: Timing,
    /// Where its caller finds what became of it, if its rows are to be prepared.
    handover: Option<Arc<Mutex<Handover>>>,
}

/// The answer as far as it is there.
#[derive(Debug)]
struct Gathering {
    /// Gone once the call was answered.
    caller: Option<oneshot::Sender<Answer>>,
    missing_rows: usize,
    /// Full-sized from the first part of several on; empty before.
    outputs: Vec<Vec<f32>>,
    /// The parts that are prepared for the engine, each with its first row.
    prepared: Vec<(usize, Prepared)>,
    /// Over the parts that are there.
    timing: Option<Timing>,
}

/// The forward pass that computed some of a call's rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardPass {
    /// When a worker took the batch.
    pub(super) taken_at: Instant,
    /// How long the forward pass took.
    pub(super) compute: Duration,
    /// The rows that it computed, neighbours' included.
    pub(super) batch_rows: usize,
}

impl Call {
    /// A call that was made at `queued_at`, and where its caller receives the answer. `handover` is
    /// for calls whose rows are to be prepared.
    pub(super) fn new(
        request: InferRequest,
        queued_at: Instant,
        handover: Option<Arc<Mutex<Handover>>>,
    ) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (caller, receiver) = oneshot::channel();
        let call = Self::for_caller(request, queued_at, caller, Timing::default(), handover);
        (Arc::new(call), receiver)
    }

    fn for_caller(
        request: InferRequest,
        queued_at: Instant,
        caller: oneshot::Sender<Answer>,
        preparation: Timing,
        handover: Option<Arc<Mutex<Handover>>>,
    ) -> Self {
        let gathering = Gathering {
            caller: Some(caller),
            missing_rows: request.rows,
            outputs: Vec::new(),
            prepared: Vec::new(),
            timing: None,
        };
        Self {
            request,
            queued_at,
            failed: AtomicBool::new(false),
            gathering: Mutex::new(gathering),
            preparation,
            handover,
        }
    }

    /// Where its caller finds what became of it, if its rows are to be prepared.
    pub(super) fn handover(&self) -> Option<&Mutex<Handover>> {
        self.handover.as_deref()
    }

    /// The request.
    pub(super) fn request(&self) -> &InferRequest {
        &self.request
    }

    /// The number of rows, at least 1.
    pub(super) fn rows(&self) -> usize {
        self.request.rows
    }

    /// How much there is to compute.
    pub(super) fn load(&self) -> Load {
        self.request.load()
    }

    /// How much there is to compute for some of the rows.
    pub(super) fn load_of(&self, rows: Range<usize>) -> Load {
        self.request.load_of(rows)
    }

    /// How many rows, from `first` on, are within a load.
    pub(super) fn rows_within(&self, first: usize, load: Load) -> usize {
        self.request.rows_within(first, load)
    }

    /// The items of some rows in an input of this shape, row-major.
    pub(super) fn input(&self, input: usize, shape: &Shape, rows: Range<usize>) -> View<'_> {
        let elements = shape.elements_of(rows, &self.request.offsets);
        self.request.inputs[input].view().slice(elements)
    }

    /// When the call was queued.
    pub(super) fn queued_at(&self) -> Instant {
        self.queued_at
    }

    /// Whether the caller's deadline has passed.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.request
            .deadline
            .is_some_and(|deadline| deadline <= now)
    }

    /// When the answer stops being of use.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.request.deadline
    }

    /// Whether it was answered with an error, so that its other rows are of no use.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Takes in the answer for some of the call's rows; gives the answer for all once none are
    /// missing, unless no one waits for it any more.
    ///
    /// `specs` are the engine's outputs; `outputs` holds one slice for each, with exactly these rows.
    ///
    /// # Panics
    /// If rows are delivered twice.
    pub(super) fn deliver<'a>(
        &self,
        rows: Range<usize>,
        specs: &[TensorSpec],
        outputs: impl Iterator<Item = &'a [f32]>,
        pass: ForwardPass,
    ) -> Option<InferResponse> {
        if rows.len() == self.request.rows {
            // The usual case: one batch held the whole call, and copying needs no lock.
            let outputs = outputs.map(|values| Values::F32(values.to_vec()));
            return Some(self.response(outputs.collect(), self.timing(pass)));
        }

        let mut gathering = self.gather();
        if !gathering.is_awaited() {
            return None; // Another part failed, or no one listens.
        }
        for ((index, part), spec) in outputs.enumerate().zip(specs) {
            let place = |rows| spec.shape.elements_of(rows, &self.request.offsets);
            if gathering.outputs.len() == index {
                let zeros = vec![0.0; place(0..self.request.rows).end];
                gathering.outputs.push(zeros);
            }
            gathering.outputs[index][place(rows.clone())].copy_from_slice(part);
        }
        let timing = gathering.add(rows.len(), self.timing(pass))?;
        let outputs = std::mem::take(&mut gathering.outputs);
        drop(gathering);
        let outputs = outputs.into_iter().map(Values::F32);
        Some(self.response(outputs.collect(), timing))
    }

    /// Takes in some of the call's rows as they are prepared for the engine. Once none are missing
    /// it gives, unless the call was answered meanwhile, the call that computes them.
    ///
    /// # Panics
    /// If rows are delivered twice.
    pub(super) fn deliver_prepared(
        &self,
        rows: Range<usize>,
        prepared: Prepared,
        pass: ForwardPass,
        now: Instant,
    ) -> Option<Arc<Self>> {
        let mut gathering = self.gather();
        if !gathering.is_awaited() {
            return None; // Another part failed, or no one listens.
        }
        gathering.prepared.push((rows.start, prepared));
        let timing = gathering.add(rows.len(), self.timing(pass))?;
        let caller = gathering.caller.take()?;
        let parts = std::mem::take(&mut gathering.prepared);
        drop(gathering);
        let Prepared { offsets, inputs } = joined(parts)?;
        let request = InferRequest {
            rows: self.request.rows,
            offsets,
            inputs,
            finish: self.request.finish,
            deadline: self.request.deadline,
        };
        let call = Self::for_caller(request, now, caller, timing, None);
        Some(Arc::new(call))
    }

    fn timing(&self, pass: ForwardPass) -> Timing {
        Timing {
            queue: pass.taken_at.saturating_duration_since(self.queued_at),
            compute: pass.compute,
            batch_rows: pass.batch_rows,
        }
    }

    /// Answers, unless the call was answered before.
    pub(super) fn reply(&self, answer: Answer) {
        if answer.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        let caller = self.gather().caller.take();
        if let Some(caller) = caller {
            // A caller that left meanwhile needs no answer.
            let _ = caller.send(answer);
        }
    }

    /// Answers with an error, unless the call was answered before.
    pub(super) fn fail(&self, error: InferError) {
        self.reply(Err(error));
    }

    /// Whether someone waits for the answer, and there is none.
    pub(super) fn is_awaited(&self) -> bool {
        self.gather().is_awaited()
    }

    fn response(&self, outputs: Vec<Values>, timing: Timing) -> InferResponse {
        InferResponse {
            rows: self.request.rows,
            offsets: self.request.offsets.clone(),
            outputs,
            timing: Timing {
                queue: timing.queue + self.preparation.queue,
                compute: timing.compute + self.preparation.compute,
                ..timing
            },
        }
    }

    fn gather(&self) -> MutexGuard<'_, Gathering> {
        // Poisoned only if rows were delivered twice; the callers' answers still count.
        self.gathering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    /// Whether someone waits for the answer, and there is none.
    fn is_awaited(&self) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|caller| !caller.is_closed())
    }

    /// Notes that some rows are there, and how long they took; how long all took, if none are
    /// missing any more.
    ///
    /// # Panics
    /// If these are more than were missing.
    fn add(&mut self, rows: usize, mut timing: Timing) -> Option<Timing> {
        self.missing_rows = self
            .missing_rows
            .checked_sub(rows)
            .expect("each row is delivered once");
        if let Some(before) = self.timing {
            timing.queue = timing.queue.min(before.queue);
            timing.compute += before.compute;
            timing.batch_rows = timing.batch_rows.max(before.batch_rows);
        }
        self.timing = Some(timing);
        (self.missing_rows == 0).then_some(timing)
    }
}

/// The rows of all parts in their order; each comes with the number of its first row.
fn joined(mut parts: Vec<(usize, Prepared)>) -> Option<Prepared> {
    parts.sort_unstable_by_key(|(first, _)| *first);
    let mut parts = parts.into_iter().map(|(_, prepared)| prepared);
    let mut all = parts.next()?;
    parts.for_each(|part| all.extend(&part));
    Some(all)
}
