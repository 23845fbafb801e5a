//! The forward passes of a lane: its engine, and what is counted of them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{JoinBuffers, first_non_finite, row_of, split, with_views};
use super::call::{Answer, ForwardPass};
use super::gauge::QueueGauge;
use super::limit::BatchLimit;
use super::panics::panic_message;
use super::policy::LimitPolicy;
use super::queue::Part;
use crate::engine::kernels::Team;
use crate::engine::{Batch, Engine, Outputs, Workspace};
use crate::metrics::{ModelMetrics, Release};
use crate::request::{
    Computed, Finish, InferError, InferRequest, InferResponse, Load, Prepare, RowError, Timing,
};
use crate::tensor::Values;

/// What a lane needs to know of its model, apart from the engine.
#[derive(Clone, Debug, Default)]
pub struct LaneSettings {
    /// The model's name, for the log.
    pub name: String,
    /// Whether answers may hold NaN and infinities.
    pub allow_non_finite: bool,
    /// What makes the engine's inputs of a request's; `None` if they are the same.
    pub prepare: Option<Arc<dyn Prepare>>,
    /// What makes further outputs of the engine's; `None` if there are none.
    pub finish: Option<Arc<dyn Finish>>,
}

/// What a lane's rows are computed with. Batches hold it as the lane does, so that one that was
/// taken finishes after the lane is gone.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: ModelMetrics,
    pub(super) settings: LaneSettings,
    pub(super) limit: BatchLimit,
    pub(super) queued: QueueGauge,
    max_scratch_bytes: usize,
    /// The most tokens of a row along an axis: as many as its scratch memory has room for.
    max_row_tokens: usize,
}

/// The forward pass panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Panicked;

impl Forward {
    pub(super) fn new(
        engine: Arc<Engine>,
        metrics: ModelMetrics,
        settings: LaneSettings,
        policy: LimitPolicy,
    ) -> Self {
        let rows = policy.max_rows(|rows| engine.scratch_bytes(rows, rows));
        let max = match engine.axes() {
            0 => Load { rows, units: rows },
            _ => Load {
                rows,
                units: policy.max_tokens(|tokens| engine.scratch_bytes(rows, tokens)),
            },
        };
        let max_row_tokens = policy.max_tokens(|tokens| engine.scratch_bytes(1, tokens));
        let forward = Self {
            engine,
            queued: QueueGauge::new(metrics.clone()),
            metrics,
            settings,
            // Unknown only until the warm-up.
            limit: BatchLimit::new(policy, max, max.units),
            max_scratch_bytes: policy.max_scratch_bytes,
            max_row_tokens,
        };
        forward.report_limit();
        forward
    }

    /// Learns what a forward pass cost, and how much a batch holds then.
    pub(super) fn record(&self, units: usize, compute: Duration) {
        if self.limit.record(units, compute) {
            self.report_limit();
        }
    }

    fn report_limit(&self) {
        let limit = self.limit.load();
        self.metrics.batch_limited(limit.rows.min(limit.units));
    }

    /// Whether a pass over this much keeps to the scratch memory that it may take; one row always
    /// does.
    pub(super) fn has_scratch(&self, load: Load) -> bool {
        let bytes = self.engine.scratch_bytes(load.rows, load.units);
        load.rows == 1 || bytes <= self.max_scratch_bytes
    }

    /// Refuses a row with more tokens than scratch memory has room for, by the offsets of its
    /// request: what a single row takes depends on its client then.
    ///
    /// # Errors
    /// The first such row.
    pub(super) fn check_tokens(&self, offsets: &[Vec<usize>]) -> Result<(), RowError> {
        for offsets in offsets {
            let tokens = offsets.windows(2).map(|row| row[1] - row[0]);
            let mut rows = tokens.enumerate();
            if let Some((row, tokens)) = rows.find(|&(_, tokens)| tokens > self.max_row_tokens) {
                let message = format!(
                    "expected at most {} tokens, got {tokens}; send a shorter row",
                    self.max_row_tokens
                );
                return Err(RowError { row, message });
            }
        }
        Ok(())
    }

