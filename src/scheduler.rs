//! The scheduler: who computes which rows, when, together with whom.
//!
//! A fixed set of threads, `worker-0` and so on, serves all models. Each model version has a
//! [`Lane`]: a queue bounded in rows. The life of a request:
//!
//! 1. [`Lane::submit`] estimates its forward pass from those that ran before. If handing it to a
//!    worker would cost more than it saves, it runs on the calling thread (`policy.rs`,
//!    `cost.rs`).
//! 2. Else it is queued, or refused at once: because the lane is full, because its deadline
//!    cannot be met, or because the scheduler closes (`lanes.rs`).
//! 3. A worker that is free takes what waits in the lane whose turn it is (`queue.rs`), as much as
//!    is expected to take little longer than one row: each lane has its limit. Lanes with rows
//!    take turns, batch by batch. Requests whose
//!    deadline passed meanwhile, or whose caller left, are not computed.
//! 4. The worker joins the rows, runs the engine once and splits its outputs (`batch.rs`,
//!    `forward.rs`). A panic or a number that is not finite fails the one request that caused it.
//! 5. The request's answer gathers the parts, if it was larger than a batch, and wakes its caller
//!    (`call.rs`).
//!
//! A model whose rows are prepared before its engine takes them has a lane for that too. A request
//! waits there first; the worker that prepares the last of its rows queues it again, in the lane
//! where they are computed (`prepare.rs`). All bounds and choices above hold for both.
//!
//! Every accepted request ends in exactly one way: answered, cancelled by its caller, or
//! expired. `model_check.rs` follows the queue's code through thousands of thread schedules.

mod batch;
mod call;
mod cost;
mod dispatch;
mod forward;
mod gauge;
mod lanes;
mod limit;
mod panics;
mod place;
mod policy;
mod prepare;
mod queue;
mod sync;
mod worker;
mod worker_slots;

#[cfg(test)]
mod model_check;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Workspace};
use crate::metrics::{ModelMetrics, Rejection, UpDown};
use crate::request::{InferError, InferRequest, InferResponse, Load, Timing};

use call::Answer;
use dispatch::Dispatch;
use forward::Forward;
use gauge::QueueGauge;
use lanes::Rules;
use limit::BatchLimit;
use place::LaneId;
use policy::{HoldPolicy, InlinePolicy, LimitPolicy, RunsOn};
use prepare::Preparation;
use worker::{LaneWork, Worker};
use worker_slots::WorkerId;

pub use forward::LaneSettings;

/// How long a lane's warm-up goes on to larger batches: long enough for all sizes of a network that
/// takes a tenth of a second to read its weights, for one row as for many.
const WARM_UP: Duration = Duration::from_secs(1);

/// How many threads compute, and within which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Threads that run forward passes, at least 1: one a core of the process's budget.
    pub workers: usize,
    /// The most rows of one batch, at least 1.
    pub max_batch_rows: usize,
    /// How much longer than one row a batch may take, as far as its cost is known.
    pub max_batch_time: Duration,
    /// The most bytes of scratch memory of one forward pass; a single row takes what it needs.
    pub max_scratch_bytes: usize,
    /// How long rows may wait for company while every other worker is busy; zero: not at all.
    pub max_batch_delay: Duration,
    /// The most rows that wait in one lane, at least 1. One request with more is still let into
    /// an empty lane, or it could never be served.
    pub max_queued_rows: usize,
    /// Forward passes that cost less may run on the calling thread; zero: none.
    pub inline_cost: Duration,
}

/// What a lane's warm-up found out about its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// The first of the engine's outputs that is not finite for a row of zeros, unless the model
    /// allows that. A request with such an answer would be refused.
    pub non_finite_output: Option<usize>,
}

/// The worker threads and every lane's queue.
pub struct Scheduler {
    settings: SchedulerSettings,
    dispatch: Arc<Dispatch<LaneWork>>,
    workers: Mutex<Workers>,
    inline: InlinePolicy,
    /// No request is let in any more. The dispatch knows too, behind its lock.
    closing: AtomicBool,
    in_flight: UpDown,
}

