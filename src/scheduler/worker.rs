//! The threads that compute: each takes a batch, runs it and answers its calls, until the
//! dispatch is closed.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::LaneSettings;
use super::batch::{JoinBuffers, first_non_finite, split, with_views};
use super::call::{Answer, ForwardPass};
use super::cost::CostTable;
use super::dispatch::Dispatch;
use super::lanes::{Batch as WorkerBatch, Work};
use super::policy::LimitPolicy;
use super::queue::Part;
use super::worker_slots::WorkerId;
use crate::engine::kernels::Team;
use crate::engine::{Batch, Engine, Outputs, Workspace};
use crate::metrics::{ModelMetrics, Release};
use crate::request::{InferError, InferRequest, InferResponse, Load, Timing};
use crate::tensor::{Values, View};

/// What a lane's rows are computed with. Batches hold it as the lane does, so that one that was
/// taken finishes after the lane is gone.
#[derive(Debug)]
pub(super) struct LaneWork {
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: ModelMetrics,
    pub(super) settings: LaneSettings,
    pub(super) cost: CostTable,
    limits: LimitPolicy,
    /// The most rows of a batch, whatever they cost.
    max_rows: usize,
    /// The most units of a batch, by what they cost now.
    max_units: AtomicUsize,
    /// The batches that held as many units as they might.
    full_batches: AtomicUsize,
    /// The rows that wait, for readers that cannot wait for the queue's lock.
    pub(super) queued_rows: AtomicUsize,
}

impl Work for LaneWork {
    fn set_queued_rows(&self, rows: usize) {
        let before = self.queued_rows.swap(rows, Ordering::Relaxed);
        let count = |rows| i64::try_from(rows).unwrap_or(i64::MAX);
        // While a version replaces another, two lanes count into one series.
        self.metrics.queued_rows().add(count(rows) - count(before));
    }

    fn limit(&self) -> Load {
        Load {
            rows: self.max_rows,
            units: self.max_units.load(Ordering::Relaxed),
        }
    }

    fn cost(&self, units: usize) -> Duration {
        self.cost.estimate(units).unwrap_or_default()
    }

    fn pays_to_share(&self, load: Load) -> bool {
        self.engine.pays_to_share(load.rows, load.units)
    }
}

/// The forward pass panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Panicked;

impl LaneWork {
    pub(super) fn new(
        engine: Arc<Engine>,
        metrics: ModelMetrics,
        settings: LaneSettings,
        limits: LimitPolicy,
    ) -> Self {
        let max_rows = limits.max_rows(|rows| engine.scratch_bytes(rows, rows));
        let cost = CostTable::default();
        let work = Self {
            engine,
            metrics,
            settings,
            limits,
            max_rows,
            max_units: AtomicUsize::new(limits.max_units(&cost)),
            full_batches: AtomicUsize::new(0),
            cost,
            queued_rows: AtomicUsize::new(0),
        };
        work.report_limit();
        work
    }

    /// Learns what a forward pass cost, and how much a batch holds then.
    pub(super) fn record(&self, units: usize, compute: Duration) {
        let mut changed = self.cost.record(units, compute);
        let max_units = self.max_units.load(Ordering::Relaxed);
        // Only where the units are what limits a batch.
        if units >= max_units && max_units < self.max_rows {
            let full_batches = self.full_batches.fetch_add(1, Ordering::Relaxed) + 1;
            if LimitPolicy::tries_larger(full_batches) {
                self.cost.forget_larger(max_units);
                changed = true;
            }
        }
        if changed {
            let max_units = self.limits.max_units(&self.cost);
            self.max_units.store(max_units, Ordering::Relaxed);
            self.report_limit();
        }
    }

    /// How long a batch may take, where one unit takes `one`.
    pub(super) fn batch_time(&self, one: Duration) -> Duration {
        self.limits.batch_time(one)
    }

    fn report_limit(&self) {
        let limit = self.limit();
        self.metrics.batch_limited(limit.rows.min(limit.units));
    }

    /// Whether a pass over this many rows keeps to the scratch memory that it may take; one row
    /// always does.
    pub(super) fn has_scratch(&self, rows: usize) -> bool {
        rows == 1 || self.engine.scratch_bytes(rows, rows) <= self.limits.max_scratch_bytes
    }

