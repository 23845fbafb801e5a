//! A dense layer: matrix product, bias and activation in one pass.

mod panels;
mod tile;

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::null_mut;

use super::activation::{Activation, Block};
use super::aligned::{AlignedVec, LINE};
use super::isa::Isa;
use super::simd::{Simd, Task};
use super::team::Team;
pub use panels::{Layout, Weights};
use panels::{Panels, Sizes};
use tile::{Source, Tile, UNROLL, Word, apart, run_tile};

/// A dense layer: `activation(input * weights + bias)`, its weights packed once
/// at load.
///
/// Each output is the bias, then one multiply-add for each `k` in rising order,
/// then the activation (fused multiply-adds except on the portable instruction
/// set). No tile, number of rows or position changes that order, so a row's
/// output is the same to the last bit in every batch.
///
/// The weights are in panels: one vector of columns over the whole of `k`. A
/// tile of the output runs over any number of neighbouring panels at once: many
/// for one row, so that enough sums are in flight to hide the latency of a
/// multiply-add, and fewer for many rows, so that the sums fit the registers.
///
/// Columns left over make a last panel without padding, so that narrow layers
/// take no more memory than their weights. A vector read there runs on into the
/// next step's weights; the sums of those lanes are never stored.
///
/// Panels of bf16 hold two steps of a column in each word. An instruction makes
/// either of them an `f32` on its way into the product: the same terms in the
/// same order as from panels of `f32`, from half the memory.
pub struct Gemm {
    isa: Isa,
    k: usize,
    n: usize,
    weights: Panels,
    /// `[panels, lanes]`, zero in the columns from `n` on.
    bias: AlignedVec<f32>,
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
        weights: Weights<'_>,
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
            weights: Panels::pack(Sizes { k, n, lanes }, weights, layout),
            bias: padded_bias,
            bounds: bounds.unwrap_or(UNBOUNDED),
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

    /// As [`run`](Gemm::run), with the help of the threads that help `team`. The
    /// result is the same to the last bit.
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
    /// `panels` lies in `0..self.panels()`; and no one else reads or writes the
    /// columns of these panels meanwhile.
    unsafe fn run_panels(
        &self,
        rows: usize,
        input: &[f32],
        panels: Range<usize>,
        output: *mut f32,
    ) {
        if rows == 0 || panels.is_empty() {
            return;
        }
        // SAFETY: the caller's; the words are this layer's.
        unsafe {
            match &self.weights {
                Panels::F32(words) => self.run_words(words, rows, input, panels, output),
                Panels::Bf16(words) => self.run_words(words, rows, input, panels, output),
            }
        }
    }

    /// [`run_panels`](Gemm::run_panels) of the words that this layer has.
    ///
    /// # Safety
    /// As of `run_panels`, with at least one row and one panel.
    #[inline]
    unsafe fn run_words<W: Word>(
        &self,
        words: &AlignedVec<W>,
        rows: usize,
        input: &[f32],
        panels: Range<usize>,
        output: *mut f32,
    ) {
        self.isa.run(Share {
            gemm: self,
            words: words.as_ptr(),
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
        self.weights.bytes() + self.bias.len() * size_of::<f32>()
    }

    /// Multiplications and additions for one row, the activation left out.
    pub fn flops_per_row(&self) -> u64 {
        2 * self.k as u64 * self.n as u64
    }
}

/// Bounds that change nothing.
const UNBOUNDED: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The most input values of a block of rows: 512 KiB, so that a block and the
/// panels that it meets share the L2 cache.
const BLOCK_VALUES: usize = 128 * 1024;

/// The most words of a group of panels that several tiles use: 512 KiB, so that
/// a group and the next one share the L2 cache.
const GROUP_WORDS: usize = 128 * 1024;

/// How many widened weights are kept at once: 128 KiB, which the L2 cache of each
/// CPU and the stack of each thread hold.
const WIDENED_VALUES: usize = 32 * 1024;

/// With fewer weights than these, touching the pages of that room takes as long as
/// it saves.
const LEAST_WIDENED: usize = 8 * 1024;

/// From this many words on (256 KiB), a layer is not expected in the L2 cache
/// when its turn comes.
const LARGE_WORDS: usize = 64 * 1024;

/// From this many rows on, a tile of bf16 takes longer to compute than its words
/// take to come from the L3 cache.
const TALL_ROWS: usize = 4;

/// What a layer is taken to compute and to read, of all machines: only whether
/// it is shared depends on these.
const FLOPS_A_NANOSECOND: f64 = 100.0;
const BYTES_A_NANOSECOND: f64 = 40.0;

/// From this much work on, 20 µs, a helper saves more than its first share, of
/// some µs, can cost the thread that waits for it.
const LEAST_SHARED_NANOSECONDS: f64 = 20_000.0;

/// The most shares of a layer: enough that two threads end together to a few
/// percent, few enough that claiming them costs nothing compared with computing
/// them.
const MOST_SHARES: usize = 32;

/// An output whose columns several threads write.
#[derive(Clone, Copy)]
struct Columns(*mut f32);

impl Columns {
    fn first(self) -> *mut f32 {
        self.0
    }
}

// SAFETY: it is only an address; what writes to it is granted the columns.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}

/// Some panels of a layer; only `run_words` makes one, under its conditions.
struct Share<'a, W> {
    gemm: &'a Gemm,
    /// The first panel of `gemm`.
    words: *const W,
    rows: usize,
    input: &'a [f32],
    panels: Range<usize>,
    output: *mut f32,
}

impl<W: Word> Task for Share<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Gemm { k, n, .. } = *self.gemm;
        if self.rows == 1 && self.panels.len() == 1 {
            // SAFETY: the row, the panel and its columns exist, and this task
            // alone uses these outputs.
            return unsafe { self.run_vector(simd) };
        }
        let has_three_tiles = self.rows > 2 * S::TILE_VECTORS.len();
        if W::STEPS > 1 && has_three_tiles && k * n >= LEAST_WIDENED {
            return apart(simd, WithRoom(self));
        }
        simd.call(Tiles {
            share: self,
            widened: null_mut(),
        });
    }
}

