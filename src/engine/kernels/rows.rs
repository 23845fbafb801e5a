//! Functions of whole rows: softmax and layer normalization.
//!
//! A row's sums run in one order that depends on its length only.

use super::isa::Isa;
use super::math;
use super::simd::{Simd, Task};

/// Replaces each row of `columns` values by its softmax, `exp(x - max) / sum`.
///
/// A row with NaN or plus infinity, or of minus infinities only, becomes NaN;
/// other rows do not notice. Allocates nothing.
///
/// # Panics
/// If `values` does not hold whole rows.
pub fn softmax(isa: Isa, columns: usize, values: &mut [f32]) {
    check_rows(columns, values.len());
    isa.run(Softmax { columns, values });
}

/// Replaces each row of `columns` values by the logarithm of its softmax,
/// `x - max - log(sum(exp(x - max)))`.
///
/// A row with NaN or plus infinity, or of minus infinities only, becomes NaN;
/// other rows do not notice. Allocates nothing.
///
/// # Panics
/// If `values` does not hold whole rows.
pub fn log_softmax(isa: Isa, columns: usize, values: &mut [f32]) {
    check_rows(columns, values.len());
    isa.run(LogSoftmax { columns, values });
}

/// Normalises each row of `columns` values to mean 0 and variance 1, then
/// scales by `gamma` and adds `beta`, both `[columns]`.
///
/// `(x - mean) / sqrt(variance + epsilon)` with the variance of the whole row
/// (divided by `columns`), computed from the differences to the mean.
/// Allocates nothing.
///
/// # Panics
/// If `input` and `output` do not hold the same number of whole rows, or
/// `gamma` or `beta` not `columns` values.
///
/// Source: Ba et al. 2016, eq. 4.
pub fn layer_normalization(
    isa: Isa,
    columns: usize,
    input: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    output: &mut [f32],
) {
    check_rows(columns, input.len());
    assert_eq!(input.len(), output.len(), "input and output have one shape");
    for parameter in [gamma, beta] {
        assert_eq!(parameter.len(), columns, "one parameter for each column");
    }
    isa.run(LayerNormalization {
        columns,
        input,
        gamma,
        beta,
        epsilon,
        output,
    });
}

fn check_rows(columns: usize, len: usize) {
    assert!(
        len == 0 || columns > 0 && len.is_multiple_of(columns),
        "{len} values are not whole rows of {columns} columns"
    );
}

struct Softmax<'a> {
    columns: usize,
    values: &'a mut [f32],
}

impl Task for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.columns.max(1);
        if columns <= S::LANES {
            let mut groups = self.values.chunks_exact_mut(GROUP * columns);
            for group in &mut groups {
                softmax_of_short_rows::<S, GROUP>(simd, columns, group);
            }
            for row in groups.into_remainder().chunks_exact_mut(columns) {
                softmax_of_short_rows::<S, 1>(simd, columns, row);
            }
            return;
        }
        for row in self.values.chunks_exact_mut(columns) {
            let max = simd.splat(largest(simd, row));
            let mut sums = simd.splat(0.0);
            for piece in row.chunks_mut(S::LANES) {
                let e = math::exp(simd, simd.sub(simd.read(piece), max));
                simd.write(e, piece);
                sums = simd.add(sums, simd.select_first(piece.len(), e, simd.splat(0.0)));
            }
            let sum = simd.splat(simd.reduce_add(sums));
            for piece in row.chunks_mut(S::LANES) {
                simd.write(simd.div(simd.read(piece), sum), piece);
            }
        }
    }
}

/// The number of short rows computed together: one alone waits for each of its
/// own steps, and its masked write delays the read of the next row.
const GROUP: usize = 4;

/// The softmax of `R` rows of at most one vector.
#[inline(always)]
fn softmax_of_short_rows<S: Simd, const R: usize>(simd: S, columns: usize, values: &mut [f32]) {
    let mut results = [simd.splat(0.0); R];
    for (row, result) in values.chunks_exact(columns).zip(&mut results) {
        *result = simd.read(row);
    }
    for result in &mut results {
        let lowest = simd.splat(f32::NEG_INFINITY);
        let max = simd.reduce_max(simd.select_first(columns, *result, lowest));
        let e = math::exp(simd, simd.sub(*result, simd.splat(max)));
        let sum = simd.reduce_add(simd.select_first(columns, e, simd.splat(0.0)));
        *result = simd.div(e, simd.splat(sum));
    }
    for (row, result) in values.chunks_exact_mut(columns).zip(results) {
        simd.write(result, row);
    }
}

struct LogSoftmax<'a> {
    columns: usize,
    values: &'a mut [f32],
}

impl Task for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.values.chunks_exact_mut(self.columns.max(1)) {
            let max = simd.splat(largest(simd, row));
            let mut sums = simd.splat(0.0);
            for piece in row.chunks(S::LANES) {
                let e = math::exp(simd, simd.sub(simd.read(piece), max));
                sums = simd.add(sums, simd.select_first(piece.len(), e, simd.splat(0.0)));
            }
            let log = math::log(simd, simd.splat(simd.reduce_add(sums)));
            for piece in row.chunks_mut(S::LANES) {
                let difference = simd.sub(simd.read(piece), max);
                simd.write(simd.sub(difference, log), piece);
            }
        }
    }
}

/// The largest value of a row; any value if one of them is NaN.
#[inline(always)]
fn largest<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let lowest = simd.splat(f32::NEG_INFINITY);
    let mut largest = lowest;
    for piece in row.chunks(S::LANES) {
        let values = simd.select_first(piece.len(), simd.read(piece), lowest);
        largest = simd.max(largest, values);
    }
    simd.reduce_max(largest)
}

struct LayerNormalization<'a> {
    columns: usize,
    input: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f32,
    output: &'a mut [f32],
}

impl Task for LayerNormalization<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.columns.max(1);
        let zero = simd.splat(0.0);
        let count = columns as f32;
        let rows = self.input.chunks_exact(columns);
        for (input, output) in rows.zip(self.output.chunks_exact_mut(columns)) {
            let mut sums = zero;
            for piece in input.chunks(S::LANES) {
                sums = simd.add(sums, simd.read(piece));
            }
            let mean = simd.splat(simd.reduce_add(sums) / count);
            let mut squares = zero;
            for piece in input.chunks(S::LANES) {
                let difference = simd.sub(simd.read(piece), mean);
                let difference = simd.select_first(piece.len(), difference, zero);
                squares = simd.mul_add(difference, difference, squares);
            }
            let variance = simd.reduce_add(squares) / count;
            let deviation = simd.sqrt(simd.splat(variance + self.epsilon));
            let pieces = input.chunks(S::LANES).zip(output.chunks_mut(S::LANES));
            for (index, (input, output)) in pieces.enumerate() {
                let from = index * S::LANES;
                let standard = simd.div(simd.sub(simd.read(input), mean), deviation);
                let scaled = simd.mul(standard, simd.read(&self.gamma[from..]));
                let y = simd.add(scaled, simd.read(&self.beta[from..]));
                simd.write(y, output);
            }
        }
    }
}

#[cfg(test)]
mod tests;