    /// Computes a load, counts it, and hands the outputs and the time it took to `read`.
    fn forward<R>(
        &self,
        load: Load,
        inputs: &[View<'_>],
        workspace: &mut Workspace,
        team: Option<&Team>,
        read: impl FnOnce(&Outputs<'_>, Duration) -> R,
    ) -> Result<R, Panicked> {
        let metrics = &self.metrics;
        self.pass(load.rows, inputs, workspace, team, |outputs, compute| {
            self.record(load.units, compute);
            metrics.computed(load.rows, compute);
            read(outputs, compute)
        })
        .inspect_err(|Panicked| metrics.panics_total().inc())
    }

    /// Runs the engine once, with the team's help if there is one; a panic is caught and logged.
    fn pass<R>(
        &self,
        rows: usize,
        inputs: &[View<'_>],
        workspace: &mut Workspace,
        team: Option<&Team>,
        read: impl FnOnce(&Outputs<'_>, Duration) -> R,
    ) -> Result<R, Panicked> {
        let started = Instant::now();
        let lent = &mut *workspace;
        let run = move || {
            let lent = lent; // Moved in, so that the outputs may outlive the closure.
            self.engine.run(Batch::of_rows(rows, inputs), lent, team)
        };
        let panic = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(outputs) => return Ok(read(&outputs, started.elapsed())),
            Err(panic) => panic,
        };
        // What the panic left half-written must not reach the next pass.
        *workspace = Workspace::new();
        tracing::error!(
            model = %self.settings.name,
            rows,
            panic = panic_message(&*panic),
            "a forward pass panicked"
        );
        Err(Panicked)
    }

    /// Computes rows of zeros and hands the outputs and the time it took to `read`; nothing is
    /// counted.
    pub(super) fn try_zeros<R>(
        &self,
        rows: usize,
        workspace: &mut Workspace,
        read: impl FnOnce(&Outputs<'_>, Duration) -> R,
    ) -> Result<R, InferError> {
        let specs = self.engine.inputs();
        let zeros: Vec<Values> = specs
            .iter()
            .map(|spec| Values::zeros(spec.datatype, rows * spec.shape.elements()))
            .collect();
        with_views(
            specs.len(),
            |i| zeros[i].view(),
            |inputs| self.pass(rows, inputs, workspace, None, read),
        )
        .map_err(|Panicked| InferError::Panicked)
    }

    /// The first output of one row that a request would be refused for.
    pub(super) fn refused_output(&self, outputs: &Outputs<'_>) -> Option<usize> {
        if self.settings.allow_non_finite {
            return None;
        }
        let count = self.engine.outputs().len();
        first_non_finite((0..count).map(|i| outputs.get(i)), 1).map(|(output, _)| output)
    }

    /// Computes a request on the calling thread, which keeps a workspace for this purpose.
    pub(super) fn run_inline(&self, request: &InferRequest) -> Answer {
        thread_local! {
            static WORKSPACE: RefCell<Workspace> = RefCell::new(Workspace::new());
        }
        let rows = request.rows;
        let answer = |outputs: &Outputs<'_>, compute| {
            let count = self.engine.outputs().len();
            let outputs = || (0..count).map(|i| outputs.get(i));
            if !self.settings.allow_non_finite
                && let Some((output, row)) = first_non_finite(outputs(), rows)
            {
                return Err(InferError::NonFinite { output, row });
            }
            Ok(InferResponse {
                rows,
                outputs: outputs().map(<[f32]>::to_vec).collect(),
                timing: Timing {
                    queue: Duration::ZERO,
                    compute,
                    batch_rows: rows,
                },
            })
        };
        self.metrics.batch_released(Release::Inline);
        WORKSPACE.with_borrow_mut(|workspace| {
            with_views(
                request.inputs.len(),
                |i| request.inputs[i].view(),
                |inputs| self.forward(request.load(), inputs, workspace, None, answer),
            )
            .unwrap_or(Err(InferError::Panicked))
        })
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
            // Forward passes are caught one by one. This catches what remains, a fault in this
            // module: its batch's calls are answered as panicked when they are dropped, and the
            // worker lives on.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.answer_batch())) {
                tracing::error!(panic = panic_message(&*panic), "a worker panicked");
                self.workspace = Workspace::new();
            }
        }
    }

    fn answer_batch(&mut self) {
        let Self {
            batch,
            buffers,
            workspace,
            ..
        } = self;
        for call in &batch.taken.expired {
            call.fail(InferError::DeadlineExceeded);
        }
        let work = batch.work.as_deref().expect("a batch was taken");
        let parts = batch.taken.parts.as_slice();
        if parts.is_empty() {
            return;
        }
        work.metrics.batch_released(batch.release);
        let team = batch.is_shared.then_some(&*batch.team);
        let mut answer = |parts: &[Part]| {
            let load: Load = parts.iter().map(Part::load).sum();
            buffers.join(parts, |inputs| {
                work.forward(load, inputs, workspace, team, |outputs, compute| {
                    let pass = ForwardPass {
                        taken_at: batch.taken_at,
                        compute,
                        batch_rows: load.rows,
                    };
                    let count = work.engine.outputs().len();
                    let allow_non_finite = work.settings.allow_non_finite;
                    split(parts, count, |i| outputs.get(i), allow_non_finite, pass);
                })
            })
        };
        if answer(parts) == Ok(()) {
            return;
        }
        if let [part] = parts {
            return part.call.fail(InferError::Panicked);
        }
        // Alone, only the one whose rows are to blame fails.
        for part in parts.chunks(1) {
            if answer(part) == Err(Panicked) {
                part[0].call.fail(InferError::Panicked);
            }
        }
    }
}

/// What `panic!` was called with, as far as it is text.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}