/// A share of three tiles or more above each other, the first of which widens the
/// weights for the others.
///
/// Each could widen its own, but some CPUs widen where they multiply: a tile of 8
/// rows loses an eighth of its time to that.
struct WithRoom<'a, W>(Share<'a, W>);

impl<W: Word> Task for WithRoom<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        /// Starts at a cache line, so that no vector straddles two.
        #[repr(align(64))]
        struct Room([MaybeUninit<f32>; WIDENED_VALUES]);
        let mut room = Room([const { MaybeUninit::uninit() }; WIDENED_VALUES]);
        simd.call(Tiles {
            share: self.0,
            widened: room.0.as_mut_ptr().cast(),
        });
    }
}

/// The loop over tiles.
struct Tiles<'a, W> {
    share: Share<'a, W>,
    /// Room for `WIDENED_VALUES` weights, or null if each tile widens its own.
    widened: *mut f32,
}

impl<W: Word> Task for Tiles<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Share {
            rows, ref panels, ..
        } = self.share;
        let Gemm { k, n, .. } = *self.share.gemm;
        let panel_words = k.div_ceil(W::STEPS) * S::LANES;
        let most = S::TILE_VECTORS.len();
        let block_rows = if rows <= 8 * most {
            rows // Spares a tiny layer the division.
        } else {
            (BLOCK_VALUES / k.max(1) / most).max(8) * most
        };
        let is_large = k.div_ceil(W::STEPS) * n >= LARGE_WORDS;
        for block in balanced(rows, block_rows) {
            let (tiles, tallest) = pieces(block.len(), most);
            // A group of panels stays in the cache while the block's rows
            // stream past it.
            let mut widest = S::TILE_VECTORS[tallest - 1];
            if tiles > 1 && is_large {
                widest = widest.min(GROUP_WORDS / panel_words).max(1);
            }
            // Several tiles leave the memory idle after the first, and so does a
            // tall one of bf16, which computes much with each word: time to
            // fetch the next group. Else memory is the limit anyway, and the
            // CPU's own prefetching does better.
            let is_idle = tiles > 1 || W::STEPS > 1 && tallest >= TALL_ROWS;
            for group in balanced(panels.len(), widest) {
                let has_next = group.end < panels.len();
                let group = panels.start + group.start..panels.start + group.end;
                let fetches = is_idle && is_large && has_next;
                // SAFETY: these are some of the share's rows and panels.
                unsafe { self.run_group(simd, block.clone(), group, fetches) };
            }
        }
    }
}

