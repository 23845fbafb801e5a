//! One tile of a dense layer's output, its sums all in registers.

use std::array::from_fn;

use crate::engine::kernels::activation::{Activation, Block};
use crate::engine::kernels::aligned::LINE;
use crate::engine::kernels::simd::{Simd, Task};

/// A tile's place in the matrices and what is applied to it.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The number of inputs, also the stride of the input's rows.
    pub(super) k: usize,
    /// The tile's first row of `[rows, k]`.
    pub(super) input: *const f32,
    /// The tile's first panel of `[panels, k, lanes]`. A last panel of fewer
    /// columns is `[k, columns]`, with `lanes - columns` values behind it.
    pub(super) weights: *const f32,
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
    /// Weights that a later tile needs, fetched meanwhile; only a hint.
    pub(super) ahead: *const f32,
    /// How many cache lines of them.
    pub(super) lines_ahead: usize,
}

/// Computes a tile of `rows` rows and `panels` panels.
///
/// # Safety
/// The tile's input, panels, biases and outputs exist, and nobody else uses
/// the outputs meanwhile.
#[inline(always)]
pub(super) unsafe fn run_tile<S: Simd>(simd: S, rows: usize, panels: usize, tile: Tile) {
    let is_narrow = tile.columns < panels * S::LANES;
    /// Chooses the tile function of that size. Only tall ones come with
    /// fetching ahead too: several tiles of a block are never all short. And
    /// no narrow ones do: behind the last panel there is nothing to fetch.
    macro_rules! choose {
        ($($rows:literal: $($panels:literal)+;)+ and ahead $($tall:literal: $($wide:literal)+;)+) => {
            match (rows, panels, is_narrow, tile.lines_ahead > 0) {
                $($(
                    ($tall, $wide, false, true) => simd.call(Sized::<$tall, $wide, true, false>(tile)),
                )+)+
                $($(
                    ($rows, $panels, false, _) => simd.call(Sized::<$rows, $panels, false, false>(tile)),
                    ($rows, $panels, true, _) => simd.call(Sized::<$rows, $panels, false, true>(tile)),
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

/// The steps over `k` that are written out between two jumps: the jump and the
/// addresses would otherwise take a tenth of the time.
const UNROLL: usize = 4;

/// A tile whose size the compiler knows, so that its sums stay in registers;
/// only `run_tile` makes one, under its conditions.
///
/// `NARROW` says that the last panel has fewer columns than lanes: the second
/// address that this takes would cost a row of full panels a tenth of its time.
struct Sized<const R: usize, const P: usize, const AHEAD: bool, const NARROW: bool>(Tile);

impl<const R: usize, const P: usize, const AHEAD: bool, const NARROW: bool> Task
    for Sized<R, P, AHEAD, NARROW>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tile = self.0;
        // SAFETY: `run_tile` was granted `P` vectors of biases.
        let bias = from_fn(|p| unsafe { simd.load(tile.bias.add(p * S::LANES)) });
        let mut sums: [[S::Vector; P]; R] = [bias; R];

        let k = tile.k;
        // The columns of the last panel, and so the values from step to step.
        let last_columns = if NARROW {
            tile.columns - (P - 1) * S::LANES
        } else {
            S::LANES
        };
        let (mut input, mut ahead) = (tile.input, tile.ahead);
        // SAFETY: `run_tile` was granted `P` panels, the first of them full.
        let last = unsafe { tile.weights.add((P - 1) * k * S::LANES) };
        let mut weights = Weights {
            full: tile.weights,
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
                    accumulate::<S, R, P, NARROW>(
                        simd,
                        k,
                        input.add(step),
                        weights.step::<S>(step),
                        &mut sums,
                    );
                }
                input = input.add(UNROLL);
                weights = weights.step::<S>(UNROLL);
            }
        }
        for step in 0..k % UNROLL {
            // SAFETY: these are the remaining steps of `k`.
            unsafe {
                accumulate::<S, R, P, NARROW>(
                    simd,
                    k,
                    input.add(step),
                    weights.step::<S>(step),
                    &mut sums,
                );
            }
        }

        let lower = simd.splat(tile.bounds.0);
        let upper = simd.splat(tile.bounds.1);
        for (r, sums) in sums.iter().enumerate() {
            for (p, &sum) in sums.iter().enumerate() {
                // The bounds stand first, so that NaN passes.
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

/// Where a step over `k` finds the weights of a tile.
#[derive(Clone, Copy)]
struct Weights {
    /// The step in the first panel, if that is full; each further full panel
    /// follows `k` vectors later.
    full: *const f32,
    /// The step in a narrow tile's last panel.
    last: *const f32,
    /// The values from step to step in the last panel.
    last_columns: usize,
}

impl Weights {
    /// The place `steps` steps further on, at most behind the last one.
    #[inline(always)]
    fn step<S: Simd>(self, steps: usize) -> Weights {
        // Wrapping, because a lone panel of fewer columns ends before `full`.
        Weights {
            full: self.full.wrapping_add(steps * S::LANES),
            last: self.last.wrapping_add(steps * self.last_columns),
            ..self
        }
    }
}

/// Adds the products of one step over `k` to the sums.
///
/// # Safety
/// `input` points to this step of the first of `R` rows of `k` inputs, `weights`
/// to this step of `P` panels; a vector may be read at each of them.
#[inline(always)]
unsafe fn accumulate<S: Simd, const R: usize, const P: usize, const NARROW: bool>(
    simd: S,
    k: usize,
    input: *const f32,
    weights: Weights,
    sums: &mut [[S::Vector; P]; R],
) {
    let mut vectors = [simd.splat(0.0); P];
    for (p, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: full panels follow each other at `k` vectors; in a last one
        // of fewer columns the vector runs on into the next step or, after the
        // last step, into the room behind the panel.
        *vector = unsafe {
            simd.load(if NARROW && p + 1 == P {
                weights.last
            } else {
                weights.full.add(p * k * S::LANES)
            })
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
fn prefetch(address: *const f32) {
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
