//! Element-wise mathematics that is no activation.

use crate::engine::kernels::Isa;
use crate::engine::op::{Kernel, OpError, Operand, Operator, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// A function of each element, as the standard library computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `|x|`
    Abs,
    /// The next whole number upwards
    Ceil,
    /// The cosine
    Cos,
    /// The next whole number downwards
    Floor,
    /// The natural logarithm
    Log,
    /// `-x`
    Neg,
    /// `1 / x`
    Reciprocal,
    /// The nearest whole number, of two the even one
    Round,
    /// -1, 0 or 1
    Sign,
    /// The sine
    Sin,
    /// The square root
    Sqrt,
}

impl Unary {
    fn of(self) -> fn(f32) -> f32 {
        match self {
            Self::Abs => f32::abs,
            Self::Ceil => f32::ceil,
            Self::Cos => f32::cos,
            Self::Floor => f32::floor,
            Self::Log => f32::ln,
            Self::Neg => |x| -x,
            Self::Reciprocal => |x| 1.0 / x,
            Self::Round => f32::round_ties_even,
            Self::Sign => |x| if x == 0.0 { 0.0 } else { x.signum() },
            Self::Sin => f32::sin,
            Self::Sqrt => f32::sqrt,
        }
    }
}

impl Operator for Unary {
    fn name(&self) -> &'static str {
        match self {
            Self::Abs => "Abs",
            Self::Ceil => "Ceil",
            Self::Cos => "Cos",
            Self::Floor => "Floor",
            Self::Log => "Log",
            Self::Neg => "Neg",
            Self::Reciprocal => "Reciprocal",
            Self::Round => "Round",
            Self::Sign => "Sign",
            Self::Sin => "Sin",
            Self::Sqrt => "Sqrt",
        }
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![only(inputs)?.shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], _isa: Isa) -> Box<dyn Kernel> {
        Box::new(UnaryKernel {
            function: self.of(),
        })
    }
}

#[derive(Debug)]
struct UnaryKernel {
    function: fn(f32) -> f32,
}

impl Kernel for UnaryKernel {
    fn run(&self, run: Run<'_>) {
        let output = run.output;
        for value in output {
            *value = (self.function)(*value);
        }
    }

    fn in_place(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{assert_computes, refusal, value};

    #[test]
    fn each_function_is_what_its_name_says() {
        let x = [0.25, -2.5, 1.5, -0.0];
        let quarter = std::f32::consts::FRAC_PI_4;
        for (function, x, expected) in [
            (Unary::Abs, x, [0.25, 2.5, 1.5, 0.0]),
            (Unary::Ceil, x, [1.0, -2.0, 2.0, 0.0]),
            (Unary::Floor, x, [0.0, -3.0, 1.0, 0.0]),
            (Unary::Neg, x, [-0.25, 2.5, -1.5, 0.0]),
            (Unary::Round, x, [0.0, -2.0, 2.0, 0.0]),
            (Unary::Sign, x, [1.0, -1.0, 1.0, 0.0]),
            (
                Unary::Reciprocal,
                [0.25, -2.5, 1.5, 4.0],
                [4.0, -0.4, 2.0 / 3.0, 0.25],
            ),
            (Unary::Sqrt, [0.25, 4.0, 2.25, 0.0], [0.5, 2.0, 1.5, 0.0]),
            (
                Unary::Log,
                [1.0, 2.0, 0.5, 4.0],
                [0.0, 1.0, -1.0, 2.0].map(|x| x * std::f32::consts::LN_2),
            ),
            (
                Unary::Sin,
                [0.0, 2.0 * quarter, -2.0 * quarter, quarter],
                [0.0, 1.0, -1.0, 0.5_f32.sqrt()],
            ),
            (
                Unary::Cos,
                [0.0, 4.0 * quarter, quarter, -quarter],
                [1.0, -1.0, 0.5_f32.sqrt(), 0.5_f32.sqrt()],
            ),
        ] {
            assert_computes(&function, &[value(&[2])], 2, &[&x], &expected, 1e-6);
        }
        assert_eq!(refusal(&Unary::Abs, &[]), "expected 1 input, got 0 inputs");
    }
}
