//! A forward pass that lasts as long as a test wants, so that later requests wait.

use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use safeserve::engine::kernels::Isa;
use safeserve::engine::{Engine, GraphBuilder, Kernel, OpError, Operand, Operator, Run};
use safeserve::metrics::Metrics;
use safeserve::request::{InferError, InferRequest, InferResponse};
use safeserve::scheduler::{Lane, LaneSettings, Scheduler};
use safeserve::tensor::{DataType, Shape, TensorSpec, Values};

/// Holds a forward pass until the test lets it go.
pub(super) struct Gate {
    entered: Receiver<()>,
    leave: Sender<()>,
}

/// The operator whose forward pass stops at the gate.
#[derive(Clone, Debug)]
struct Gated {
    enter: Sender<()>,
    may_leave: Arc<Mutex<Receiver<()>>>,
}

impl Gate {
    /// Holds the scheduler's only worker at a gate.
    pub(super) fn hold(scheduler: &Arc<Scheduler>, metrics: &Metrics) -> Self {
        let (gate, engine) = Self::new();
        let settings = LaneSettings::default();
        let lane = scheduler.lane(Arc::new(engine), metrics.model("gate", 1), settings);
        occupy(lane);
        gate.entered.recv().unwrap();
        gate
    }

    /// Lets the worker go.
    pub(super) fn open(&self) {
        self.leave.send(()).unwrap();
    }

    fn new() -> (Self, Engine) {
        let (enter, entered) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel();
        let may_leave = Arc::new(Mutex::new(may_leave));
        let mut graph = GraphBuilder::new();
        let x = graph.input(TensorSpec::new("x", DataType::Fp32, Shape::rows(vec![1])));
        let y = graph
            .node("gate", Gated { enter, may_leave }, &[x])
            .unwrap();
        graph.output("y", y).unwrap();
        let engine = Engine::compile(graph.build());
        (Self { entered, leave }, engine)
    }
}

impl PartialEq for Gated {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.may_leave, &other.may_leave)
    }
}

impl Operator for Gated {
    fn name(&self) -> &'static str {
        "Gated"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(self.clone())
    }
}

impl Kernel for Gated {
    fn run(&self, run: Run<'_>) {
        // A gate that the test has dropped is open.
        let _ = self.enter.send(());
        let _ = self.may_leave.lock().unwrap().recv();
        run.output.copy_from_slice(run.inputs.get(0));
    }
}

/// Has a row of this lane taken by the worker; no one waits for its answer.
fn occupy(lane: Lane) {
    type Submitted = Pin<Box<dyn Future<Output = Result<InferResponse, InferError>> + Send>>;
    let mut submitted: Submitted = Box::pin(async move {
        lane.submit(InferRequest {
            rows: 1,
            offsets: Vec::new(),
            inputs: vec![Values::F32(vec![0.0])],
            finish: false,
            deadline: None,
        })
        .await
    });
    let poll = submitted
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending(), "{poll:?}");
    // Dropping it would take the row out of the queue, if the worker has not come to it yet.
    tokio::spawn(submitted);
}
