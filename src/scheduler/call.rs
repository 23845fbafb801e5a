//! A request between its arrival and its answer.
//!
//! A [`Call`] is shared by the lane's queue and by the workers that hold some of its rows. It
//! answers exactly once: with the last of its rows, or with its first failure. By then
//! no one may be listening any more; the answer is dropped in that case.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::sync::{Mutex, MutexGuard};
use crate::request::{InferError, InferRequest, InferResponse, Load, Timing};
use crate::tensor::View;

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
}

/// The answer as far as it is there.
#[derive(Debug)]
struct Gathering {
    /// Gone once the call was answered.
    caller: Option<oneshot::Sender<Answer>>,
    missing_rows: usize,
    /// Full-sized from the first part of several on; empty before.
    outputs: Vec<Vec<f32>>,
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
    /// A call that was made at `queued_at`, and where its caller receives the answer.
    pub(super) fn new(
        request: InferRequest,
        queued_at: Instant,
    ) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (caller, receiver) = oneshot::channel();
        let gathering = Gathering {
            caller: Some(caller),
            missing_rows: request.rows,
            outputs: Vec::new(),
            timing: None,
        };
        let call = Self {
            request,
            queued_at,
            failed: AtomicBool::new(false),
            gathering: Mutex::new(gathering),
        };
        (Arc::new(call), receiver)
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

    /// The number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.request.inputs.len()
    }

    /// Some rows of an input, row-major.
    pub(super) fn input(&self, input: usize, rows: Range<usize>) -> View<'_> {
        let values = self.request.inputs[input].view();
        let elements = values.len() / self.request.rows;
        values.slice(rows.start * elements..rows.end * elements)
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

    /// Takes in the answer for some of the call's rows, and answers if none are missing.
    ///
    /// `outputs` holds one slice an output of the engine, with exactly these rows.
    ///
    /// # Panics
    /// If rows are delivered twice.
    pub(super) fn deliver<'a>(
        &self,
        rows: Range<usize>,
        outputs: impl Iterator<Item = &'a [f32]>,
        pass: ForwardPass,
    ) {
        let mut timing = Timing {
            queue: pass.taken_at.saturating_duration_since(self.queued_at),
            compute: pass.compute,
            batch_rows: pass.batch_rows,
        };
        if rows.len() == self.request.rows {
            // The usual case: one batch held the whole call, and copying needs no lock.
            let outputs = outputs.map(<[f32]>::to_vec).collect();
            return self.reply(Ok(self.response(outputs, timing)));
        }

        let mut gathering = self.gather();
        if gathering
            .caller
            .as_ref()
            .is_none_or(|caller| caller.is_closed())
        {
            return; // Another part failed, or no one listens.
        }
        gathering.missing_rows = gathering
            .missing_rows
            .checked_sub(rows.len())
            .expect("each row is delivered once");
        if let Some(before) = gathering.timing {
            timing.queue = timing.queue.min(before.queue);
            timing.compute += before.compute;
            timing.batch_rows = timing.batch_rows.max(before.batch_rows);
        }
        gathering.timing = Some(timing);
        for (index, part) in outputs.enumerate() {
            let elements = part.len() / rows.len();
            if gathering.outputs.len() == index {
                let zeros = vec![0.0; self.request.rows * elements];
                gathering.outputs.push(zeros);
            }
            gathering.outputs[index][rows.start * elements..rows.end * elements]
                .copy_from_slice(part);
        }
        if gathering.missing_rows == 0 {
            let outputs = std::mem::take(&mut gathering.outputs);
            drop(gathering);
            self.reply(Ok(self.response(outputs, timing)));
        }
    }

    /// Answers with an error, unless the call was answered before.
    pub(super) fn fail(&self, error: InferError) {
        self.failed.store(true, Ordering::Relaxed);
        self.reply(Err(error));
    }

    fn response(&self, outputs: Vec<Vec<f32>>, timing: Timing) -> InferResponse {
        InferResponse {
            rows: self.request.rows,
            outputs,
            timing,
        }
    }

    fn reply(&self, answer: Answer) {
        let caller = self.gather().caller.take();
        if let Some(caller) = caller {
            // A caller that left meanwhile needs no answer.
            let _ = caller.send(answer);
        }
    }

    fn gather(&self) -> MutexGuard<'_, Gathering> {
        // Poisoned only if rows were delivered twice; the callers' answers still count.
        self.gathering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some rows of a row-major buffer of `total_rows` rows.
pub(super) fn rows_of(values: &[f32], total_rows: usize, rows: Range<usize>) -> &[f32] {
    let elements = values.len() / total_rows;
    &values[rows.start * elements..rows.end * elements]
}
