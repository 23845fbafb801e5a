//! Family `faults`, only with the cargo feature of that name: a model that passes its input on, or
//! breaks down when it is told to. The tests of the running program plant it; no release build can
//! have it.

use std::thread;

use crate::engine::kernels::Isa;
use crate::engine::{Graph, GraphBuilder, Kernel, OpError, Operand, Operator, Run};
use crate::model::LoadError;
use crate::model::json::{Field, Fields};
use crate::model::manifest::Description;
use crate::model::weights::Weights;
use crate::tensor::{DataType, Shape, TensorSpec};

/// A row that begins with this panics.
const PANICS: f32 = 666.0;
/// A row that begins with this does not end.
const HANGS: f32 = 667.0;

/// Builds the graph of a `faults` configuration: one input and one output, both named `x`, of one
/// number a row. The key `load` may say that building it `panics` or `hangs`.
pub(super) fn build(
    config: &mut Fields,
    _description: &Description,
    weights: Weights,
) -> Result<(Graph, Weights), LoadError> {
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
    let x = graph.input(TensorSpec::new("x", DataType::Fp32, Shape::rows(vec![1])));
    let y = graph
        .node("fault", Fault, &[x])
        .expect("one input of any shape");
    graph.output("x", y).expect("computed from the input");
    Ok((graph.build(), weights))
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
