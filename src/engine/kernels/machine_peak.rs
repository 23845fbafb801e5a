//! What the machine can do at best, for benchmarks to hold the kernels against.
//!
//! Each function does a known amount of work and nothing else; the caller
//! takes the time.

use std::array::from_fn;

use super::isa::Isa;
use super::simd::{Simd, Task};

/// Multiply-adds that wait for each other, one after the other.
///
/// Their time is the latency of one, the least that a sum in a fixed order
/// takes for each of its terms.
#[must_use]
pub fn dependent_multiply_adds(isa: Isa, count: usize) -> f32 {
    isa.run(MultiplyAdds::<1> { steps: count })
}

/// At least `count` multiply-adds of whole vectors that do not wait for each
/// other; returns their floating-point operations too.
#[must_use]
pub fn multiply_adds(isa: Isa, count: usize) -> (f32, u64) {
    // More than the latency of one times those that start in each cycle, and
    // few enough for the registers of every instruction set.
    const CHAINS: usize = 12;
    let steps = count.div_ceil(CHAINS);
    let flops = 2 * (steps * CHAINS * isa.lanes()) as u64;
    (isa.run(MultiplyAdds::<CHAINS> { steps }), flops)
}

/// Reads all values once.
#[must_use]
pub fn read(isa: Isa, values: &[f32]) -> f32 {
    isa.run(Read { values })
}

/// Reads all values once, from several places in turns, as a product of one row reads its panels.
///
/// Where the memory is far this is faster, since more of the prefetcher's streams run.
#[must_use]
pub fn read_in_streams(isa: Isa, values: &[f32]) -> f32 {
    isa.run(ReadInStreams { values })
}

struct MultiplyAdds<const CHAINS: usize> {
    steps: usize,
}

impl<const CHAINS: usize> Task for MultiplyAdds<CHAINS> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let factor = simd.splat(std::hint::black_box(0.999));
        let summand = simd.splat(std::hint::black_box(0.001));
        let mut sums: [S::Vector; CHAINS] = from_fn(|_| simd.splat(1.0));
        for _ in 0..self.steps {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, factor, summand);
            }
        }
        let zero = simd.splat(0.0);
        simd.reduce_add(sums.into_iter().fold(zero, |all, sum| simd.add(all, sum)))
    }
}

struct Read<'a> {
    values: &'a [f32],
}

impl Task for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        const CHAINS: usize = 8;
        let mut largest: [S::Vector; CHAINS] = from_fn(|_| simd.splat(0.0));
        let blocks = self.values.chunks_exact(CHAINS * S::LANES);
        let rest = blocks.remainder();
        for block in blocks {
            for (chain, values) in largest.iter_mut().zip(block.chunks_exact(S::LANES)) {
                *chain = simd.max(*chain, simd.read(values));
            }
        }
        largest_of(simd, largest, rest)
    }
}

/// The largest of the lanes of some vectors, at least one, and of what did not fill them.
#[inline(always)]
fn largest_of<S: Simd, const VECTORS: usize>(
    simd: S,
    mut largest: [S::Vector; VECTORS],
    rest: &[f32],
) -> f32 {
    for values in rest.chunks(S::LANES) {
        largest[0] = simd.max(largest[0], simd.read(values));
    }
    let first = largest[0];
    let all = largest
        .into_iter()
        .fold(first, |all, one| simd.max(all, one));
    simd.reduce_max(all)
}

struct ReadInStreams<'a> {
    values: &'a [f32],
}

impl Task for ReadInStreams<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        const STREAMS: usize = 8;
        /// Vectors that are read from one place before the next one's turn.
        const VECTORS: usize = 4;
        let block = VECTORS * S::LANES;
        let blocks = self.values.len() / STREAMS / block;
        let (even, rest) = self.values.split_at(STREAMS * blocks * block);
        let mut streams: [_; STREAMS] =
            from_fn(|i| even[i * blocks * block..][..blocks * block].chunks_exact(block));
        let mut largest: [S::Vector; VECTORS] = from_fn(|_| simd.splat(0.0));
        for _ in 0..blocks {
            for stream in &mut streams {
                let Some(block) = stream.next() else { continue };
                for (chain, values) in largest.iter_mut().zip(block.chunks_exact(S::LANES)) {
                    *chain = simd.max(*chain, simd.read(values));
                }
            }
        }
        largest_of(simd, largest, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_and_not_left_out() {
        for isa in Isa::available() {
            // x * 0.999 + 0.001 stays at 1.
            let lanes = isa.lanes() as f32;
            assert!((dependent_multiply_adds(isa, 1000) - lanes).abs() < 1e-3);
            let (sum, flops) = multiply_adds(isa, 100);
            assert!((sum - 12.0 * lanes).abs() < 1e-2);
            assert_eq!(flops, 2 * 9 * 12 * isa.lanes() as u64);
            for len in [0, 1, 15, 16, 1000] {
                let mut values = vec![0.5; len];
                if let Some(last) = values.last_mut() {
                    *last = 3.0;
                }
                let largest = if len > 0 { 3.0 } else { 0.0 };
                assert_eq!(read(isa, &values), largest);
                assert_eq!(read_in_streams(isa, &values), largest);
                values.reverse();
                assert_eq!(read_in_streams(isa, &values), largest);
            }
        }
    }
}