    /// Computes a load, counts it, and hands the outputs and the time it took to `read`.
    fn forward<R>(
        &self,
        load: Load,
        batch: Batch<'_>,
        workspace: &mut Workspace,
        team: Option<&Team>,
        read: impl FnOnce(&Outputs<'_>, Duration) -> R,
    ) -> Result<R, Panicked> {
        let metrics = &self.metrics;
        self.pass(batch, workspace, team, |outputs, compute| {
            self.record(load.units, compute);
            metrics.computed(load.rows, compute);
            read(outputs, compute)
        })
        .inspect_err(|Panicked| metrics.panics_total().inc())
    }

    /// Runs the engine once, with the team's help if there is one; a panic is caught and logged.
    fn pass<R>(
        &self,
        batch: Batch<'_>,
        workspace: &mut Workspace,
        team: Option<&Team>,
        read: impl FnOnce(&Outputs<'_>, Duration) -> R,
    ) -> Result<R, Panicked> {
        let started = Instant::now();
        let lent = &mut *workspace;
        let run = move || {
            let lent = lent; // Moved in, so that the outputs may outlive the closure.
            self.engine.run(batch, lent, team)
        };
        let panic = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(outputs) => return Ok(read(&outputs, started.elapsed())),
            Err(panic) => panic,
        };
        // What the panic left half-written must not reach the next pass.
        *workspace = Workspace::new();
        tracing::error!(
            model = %self.settings.name,
            rows = batch.rows,
            panic = panic_message(&*panic),
            "a forward pass panicked"
        );
        Err(Panicked)
    }

    /// Computes rows of zeros, of one token along each axis, and hands the outputs and the time it
    /// took to `read`; nothing is counted.
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
        let offsets = vec![(0..=rows).collect(); self.engine.axes()];
        with_views(
            specs.len(),
            |i| zeros[i].view(),
            |inputs| {
                let batch = Batch {
                    rows,
                    offsets: &offsets,
                    inputs,
                };
                self.pass(batch, workspace, None, read)
            },
        )
        .map_err(|Panicked| InferError::Panicked)
    }

    /// The first output of one row that a request would be refused for.
    pub(super) fn refused_output(&self, outputs: &Outputs<'_>) -> Option<usize> {
        if self.settings.allow_non_finite {
            return None;
        }
        let count = self.engine.outputs().len();
        first_non_finite((0..count).map(|i| outputs.get(i))).map(|(output, _)| output)
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
                && let Some((output, element)) = first_non_finite(outputs())
            {
                let spec = &self.engine.outputs()[output];
                let row = row_of(spec, element, &request.offsets);
                return Err(InferError::NonFinite { output, row });
            }
            let response = InferResponse {
                rows,
                offsets: request.offsets.clone(),
                outputs: outputs()
                    .map(|values| Values::F32(values.to_vec()))
                    .collect(),
                timing: Timing {
                    queue: Duration::ZERO,
                    compute,
                    batch_rows: rows,
                },
            };
            self.finish(request, response)
        };
        self.metrics.batch_released(Release::Inline);
        WORKSPACE.with_borrow_mut(|workspace| {
            with_views(
                request.inputs.len(),
                |i| request.inputs[i].view(),
                |inputs| {
                    let batch = Batch {
                        rows,
                        offsets: &request.offsets,
                        inputs,
                    };
                    self.forward(request.load(), batch, workspace, None, answer)
                },
            )
            .unwrap_or(Err(InferError::Panicked))
        })
    }

    /// Adds the outputs that the last step of the model's program makes, if the request wants them;
    /// a panic is caught and logged.
    fn finish(&self, request: &InferRequest, mut response: InferResponse) -> Answer {
        let Some(step) = self.settings.finish.as_ref().filter(|_| request.finish) else {
            return Ok(response);
        };
        let run = |outputs: &[&[f32]]| {
            step.finish(Computed {
                rows: response.rows,
                offsets: &response.offsets,
                outputs,
            })
        };
        let computed = || match &*response.outputs {
            // Nearly every model has one, which takes no allocation.
            [one] => run(&[one.view().f32s()]),
            all => run(&all
                .iter()
                .map(|values| values.view().f32s())
                .collect::<Vec<_>>()),
        };
        match catch_unwind(AssertUnwindSafe(computed)) {
            Ok(outputs) => {
                response.outputs.extend(outputs);
                Ok(response)
            }
            Err(panic) => {
                self.metrics.panics_total().inc();
                tracing::error!(
                    model = %self.settings.name,
                    rows = response.rows,
                    panic = panic_message(&*panic),
                    "finishing rows panicked"
                );
                Err(InferError::Panicked)
            }
        }
    }

    /// Computes a batch and answers its calls; other workers help if there is a team.
    pub(super) fn answer(
        &self,
        parts: &[Part],
        taken_at: Instant,
        team: Option<&Team>,
        buffers: &mut JoinBuffers,
        workspace: &mut Workspace,
    ) {
        let mut answer = |parts: &[Part]| {
            let load: Load = parts.iter().map(Part::load).sum();
            buffers.join(parts, self.engine.inputs(), |batch| {
                let offsets = batch.offsets;
                self.forward(load, batch, workspace, team, |outputs, compute| {
                    let pass = ForwardPass {
                        taken_at,
                        compute,
                        batch_rows: load.rows,
                    };
                    let specs = self.engine.outputs();
                    let allow_non_finite = self.settings.allow_non_finite;
                    let output = |i| outputs.get(i);
                    let finish = |request: &InferRequest, response| self.finish(request, response);
                    split(
                        parts,
                        specs,
                        offsets,
                        output,
                        allow_non_finite,
                        pass,
                        finish,
                    );
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
