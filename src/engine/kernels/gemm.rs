//! A dense layer: matrix product, bias and activation in one pass.

mod tile;

use std::ops::Range;

use super::activation::Activation;
use super::aligned::{AlignedVec, LINE};
use super::isa::Isa;
use super::simd::{Simd, Task};
use super::team::Team;
use tile::{Tile, run_tile};

/// How a weight matrix is stored; `k` inputs, `n` outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[k, n]`, as Keras and scikit-learn keep it.
    InOut,
    /// `[n, k]`, as PyTorch keeps it.
    OutIn,
}

/// A dense layer: `activation(input * weights + bias)`, its weights packed once
/// at load.
///
/// Each output is the bias, then one multiply-add for each `k` in rising order,
/// then the activation (fused multiply-adds except on the portable instruction
/// set). No tile, number of rows or position changes that order, so a row's
/// output is the same to the last bit in every batch.
///
/// The weights lie in panels: one vector of columns over the whole of `k`. A
/// tile of the output runs over any number of neighbouring panels at once: many
/// for one row, so that enough sums are in flight to hide the latency of a
/// multiply-add, and fewer for many rows, so that the sums fit the registers.
///
/// Columns left over make a last panel without padding, so that narrow layers
/// take no more memory than their weights. A vector read there runs on into the
/// next step's weights; the sums of those lanes are never stored.
pub struct Gemm {
    isa: Isa,
    k: usize,
    n: usize,
    /// `[panels, k, lanes]`, except that a last panel of fewer columns is
    /// `[k, n % lanes]` and has a vector's room behind it.
    weights: AlignedVec,
    /// `[panels, lanes]`, zero in the columns from `n` on.
    bias: AlignedVec,
    /// Applied to the sums while they are in registers.
    bounds: (f32, f32),
    /// Applied to a finished tile, if it is more than a clamp.
    activation: Option<Activation>,
}