/// The worker threads.
#[derive(Default)]
struct Workers {
    threads: Vec<(WorkerId, JoinHandle<()>)>,
    /// Those that were started, ever.
    started: usize,
    /// Those that are to be started yet.
    missing: usize,
    /// The id of one that could not be started.
    spare: Option<WorkerId>,
}

/// The most workers that are ever given up. Each may still hold a core, and a server with this many
/// is better started again, which is what a failing liveness check leads to.
const MAX_RETIRED: usize = 64;

impl Scheduler {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    ///
    /// # Panics
    /// If a setting that is at least 1 is 0.
    pub fn start(settings: SchedulerSettings) -> io::Result<Arc<Self>> {
        let SchedulerSettings {
            workers,
            max_batch_rows,
            max_batch_delay,
            max_queued_rows,
            inline_cost,
            ..
        } = settings;
        assert!(workers > 0, "workers must be at least 1");
        assert!(max_batch_rows > 0, "max_batch_rows must be at least 1");
        assert!(max_queued_rows > 0, "max_queued_rows must be at least 1");
        let scheduler = Arc::new(Self {
            settings,
            dispatch: Arc::new(Dispatch::new(Rules {
                workers,
                max_queued_rows,
                hold: HoldPolicy { max_batch_delay },
            })),
            workers: Mutex::default(),
            inline: InlinePolicy { inline_cost },
            closing: AtomicBool::new(false),
            in_flight: UpDown::default(),
        });
        // If this fails, dropping the scheduler ends those that were started.
        scheduler.start_workers(workers)?;
        Ok(scheduler)
    }

    /// Starts this many workers more, and those that could not be started before.
    fn start_workers(&self, count: usize) -> io::Result<()> {
        let mut workers = self.workers();
        workers.missing += count;
        while workers.missing > 0 {
            let worker = match workers.spare.take() {
                Some(spare) => spare,
                None => self.dispatch.add_worker(),
            };
            workers.spare = Some(worker);
            let dispatch = Arc::clone(&self.dispatch);
            let thread = thread::Builder::new()
                .name(format!("worker-{}", workers.started))
                .spawn(move || Worker::new(dispatch, worker).run())?;
            workers.spare = None;
            workers.started += 1;
            workers.missing -= 1;
            workers.threads.push((worker, thread));
        }
        Ok(())
    }

    /// Gives up each worker that has died or, with a `limit`, that has computed one batch for
    /// longer, and starts another in its place; returns how many. The requests of its batch fail;
    /// a thread that lives ends when its forward pass does, if it ever does.
    pub fn replace_workers(&self, limit: Option<Duration>) -> usize {
        if self.closing.load(Ordering::Relaxed) {
            return 0;
        }
        let mut workers = self.workers();
        let dead = workers
            .threads
            .iter()
            .filter(|(_, thread)| thread.is_finished());
        let dead: Vec<WorkerId> = dead.map(|&(worker, _)| worker).collect();
        let given_up = workers.started - workers.threads.len();
        let limit = limit.filter(|_| given_up < MAX_RETIRED);
        let retired = self.dispatch.retire(limit, &dead);
        // No one waits for their ends.
        workers
            .threads
            .retain(|(worker, _)| !retired.contains(worker));
        drop(workers);
        if let Err(error) = self.start_workers(retired.len()) {
            tracing::error!(%error, "cannot start a worker; trying again");
        }
        retired.len()
    }

    /// Whether rows came longer than `limit` ago and no worker has looked for rows since: only a
    /// fault of this process explains that.
    #[must_use]
    pub fn is_stalled(&self, limit: Duration) -> bool {
        self.dispatch.is_stalled(limit)
    }

