//! Element-wise functions, by themselves or behind a dense layer.

mod functions;

use std::marker::PhantomData;

use functions as f;

use super::isa::{Isa, Task};
use super::simd::Simd;

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
        match self {
            Activation::Linear => {}
            Activation::Relu => map(simd, block, f::Clip(0.0, f32::INFINITY)),
            Activation::Relu6 => map(simd, block, f::Clip(0.0, 6.0)),
            Activation::Clip { min, max } => map(simd, block, f::Clip(min, max)),
            Activation::LeakyRelu { alpha } => map(simd, block, f::LeakyRelu(alpha)),
            Activation::Elu { alpha } => map(simd, block, f::Elu(alpha)),
            Activation::Selu => map(simd, block, f::Selu),
            Activation::Celu { alpha } => map(simd, block, f::Celu(alpha)),
            Activation::Sigmoid => map(simd, block, f::Sigmoid),
            Activation::HardSigmoid { alpha, beta } => {
                map(simd, block, f::HardSigmoid(alpha, beta));
            }
            Activation::Tanh => map(simd, block, f::Tanh),
            Activation::Softplus => map(simd, block, f::Softplus),
            Activation::Softsign => map(simd, block, f::Softsign),
            Activation::Gelu => map(simd, block, f::Gelu),
            Activation::GeluTanh => map(simd, block, f::GeluTanh),
            Activation::Silu => map(simd, block, f::Silu),
            Activation::Mish => map(simd, block, f::Mish),
            Activation::HardSwish => map(simd, block, f::HardSwish),
            Activation::Exp => map(simd, block, f::Exp),
            Activation::Erf => map(simd, block, f::Erf),
        }
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
    /// For the lifetime `'a` the values of the block are initialised and nobody else reads
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

/// Replaces each value of a block by its function, in a function of its own.
#[inline(always)]
fn map<S: Simd, F: Function>(simd: S, block: Block<'_>, function: F) {
    simd.call(Map { block, function });
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
