//! Family `faults`, only with the cargo feature of that name: a model that passes its input on, or
//! breaks down when it is told to. The tests of the running program plant it; no release build can
//! have it.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use crate::engine::kernels::Isa;
use crate::engine::{GraphBuilder, Kernel, OpError, Operand, Operator, Run};
use crate::model::LoadError;
use crate::model::json::{Field, Fields};
use crate::model::manifest::Description;
use crate::model::program::{PrepareStep, Program};
use crate::model::weights::Weights;
use crate::request::{InferRequest, Prepare, Prepared, RowError};
use crate::tensor::{DataType, Shape, TensorSpec, Values};

/// A row that begins with this panics.
const PANICS: f32 = 666.0;
/// A row that begins with this does not end.
const HANGS: f32 = 667.0;
/// Preparing a row that begins with this panics.
const PANICS_IN_PREPARE: f32 = 668.0;
/// Preparing a row that begins with this does not end.
const HANGS_IN_PREPARE: f32 = 669.0;
/// A row that begins with this cannot be prepared.
const IS_REFUSED: f32 = 670.0;

/// Builds the program of a `faults` configuration: one input and one output, both named `x`, of one
/// number a row. The key `load` may say that building it `panics` or `hangs`; with the key `prepare`
/// its rows are prepared, as they are or not at all.
pub(super) fn build(
    config: &mut Fields,
    _description: &Description,
    weights: Weights,
) -> Result<(Program, Weights), LoadError> {
    match config
        .take("load")
        .map(Field::string)
        .transpose()?
        .as_deref()
    {
        Some("panics") => panic!("planted"),
        Some("hangs") => hang(),
        _ => {}
    }
    let mut graph = GraphBuilder::new();
    let spec = TensorSpec::new("x", DataType::Fp32, Shape::rows(vec![1]));
    let x = graph.input(spec.clone());
    let y = graph
        .node("fault", Fault, &[x])
        .expect("one input of any shape");
    graph.output("x", y).expect("computed from the input");
    let prepares = config.take("prepare").map(Field::bool).transpose()?;
    let program = Program {
        prepare: prepares.unwrap_or_default().then(|| PrepareStep {
            inputs: vec![spec],
            step: Arc::new(Fault),
        }),
        graph: graph.build(),
        finish: None,
    };
    Ok((program, weights))
}

/// Never ends, and takes no processor for it.
fn hang() -> ! {
    loop {
        thread::park();
    }
}

#[derive(Debug, PartialEq)]
struct Fault;

impl Operator for Fault {
    fn name(&self) -> &'static str {
        "Fault"
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![inputs[0].shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(Self)
    }
}

impl Kernel for Fault {
    fn run(&self, run: Run<'_>) {
        let input = run.inputs.get(0);
        run.output.copy_from_slice(input);
        if input.contains(&PANICS) {
            panic!("planted");
        }
        if input.contains(&HANGS) {
            hang();
        }
    }
}

impl Prepare for Fault {
    fn prepare(&self, request: &InferRequest, rows: Range<usize>) -> Result<Prepared, RowError> {
        let values = request.inputs[0].view().slice(rows.clone()).f32s();
        for (row, value) in rows.zip(values) {
            match *value {
                PANICS_IN_PREPARE => panic!("planted"),
                HANGS_IN_PREPARE => hang(),
                IS_REFUSED => {
                    let message = format!("expected anything but {IS_REFUSED}");
                    return Err(RowError { row, message });
                }
                _ => {}
            }
        }
        Ok(Prepared {
            offsets: Vec::new(),
            inputs: vec![Values::F32(values.to_vec())],
        })
    }
}
