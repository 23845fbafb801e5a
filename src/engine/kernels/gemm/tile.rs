//! One tile of a dense layer's output, its sums all in registers.

use std::array::from_fn;
use std::sync::atomic::{Ordering, compiler_fence};

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

/// Where a tile finds its weights.
#[derive(Clone, Copy)]
pub(super) struct Source<W> {
    /// The tile's steps of its first panel, `[words, lanes]`. A last panel of fewer
    /// columns is `[words, columns]`, with `lanes - columns` words after it.
    pub(super) words: *const W,
    /// From panel to panel.
    pub(super) panel_words: usize,
    /// Where a tile without a narrow last panel leaves its weights as `f32` for
    /// others, or null.
    pub(super) widened: *mut f32,
    /// From panel to panel of those.
    pub(super) widened_words: usize,
}

/// A tile's place in the matrices.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// The steps over `k` that this tile makes: all, or some of them.
    pub(super) steps: usize,
    /// The first of these steps' inputs in the tile's first row.
    pub(super) input: *const f32,
    /// From row to row of the input.
    pub(super) input_stride: usize,
    /// The tile's first bias of `[panels, lanes]`.
    pub(super) bias: *const f32,
    /// Whether the sums so far are in the outputs, of a tile without a narrow last
    /// panel. Else they start as the bias.
    pub(super) is_resumed: bool,
    /// The lowest and highest result.
    pub(super) bounds: &'a (f32, f32),
    /// The tile's first output of `[rows, n]`.
    pub(super) output: *mut f32,
    /// `n`
    pub(super) output_stride: usize,
    /// The tile's columns that exist; the last panel may have fewer than lanes.
    pub(super) columns: usize,
    /// Words that a later tile needs, fetched meanwhile; only a hint.
    pub(super) ahead: *const u32,
    /// How many cache lines of them.
    pub(super) lines_ahead: usize,
}