impl Gemm {
    /// Packs a layer of `k` inputs and `n` outputs.
    ///
    /// # Panics
    /// If `weights` does not hold `k * n` values, or `bias` not `n`.
    pub fn new(
        isa: Isa,
        k: usize,
        n: usize,
        weights: &[f32],
        layout: Layout,
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Self {
        assert!(
            k.checked_mul(n) == Some(weights.len()),
            "a [{k}, {n}] layer has k * n weights, not {}",
            weights.len()
        );
        let lanes = isa.lanes();
        let room = if n.is_multiple_of(lanes) { 0 } else { lanes };
        let mut packed = AlignedVec::zeros(k * n + room);
        let mut rest = packed.as_mut_slice();
        for start in (0..n).step_by(lanes) {
            let columns = start..n.min(start + lanes);
            let width = columns.len();
            let panel = rest.split_off_mut(..k * width).expect("k * n values");
            match layout {
                Layout::InOut => {
                    for (row, step) in panel.chunks_exact_mut(width).enumerate() {
                        step.copy_from_slice(&weights[row * n..][columns.clone()]);
                    }
                }
                Layout::OutIn => {
                    // A few steps at a time, so that each is written to the cache only.
                    let blocks = panel.chunks_mut(PACKED_STEPS * width);
                    for (first, block) in (0..).step_by(PACKED_STEPS).zip(blocks) {
                        for (lane, column) in columns.clone().enumerate() {
                            let weights = &weights[column * k + first..];
                            for (step, &weight) in block.chunks_exact_mut(width).zip(weights) {
                                step[lane] = weight;
                            }
                        }
                    }
                }
            }
        }
        let mut padded_bias = AlignedVec::zeros(n.next_multiple_of(lanes));
        if let Some(bias) = bias {
            assert_eq!(bias.len(), n, "a [{k}, {n}] layer has n biases");
            padded_bias.as_mut_slice()[..n].copy_from_slice(bias);
        }
        let bounds = activation.bounds();
        Gemm {
            isa,
            k,
            n,
            weights: packed,
            bias: padded_bias,
            bounds: bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
            activation: bounds.is_none().then_some(activation),
        }
    }

    /// Computes `[rows, n]` from `[rows, k]`. Allocates nothing.
    ///
    /// # Panics
    /// If `input` does not hold `rows * k` values, or `output` not `rows * n`.
    pub fn run(&self, rows: usize, input: &[f32], output: &mut [f32]) {
        self.check(rows, input, output);
        // SAFETY: the lengths are checked, and `output` is borrowed mutably.
        unsafe { self.run_panels(rows, input, 0..self.panels(), output.as_mut_ptr()) }
    }

    /// Whether this many rows are so much work that several threads should
    /// share them.
    pub fn pays_to_share(&self, rows: usize) -> bool {
        let flops = self.flops_per_row() as f64 * rows as f64;
        let nanoseconds =
            (flops / FLOPS_A_NANOSECOND).max(self.bytes() as f64 / BYTES_A_NANOSECOND);
        rows > 0 && nanoseconds >= LEAST_SHARED_NANOSECONDS
    }

    /// As [`run`](Gemm::run), with the help of whoever helps `team`. The result
    /// is the same to the last bit.
    ///
    /// # Panics
    /// As [`run`](Gemm::run).
    pub fn run_shared(&self, rows: usize, input: &[f32], output: &mut [f32], team: &Team) {
        if !self.pays_to_share(rows) {
            return self.run(rows, input, output);
        }
        self.check(rows, input, output);
        // As many panels as the widest tile, or a few of those: fewer would
        // make more tiles than one thread alone computes.
        let tile = self.isa.tile_vectors(rows);
        let most = self.panels().div_ceil(MOST_SHARES).next_multiple_of(tile);
        let shares = self.panels().div_ceil(most);
        let output = Columns(output.as_mut_ptr());
        team.share(
            u16::try_from(shares).expect("at most `MOST_SHARES`"),
            &|share| {
                let panels = share * most..self.panels().min((share + 1) * most);
                // SAFETY: the lengths are checked; shares have panels of their own,
                // and `output` is borrowed mutably until all of them are done.
                unsafe { self.run_panels(rows, input, panels, output.first()) }
            },
        );
    }

    fn check(&self, rows: usize, input: &[f32], output: &[f32]) {
        let (inputs, outputs) = (rows.checked_mul(self.k), rows.checked_mul(self.n));
        assert!(inputs == Some(input.len()), "the input is [rows, k]");
        assert!(outputs == Some(output.len()), "the output is [rows, n]");
    }

    /// Computes the columns of some panels, so that threads can share a layer
    /// (`run` gives all panels to one).
    ///
    /// # Safety
    /// `input` holds `rows * k` values; `output` is valid for `rows * n` values;
    /// `panels` lies in `0..self.panels()`; and nobody else reads or writes the
    /// columns of these panels meanwhile.
    unsafe fn run_panels(
        &self,
        rows: usize,
        input: &[f32],
        panels: Range<usize>,
        output: *mut f32,
    ) {
        self.isa.run(Panels {
            gemm: self,
            rows,
            input,
            panels,
            output,
        });
    }

    /// The number of panels.
    fn panels(&self) -> usize {
        self.n.div_ceil(self.isa.lanes())
    }

    /// The memory of the packed weights and the bias.
    pub fn bytes(&self) -> usize {
        (self.weights.len() + self.bias.len()) * size_of::<f32>()
    }

    /// Multiplications and additions for one row, the activation left out.
    pub fn flops_per_row(&self) -> u64 {
        2 * self.k as u64 * self.n as u64
    }
}

/// How many steps of a panel are packed at once if the columns are stored apart:
/// of each column as many weights as fill a cache line.
const PACKED_STEPS: usize = LINE;

/// The most input values of a block of rows: 512 KiB, so that a block and the
/// panels that it meets share the L2 cache.
const BLOCK_VALUES: usize = 128 * 1024;

/// The most weights of a group of panels that several tiles use: 512 KiB, so
/// that a group and the next one share the L2 cache.
const GROUP_VALUES: usize = 128 * 1024;

/// From this many weights on (256 KiB), a layer is not expected in the L2 cache
/// when its turn comes.
const LARGE_VALUES: usize = 64 * 1024;

/// What a layer is taken to compute and to read, of all machines: only whether
/// it is shared depends on these.
const FLOPS_A_NANOSECOND: f64 = 100.0;
const BYTES_A_NANOSECOND: f64 = 40.0;

/// From this much work on, 20 µs, a helper saves more than its first share, of
/// some µs, can cost the thread that waits for it.
const LEAST_SHARED_NANOSECONDS: f64 = 20_000.0;

/// The most shares of a layer: enough that two threads end together to a few
/// percent, so few that claiming them costs nothing beside computing them.
const MOST_SHARES: usize = 32;

/// An output whose columns several threads write.
#[derive(Clone, Copy)]
struct Columns(*mut f32);

impl Columns {
    fn first(self) -> *mut f32 {
        self.0
    }
}

// SAFETY: it is only an address; whoever writes to it is granted the columns.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}

/// The loop over tiles; only `run_panels` makes one, under its conditions.
struct Panels<'a> {
    gemm: &'a Gemm,
    rows: usize,
    input: &'a [f32],
    panels: Range<usize>,
    output: *mut f32,
}

