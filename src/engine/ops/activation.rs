//! Element-wise functions.

use std::sync::Arc;

use crate::engine::kernels::{Activation, Isa};
use crate::engine::op::{Kernel, OpError, Operand, Operator, only};
use crate::engine::run::Run;
use crate::tensor::Shape;

/// Applies one function to each element: `Relu`, `Sigmoid`, `Gelu` and their kin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elementwise(pub Activation);

impl Operator for Elementwise {
    fn name(&self) -> &'static str {
        match self.0 {
            Activation::Linear => "Identity",
            Activation::Relu => "Relu",
            Activation::Relu6 | Activation::Clip { .. } => "Clip",
            Activation::LeakyRelu { .. } => "LeakyRelu",
            Activation::Elu { .. } => "Elu",
            Activation::Selu => "Selu",
            Activation::Celu { .. } => "Celu",
            Activation::Sigmoid => "Sigmoid",
            Activation::HardSigmoid { .. } => "HardSigmoid",
            Activation::Tanh => "Tanh",
            Activation::Softplus => "Softplus",
            Activation::Softsign => "Softsign",
            Activation::Gelu | Activation::GeluTanh => "Gelu",
            Activation::Silu => "Swish",
            Activation::Mish => "Mish",
            Activation::HardSwish => "HardSwish",
            Activation::Exp => "Exp",
            Activation::Erf => "Erf",
        }
    }

    fn infer_shapes(&self, inputs: &[Operand]) -> Result<Vec<Shape>, OpError> {
        Ok(vec![only(inputs)?.shape.clone()])
    }

    fn prepare(&self, _inputs: &[Operand], isa: Isa) -> Box<dyn Kernel> {
        Box::new(ElementwiseKernel {
            activation: self.0,
            isa,
        })
    }

    fn is_identity(&self) -> bool {
        self.0 == Activation::Linear
    }

    fn as_activation(&self) -> Option<Activation> {
        Some(self.0)
    }

    fn with_activation(&self, activation: Activation) -> Option<Arc<dyn Operator>> {
        (self.0 == Activation::Linear).then(|| Arc::new(Self(activation)) as Arc<dyn Operator>)
    }
}

#[derive(Debug)]
struct ElementwiseKernel {
    activation: Activation,
    isa: Isa,
}

impl Kernel for ElementwiseKernel {
    fn run(&self, run: Run<'_>) {
        let output = run.output;
        self.activation.apply(self.isa, output);
    }

    fn in_place(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::op::testing::{assert_computes, extents, refusal, value};

    #[test]
    fn a_function_applies_to_each_element_of_any_shape() {
        let leaky = Elementwise(Activation::LeakyRelu { alpha: 0.5 });
        let rows = [-2.0, 0.0, 4.0, -1.0, -8.0, 1.0];
        let expected = [-1.0, 0.0, 4.0, -0.5, -4.0, 1.0];
        for shape in [&[6][..], &[3], &[3, 1], &[]] {
            let rows_of_shape = 6 / shape.iter().product::<usize>();
            assert_computes(
                &leaky,
                &[value(shape)],
                rows_of_shape,
                &[&rows],
                &expected,
                0.0,
            );
            assert_eq!(extents(&leaky, &[value(shape)]), shape);
        }
    }

    #[test]
    fn only_one_input_is_taken() {
        let relu = Elementwise(Activation::Relu);
        assert_eq!(refusal(&relu, &[]), "expected 1 input, got 0 inputs");
        assert_eq!(
            refusal(&relu, &[value(&[2]), value(&[2])]),
            "expected 1 input, got 2 inputs"
        );
    }

    #[test]
    fn only_the_linear_function_is_nothing_and_becomes_another() {
        assert!(Elementwise(Activation::Linear).is_identity());
        assert!(!Elementwise(Activation::Relu).is_identity());
        let tanh = Elementwise(Activation::Linear).with_activation(Activation::Tanh);
        assert_eq!(tanh.unwrap().as_activation(), Some(Activation::Tanh));
        let both = Elementwise(Activation::Relu).with_activation(Activation::Tanh);
        assert!(both.is_none());
    }
}
