//! What the tests serve: models whose operator is a closure of the test.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::kernels::Isa;
use crate::engine::{Engine, GraphBuilder, Kernel, OpError, Operand, Operator, Run};
use crate::metrics::{BuildInfo, Metrics};
use crate::request::{InferError, InferRequest, InferResponse, Prepare, Prepared, RowError};
use crate::scheduler::{Lane, LaneSettings, Scheduler, SchedulerSettings};
use crate::tensor::{DataType, Shape, TensorSpec, Values};

/// One worker, small batches whatever they cost, no delay, nothing inline.
pub(super) const SETTINGS: SchedulerSettings = SchedulerSettings {
    workers: 1,
    max_batch_rows: 4,
    max_batch_time: AN_HOUR,
    max_scratch_bytes: 1 << 20,
    max_batch_delay: Duration::ZERO,
    max_queued_rows: 8,
    inline_cost: Duration::ZERO,
};

/// Long enough that no test sees its end.
pub(super) const AN_HOUR: Duration = Duration::from_secs(3600);

/// A scheduler with the metrics of its models.
pub(super) struct Fixture {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) metrics: Metrics,
}

impl Fixture {
    pub(super) fn new(settings: SchedulerSettings) -> Self {
        Self {
            scheduler: Scheduler::start(settings).unwrap(),
            metrics: Metrics::new(BuildInfo {
                version: "0.0.0",
                profile: "test",
                platform: "test",
            }),
        }
    }

    /// A lane for a model of this name whose rows, of one element, the closure computes.
    pub(super) fn lane(
        &self,
        name: &str,
        run: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Lane {
        self.lane_with(name, false, run)
    }

    pub(super) fn lane_with(
        &self,
        name: &str,
        allow_non_finite: bool,
        run: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Lane {
        self.lane_of(name, allow_non_finite, None, run)
    }

    /// As [`lane`](Self::lane), of a model whose rows the closure `step` prepares. It gets the number
    /// of the first row and the rows.
    pub(super) fn preparing_lane(
        &self,
        name: &str,
        step: impl Fn(usize, &[f32]) -> Result<Vec<f32>, RowError> + Send + Sync + 'static,
        run: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Lane {
        self.lane_of(name, false, Some(Arc::new(Step(step))), run)
    }

    fn lane_of(
        &self,
        name: &str,
        allow_non_finite: bool,
        prepare: Option<Arc<dyn Prepare>>,
        run: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static,
    ) -> Lane {
        let settings = LaneSettings {
            name: name.to_owned(),
            allow_non_finite,
            prepare,
            finish: None,
        };
        let metrics = self.metrics.model(name, 1);
        self.scheduler
            .lane(Arc::new(engine(run)), metrics, settings)
    }

    /// The value of a series on the metrics page, named as there.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let page = self.metrics.render().unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series} in\n{page}"))
            .parse()
            .unwrap()
    }

    /// How many requests of a model were rejected for a reason.
    pub(super) fn rejected(&self, name: &str, reason: &str) -> f64 {
        self.metric(&format!(
            r#"safeserve_rejections_total{{model="{name}",reason="{reason}",version="1"}}"#
        ))
    }
}

/// A step of preparing that is a closure.
struct Step<F>(F);

impl<F> fmt::Debug for Step<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Step")
    }
}

impl<F> Prepare for Step<F>
where
    F: Fn(usize, &[f32]) -> Result<Vec<f32>, RowError> + Send + Sync,
{
    fn prepare(&self, request: &InferRequest, rows: Range<usize>) -> Result<Prepared, RowError> {
        let values = request.inputs[0].view().slice(rows.clone());
        let prepared = (self.0)(rows.start, values.f32s())?;
        Ok(Prepared {
            offsets: Vec::new(),
            inputs: vec![Values::F32(prepared)],
        })
    }
}

/// An engine with one operator: a closure over all rows of a batch.
pub(super) fn engine(run: impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static) -> Engine {
    let mut graph = GraphBuilder::new();
    let x = graph.input(TensorSpec::new("x", DataType::Fp32, Shape::rows(vec![1])));
    let y = graph.node("closure", Closure(Arc::new(run)), &[x]).unwrap();
    graph.output("y", y).unwrap();
    Engine::compile(graph.build())
}

type Function = dyn Fn(&[f32], &mut [f32]) + Send + Sync;

#[derive(Clone)]
struct Closure(Arc<Function>);

impl PartialEq for Closure {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

impl Operator for Closure {
    fn name(&self) -> &'static str {
        "Closure"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(self.clone())
    }
}

impl Kernel for Closure {
    fn run(&self, run: Run<'_>) {
        (self.0)(run.inputs.get(0), run.output);
    }
}

/// Holds each forward pass until the test lets it go.
pub(super) struct Gate {
    entered: Receiver<Vec<f32>>,
    leave: Sender<()>,
}

impl Gate {
    /// The gate, and the closure of a model `y = x + 1` that passes through it.
    pub(super) fn new() -> (Self, impl Fn(&[f32], &mut [f32]) + Send + Sync + 'static) {
        let (enter, entered) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel();
        let may_leave = Mutex::new(may_leave);
        let run = move |x: &[f32], y: &mut [f32]| {
            // A gate that the test has dropped is open.
            let _ = enter.send(x.to_vec());
            let _ = may_leave.lock().unwrap().recv();
            plus_one(x, y);
        };
        (Self { entered, leave }, run)
    }

    /// Waits for the next forward pass and returns its rows; it stays inside.
    pub(super) fn entered(&self) -> Vec<f32> {
        self.entered.recv().unwrap()
    }

    /// Lets one forward pass go.
    pub(super) fn open(&self) {
        self.leave.send(()).unwrap();
    }

    /// Lets the next forward pass go and returns its rows.
    pub(super) fn pass(&self) -> Vec<f32> {
        let rows = self.entered();
        self.open();
        rows
    }
}

/// The model `y = x + 1`.
pub(super) fn plus_one(x: &[f32], y: &mut [f32]) {
    for (x, y) in x.iter().zip(y) {
        *y = x + 1.0;
    }
}

/// A request of these rows, without a deadline.
pub(super) fn request(rows: &[f32]) -> InferRequest {
    InferRequest {
        rows: rows.len(),
        offsets: Vec::new(),
        inputs: vec![Values::F32(rows.to_vec())],
        finish: false,
        deadline: None,
    }
}

pub(super) type Submitted<'a> =
    Pin<Box<dyn Future<Output = Result<InferResponse, InferError>> + Send + 'a>>;

/// Submits a request: it is queued or taken on return, or, where a worker was quick, answered.
pub(super) fn submit(lane: &Lane, request: InferRequest) -> Submitted<'_> {
    let mut submitted: Submitted<'_> = Box::pin(lane.submit(request));
    let context = &mut Context::from_waker(Waker::noop());
    match submitted.as_mut().poll(context) {
        Poll::Pending => submitted,
        Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
    }
}

/// Waits for the end of a request.
pub(super) fn wait(
    submitted: impl Future<Output = Result<InferResponse, InferError>>,
) -> Result<InferResponse, InferError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(submitted)
}

/// Runs a future on a clock that jumps to the next timer when nothing else is to be done.
pub(super) fn wait_on_a_jumping_clock(
    submit: impl AsyncFnOnce() -> Result<InferResponse, InferError>,
) -> Result<InferResponse, InferError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(submit())
}

/// The single output of an answer.
pub(super) fn values(answer: Result<InferResponse, InferError>) -> Vec<f32> {
    let [values] = &*answer.unwrap().outputs else {
        panic!("one output");
    };
    values.view().f32s().to_vec()
}
