//! Functions of two values whose order matters.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, itemwise};
use crate::engine::ops::arithmetic::common_extents;
use crate::engine::run::Run;
use crate::tensor::Shape;

/// A function of two values, element by element (ONNX `Sub`, `Div`, `Pow`).
///
/// Operands: `a` and `b` of one shape; a weight may be one number or have a suffix of the other's
/// shape instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a - b`
    Sub,
    /// `a / b`
    Div,
    /// `a` to the power of `b`
    Pow,
}

impl Binary {
    fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Sub => a - b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
        }
    }
}

impl Operator for Binary {
    fn name(&self) -> &'static str {
        match self {
            Self::Sub => "Sub",
            Self::Div => "Div",
            Self::Pow => "Pow",
        }
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        match inputs {
            [_, _] => itemwise(inputs, common_extents(inputs)?),
            _ => Err(OpError::Operands {
                expected: "2 inputs (a, b)",
                actual: inputs.len(),
            }),
        }
    }

    fn prepare(&self, inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        let extents = common_extents(inputs).expect("infer_shapes checked the operands");
        let elements = extents.iter().product();
        let repeated = |operand: &Operand| {
            let values = operand.constant.as_ref()?.to_vec();
            Some(values.into_iter().cycle().take(elements).collect())
        };
        Box::new(BinaryKernel {
            function: *self,
            elements,
            constants: [repeated(&inputs[0]), repeated(&inputs[1])],
        })
    }
}

#[derive(Debug)]
struct BinaryKernel {
    function: Binary,
    elements: usize,
    /// Both operands' numbers along a row, if they are known.
    constants: [Option<Vec<f32>>; 2],
}

impl Kernel for BinaryKernel {
    fn run(&self, run: Run<'_>) {
        let Run { inputs, output, .. } = run;
        let [a, b] = &self.constants;
        let length = self.elements.max(1);
        for (row, output) in output.chunks_exact_mut(length).enumerate() {
            let of_row = |index: usize| &inputs.get(index)[row * length..][..length];
            let (a, b) = match (a, b) {
                (None, None) => (of_row(0), of_row(1)),
                (None, Some(b)) => (of_row(0), &**b),
                (Some(a), None) => (&**a, of_row(0)),
                (Some(a), Some(b)) => (&**a, &**b),
            };
            // One loop a function, so that the compiler has vectors for it.
            match self.function {
                Binary::Sub => zip(a, b, output, |a, b| Binary::Sub.of(a, b)),
                Binary::Div => zip(a, b, output, |a, b| Binary::Div.of(a, b)),
                Binary::Pow => zip(a, b, output, |a, b| Binary::Pow.of(a, b)),
            }
        }
    }

    fn weight_bytes(&self) -> usize {
        let constants = self.constants.iter().flatten();
        constants.map(|values| size_of_val(&**values)).sum()
    }
}

fn zip(a: &[f32], b: &[f32], output: &mut [f32], function: impl Fn(f32, f32) -> f32) {
    for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
        *output = function(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{assert_computes, refusal, value, weight};

    const A: &[f32] = &[8.0, -2.0, 3.0, 4.0];
    const B: &[f32] = &[2.0, 4.0, -1.0, 0.5];

    #[test]
    fn the_first_operand_is_on_the_left() {
        let operands = [value(&[2]), value(&[2])];
        for (function, expected) in [
            (Binary::Sub, [6.0, -6.0, 4.0, 3.5]),
            (Binary::Div, [4.0, -0.5, -3.0, 8.0]),
            (Binary::Pow, [64.0, 16.0, 1.0 / 3.0, 2.0]),
        ] {
            assert_computes(&function, &operands, 2, &[A, B], &expected, 1e-7);
        }
    }

    #[test]
    fn a_weight_may_be_on_either_side_and_is_repeated() {
        let x = value(&[2]);
        let columns = weight(&[2], &[1.0, 2.0]);
        let one = weight(&[], &[2.0]);
        let cases: [(Binary, [&Operand; 2], [f32; 4]); 4] = [
            (Binary::Sub, [&x, &columns], [7.0, -4.0, 2.0, 2.0]),
            (Binary::Sub, [&columns, &x], [-7.0, 4.0, -2.0, -2.0]),
            (Binary::Div, [&x, &one], [4.0, -1.0, 1.5, 2.0]),
            (Binary::Pow, [&one, &x], [256.0, 0.25, 8.0, 16.0]),
        ];
        for (function, operands, expected) in cases {
            let operands = operands.map(Clone::clone);
            assert_computes(&function, &operands, 2, &[A], &expected, 1e-7);
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        assert_eq!(
            refusal(&Binary::Sub, &[value(&[2]), value(&[3])]),
            "operand: expected shape [3], as another operand has, got shape [2]"
        );
        assert_eq!(
            refusal(&Binary::Div, &[value(&[2])]),
            "expected 2 inputs (a, b), got 1 inputs"
        );
    }
}
