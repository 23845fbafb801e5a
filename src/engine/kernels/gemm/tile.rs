//! One tile of a dense layer's output, its sums all in registers.

use std::array::from_fn;
use std::sync::atomic::{Ordering, compiler_fence};

use crate::engine::kernels::activation::{Activation, Block};
use crate::engine::kernels::aligned::LINE;
use crate::engine::kernels::simd::{Simd, Task};

/// 32 bits of a panel: a column's weights of one step over `k`, or of several
/// that follow each other.
pub(super) trait Word: Copy + Default {
    /// How many steps' weights it holds.
    const STEPS: usize;

    /// The weights of the words' step `part` as `f32`.
    ///
    /// # Safety
    /// `source` is valid for reading `LANES` words.
    unsafe fn load<S: Simd>(simd: S, source: *const Self, part: usize) -> S::Vector;
}

/// A weight as it is.
impl Word for f32 {
    const STEPS: usize = 1;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, source: *const f32, _part: usize) -> S::Vector {
        // SAFETY: the caller grants `LANES` readable words.
        unsafe { simd.load(source) }
    }
}

/// Two weights of bf16, the first step's in the lower half.
impl Word for u32 {
    const STEPS: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, source: *const u32, part: usize) -> S::Vector {
        // SAFETY: the caller grants `LANES` readable words, of 32 bits each.
        let pairs = unsafe { simd.load(source.cast()) };
        match part {
            0 => simd.widen_low(pairs),
            _ => simd.widen_high(pairs),
        }
    }
}

/// A tile's place in the matrices and what is applied to it.
#[derive(Clone, Copy)]
pub(super) struct Tile<W> {
    /// The number of inputs, also the stride of the input's rows.
    pub(super) k: usize,
    /// The tile's first row of `[rows, k]`.
    pub(super) input: *const f32,
    /// The tile's first panel of `[panels, words, lanes]`, with as many words as
    /// hold `k` steps. A last panel of fewer columns is `[words, columns]`, with
    /// `lanes - columns` words after it.
    pub(super) words: *const W,
    /// The tile's first bias of `[panels, lanes]`.
    pub(super) bias: *const f32,
    /// The lowest and highest result.
    pub(super) bounds: (f32, f32),
    /// The tile's first output of `[rows, n]`.
    pub(super) output: *mut f32,
    /// `n`
    pub(super) output_stride: usize,
    /// The tile's columns that exist; the last panel may have fewer than lanes.
    pub(super) columns: usize,
    /// Applied to the finished tile while it is in the L1 cache.
    pub(super) activation: Option<Activation>,
    /// Words that a later tile needs, fetched meanwhile; only a hint.
    pub(super) ahead: *const W,
    /// How many cache lines of them.
    pub(super) lines_ahead: usize,
}

