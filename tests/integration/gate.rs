//! A forward pass that lasts as long as a test wants, so that what comes meanwhile waits.

use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use safeserve::engine::kernels::Isa;
use safeserve::engine::{Engine, GraphBuilder, Inputs, Kernel, OpError, Operand, Operator};
use safeserve::metrics::Metrics;
use safeserve::request::{InferError, InferRequest, InferResponse};
use safeserve::scheduler::{Lane, LaneSettings, Scheduler};
use safeserve::tensor::{DataType, TensorSpec};

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
    /// Has the scheduler's only worker stand at a gate.
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
        let x = graph.input(TensorSpec {
            name: "x".into(),
            datatype: DataType::Fp32,
            row_shape: vec![1],
            description: String::new(),
        });
        let y = graph
            .node("gate", Gated { enter, may_leave }, &[x])
            .unwrap();
        graph.output("y", y);
        let engine = Engine::compile(graph.build());
        (Self { entered, leave }, engine)
    }
}

impl Operator for Gated {
    fn name(&self) -> &'static str {
        "Gated"
    }

    fn infer_shape(&self, inputs: &[Operand]) -> Result<Vec<usize>, OpError> {
        Ok(inputs[0].shape.clone())
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(self.clone())
    }
}

impl Kernel for Gated {
    fn run(&self, _rows: usize, inputs: Inputs<'_>, output: &mut [f32]) {
        // A gate that the test has dropped stands open.
        let _ = self.enter.send(());
        let _ = self.may_leave.lock().unwrap().recv();
        output.copy_from_slice(inputs.get(0));
    }

    fn flops_per_row(&self) -> u64 {
        1
    }
}

/// Has a row of this lane taken by the worker; nobody waits for its answer.
fn occupy(lane: Lane) {
    type Submitted = Pin<Box<dyn Future<Output = Result<InferResponse, InferError>> + Send>>;
    let mut submitted: Submitted = Box::pin(async move {
        lane.submit(InferRequest {
            rows: 1,
            inputs: vec![vec![0.0]],
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
