//! Vectors of `f32`: the few operations the kernels need, once for each
//! instruction set.
//!
//! A [`Simd`] is a token without size that only its own `detect` makes, after it
//! asked the CPU. So arithmetic on vectors is safe, and each formula of
//! [`math`](super::math) is written once for all instruction sets.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use avx2::Avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use avx512::Avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little", not(miri)))]
pub(super) use neon::Neon;
pub(super) use portable::Portable;

/// Proof that an instruction set may be used, and its operations on vectors.
pub(super) trait Simd: Copy {
    /// `LANES` values.
    type Vector: Copy;
    /// One truth value a lane.
    type Mask: Copy;

    /// The name for logs and benchmarks.
    const NAME: &'static str;

    /// The number of values in a vector.
    const LANES: usize;

    /// The number of vectors that the CPU's registers hold.
    const REGISTERS: usize;

    /// For 1, 2, ... rows: how many vectors of columns a tile of
    /// [`Gemm`](super::Gemm) may be wide, so that its accumulators, one weight
    /// vector for each and one input value fit the registers.
    const TILE_VECTORS: &'static [usize];

    /// Runs a task in a function of its own with this instruction set enabled.
    fn call<T: Task>(self, task: T) -> T::Output;

    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::Vector;

    /// `LANES` values from `source`.
    ///
    /// # Safety
    /// `source` is valid for reading `LANES` values.
    unsafe fn load(self, source: *const f32) -> Self::Vector;

    /// `count` values from `source`, and zero in the other lanes.
    ///
    /// # Safety
    /// `source` is valid for reading `count` values, and `count <= LANES`.
    unsafe fn load_first(self, source: *const f32, count: usize) -> Self::Vector;

    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `target` is valid for writing `LANES` values.
    unsafe fn store(self, vector: Self::Vector, target: *mut f32);

    /// Writes the first `count` lanes and touches nothing after them.
    ///
    /// # Safety
    /// `target` is valid for writing `count` values, and `count <= LANES`.
    unsafe fn store_first(self, vector: Self::Vector, target: *mut f32, count: usize);

    /// `a + b`
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b`
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`, rounded correctly
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The square root, rounded correctly
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// `a * b + c`: one rounding where the CPU fuses them, else two.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The smaller one; `b` if either is NaN or both are zeros.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger one; `b` if either is NaN or both are zeros.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Clears the bits of `a` that are clear in `bits`.
    fn and(self, a: Self::Vector, bits: u32) -> Self::Vector;
    /// Moves the lower 16 bits of each lane to its upper half and clears the
    /// lower: of two bf16 in a lane, the lower one as an `f32`.
    ///
    /// Only bits move: a lane need not hold a number.
    fn widen_low(self, pairs: Self::Vector) -> Self::Vector;
    /// Clears the lower 16 bits of each lane: of two bf16 in a lane, the upper
    /// one as an `f32`.
    #[inline(always)]
    fn widen_high(self, pairs: Self::Vector) -> Self::Vector {
        self.and(pairs, 0xFFFF_0000)
    }
    /// The absolute value of `magnitude` with the sign of `sign`.
    fn copy_sign(self, magnitude: Self::Vector, sign: Self::Vector) -> Self::Vector;
    /// `a < b`; false if either is NaN.
    fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// Whether a lane is NaN.
    fn is_nan(self, a: Self::Vector) -> Self::Mask;
    /// `yes` where the mask is set, else `no`.
    fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector;
    /// `yes` in the first `count` lanes, `no` in the others; `count <= LANES`.
    fn select_first(self, count: usize, yes: Self::Vector, no: Self::Vector) -> Self::Vector;
    /// `a * 2^n` for an integral `n` from -250 to 250, rounded once if `a` is
    /// within a factor of two of 1.
    fn scale(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// `(mantissa, exponent)` with `a = mantissa * 2^exponent` and the mantissa
    /// in `[1, 2)`, for a positive finite normal `a`.
    fn split(self, a: Self::Vector) -> (Self::Vector, Self::Vector);
    /// The sum of all lanes in one fixed order: halves are added until one
    /// value is left.
    fn reduce_add(self, a: Self::Vector) -> f32;
    /// The largest lane, if none is NaN.
    fn reduce_max(self, a: Self::Vector) -> f32;

    /// The first `LANES` values of a slice, or all of a shorter one followed
    /// by zeros.
    #[inline(always)]
    fn read(self, values: &[f32]) -> Self::Vector {
        if values.len() >= Self::LANES {
            // SAFETY: the slice holds at least `LANES` values.
            unsafe { self.load(values.as_ptr()) }
        } else {
            // SAFETY: the slice holds exactly this many values, fewer than `LANES`.
            unsafe { self.load_first(values.as_ptr(), values.len()) }
        }
    }

    /// Writes the first `LANES` values of a slice, or all of a shorter one.
    #[inline(always)]
    fn write(self, vector: Self::Vector, values: &mut [f32]) {
        if values.len() >= Self::LANES {
            // SAFETY: the slice holds at least `LANES` values.
            unsafe { self.store(vector, values.as_mut_ptr()) }
        } else {
            // SAFETY: the slice holds exactly this many values, fewer than `LANES`.
            unsafe { self.store_first(vector, values.as_mut_ptr(), values.len()) }
        }
    }
}

/// A loop written once over [`Simd`], compiled once for each instruction set.
///
/// Implementations mark `run` `#[inline(always)]`: its body then becomes part
/// of a function that has the instruction set enabled.
pub(super) trait Task {
    /// What the loop returns.
    type Output;

    /// Runs the loop.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
