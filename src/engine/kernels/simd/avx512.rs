//! AVX-512: 16 lanes, 32 registers.

use std::arch::x86_64::*;

use super::{Avx2, Simd, Task};

/// Proof that the CPU has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::kernels) struct Avx512(());

impl Avx512 {
    /// The token, if the CPU has AVX-512F, AVX2 and FMA.
    pub(in crate::engine::kernels) fn detect() -> Option<Avx512> {
        let has_rest = Avx2::detect().is_some();
        (has_rest && is_x86_feature_detected!("avx512f")).then_some(Avx512(()))
    }
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn run<T: Task>(task: T, simd: Avx512) -> T::Output {
    task.run(simd)
}

/// Evaluates an intrinsic that takes and gives values only.
macro_rules! proven {
    ($intrinsic:expr) => {{
        // SAFETY: it needs AVX-512F, AVX2 or FMA only, and an `Avx512` exists
        // only where the CPU has them.
        unsafe { $intrinsic }
    }};
}

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    ((1_u32 << count) - 1) as __mmask16
}

impl Simd for Avx512 {
    type Vector = __m512;
    type Mask = __mmask16;

    const NAME: &'static str = "avx512";
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const TILE_VECTORS: &'static [usize] = &[8, 6, 6, 5, 4, 4, 3, 3];

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        proven!(run(task, self))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        proven!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> __m512 {
        // SAFETY: the caller grants 16 readable values; the token the CPU.
        unsafe { _mm512_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn load_first(self, source: *const f32, count: usize) -> __m512 {
        // SAFETY: the caller grants `count` readable values, and masked lanes
        // are not accessed; the token grants the CPU.
        unsafe { _mm512_maskz_loadu_ps(first(count), source) }
    }

    #[inline(always)]
    unsafe fn store(self, vector: __m512, target: *mut f32) {
        // SAFETY: the caller grants 16 writable values; the token the CPU.
        unsafe { _mm512_storeu_ps(target, vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, vector: __m512, target: *mut f32, count: usize) {
        // SAFETY: the caller grants `count` writable values, and masked lanes
        // are not accessed; the token grants the CPU.
        unsafe { _mm512_mask_storeu_ps(target, first(count), vector) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        proven!(_mm512_sqrt_ps(a))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn and(self, a: __m512, bits: u32) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_and_si512(
            _mm512_castps_si512(a),
            _mm512_set1_epi32(bits.cast_signed()),
        )))
    }

    #[inline(always)]
    fn widen_low(self, pairs: __m512) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_castps_si512(pairs)
        )))
    }

    #[inline(always)]
    fn copy_sign(self, magnitude: __m512, sign: __m512) -> __m512 {
        // 0xD8 of (magnitude, sign, sign bit): the sign bit chooses `sign`,
        // every other bit `magnitude`.
        proven!(_mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xD8>(
            _mm512_castps_si512(magnitude),
            _mm512_castps_si512(sign),
            _mm512_set1_epi32(i32::MIN),
        )))
    }

    #[inline(always)]
    fn less(self, a: __m512, b: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }

    #[inline(always)]
    fn is_nan(self, a: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a))
    }

    #[inline(always)]
    fn select(self, mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(mask, no, yes))
    }

    #[inline(always)]
    fn select_first(self, count: usize, yes: __m512, no: __m512) -> __m512 {
        self.select(first(count), yes, no)
    }

    #[inline(always)]
    fn scale(self, a: __m512, n: __m512) -> __m512 {
        proven!(_mm512_scalef_ps(a, n))
    }

    #[inline(always)]
    fn split(self, a: __m512) -> (__m512, __m512) {
        proven!((
            _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(a),
            _mm512_getexp_ps(a),
        ))
    }

    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        proven!({
            let high = _mm512_castpd_ps(_mm512_castpd256_pd512(_mm512_extractf64x4_pd::<1>(
                _mm512_castps_pd(a),
            )));
            let sum = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_castps512_ps256(high));
            super::avx2::reduce_add(sum)
        })
    }

    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        proven!({
            let high = _mm512_castpd_ps(_mm512_castpd256_pd512(_mm512_extractf64x4_pd::<1>(
                _mm512_castps_pd(a),
            )));
            let max = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_castps512_ps256(high));
            super::avx2::reduce_max(max)
        })
    }
}
