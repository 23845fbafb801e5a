//! Element-wise functions, by themselves or after a dense layer.

mod functions;

use std::marker::PhantomData;

use functions as f;

use super::isa::Isa;
use super::simd::{Simd, Task};

/// An element-wise function with its parameters.
///
/// NaN gives NaN. At the infinities each function takes its limit (minus
/// infinity gives `gelu` -0, for example). A value's result does not depend on
/// its position or on its neighbours. docs/models.md states how far each may be
/// from the exact value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    /// `x`, times `alpha` below zero
    LeakyRelu {
        /// The slope below zero.
        alpha: f32,
    },
    /// `x`, and `alpha (exp(x) - 1)` below zero
    Elu {
        /// The negative limit.
        alpha: f32,
    },
    /// `1.0507 elu(x)` with `alpha` 1.6733. Source: Klambauer et al. 2017.
    Selu,
    /// `x`, and `alpha (exp(x / alpha) - 1)` below zero. Source: Barron 2017.
    Celu {
        /// The negative limit; not zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `min(max(alpha x + beta, 0), 1)`
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at zero.
        beta: f32,
    },
    /// The hyperbolic tangent
    Tanh,
    /// `log(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x` times the standard normal distribution function. Source: Hendrycks
    /// and Gimpel 2016.
    Gelu,
    /// The approximation of `Gelu` by a hyperbolic tangent, `x / 2 (1 + tanh(u))`
    /// with `u = sqrt(2 / pi) (x + 0.044715 x^3)`
    GeluTanh,
    /// `x / (1 + exp(-x))`, also named swish
    Silu,
    /// `x tanh(softplus(x))`. Source: Misra 2019.
    Mish,
    /// `x min(max(x + 3, 0), 6) / 6`
    HardSwish,
    /// `exp(x)`
    Exp,
    /// The error function
    Erf,
    /// `min(max(x, min), max)`
    Clip {
        /// The lowest result.
        min: f32,
        /// The highest result.
        max: f32,
    },
}

impl Activation {
    /// Replaces each value by its function. Allocates nothing.
    pub fn apply(self, isa: Isa, values: &mut [f32]) {
        isa.run(Apply {
            activation: self,
            block: Block::of(values),
        });
    }

    /// The bounds of a function that is only a clamp: a dense layer applies it
    /// while the sums are still in registers.
    pub(super) fn bounds(self) -> Option<(f32, f32)> {
        match self {
            Activation::Linear => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Relu6 => Some((0.0, 6.0)),
            Activation::Clip { min, max } => Some((min, max)),
            _ => None,
        }
    }

    /// Replaces each value of a block by its function.
    #[inline(always)]
    pub(super) fn apply_block<S: Simd>(self, simd: S, block: Block<'_>) {
        if self != Activation::Linear {
            self.visit(OfBlock { simd, block });
        }
    }

    /// The function of each lane.
    #[inline(always)]
    pub(super) fn apply_vector<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector {
        self.visit(OfVector { simd, x })
    }

    /// Hands the visitor the function, whose type the compiler then knows.
    #[inline(always)]
    fn visit<V: Visitor>(self, visitor: V) -> V::Output {
        match self {
            Activation::Linear => visitor.visit(f::Linear),
            Activation::Relu => visitor.visit(f::Clip(0.0, f32::INFINITY)),
            Activation::Relu6 => visitor.visit(f::Clip(0.0, 6.0)),
            Activation::Clip { min, max } => visitor.visit(f::Clip(min, max)),
            Activation::LeakyRelu { alpha } => visitor.visit(f::LeakyRelu(alpha)),
            Activation::Elu { alpha } => visitor.visit(f::Elu(alpha)),
            Activation::Selu => visitor.visit(f::Selu),
            Activation::Celu { alpha } => visitor.visit(f::Celu(alpha)),
            Activation::Sigmoid => visitor.visit(f::Sigmoid),
            Activation::HardSigmoid { alpha, beta } => visitor.visit(f::HardSigmoid(alpha, beta)),
            Activation::Tanh => visitor.visit(f::Tanh),
            Activation::Softplus => visitor.visit(f::Softplus),
            Activation::Softsign => visitor.visit(f::Softsign),
            Activation::Gelu => visitor.visit(f::Gelu),
            Activation::GeluTanh => visitor.visit(f::GeluTanh),
            Activation::Silu => visitor.visit(f::Silu),
            Activation::Mish => visitor.visit(f::Mish),
            Activation::HardSwish => visitor.visit(f::HardSwish),
            Activation::Exp => visitor.visit(f::Exp),
            Activation::Erf => visitor.visit(f::Erf),
        }
    }
}

