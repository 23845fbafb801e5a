//! Which instruction set the kernels run with, decided at run time.

use std::fmt;

#[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
use super::simd::Neon;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd, Task};

/// The instruction set the kernels run with.
///
/// Only [`Isa::detect`] and [`Isa::available`] make one, so holding one proves
/// that this CPU has the instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

/// An instruction set's token, which only its detection makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512(Avx512),
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2(Avx2),
    #[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
    Neon(Neon),
    Portable(Portable),
}

/// Evaluates an expression with the token of an [`Isa`].
macro_rules! with_token {
    ($isa:expr, |$simd:ident| $result:expr) => {
        match $isa.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx512($simd) => $result,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx2($simd) => $result,
            #[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
            Set::Neon($simd) => $result,
            Set::Portable($simd) => $result,
        }
    };
}

impl Isa {
    /// The best instruction set of this CPU (the portable one under Miri,
    /// which interprets no vector intrinsics).
    ///
    /// Cheap: the standard library asks the CPU once and keeps the answer.
    pub fn detect() -> Isa {
        Self::all().next().expect("every CPU runs the portable one")
    }

    /// Every instruction set this CPU can run, the best first. The portable
    /// one is always the last.
    pub fn available() -> Vec<Isa> {
        Self::all().collect()
    }

    fn all() -> impl Iterator<Item = Isa> {
        let sets = [
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Avx512::detect().map(Set::Avx512),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Avx2::detect().map(Set::Avx2),
            #[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
            Neon::detect().map(Set::Neon),
            Some(Set::Portable(Portable)),
        ];
        sets.into_iter().flatten().map(Isa)
    }

    /// The name for logs and benchmarks: `avx512`, `avx2`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        fn of<S: Simd>(_: S) -> &'static str {
            S::NAME
        }
        with_token!(self, |simd| of(simd))
    }

    /// The number of `f32` in one vector.
    pub(super) fn lanes(self) -> usize {
        fn of<S: Simd>(_: S) -> usize {
            S::LANES
        }
        with_token!(self, |simd| of(simd))
    }

    /// How many vectors of columns a tile of this many rows is wide.
    pub(super) fn tile_vectors(self, rows: usize) -> usize {
        fn of<S: Simd>(_: S) -> &'static [usize] {
            S::TILE_VECTORS
        }
        let vectors = with_token!(self, |simd| of(simd));
        vectors[rows.clamp(1, vectors.len()) - 1]
    }

    /// Runs a task compiled for this instruction set.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        with_token!(self, |simd| simd.call(task))
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_instruction_set_is_the_first_available_and_the_portable_one_the_last() {
        let sets = Isa::available();
        assert_eq!(sets.first(), Some(&Isa::detect()));
        assert_eq!(sets.last().map(|isa| isa.name()), Some("portable"));
        // Every CPU of this kind has it: what runs here is not the portable one.
        let is_arm = cfg!(all(target_arch = "aarch64", target_endian = "little"));
        if is_arm && !cfg!(miri) {
            assert_eq!(sets[0].name(), "neon");
        }
    }
}