    /// Adds a queue for one model version. It leaves with its last [`Lane`].
    pub fn lane(
        self: &Arc<Self>,
        engine: Arc<Engine>,
        metrics: ModelMetrics,
        settings: LaneSettings,
    ) -> Lane {
        let policy = LimitPolicy {
            max_batch_rows: self.settings.max_batch_rows,
            max_batch_time: self.settings.max_batch_time,
            max_scratch_bytes: self.settings.max_scratch_bytes,
        };
        let prepare = settings.prepare.clone();
        let work = Arc::new(Forward::new(engine, metrics.clone(), settings, policy));
        let forward = LaneWork::Forward(Arc::clone(&work));
        let id = self.dispatch.add_lane(Arc::new(forward));
        let preparing = prepare.map(|step| {
            let max = Load {
                rows: policy.max_batch_rows,
                units: usize::MAX,
            };
            let preparation = Arc::new(Preparation {
                step,
                forward: Arc::clone(&work),
                limit: BatchLimit::new(policy, max, 1),
                queued: QueueGauge::new(metrics),
                next: id,
            });
            let prepare = LaneWork::Prepare(Arc::clone(&preparation));
            let id = self.dispatch.add_preparing_lane(Arc::new(prepare), id);
            (id, preparation)
        });
        Lane(Arc::new(LaneInner {
            scheduler: Arc::clone(self),
            id,
            work,
            preparing,
        }))
    }

    /// Refuses new requests with [`InferError::Closing`], finishes those that wait, and ends the
    /// worker threads. Blocks until they have ended; calling it again does nothing.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.dispatch.close();
        let workers = std::mem::take(&mut self.workers().threads);
        for (_, worker) in workers {
            // A worker catches its panics, so there is nothing to learn from how it ended.
            let _ = worker.join();
        }
    }

    /// Requests that were submitted and are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("settings", &self.settings)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// One model version's way into the scheduler. Clones share one queue, which goes with the last.
#[derive(Clone, Debug)]
pub struct Lane(Arc<LaneInner>);

#[derive(Debug)]
struct LaneInner {
    scheduler: Arc<Scheduler>,
    id: LaneId,
    work: Arc<Forward>,
    /// The lane in which rows are prepared, if they are.
    preparing: Option<(LaneId, Arc<Preparation>)>,
}

impl Drop for LaneInner {
    fn drop(&mut self) {
        if let Some((preparing, _)) = self.preparing {
            self.scheduler.dispatch.remove_lane(preparing);
        }
        self.scheduler.dispatch.remove_lane(self.id);
    }
}

impl LaneInner {
    /// Computes a request on this thread, if it is to be computed here.
    fn run_inline(&self, request: &InferRequest) -> Option<Answer> {
        let scheduler = &self.scheduler;
        let cost = self.work.limit.estimate(request.load().units)?;
        if !self.work.has_scratch(request.load()) {
            return None;
        }
        let _running = match scheduler.inline.runs_on(cost) {
            // A permission that no one counts.
            RunsOn::Caller if !scheduler.closing.load(Ordering::Relaxed) => None,
            RunsOn::CallerIfIdle => Some(scheduler.dispatch.start_inline()?),
            RunsOn::Caller | RunsOn::Worker => return None,
        };
        let is_late = request.deadline.is_some_and(|at| at <= Instant::now());
        Some(match is_late {
            true => Err(InferError::DeadlineExceeded),
            false => self.work.run_inline(request),
        })
    }
}

impl Lane {
    /// Computes a request's rows, on this thread or on a worker's.
    ///
    /// Dropping the future cancels the request: rows that wait leave the queue at once and are
    /// not computed. Needs a tokio runtime with a timer if the request has a deadline.
    ///
    /// # Errors
    /// See [`InferError`].
    pub async fn submit(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let ending = Ending::awaited(self);
        let answer = self.answer(request).await;
        ending.reached(&answer);
        answer
    }