/// Computes a tile of `rows` rows and `panels` panels.
///
/// # Safety
/// The tile's input, panels, biases and outputs exist, and no one else uses the
/// outputs meanwhile. If it leaves its weights widened, there is room for them.
#[inline(always)]
pub(super) unsafe fn run_tile<S: Simd, W: Word>(
    simd: S,
    rows: usize,
    panels: usize,
    source: Source<W>,
    tile: Tile<'_>,
) {
    let is_narrow = tile.columns < panels * S::LANES;
    let (is_ahead, is_first) = (tile.lines_ahead > 0, !source.widened.is_null());
    /// Chooses the tile function of that size. Only tall ones come with
    /// fetching ahead and widening for others too: several tiles of a block are
    /// never all short. And no narrow ones do: after the last panel there is
    /// nothing to fetch.
    macro_rules! choose {
        ($($rows:literal: $($panels:literal)+;)+ and tall $($tall:literal: $($wide:literal)+;)+) => {
            match (rows, panels, is_narrow, is_ahead, is_first) {
                $($(
                    ($tall, $wide, false, _, true) if const { widens::<S, W>($tall, $wide) } => {
                        apart(simd, Sized::<W, $tall, $wide, true, false, true>(source, tile))
                    }
                    ($tall, $wide, false, true, false) if const { fits::<S>($tall, $wide) } => {
                        apart(simd, Sized::<W, $tall, $wide, true, false, false>(source, tile))
                    }
                )+)+
                $($(
                    ($rows, $panels, false, _, false) if const { fits::<S>($rows, $panels) } => {
                        apart(simd, Sized::<W, $rows, $panels, false, false, false>(source, tile))
                    }
                    ($rows, $panels, true, _, false) if const { fits::<S>($rows, $panels) } => {
                        apart(simd, Sized::<W, $rows, $panels, false, true, false>(source, tile))
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
        and tall
        4: 1 2 3 4 5;
        5: 1 2 3 4;
        6: 1 2 3 4;
        7: 1 2 3;
        8: 1 2 3;
    }
}

/// Runs a task in a function that the compiler cannot make part of its caller's:
/// `Simd::call` alone does not keep it from that.
#[inline(never)]
pub(super) fn apart<S: Simd, T: Task>(simd: S, task: T) -> T::Output {
    simd.call(task)
}

/// Whether an instruction set has the registers for a tile of this size. Others
/// are not compiled: with 16 registers they are about half.
const fn fits<S: Simd>(rows: usize, panels: usize) -> bool {
    rows <= S::TILE_VECTORS.len() && panels <= S::TILE_VECTORS[rows - 1]
}

/// Whether there is a tile of this size that widens its weights for others.
const fn widens<S: Simd, W: Word>(rows: usize, panels: usize) -> bool {
    // The first of three tiles or more has more than two thirds of the most rows.
    W::STEPS > 1 && 3 * rows > 2 * S::TILE_VECTORS.len() && fits::<S>(rows, panels)
}

/// The steps over `k` that are written out between two jumps: the jump and the
/// addresses would otherwise take a tenth of the time. A multiple of the steps
/// of a word.
pub(super) const UNROLL: usize = 4;

/// A tile whose size the compiler knows, so that its sums stay in registers;
/// only `run_tile` makes one, under its conditions.
///
/// `NARROW` says that the last panel has fewer columns than lanes: the second
/// address that this takes would cost a row of full panels a tenth of its time.
/// `WIDENS` says that the tile leaves its weights for others.
struct Sized<
    'a,
    W,
    const R: usize,
    const P: usize,
    const AHEAD: bool,
    const NARROW: bool,
    const WIDENS: bool,
>(Source<W>, Tile<'a>);

impl<
    W: Word,
    const R: usize,
    const P: usize,
    const AHEAD: bool,
    const NARROW: bool,
    const WIDENS: bool,
> Task for Sized<'_, W, R, P, AHEAD, NARROW, WIDENS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Sized(source, tile) = self;
        // The columns of the last panel, and so the words from one to the next.
        let last_columns = if NARROW {
            tile.columns - (P - 1) * S::LANES
        } else {
            S::LANES
        };
        // SAFETY: `run_tile` was granted `P` vectors of biases.
        let bias = from_fn(|p| unsafe { simd.load(tile.bias.add(p * S::LANES)) });
        let mut sums: [[S::Vector; P]; R] = [bias; R];
        if !NARROW && tile.is_resumed {
            sums = from_fn(|r| {
                // SAFETY: `run_tile` was granted these outputs.
                from_fn(|p| unsafe {
                    let sum = tile.output.add(r * tile.output_stride + p * S::LANES);
                    simd.load(sum)
                })
            });
        }

        let mut place = Place {
            input: tile.input,
            words: Words {
                full: source.words,
                stride: source.panel_words,
                last: source.words.wrapping_add((P - 1) * source.panel_words),
                last_columns,
            },
            widened: source.widened,
        };
        let mut ahead = tile.ahead;
        let passes = tile.steps / UNROLL;
        let lines_a_pass = tile.lines_ahead.div_ceil(passes.max(1));
        for _ in 0..passes {
            if AHEAD {
                for _ in 0..lines_a_pass {
                    prefetch(ahead);
                    ahead = ahead.wrapping_add(LINE);
                }
            }
            for step in 0..UNROLL {
                // SAFETY: the passes make at most `steps` steps, which `run_tile`
                // was granted.
                unsafe {
                    accumulate::<S, W, R, P, NARROW, WIDENS>(
                        simd,
                        place.after::<S>(step),
                        (tile.input_stride, source.widened_words),
                        step % W::STEPS,
                        &mut sums,
                    );
                }
            }
            place = place.after::<S>(UNROLL);
        }
        for step in 0..tile.steps % UNROLL {
            // SAFETY: these are the remaining steps.
            unsafe {
                accumulate::<S, W, R, P, NARROW, WIDENS>(
                    simd,
                    place.after::<S>(step),
                    (tile.input_stride, source.widened_words),
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

/// Where a step over `k` finds its inputs and weights.
#[derive(Clone, Copy)]
struct Place<W> {
    /// That of the first row.
    input: *const f32,
    words: Words<W>,
    /// Where it leaves those of the first panel widened, if it does.
    widened: *mut f32,
}

impl<W: Word> Place<W> {
    /// The place some steps further on, at most after the last one.
    #[inline(always)]
    fn after<S: Simd>(self, steps: usize) -> Place<W> {
        Place {
            input: self.input.wrapping_add(steps),
            words: self.words.after::<S>(steps / W::STEPS),
            widened: self.widened.wrapping_add(steps * S::LANES),
        }
    }
}

/// The words of a step in the panels of a tile.
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

impl<W> Words<W> {
    /// The words that come `words` later, at most after the last ones.
    #[inline(always)]
    fn after<S: Simd>(self, words: usize) -> Words<W> {
        // Wrapping, because a lone panel of fewer columns ends before `full`.
        Words {
            full: self.full.wrapping_add(words * S::LANES),
            last: self.last.wrapping_add(words * self.last_columns),
            ..self
        }
    }

    /// Those of panel `p` of `P`.
    #[inline(always)]
    fn of_panel<const P: usize, const NARROW: bool>(self, p: usize) -> *const W {
        if NARROW && p + 1 == P {
            self.last
        } else {
            self.full.wrapping_add(p * self.stride)
        }
    }
}

/// Adds the products of one step over `k` to the sums.
///
/// # Safety
/// `place` has this step's inputs of `R` rows, `input_stride` apart, and the words
/// of `P` panels whose step `part` this is. A vector may be read at each of the
/// words and, if `WIDENS`, written at the `P` places for widened ones, which are
/// `widened_words` apart.
#[inline(always)]
unsafe fn accumulate<
    S: Simd,
    W: Word,
    const R: usize,
    const P: usize,
    const NARROW: bool,
    const WIDENS: bool,
>(
    simd: S,
    place: Place<W>,
    (input_stride, widened_words): (usize, usize),
    part: usize,
    sums: &mut [[S::Vector; P]; R],
) {
    // The sums, the vectors at hand, the words that they came from, the bits that
    // widening keeps and an input.
    if W::STEPS > 1 && R > 1 && R * P + 2 * P + 2 > S::REGISTERS {
        // The words are read again for their next step: kept meanwhile, they
        // would drive sums out of the registers.
        compiler_fence(Ordering::SeqCst);
    }
    let mut vectors = [simd.splat(0.0); P];
    for (p, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: in a last panel of fewer columns the vector runs on into the
        // next words or, after the last ones, into the room after the panel.
        unsafe {
            *vector = W::load(simd, place.words.of_panel::<P, NARROW>(p), part);
            if WIDENS {
                simd.store(*vector, place.widened.add(p * widened_words));
            }
        }
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        // SAFETY: rows follow each other at `input_stride` values.
        let x = simd.splat(unsafe { place.input.add(r * input_stride).read() });
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
