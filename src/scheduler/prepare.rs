//! Preparing: the step of a model's program before its engine. The rows wait in a lane of their own
//! and are prepared on the threads that compute, call by call, so that one that cannot be prepared
//! fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, ForwardPass};
use super::forward::Forward;
use super::gauge::QueueGauge;
use super::limit::BatchLimit;
use super::panics::panic_message;
use super::place::LaneId;
use super::queue::Part;
use crate::engine::Batch;
use crate::request::{InferError, Prepare, Prepared, RowError};
use crate::tensor::{Values, View};

/// What a lane's rows are prepared with.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) step: Arc<dyn Prepare>,
    /// What computes the rows.
    pub(super) forward: Arc<Forward>,
    /// One row at a time until it is known what one costs: zeros, which an engine is measured with,
    /// need be nothing that can be prepared.
    pub(super) limit: BatchLimit,
    pub(super) queued: QueueGauge,
    /// The lane in which the rows wait to be computed.
    pub(super) next: LaneId,
}

/// Why rows were not prepared.
enum Failure {
    Row(RowError),
    Panicked,
}

impl Preparation {
    /// Prepares the rows of a batch and hands each call whose rows are all prepared to `push`, with
    /// the one that it came from. A call that fails is answered, and no other.
    pub(super) fn answer(
        &self,
        parts: &[Part],
        taken_at: Instant,
        mut push: impl FnMut(&Call, Arc<Call>),
    ) {
        for part in parts {
            // The caller may have left while the others were prepared.
            if !part.call.is_awaited() {
                continue;
            }
            let started = Instant::now();
            match self.prepare(part) {
                Ok(prepared) => {
                    let took = started.elapsed();
                    self.limit.record(part.load().units, took);
                    let pass = ForwardPass {
                        taken_at,
                        compute: took,
                        batch_rows: part.rows.len(),
                    };
                    let (rows, now) = (part.rows.clone(), Instant::now());
                    if let Some(call) = part.call.deliver_prepared(rows, prepared, pass, now) {
                        push(&part.call, call);
                    }
                }
                Err(Failure::Row(error)) => part.call.fail(InferError::InvalidRow(error)),
                Err(Failure::Panicked) => part.call.fail(InferError::Panicked),
            }
        }
    }

    /// Prepares a part of a call; a panic is caught and logged.
    fn prepare(&self, part: &Part) -> Result<Prepared, Failure> {
        let rows = part.rows.clone();
        let run = || {
            let prepared = self.step.prepare(part.call.request(), rows.clone())?;
            let checked = self.forward.check_tokens(&prepared.offsets);
            checked.map_err(|error| RowError {
                row: rows.start + error.row,
                ..error
            })?;
            // What the engine cannot take fails this call, and not the pass with its neighbours.
            let inputs: Vec<View<'_>> = prepared.inputs.iter().map(Values::view).collect();
            self.forward.engine.check(Batch {
                rows: rows.len(),
                offsets: &prepared.offsets,
                inputs: &inputs,
            });
            Ok(prepared)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(prepared) => prepared.map_err(Failure::Row),
            Err(panic) => {
                self.forward.metrics.panics_total().inc();
                tracing::error!(
                    model = %self.forward.settings.name,
                    rows = rows.len(),
                    panic = panic_message(&*panic),
                    "preparing rows panicked"
                );
                Err(Failure::Panicked)
            }
        }
    }
}