/// What is done with a function.
trait Visitor {
    type Output;

    fn visit<F: Function>(self, function: F) -> Self::Output;
}

/// Each value of a block, in a loop of its own.
struct OfBlock<'a, S> {
    simd: S,
    block: Block<'a>,
}

impl<S: Simd> Visitor for OfBlock<'_, S> {
    type Output = ();

    #[inline(always)]
    fn visit<F: Function>(self, function: F) {
        self.simd.call(Map {
            block: self.block,
            function,
        });
    }
}

/// Each lane of a vector.
struct OfVector<S: Simd> {
    simd: S,
    x: S::Vector,
}

impl<S: Simd> Visitor for OfVector<S> {
    type Output = S::Vector;

    #[inline(always)]
    fn visit<F: Function>(self, function: F) -> S::Vector {
        self.simd.call(Lanes {
            simd: self.simd,
            x: self.x,
            function,
        })
    }
}

struct Lanes<S: Simd, F> {
    simd: S,
    x: S::Vector,
    function: F,
}

impl<S: Simd, F: Function> Task for Lanes<S, F> {
    type Output = S::Vector;

    #[inline(always)]
    fn run<T: Simd>(self, _simd: T) -> S::Vector {
        self.function.of(self.simd, self.x)
    }
}

struct Apply<'a> {
    activation: Activation,
    block: Block<'a>,
}

impl Task for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.activation.apply_block(simd, self.block);
    }
}

/// Some columns of some rows of a matrix, borrowed by one writer.
pub(super) struct Block<'a> {
    target: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    values: PhantomData<&'a mut [f32]>,
}

impl<'a> Block<'a> {
    /// All of a slice.
    fn of(values: &'a mut [f32]) -> Self {
        Block {
            target: values.as_mut_ptr(),
            rows: 1,
            columns: values.len(),
            stride: values.len(),
            values: PhantomData,
        }
    }

    /// `rows` rows of `columns` values, `stride` values from row to row.
    ///
    /// # Safety
    /// For the lifetime `'a` the values of the block are initialised and no one else reads
    /// or writes them; `stride >= columns`.
    #[inline(always)]
    pub(super) unsafe fn new(target: *mut f32, rows: usize, columns: usize, stride: usize) -> Self {
        // Rows without a gap are one long row.
        let dense = columns == stride;
        Block {
            target,
            rows: if dense { 1 } else { rows },
            columns: if dense { rows * columns } else { columns },
            stride,
            values: PhantomData,
        }
    }
}

/// A function of one value, written once for all instruction sets.
pub(super) trait Function: Copy {
    /// The function of each lane.
    fn of<S: Simd>(self, simd: S, x: S::Vector) -> S::Vector;
}

struct Map<'a, F> {
    block: Block<'a>,
    function: F,
}

impl<F: Function> Task for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in 0..self.block.rows {
            // SAFETY: the row lies in the block, whose values are initialised
            // and this task's alone.
            let values = unsafe {
                let start = self.block.target.add(row * self.block.stride);
                std::slice::from_raw_parts_mut(start, self.block.columns)
            };
            // The last, shorter piece goes through the same instructions.
            for piece in values.chunks_mut(S::LANES) {
                let x = simd.read(piece);
                simd.write(self.function.of(simd, x), piece);
            }
        }
    }
}

#[cfg(test)]
mod tests;
