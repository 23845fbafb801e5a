//! Arithmetic value by value: by column, and of two arrays.

use super::isa::Isa;
use super::simd::{Simd, Task};

/// `output = (input - mean) / deviation`, column by column.
///
/// `input` and `output` are `[rows, columns]`, `mean` and `deviation`
/// `[columns]`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn normalize(isa: Isa, mean: &[f32], deviation: &[f32], input: &[f32], output: &mut [f32]) {
    by_column(isa, Normalize, [mean, deviation], input, output);
}

/// `output = input * scale + shift`, column by column, fused where the
/// instruction set fuses.
///
/// `input` and `output` are `[rows, columns]`, `scale` and `shift` `[columns]`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn scale_shift(isa: Isa, scale: &[f32], shift: &[f32], input: &[f32], output: &mut [f32]) {
    by_column(isa, ScaleShift, [scale, shift], input, output);
}

/// `output = input`, times `slope` below zero, column by column.
///
/// `input` and `output` are `[rows, columns]`, `slope` `[columns]`.
///
/// # Panics
/// If the lengths do not fit each other.
///
/// Source: He et al. 2015, eq. 1.
pub fn prelu(isa: Isa, slope: &[f32], input: &[f32], output: &mut [f32]) {
    by_column(isa, Prelu, [slope, slope], input, output);
}

/// `into += a`
///
/// # Panics
/// If the lengths differ.
pub fn add(isa: Isa, a: &[f32], into: &mut [f32]) {
    by_pair(isa, Add, a, into);
}

/// `into *= a`
///
/// # Panics
/// If the lengths differ.
pub fn multiply(isa: Isa, a: &[f32], into: &mut [f32]) {
    by_pair(isa, Multiply, a, into);
}

/// `into = max(into, a)`; NaN if either is NaN.
///
/// # Panics
/// If the lengths differ.
pub fn maximum(isa: Isa, a: &[f32], into: &mut [f32]) {
    by_pair(isa, Maximum, a, into);
}

/// `into = min(into, a)`; NaN if either is NaN.
///
/// # Panics
/// If the lengths differ.
pub fn minimum(isa: Isa, a: &[f32], into: &mut [f32]) {
    by_pair(isa, Minimum, a, into);
}

/// A function of a value and two parameters of its column.
trait ColumnFunction: Copy {
    fn of<S: Simd>(self, simd: S, x: S::Vector, parameters: [S::Vector; 2]) -> S::Vector;
}

#[derive(Clone, Copy)]
struct Normalize;

impl ColumnFunction for Normalize {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Vector, [mean, deviation]: [S::Vector; 2]) -> S::Vector {
        simd.div(simd.sub(x, mean), deviation)
    }
}

#[derive(Clone, Copy)]
struct ScaleShift;

impl ColumnFunction for ScaleShift {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Vector, [scale, shift]: [S::Vector; 2]) -> S::Vector {
        simd.mul_add(x, scale, shift)
    }
}

#[derive(Clone, Copy)]
struct Prelu;

impl ColumnFunction for Prelu {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::Vector, [slope, _]: [S::Vector; 2]) -> S::Vector {
        simd.select(simd.less(x, simd.splat(0.0)), simd.mul(x, slope), x)
    }
}

fn by_column<F: ColumnFunction>(
    isa: Isa,
    function: F,
    parameters: [&[f32]; 2],
    input: &[f32],
    output: &mut [f32],
) {
    let columns = parameters[0].len();
    assert_eq!(
        parameters[1].len(),
        columns,
        "one parameter for each column"
    );
    assert_eq!(input.len(), output.len(), "input and output have one shape");
    assert!(
        input.is_empty() || columns > 0 && input.len().is_multiple_of(columns),
        "{} values are not whole rows of {columns} columns",
        input.len()
    );
    isa.run(ByColumn {
        function,
        parameters,
        input,
        output,
    });
}

struct ByColumn<'a, F> {
    function: F,
    parameters: [&'a [f32]; 2],
    input: &'a [f32],
    output: &'a mut [f32],
}

impl<F: ColumnFunction> Task for ByColumn<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.parameters[0].len().max(1);
        let rows = self.input.chunks_exact(columns);
        for (input, output) in rows.zip(self.output.chunks_exact_mut(columns)) {
            let pieces = input.chunks(S::LANES).zip(output.chunks_mut(S::LANES));
            for (index, (input, output)) in pieces.enumerate() {
                let from = index * S::LANES;
                let parameters = [
                    simd.read(&self.parameters[0][from..]),
                    simd.read(&self.parameters[1][from..]),
                ];
                let y = self.function.of(simd, simd.read(input), parameters);
                simd.write(y, output);
            }
        }
    }
}

/// A function of two values.
trait PairFunction: Copy {
    fn of<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector;
}

#[derive(Clone, Copy)]
struct Add;

impl PairFunction for Add {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Multiply;

impl PairFunction for Multiply {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.mul(a, b)
    }
}

#[derive(Clone, Copy)]
struct Maximum;

impl PairFunction for Maximum {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        // `max` gives `b` if either is NaN: only a NaN of `a` would be lost.
        simd.select(simd.is_nan(a), a, simd.max(a, b))
    }
}

#[derive(Clone, Copy)]
struct Minimum;

impl PairFunction for Minimum {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        // As for the maximum.
        simd.select(simd.is_nan(a), a, simd.min(a, b))
    }
}

fn by_pair<F: PairFunction>(isa: Isa, function: F, a: &[f32], into: &mut [f32]) {
    assert_eq!(a.len(), into.len(), "both sides have one shape");
    isa.run(ByPair { function, a, into });
}

struct ByPair<'a, F> {
    function: F,
    a: &'a [f32],
    into: &'a mut [f32],
}

impl<F: PairFunction> Task for ByPair<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pieces = self.a.chunks(S::LANES).zip(self.into.chunks_mut(S::LANES));
        for (a, into) in pieces {
            let y = self.function.of(simd, simd.read(a), simd.read(into));
            simd.write(y, into);
        }
    }
}

#[cfg(test)]
mod tests;
