//! Which instruction set the kernels run with, decided at run time.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd, Task};

/// The instruction set the kernels run with.
///
/// Only [`Isa::detect`] and [`Isa::available`] make one, so holding one proves
/// that this CPU has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2,
    Portable,
}

impl Isa {
    /// The best instruction set of this CPU (the portable one under Miri,
    /// which interprets no vector intrinsics).
    ///
    /// Cheap: the standard library asks the CPU once and keeps the answer.
    pub fn detect() -> Isa {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if has_avx512() {
                return Isa(Set::Avx512);
            }
            if has_avx2() {
                return Isa(Set::Avx2);
            }
        }
        Isa(Set::Portable)
    }

    /// Every instruction set this CPU can run, the best first. The portable
    /// one is always the last.
    pub fn available() -> Vec<Isa> {
        let mut sets = Vec::new();
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if has_avx512() {
                sets.push(Isa(Set::Avx512));
            }
            if has_avx2() {
                sets.push(Isa(Set::Avx2));
            }
        }
        sets.push(Isa(Set::Portable));
        sets
    }

    /// The name for logs and benchmarks: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx512 => "avx512",
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx2 => "avx2",
            Set::Portable => "portable",
        }
    }

    /// The number of `f32` in one vector.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx512 => Avx512::LANES,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx2 => Avx2::LANES,
            Set::Portable => Portable::LANES,
        }
    }

    /// How many vectors of columns a tile of so many rows is wide.
    pub(super) fn tile_vectors(self, rows: usize) -> usize {
        let vectors = match self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx512 => Avx512::TILE_VECTORS,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx2 => Avx2::TILE_VECTORS,
            Set::Portable => Portable::TILE_VECTORS,
        };
        vectors[rows.clamp(1, vectors.len()) - 1]
    }

    /// Runs a task compiled for this instruction set.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx512 => {
                // SAFETY: an `Isa` of AVX-512 is only made after its detection.
                let simd = unsafe { Avx512::assume() };
                simd.call(task)
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Set::Avx2 => {
                // SAFETY: an `Isa` of AVX2 is only made after its detection.
                let simd = unsafe { Avx2::assume() };
                simd.call(task)
            }
            Set::Portable => Portable.call(task),
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && has_avx2()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_instruction_set_is_the_first_available_and_the_portable_one_the_last() {
        let sets = Isa::available();
        assert_eq!(sets.first(), Some(&Isa::detect()));
        assert_eq!(sets.last().map(|isa| isa.name()), Some("portable"));
    }
}
