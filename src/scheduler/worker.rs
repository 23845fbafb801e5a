//! The threads that compute: each takes a batch, does its lane's work on it and answers its calls,
//! until the dispatch is closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::batch::JoinBuffers;
use super::dispatch::Dispatch;
use super::forward::Forward;
use super::lanes::{Work, WorkerBatch};
use super::limit::BatchLimit;
use super::panics::panic_message;
use super::prepare::Preparation;
use super::worker_slots::WorkerId;
use crate::engine::Workspace;
use crate::request::{InferError, Load};

/// What is done with a lane's rows.
#[derive(Debug)]
pub(super) enum LaneWork {
    /// They are computed, and their calls answered.
    Forward(Arc<Forward>),
    /// They are prepared, and wait again in the lane where they are computed.
    Prepare(Arc<Preparation>),
}

impl LaneWork {
    fn batch_limit(&self) -> &BatchLimit {
        match self {
            Self::Forward(forward) => &forward.limit,
            Self::Prepare(preparation) => &preparation.limit,
        }
    }
}

impl Work for LaneWork {
    fn set_queued_rows(&self, rows: usize) {
        match self {
            Self::Forward(forward) => forward.queued.set(rows),
            Self::Prepare(preparation) => preparation.queued.set(rows),
        }
    }

    fn limit(&self) -> Load {
        self.batch_limit().load()
    }

    fn cost(&self, units: usize) -> Duration {
        self.batch_limit().estimate(units).unwrap_or_default()
    }

    fn pays_to_share(&self, load: Load) -> bool {
        match self {
            Self::Forward(forward) => forward.engine.pays_to_share(load.rows, load.units),
            Self::Prepare(_) => false,
        }
    }
}

/// One thread's state, reused from batch to batch.
pub(super) struct Worker {
    dispatch: Arc<Dispatch<LaneWork>>,
    batch: WorkerBatch<LaneWork>,
    buffers: JoinBuffers,
    workspace: Workspace,
}

impl Worker {
    pub(super) fn new(dispatch: Arc<Dispatch<LaneWork>>, worker: WorkerId) -> Self {
        Self {
            dispatch,
            batch: WorkerBatch::empty(worker),
            buffers: JoinBuffers::default(),
            workspace: Workspace::new(),
        }
    }

    /// Computes batches until the dispatch is closed, or another worker replaces this one.
    pub(super) fn run(&mut self) {
        while self.dispatch.next_batch(&mut self.batch) {
            // Forward passes and preparations are caught one by one. This catches what remains, a
            // fault in this module: its batch's calls are answered as panicked when they are
            // dropped, and the worker lives on.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.answer_batch())) {
                tracing::error!(panic = panic_message(&*panic), "a worker panicked");
                self.workspace = Workspace::new();
            }
        }
    }

    fn answer_batch(&mut self) {
        let Self {
            dispatch,
            batch,
            buffers,
            workspace,
        } = self;
        for call in &batch.taken.expired {
            call.fail(InferError::DeadlineExceeded);
        }
        let work = batch.work.as_deref().expect("a batch was taken");
        let parts = batch.taken.parts.as_slice();
        if parts.is_empty() {
            return;
        }
        match work {
            LaneWork::Forward(forward) => {
                forward.metrics.batch_released(batch.release);
                let team = batch.is_shared.then_some(&*batch.team);
                forward.answer(parts, batch.taken_at, team, buffers, workspace);
            }
            LaneWork::Prepare(preparation) => {
                let next = preparation.next;
                preparation.answer(parts, batch.taken_at, |unprepared, call| {
                    dispatch.push_prepared(next, unprepared, call);
                });
            }
        }
    }
}