    async fn answer(&self, request: InferRequest) -> Answer {
        let lane = &*self.0;
        let dispatch = &lane.scheduler.dispatch;
        let deadline = request.deadline;
        let pending = match lane.preparing {
            // Preparing is for the threads that compute, whatever it costs.
            Some((preparing, _)) => dispatch.push_unprepared(preparing, request)?,
            None => {
                let checked = lane.work.check_tokens(&request.offsets);
                checked.map_err(InferError::InvalidRow)?;
                match lane.run_inline(&request) {
                    Some(answer) => return answer,
                    None => dispatch.push(lane.id, request)?,
                }
            }
        };
        match deadline {
            None => pending.await,
            // An answer that is there in time wins over the deadline; a deadline that passes
            // first drops `pending`, which takes the rows out of the queue.
            Some(deadline) => tokio::time::timeout_at(deadline.into(), pending)
                .await
                .unwrap_or(Err(InferError::DeadlineExceeded)),
        }
    }
    /// Runs the engine on rows of zeros, so that the first requests meet warm caches and a
    /// measured cost, and batches their limit. Blocks: one row twice, then doubling up to a full
    /// batch, or one that would take too long; no pass begins after a second. Nothing of it counts
    /// in the metrics.
    ///
    /// An answer that is not finite is no error: zeros may be nothing that the model is ever
    /// asked.
    ///
    /// # Errors
    /// [`InferError::Panicked`] if a pass panics: the model would fail requests.
    pub fn warm_up(&self) -> Result<WarmUp, InferError> {
        let work = &self.0.work;
        let started = Instant::now();
        let mut workspace = Workspace::new();
        // The first brings the weights and the code into the caches. It counts only if the second
        // takes longer, which then waited for something else.
        let (non_finite_output, cold) = work.try_zeros(1, &mut workspace, |outputs, compute| {
            (work.refused_output(outputs), compute)
        })?;
        let mut time = |rows| work.try_zeros(rows, &mut workspace, |_, compute| compute);
        let one = time(1)?.min(cold);
        work.record(1, one);
        let most = work.limit.batch_time(one);
        let mut rows = 2;
        while rows <= work.limit.load().rows && started.elapsed() < WARM_UP {
            let mut compute = time(rows)?;
            if compute > most {
                // The machine may have taken the thread away.
                compute = compute.min(time(rows)?);
            }
            work.record(rows, compute);
            if compute > most {
                break;
            }
            rows *= 2;
        }
        Ok(WarmUp { non_finite_output })
    }

    /// Why a request is refused that comes now, whatever its rows; counted as a refusal. Cheap and
    /// without a lock unless there is overload, so that a server can ask before it reads a body.
    #[must_use]
    pub fn refuse(&self) -> Option<InferError> {
        let lane = &*self.0;
        let preparing = lane.preparing.as_ref();
        let waiting = lane.work.queued.rows() + preparing.map_or(0, |(_, work)| work.queued.rows());
        if waiting < lane.scheduler.settings.max_queued_rows {
            return None;
        }
        let first = preparing.map_or(lane.id, |&(id, _)| id);
        let overload = lane.scheduler.dispatch.overload(first, 1)?;
        lane.work.metrics.rejected(Rejection::QueueFull);
        Some(overload)
    }

    /// Rows that wait now.
    #[must_use]
    pub fn queued_rows(&self) -> usize {
        let lane = &*self.0;
        let preparing = lane.preparing.as_ref().map(|&(id, _)| id);
        let ids = [Some(lane.id), preparing].into_iter().flatten();
        ids.map(|id| lane.scheduler.dispatch.queued_rows(id)).sum()
    }

    /// How its rows are computed.
    #[must_use]
    pub fn scheduling(&self) -> &SchedulerSettings {
        &self.0.scheduler.settings
    }

    /// The engine that computes this lane's rows.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.0.work.engine
    }
}

/// Counts a submitted request's end: what its caller got, or that the caller left before.
struct Ending<'a> {
    lane: &'a LaneInner,
    reached: bool,
}

impl<'a> Ending<'a> {
    fn awaited(lane: &'a Lane) -> Self {
        let lane = &*lane.0;
        lane.scheduler.in_flight.inc();
        Self {
            lane,
            reached: false,
        }
    }

    fn reached(mut self, answer: &Answer) {
        self.reached = true;
        let metrics = &self.lane.work.metrics;
        let reason = match answer {
            Ok(response) => {
                let Timing { queue, compute, .. } = response.timing;
                return metrics.answered(queue, compute);
            }
            Err(InferError::Overloaded { .. }) => Rejection::QueueFull,
            Err(InferError::DeadlineExceeded) => Rejection::Deadline,
            Err(InferError::Closing) => Rejection::Closing,
            Err(InferError::NonFinite { .. }) => Rejection::NonFinite,
            Err(InferError::Panicked) => Rejection::Panic,
            // Its status counts it, as that of a request that is refused where it is decoded.
            Err(InferError::InvalidRow(_)) => return,
        };
        metrics.rejected(reason);
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.lane.scheduler.in_flight.dec();
        if !self.reached {
            self.lane.work.metrics.rejected(Rejection::Cancelled);
        }
    }
}
