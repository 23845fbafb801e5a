//! AVX2 with FMA: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Simd, Task};

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::kernels) struct Avx2(());

impl Avx2 {
    /// The token, if the CPU has AVX2 and FMA.
    pub(in crate::engine::kernels) fn detect() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

#[target_feature(enable = "avx2,fma")]
fn run<T: Task>(task: T, simd: Avx2) -> T::Output {
    task.run(simd)
}

/// Evaluates an intrinsic that takes and gives values only.
macro_rules! proven {
    ($intrinsic:expr) => {{
        // SAFETY: it needs AVX2 or FMA only, and an `Avx2` exists only where
        // the CPU has both.
        unsafe { $intrinsic }
    }};
}

/// The mask of the first `count` lanes, as masked loads and stores want it.
#[inline(always)]
fn first(count: usize) -> __m256i {
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &MASKS[8 - count..][..8];
    // SAFETY: the slice holds 8 values; only callers with an `Avx2` come here.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

/// The sum of 8 lanes: halves are added until one value is left.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn reduce_add(a: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// The largest of 8 lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn reduce_max(a: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

impl Simd for Avx2 {
    type Vector = __m256;
    type Mask = __m256;

    const NAME: &'static str = "avx2";
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const TILE_VECTORS: &'static [usize] = &[8, 4, 3, 2, 2, 2];

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        proven!(run(task, self))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        proven!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> __m256 {
        // SAFETY: the caller grants 8 readable values; the token the CPU.
        unsafe { _mm256_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn load_first(self, source: *const f32, count: usize) -> __m256 {
        // SAFETY: the caller grants `count` readable values, and masked lanes
        // are not accessed; the token grants the CPU.
        unsafe { _mm256_maskload_ps(source, first(count)) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: __m256, target: *mut f32) {
        // SAFETY: the caller grants 8 writable values; the token the CPU.
        unsafe { _mm256_storeu_ps(target, vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, vector: __m256, target: *mut f32, count: usize) {
        // SAFETY: the caller grants `count` writable values, and masked lanes
        // are not accessed; the token grants the CPU.
        unsafe { _mm256_maskstore_ps(target, first(count), vector) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        proven!(_mm256_sqrt_ps(a))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m256, bits: u32) -> __m256 {
        proven!(_mm256_and_ps(
            a,
            _mm256_castsi256_ps(_mm256_set1_epi32(bits.cast_signed()))
        ))
    }

    #[inline(always)]
    fn widen_low(self, pairs: __m256) -> __m256 {
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(
            _mm256_castps_si256(pairs)
        )))
    }

    #[inline(always)]
    fn copy_sign(self, magnitude: __m256, sign: __m256) -> __m256 {
        proven!({
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign))
        })
    }

    #[inline(always)]
    fn less(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
    }

    #[inline(always)]
    fn is_nan(self, a: __m256) -> __m256 {
        proven!(_mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }

    #[inline(always)]
    fn select(self, mask: __m256, yes: __m256, no: __m256) -> __m256 {
        proven!(_mm256_blendv_ps(no, yes, mask))
    }

    #[inline(always)]
    fn select_first(self, count: usize, yes: __m256, no: __m256) -> __m256 {
        proven!(self.select(_mm256_castsi256_ps(first(count)), yes, no))
    }

    #[inline(always)]
    fn scale(self, a: __m256, n: __m256) -> __m256 {
        // Two factors, because 2^n itself may lie outside the normal numbers.
        proven!({
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let bias = _mm256_set1_epi32(127);
            let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
            let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias));
            let scaled = _mm256_mul_ps(a, _mm256_castsi256_ps(first));
            _mm256_mul_ps(scaled, _mm256_castsi256_ps(second))
        })
    }

    #[inline(always)]
    fn split(self, a: __m256) -> (__m256, __m256) {
        proven!({
            let bits = _mm256_castps_si256(a);
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let mantissa = _mm256_or_si256(
                _mm256_and_si256(bits, _mm256_set1_epi32(0x007F_FFFF)),
                _mm256_set1_epi32(0x3F80_0000),
            );
            (_mm256_castsi256_ps(mantissa), _mm256_cvtepi32_ps(exponent))
        })
    }

    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        proven!(reduce_add(a))
    }

    #[inline(always)]
    fn reduce_max(self, a: __m256) -> f32 {
        proven!(reduce_max(a))
    }
}
