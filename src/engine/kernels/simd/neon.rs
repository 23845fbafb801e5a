//! NEON: 4 lanes, 32 registers.
//!
//! There are no masks over memory: the first lanes of a vector are read and
//! written in pieces of one, two and four values, and arithmetic runs over all
//! lanes. So a value of a shorter last piece goes through the same instructions
//! as any other, and nothing after it is touched.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::{Simd, Task};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::kernels) struct Neon(());

impl Neon {
    /// The token, if the CPU has NEON, as every one that runs a usual system has.
    pub(in crate::engine::kernels) fn detect() -> Option<Neon> {
        is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

#[target_feature(enable = "neon")]
fn run<T: Task>(task: T, simd: Neon) -> T::Output {
    task.run(simd)
}

/// Evaluates an intrinsic that takes and gives values only.
macro_rules! proven {
    ($intrinsic:expr) => {{
        // SAFETY: it needs NEON only, and a `Neon` exists only where the CPU
        // has it.
        unsafe { $intrinsic }
    }};
}

/// The bits of each lane.
#[inline]
#[target_feature(enable = "neon")]
fn bits(a: float32x4_t) -> uint32x4_t {
    vreinterpretq_u32_f32(a)
}

/// The lanes of these bits.
#[inline]
#[target_feature(enable = "neon")]
fn from_bits(bits: uint32x4_t) -> float32x4_t {
    vreinterpretq_f32_u32(bits)
}

/// `2^n` of each lane, for `n` from -126 to 127.
#[inline]
#[target_feature(enable = "neon")]
fn power(n: int32x4_t) -> float32x4_t {
    let exponent = vaddq_s32(n, vdupq_n_s32(127));
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
}

impl Simd for Neon {
    type Vector = float32x4_t;
    type Mask = uint32x4_t;

    const NAME: &'static str = "neon";
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const TILE_VECTORS: &'static [usize] = &[8, 6, 6, 5, 4, 4, 3, 3];

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        proven!(run(task, self))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        proven!(vdupq_n_f32(value))
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> float32x4_t {
        // SAFETY: the caller grants 4 readable values; the token the CPU.
        unsafe { vld1q_f32(source) }
    }

    #[inline(always)]
    unsafe fn load_first(self, source: *const f32, count: usize) -> float32x4_t {
        debug_assert!(count <= 4);
        // SAFETY: each arm reads `count` values, which the caller grants; the
        // token grants the CPU.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(source, zero),
                2 => vcombine_f32(vld1_f32(source), vget_high_f32(zero)),
                3 => {
                    let two = vcombine_f32(vld1_f32(source), vget_high_f32(zero));
                    vld1q_lane_f32::<2>(source.add(2), two)
                }
                _ => vld1q_f32(source),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, vector: float32x4_t, target: *mut f32) {
        // SAFETY: the caller grants 4 writable values; the token the CPU.
        unsafe { vst1q_f32(target, vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, vector: float32x4_t, target: *mut f32, count: usize) {
        debug_assert!(count <= 4);
        // SAFETY: each arm writes `count` values, which the caller grants; the
        // token grants the CPU.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(target, vector),
                2 => vst1_f32(target, vget_low_f32(vector)),
                3 => {
                    vst1_f32(target, vget_low_f32(vector));
                    vst1q_lane_f32::<2>(target.add(2), vector);
                }
                _ => vst1q_f32(target, vector),
            }
        }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        proven!(vdivq_f32(a, b))
    }

    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        proven!(vsqrtq_f32(a))
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        proven!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not `vminq_f32`, which gives NaN if only `a` is, and orders zeros.
        proven!(vbslq_f32(vcltq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // As for `min`.
        proven!(vbslq_f32(vcgtq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn and(self, a: float32x4_t, mask: u32) -> float32x4_t {
        proven!(from_bits(vandq_u32(bits(a), vdupq_n_u32(mask))))
    }

    #[inline(always)]
    fn widen_low(self, pairs: float32x4_t) -> float32x4_t {
        proven!(from_bits(vshlq_n_u32::<16>(bits(pairs))))
    }

    #[inline(always)]
    fn copy_sign(self, magnitude: float32x4_t, sign: float32x4_t) -> float32x4_t {
        proven!(vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude))
    }

    #[inline(always)]
    fn less(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        proven!(vcltq_f32(a, b))
    }

    #[inline(always)]
    fn is_nan(self, a: float32x4_t) -> uint32x4_t {
        proven!(vmvnq_u32(vceqq_f32(a, a)))
    }

    #[inline(always)]
    fn select(self, mask: uint32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        proven!(vbslq_f32(mask, yes, no))
    }

    #[inline(always)]
    fn select_first(self, count: usize, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        static LANES: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: the array holds 4 values; the token grants the CPU.
        let lanes = unsafe { vld1q_u32(LANES.as_ptr()) };
        proven!(vbslq_f32(
            vcltq_u32(lanes, vdupq_n_u32(count as u32)),
            yes,
            no
        ))
    }

    #[inline(always)]
    fn scale(self, a: float32x4_t, n: float32x4_t) -> float32x4_t {
        // Two factors, because 2^n itself may lie outside the normal numbers.
        proven!({
            let n = vcvtq_s32_f32(n);
            let half = vshrq_n_s32::<1>(n);
            let rest = vsubq_s32(n, half);
            vmulq_f32(vmulq_f32(a, power(half)), power(rest))
        })
    }

    #[inline(always)]
    fn split(self, a: float32x4_t) -> (float32x4_t, float32x4_t) {
        proven!({
            let bits = bits(a);
            let exponent = vreinterpretq_s32_u32(vshrq_n_u32::<23>(bits));
            let exponent = vcvtq_f32_s32(vsubq_s32(exponent, vdupq_n_s32(127)));
            let mantissa = vandq_u32(bits, vdupq_n_u32(0x007F_FFFF));
            let mantissa = from_bits(vorrq_u32(mantissa, vdupq_n_u32(0x3F80_0000)));
            (mantissa, exponent)
        })
    }

    #[inline(always)]
    fn reduce_add(self, a: float32x4_t) -> f32 {
        proven!({
            let two = vadd_f32(vget_low_f32(a), vget_high_f32(a));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }

    #[inline(always)]
    fn reduce_max(self, a: float32x4_t) -> f32 {
        proven!(vmaxvq_f32(a))
    }
}
