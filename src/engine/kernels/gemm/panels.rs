//! Weights in the order in which the kernel reads them.

use std::array::from_fn;

use half::{bf16, f16};

use super::tile::Word;
use crate::engine::kernels::aligned::{AlignedVec, LINE};

/// How a weight matrix is stored; `k` inputs, `n` outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[k, n]`, as Keras and scikit-learn keep it.
    InOut,
    /// `[n, k]`, as PyTorch keeps it.
    OutIn,
}

/// The numbers of a weight matrix in the datatype that they are stored in.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// 32 bits, packed as they are.
    F32(&'a [f32]),
    /// The upper 16 bits of an `f32`. They are packed as they are, and the
    /// kernel widens them: the same sums as of the widened numbers, to the last
    /// bit, from half the memory.
    Bf16(&'a [bf16]),
    /// IEEE 754 half precision, widened to 32 bits when they are packed.
    F16(&'a [f16]),
}

impl Weights<'_> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Weights::F32(values) => values.len(),
            Weights::Bf16(values) => values.len(),
            Weights::F16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The memory that they take.
    pub fn bytes(self) -> usize {
        match self {
            Weights::F32(values) => size_of_val(values),
            Weights::Bf16(values) => size_of_val(values),
            Weights::F16(values) => size_of_val(values),
        }
    }
}

/// The sizes of a packed matrix.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) k: usize,
    pub(super) n: usize,
    /// The columns of a panel.
    pub(super) lanes: usize,
}

/// A packed weight matrix: `[panels, words, lanes]`, where a word holds the
/// weights of one or two neighbouring `k` of a column. A last panel of fewer
/// columns is `[words, n % lanes]` and has a vector's room after it.
pub(super) enum Panels {
    /// A word is one weight.
    F32(AlignedVec<f32>),
    /// A word is two weights, the first in its lower half. The last word of a
    /// column of an odd `k` has zero in its upper half.
    Bf16(AlignedVec<u32>),
}

impl Panels {
    pub(super) fn pack(sizes: Sizes, weights: Weights<'_>, layout: Layout) -> Panels {
        match weights {
            Weights::F32(weights) => {
                Panels::F32(pack(sizes, weights, layout, |[weight]: [f32; 1]| weight))
            }
            Weights::Bf16(weights) => Panels::Bf16(pack(sizes, weights, layout, pair)),
            Weights::F16(weights) => {
                let widen = |[weight]: [f16; 1]| weight.to_f32();
                Panels::F32(pack(sizes, weights, layout, widen))
            }
        }
    }

    /// The memory that they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Panels::F32(weights) => weights.len() * size_of::<f32>(),
            Panels::Bf16(pairs) => pairs.len() * size_of::<u32>(),
        }
    }
}

/// Two weights in a word.
fn pair([low, high]: [bf16; 2]) -> u32 {
    u32::from(high.to_bits()) << 16 | u32::from(low.to_bits())
}

/// How many words of a column are packed at once if the columns are stored
/// apart: of `f32` as many as fill a cache line.
const PACKED_WORDS: usize = LINE;

/// Packs weights, `STEPS` neighbours of a column in a word; after the last `k`
/// there is zero.
fn pack<T: Copy + Default, W: Word, const STEPS: usize>(
    Sizes { k, n, lanes }: Sizes,
    weights: &[T],
    layout: Layout,
    word: impl Fn([T; STEPS]) -> W,
) -> AlignedVec<W> {
    const { assert!(W::STEPS == STEPS) };
    let words = k.div_ceil(STEPS);
    let room = if n.is_multiple_of(lanes) { 0 } else { lanes };
    let mut packed = AlignedVec::zeros(words * n + room);
    let mut rest = packed.as_mut_slice();
    let nothing = vec![T::default(); lanes];
    for start in (0..n).step_by(lanes) {
        let columns = start..n.min(start + lanes);
        let width = columns.len();
        let panel = rest.split_off_mut(..words * width).expect("n columns");
        match layout {
            Layout::InOut => {
                for (first, step) in (0..).step_by(STEPS).zip(panel.chunks_exact_mut(width)) {
                    let rows: [&[T]; STEPS] = from_fn(|part| {
                        let row = first + part;
                        match row < k {
                            true => &weights[row * n..][columns.clone()],
                            false => &nothing[..width],
                        }
                    });
                    for (lane, target) in step.iter_mut().enumerate() {
                        *target = word(rows.map(|row| row[lane]));
                    }
                }
            }
            Layout::OutIn => {
                // A few steps at a time, so that each is written to the cache only.
                let blocks = panel.chunks_mut(PACKED_WORDS * width);
                for (first, block) in (0..).step_by(PACKED_WORDS).zip(blocks) {
                    for (lane, column) in columns.clone().enumerate() {
                        let weights = &weights[column * k..][first * STEPS..k];
                        let steps = block.chunks_exact_mut(width);
                        for (step, weights) in steps.zip(weights.chunks(STEPS)) {
                            step[lane] = word(from_fn(|part| match weights.get(part) {
                                Some(weight) => *weight,
                                None => T::default(),
                            }));
                        }
                    }
                }
            }
        }
    }
    packed
}
