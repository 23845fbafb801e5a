//! Layers that combine inputs of one shape element by element; they have no keys and no weights.

use crate::engine::ValueId;
use crate::engine::ops::{Binary, Max, Mean, Min, Mul, Sum};
use crate::model::layer::Definition;
use crate::model::lowering::{Call, Lower, Refusal};

/// The layer that an operator of the engine is, by its type in family `sequential` and its class in
/// Keras.
macro_rules! merge {
    ($name:literal, $class:literal, $operator:expr) => {
        Definition {
            name: $name,
            sequential: |_| Ok(Box::new(Merge(|call, inputs| call.emit($operator, inputs)))),
            keras: &[$class],
            read_keras: |_| Ok(Box::new(Merge(|call, inputs| call.emit($operator, inputs)))),
            torch: &[],
            roles: &[],
        }
    };
}

pub(super) const ADD: Definition = merge!("add", "Add", Sum);
pub(super) const MULTIPLY: Definition = merge!("multiply", "Multiply", Mul);
pub(super) const AVERAGE: Definition = merge!("average", "Average", Mean);
pub(super) const MAXIMUM: Definition = merge!("maximum", "Maximum", Max);
pub(super) const MINIMUM: Definition = merge!("minimum", "Minimum", Min);
pub(super) const SUBTRACT: Definition = merge!("subtract", "Subtract", Binary::Sub);

/// An operator of all inputs.
#[derive(Debug)]
struct Merge(fn(&mut Call<'_>, &[ValueId]) -> Result<ValueId, Refusal>);

impl Lower for Merge {
    fn lower(&self, call: &mut Call<'_>) -> Result<ValueId, Refusal> {
        let inputs = call.all()?;
        (self.0)(call, &inputs)
    }
}