/// Computes a tile of `rows` rows and `panels` panels.
///
/// # Safety
/// The tile's input, panels, biases and outputs exist, and no one else uses
/// the outputs meanwhile.
#[inline(always)]
pub(super) unsafe fn run_tile<S: Simd, W: Word>(
    simd: S,
    rows: usize,
    panels: usize,
    tile: Tile<W>,
) {
    let is_narrow = tile.columns < panels * S::LANES;
    /// Chooses the tile function of that size. Only tall ones come with
    /// fetching ahead too: several tiles of a block are never all short. And
    /// no narrow ones do: after the last panel there is nothing to fetch.
    macro_rules! choose {
        ($($rows:literal: $($panels:literal)+;)+ and ahead $($tall:literal: $($wide:literal)+;)+) => {
            match (rows, panels, is_narrow, tile.lines_ahead > 0) {
                $($(
                    ($tall, $wide, false, true) if const { fits::<S>($tall, $wide) } => {
                        apart(simd, Sized::<W, $tall, $wide, true, false>(tile))
                    }
                )+)+
                $($(
                    ($rows, $panels, false, _) if const { fits::<S>($rows, $panels) } => {
                        apart(simd, Sized::<W, $rows, $panels, false, false>(tile))
                    }
                    ($rows, $panels, true, _) if const { fits::<S>($rows, $panels) } => {
                        apart(simd, Sized::<W, $rows, $panels, false, true>(tile))
                    }
                )+)+
                _ => unreachable!("`TILE_VECTORS` bounds the tiles"),
            }
        };
    }
    choose! {
        1: 1 2 3 4 5 6 7 8;
        2: 1 2 3 4 5 6;
        3: 1 2 3 4 5 6;
        4: 1 2 3 4 5;
        5: 1 2 3 4;
        6: 1 2 3 4;
        7: 1 2 3;
        8: 1 2 3;
        and ahead
        4: 1 2 3 4 5;
        5: 1 2 3 4;
        6: 1 2 3 4;
        7: 1 2 3;
        8: 1 2 3;
    }
    if let Some(activation) = tile.activation {
        // SAFETY: the tile just wrote these outputs, which are its own.
        let block = unsafe { Block::new(tile.output, rows, tile.columns, tile.output_stride) };
        activation.apply_block(simd, block);
    }
}

/// Runs a task in a function that the compiler cannot make part of its caller's:
/// `Simd::call` alone does not keep it from that.
#[inline(never)]
fn apart<S: Simd, T: Task>(simd: S, task: T) -> T::Output {
    simd.call(task)
}

/// Whether an instruction set has the registers for a tile of this size. Others
/// are not compiled: with 16 registers they are two in five.
const fn fits<S: Simd>(rows: usize, panels: usize) -> bool {
    rows <= S::TILE_VECTORS.len() && panels <= S::TILE_VECTORS[rows - 1]
}

/// The steps over `k` that are written out between two jumps: the jump and the
/// addresses would otherwise take a tenth of the time. A multiple of the steps
/// of a word.
const UNROLL: usize = 4;

/// A tile whose size the compiler knows, so that its sums stay in registers;
/// only `run_tile` makes one, under its conditions.
///
/// `NARROW` says that the last panel has fewer columns than lanes: the second
/// address that this takes would cost a row of full panels a tenth of its time.
struct Sized<W, const R: usize, const P: usize, const AHEAD: bool, const NARROW: bool>(Tile<W>);

impl<W: Word, const R: usize, const P: usize, const AHEAD: bool, const NARROW: bool> Task
    for Sized<W, R, P, AHEAD, NARROW>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        // SAFETY: `run_tile` was granted `P` vectors of biases.
        let bias = from_fn(|p| unsafe { simd.load(tile.bias.add(p * S::LANES)) });
        let mut sums: [[S::Vector; P]; R] = [bias; R];

        let k = tile.k;
        // The columns of the last panel, and so the words from one to the next.
        let last_columns = if NARROW {
            tile.columns - (P - 1) * S::LANES
        } else {
            S::LANES
        };
        let stride = k.div_ceil(W::STEPS) * S::LANES;
        let (mut input, mut ahead) = (tile.input, tile.ahead);
        // SAFETY: `run_tile` was granted `P` panels, all but the last of them full.
        let last = unsafe { tile.words.add((P - 1) * stride) };
        let mut words = Words {
            full: tile.words,
            stride,
            last,
            last_columns,
        };
        let passes = k / UNROLL;
        let lines_a_pass = tile.lines_ahead.div_ceil(passes.max(1));
        for _ in 0..passes {
            if AHEAD {
                for _ in 0..lines_a_pass {
                    prefetch(ahead);
                    ahead = ahead.wrapping_add(LINE);
                }
            }
            // SAFETY: the passes make at most `k` steps, which `run_tile` was
            // granted.
            unsafe {
                for step in 0..UNROLL {
                    accumulate::<S, W, R, P, NARROW>(
                        simd,
                        k,
                        input.add(step),
                        words.after::<S>(step / W::STEPS),
                        step % W::STEPS,
                        &mut sums,
                    );
                }
                input = input.add(UNROLL);
                words = words.after::<S>(UNROLL / W::STEPS);
            }
        }
        for step in 0..k % UNROLL {
            // SAFETY: these are the remaining steps of `k`.
            unsafe {
                accumulate::<S, W, R, P, NARROW>(
                    simd,
                    k,
                    input.add(step),
                    words.after::<S>(step / W::STEPS),
                    step % W::STEPS,
                    &mut sums,
                );
            }
        }

        let lower = simd.splat(tile.bounds.0);
        let upper = simd.splat(tile.bounds.1);
        for (r, sums) in sums.iter().enumerate() {
            for (p, &sum) in sums.iter().enumerate() {
                // The bounds come first, so that NaN passes.
                let result = simd.min(upper, simd.max(lower, sum));
                // SAFETY: `run_tile` was granted the outputs of `R` rows and
                // `columns` columns; only the last panel may not be full.
                unsafe {
                    let target = tile.output.add(r * tile.output_stride + p * S::LANES);
                    if p + 1 < P || !NARROW {
                        simd.store(result, target);
                    } else {
                        simd.store_first(result, target, last_columns);
                    }
                }
            }
        }
    }
}