impl Task for Panels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.rows == 0 || self.panels.is_empty() {
            return;
        }
        if self.rows == 1 && self.panels.len() == 1 {
            // SAFETY: the row, the panel and its columns exist, and this task
            // alone uses these outputs.
            return unsafe { self.run_vector(simd) };
        }
        let Gemm { k, n, .. } = *self.gemm;
        let most = S::TILE_VECTORS.len();
        let block_rows = if self.rows <= 8 * most {
            self.rows // Spares a tiny layer the division.
        } else {
            (BLOCK_VALUES / k.max(1) / most).max(8) * most
        };
        let is_large = k * n >= LARGE_VALUES;
        for block in balanced(self.rows, block_rows) {
            let (tiles, tallest) = pieces(block.len(), most);
            // A group of panels stays in the cache while the block's rows
            // stream past it.
            let mut widest = S::TILE_VECTORS[tallest - 1];
            if tiles > 1 && is_large {
                widest = widest.min(GROUP_VALUES / (k * S::LANES)).max(1);
            }
            for group in balanced(self.panels.len(), widest) {
                let panel = self.panels.start + group.start;
                let column = panel * S::LANES;
                // Several tiles leave the memory idle after the first: time to
                // fetch the next group. With one, memory is the limit anyway,
                // and the CPU's own prefetching does better.
                let has_next = group.end < self.panels.len();
                let lines_ahead = if tiles > 1 && has_next && is_large {
                    (group.len() * k * S::LANES).div_ceil(tiles * LINE)
                } else {
                    0
                };
                for (tile, rows) in balanced(block.len(), tallest).enumerate() {
                    let row = block.start + rows.start;
                    let next = (panel + group.len()) * k * S::LANES + tile * lines_ahead * LINE;
                    let weights = self.gemm.weights.as_ptr();
                    // SAFETY: panel, rows and columns lie inside the weights,
                    // the bias, the input and the output.
                    let tile = unsafe {
                        Tile {
                            k,
                            input: self.input.as_ptr().add(row * k),
                            weights: weights.add(panel * k * S::LANES),
                            bias: self.gemm.bias.as_ptr().add(column),
                            bounds: self.gemm.bounds,
                            output: self.output.add(row * n + column),
                            output_stride: n,
                            columns: (group.len() * S::LANES).min(n - column),
                            activation: self.gemm.activation,
                            ahead: weights.wrapping_add(next),
                            lines_ahead,
                        }
                    };
                    // SAFETY: as above; this task alone uses these outputs.
                    unsafe { run_tile(simd, rows.len(), group.len(), tile) };
                }
            }
        }
    }
}

impl Panels<'_> {
    /// Computes the only panel of the only row: the layers of tiny networks,
    /// for which the way to a tile takes longer than the tile. The same
    /// operations in the same order give the same bits.
    ///
    /// # Safety
    /// `input` is a row, the panel exists, and nobody else uses its columns of
    /// the output.
    #[inline(always)]
    unsafe fn run_vector<S: Simd>(&self, simd: S) {
        let gemm = self.gemm;
        let panel = self.panels.start;
        let column = panel * S::LANES;
        let columns = (gemm.n - column).min(S::LANES);
        // SAFETY: the biases are padded to whole vectors.
        let mut sum = unsafe { simd.load(gemm.bias.as_ptr().add(column)) };
        // SAFETY: the panel exists.
        let mut weights = unsafe { gemm.weights.as_ptr().add(panel * gemm.k * S::LANES) };
        for &x in self.input {
            // SAFETY: the panel has `k` steps of `columns` values; in one of
            // fewer columns than lanes the vector runs on into the next step
            // or into the room behind the panel.
            let vector = unsafe { simd.load(weights) };
            sum = simd.mul_add(simd.splat(x), vector, sum);
            weights = weights.wrapping_add(columns);
        }
        let (lower, upper) = gemm.bounds;
        // The bounds stand first, so that NaN passes.
        let bounded = simd.min(simd.splat(upper), simd.max(simd.splat(lower), sum));
        let result = match gemm.activation {
            None => bounded,
            Some(activation) => activation.apply_vector(simd, bounded),
        };
        // SAFETY: these outputs exist and are this task's alone.
        unsafe { simd.store_first(result, self.output.add(column), columns) };
    }
}

/// The fewest pieces of at most `most` that `len` can be split into, and the
/// longest of them if their lengths differ by at most one.
#[inline(always)]
fn pieces(len: usize, most: usize) -> (usize, usize) {
    if len <= most {
        return (1, len); // A division takes longer than a tiny layer's row.
    }
    let pieces = len.div_ceil(most);
    (pieces, len.div_ceil(pieces))
}

/// Splits `0..len`, not empty, into the fewest pieces of at most `most`, the
/// longer ones first; their lengths differ by at most one.
#[inline(always)]
fn balanced(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (pieces, longest) = pieces(len, most);
    // So many are longest, the others one shorter.
    let long = len - pieces * (longest - 1);
    let mut start = 0;
    (0..pieces).map(move |piece| {
        let next = start + longest - usize::from(piece >= long);
        std::mem::replace(&mut start, next)..next
    })
}

#[cfg(test)]
mod tests;