impl<W: Word> Tiles<'_, W> {
    /// Computes a group of panels, no wider than a tile, for a block of rows.
    /// `fetches` says whether the next group is fetched meanwhile.
    ///
    /// # Safety
    /// Rows and panels are the share's.
    #[inline(always)]
    unsafe fn run_group<S: Simd>(
        &self,
        simd: S,
        block: Range<usize>,
        group: Range<usize>,
        fetches: bool,
    ) {
        let share = &self.share;
        let Gemm {
            k, n, activation, ..
        } = *share.gemm;
        let panel_words = k.div_ceil(W::STEPS) * S::LANES;
        let column = group.start * S::LANES;
        let columns = (group.len() * S::LANES).min(n - column);
        // No tile that widens for others has a narrow panel, of which a layer has
        // one at most.
        let is_narrow = columns < group.len() * S::LANES;
        let widens = W::STEPS > 1 && !self.widened.is_null() && !is_narrow;
        // All tiles make as many steps as there is room for their weights, then
        // all of them the next ones.
        let passes = k.div_ceil(UNROLL).max(1);
        let most_passes = if widens {
            (WIDENED_VALUES / (group.len() * S::LANES) - 1) / UNROLL
        } else {
            passes
        };
        let most_rows = S::TILE_VECTORS.len();
        let mut ahead = share.words.wrapping_add(group.end * panel_words);
        let lines_ahead = if fetches {
            let (tiles, _) = pieces(block.len(), most_rows);
            let (parts, _) = pieces(passes, most_passes);
            (group.len() * panel_words).div_ceil(parts * tiles * LINE)
        } else {
            0
        };
        for part in balanced(passes, most_passes) {
            let steps = part.start * UNROLL..k.min(part.end * UNROLL);
            let is_last = steps.end == k;
            // A line more than is needed: with distances of 2^n bytes all panels
            // would share few lines of the L1 cache.
            let widened_words = (steps.len() + 1) * S::LANES;
            for (index, rows) in balanced(block.len(), most_rows).enumerate() {
                let row = block.start + rows.start;
                // SAFETY: rows, steps and columns lie inside the input, the bias
                // and the output.
                let tile = unsafe {
                    Tile {
                        steps: steps.len(),
                        input: share.input.as_ptr().add(row * k + steps.start),
                        input_stride: k,
                        bias: share.gemm.bias.as_ptr().add(column),
                        is_resumed: steps.start > 0,
                        bounds: match is_last {
                            true => &share.gemm.bounds,
                            false => &UNBOUNDED,
                        },
                        output: share.output.add(row * n + column),
                        output_stride: n,
                        columns,
                        ahead: ahead.cast(),
                        lines_ahead,
                    }
                };
                ahead = ahead.wrapping_add(lines_ahead * LINE);
                // SAFETY: as above, and this task alone uses these outputs. The
                // words lie inside the weights; the widened ones, which the first
                // tile wrote for the others, in the room for them.
                unsafe {
                    if widens && index > 0 {
                        let source = Source {
                            words: self.widened.cast_const(),
                            panel_words: widened_words,
                            widened: null_mut(),
                            widened_words,
                        };
                        run_tile(simd, rows.len(), group.len(), source, tile);
                    } else {
                        let first = steps.start / W::STEPS * S::LANES;
                        let source = Source {
                            words: share.words.add(group.start * panel_words + first),
                            panel_words,
                            widened: if widens { self.widened } else { null_mut() },
                            widened_words,
                        };
                        run_tile(simd, rows.len(), group.len(), source, tile);
                    }
                }
                if let Some(activation) = activation
                    && is_last
                {
                    // The tile is in the L1 cache now.
                    // SAFETY: it just wrote these outputs, which are its own.
                    let block = unsafe { Block::new(tile.output, rows.len(), columns, n) };
                    activation.apply_block(simd, block);
                }
            }
        }
    }
}

impl<W: Word> Share<'_, W> {
    /// Computes the only panel of the only row: the layers of tiny networks,
    /// for which the way to a tile takes longer than the tile. The same
    /// operations in the same order give the same bits.
    ///
    /// # Safety
    /// `input` is a row, the panel exists, and no one else uses its columns of
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
        let mut words = unsafe {
            let panel_words = gemm.k.div_ceil(W::STEPS) * S::LANES;
            self.words.add(panel * panel_words)
        };
        for steps in self.input.chunks(W::STEPS) {
            for (part, &x) in steps.iter().enumerate() {
                // SAFETY: the panel has `columns` words for each chunk of steps;
                // in one of fewer columns than lanes the vector runs on into the
                // next words or into the room after the panel.
                let vector = unsafe { W::load(simd, words, part) };
                sum = simd.mul_add(simd.splat(x), vector, sum);
            }
            words = words.wrapping_add(columns);
        }
        let (lower, upper) = gemm.bounds;
        // The bounds come first, so that NaN passes.
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