/// Where a step over `k` finds the words of a tile.
#[derive(Clone, Copy)]
struct Words<W> {
    /// Those of the first panel, if that is full.
    full: *const W,
    /// From one full panel to the next.
    stride: usize,
    /// Those of a narrow tile's last panel.
    last: *const W,
    /// From word to word of a column in the last panel.
    last_columns: usize,
}

impl<W: Word> Words<W> {
    /// The place `words` words further on, at most after the last one.
    #[inline(always)]
    fn after<S: Simd>(self, words: usize) -> Words<W> {
        // Wrapping, because a lone panel of fewer columns ends before `full`.
        Words {
            full: self.full.wrapping_add(words * S::LANES),
            last: self.last.wrapping_add(words * self.last_columns),
            ..self
        }
    }
}

/// Adds the products of one step over `k` to the sums.
///
/// # Safety
/// `input` points to this step of the first of `R` rows of `k` inputs; `words` to
/// the words of `P` panels whose step `part` this is, and a vector may be read at
/// each of them.
#[inline(always)]
unsafe fn accumulate<S: Simd, W: Word, const R: usize, const P: usize, const NARROW: bool>(
    simd: S,
    k: usize,
    input: *const f32,
    words: Words<W>,
    part: usize,
    sums: &mut [[S::Vector; P]; R],
) {
    // The sums, the vectors at hand, the words that they came from and an input.
    if W::STEPS > 1 && R > 2 && R * P + 2 * P + 1 > S::REGISTERS {
        // The words are read again for their next step: kept meanwhile, they
        // would drive sums out of the registers.
        compiler_fence(Ordering::SeqCst);
    }
    let mut vectors = [simd.splat(0.0); P];
    for (p, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: full panels follow each other at `stride` words; in a last one
        // of fewer columns the vector runs on into the next words or, after the
        // last ones, into the room after the panel.
        *vector = unsafe {
            let source = if NARROW && p + 1 == P {
                words.last
            } else {
                words.full.add(p * words.stride)
            };
            W::load(simd, source, part)
        };
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: rows follow each other at `k` values.
        let x = simd.splat(unsafe { input.add(r * k).read() });
        for (sum, &vector) in sums.iter_mut().zip(&vectors) {
            *sum = simd.mul_add(x, vector, *sum);
        }
    }
}

/// Asks the CPU to fetch a cache line into its L2 cache.
#[inline(always)]
fn prefetch<W>(address: *const W) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 CPU has the instruction, and it may name any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: every AArch64 CPU has the instruction, and it may name any address.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{}]",
            in(reg) address,
            options(nomem, nostack, preserves_flags),
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}
