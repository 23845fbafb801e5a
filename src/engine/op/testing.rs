//! Runs one operator by itself, for the operators' own tests.

use ndarray::ArrayD;

use super::{Operand, Operator};
use crate::engine::kernels::Isa;
use crate::engine::{Batch, Engine, GraphBuilder, Workspace};
use crate::tensor::{DataType, Shape, TensorSpec, View};

/// An operand that comes from the request.
pub(in crate::engine) fn value(extents: &[usize]) -> Operand {
    Operand::computed(Shape::rows(extents))
}

/// An operand that is known at load.
pub(in crate::engine) fn weight(shape: &[usize], values: &[f32]) -> Operand {
    let values = ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap();
    Operand::known(values.into())
}

/// The extents of the operator's only output.
pub(in crate::engine) fn extents(operator: &impl Operator, operands: &[Operand]) -> Vec<usize> {
    match &operator.infer_shapes(operands).unwrap()[..] {
        [shape] => shape.extents.clone(),
        shapes => panic!("{} outputs", shapes.len()),
    }
}

/// What the operator says about operands that it refuses.
pub(in crate::engine) fn refusal(operator: &impl Operator, operands: &[Operand]) -> String {
    operator.infer_shapes(operands).unwrap_err().to_string()
}

/// Checks what the operator computes with every instruction set of this machine.
///
/// `inputs` holds the rows of the operands that are not weights. Answers may differ from
/// `expected` by `tolerance` times the larger of the number and 1.
pub(in crate::engine) fn assert_computes(
    operator: &(impl Operator + Clone + 'static),
    operands: &[Operand],
    rows: usize,
    inputs: &[&[f32]],
    expected: &[f32],
    tolerance: f32,
) {
    for isa in Isa::available() {
        let mut graph = GraphBuilder::new();
        let mut values = Vec::new();
        for (index, operand) in operands.iter().enumerate() {
            values.push(match &operand.constant {
                Some(constant) => graph.constant(constant.clone()),
                None => graph.input(TensorSpec::new(
                    index.to_string(),
                    DataType::Fp32,
                    operand.shape.clone(),
                )),
            });
        }
        let output = graph.node("node", operator.clone(), &values).unwrap();
        graph.output("output", output).unwrap();
        let engine = Engine::compile_for(graph.build(), isa);
        let mut workspace = Workspace::new();
        let views: Vec<View<'_>> = inputs.iter().map(|values| View::F32(values)).collect();
        let outputs = engine.run(Batch::of_rows(rows, &views), &mut workspace, None);
        let actual = outputs.get(0);
        assert_eq!(actual.len(), expected.len(), "{}", isa.name());
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let difference = (actual - expected).abs();
            assert!(
                difference <= tolerance * expected.abs().max(1.0),
                "{}: element {index} is {actual}, expected {expected}",
                isa.name()
            );
        }
    }
}

/// A strategy for `len` numbers between -4 and 4.
pub(in crate::engine) fn numbers(
    len: usize,
) -> impl proptest::strategy::Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-4.0_f32..4.0, len)
}
