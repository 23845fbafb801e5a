//! Every other CPU: arrays that the compiler turns into its 128-bit vectors.

use std::array::from_fn;

use super::{Simd, Task};

/// The operations in plain Rust; needs nothing of the CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::kernels) struct Portable;

/// Four lanes: the vector that both x86-64 and AArch64 have at least.
type Lanes = [f32; 4];

/// A lane of a mask: vector instructions compare to all bits or none.
#[inline(always)]
fn all_bits(set: bool) -> u32 {
    if set { u32::MAX } else { 0 }
}

impl Simd for Portable {
    type Vector = Lanes;
    type Mask = [u32; 4];

    const NAME: &'static str = "portable";
    const LANES: usize = 4;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") {
        32
    } else {
        16
    };
    const TILE_VECTORS: &'static [usize] = &[8, 6, 4, 3, 2, 2];

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn load(self, source: *const f32) -> Lanes {
        // SAFETY: the caller grants 4 readable values; unaligned is allowed.
        unsafe { source.cast::<Lanes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(self, source: *const f32, count: usize) -> Lanes {
        let mut lanes = [0.0; 4];
        for (lane, value) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller grants `count` readable values.
            *value = unsafe { source.add(lane).read() };
        }
        lanes
    }

    #[inline(always)]
    unsafe fn store(self, vector: Lanes, target: *mut f32) {
        // SAFETY: the caller grants 4 writable values; unaligned is allowed.
        unsafe { target.cast::<Lanes>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn store_first(self, vector: Lanes, target: *mut f32, count: usize) {
        for (lane, &value) in vector.iter().enumerate().take(count) {
            // SAFETY: the caller grants `count` writable values.
            unsafe { target.add(lane).write(value) };
        }
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn sqrt(self, a: Lanes) -> Lanes {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn mul_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        // Not `f32::mul_add`: without the instruction that is a library call.
        from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn and(self, a: Lanes, bits: u32) -> Lanes {
        a.map(|x| f32::from_bits(x.to_bits() & bits))
    }

    #[inline(always)]
    fn widen_low(self, pairs: Lanes) -> Lanes {
        pairs.map(|pair| f32::from_bits(pair.to_bits() << 16))
    }

    #[inline(always)]
    fn copy_sign(self, magnitude: Lanes, sign: Lanes) -> Lanes {
        from_fn(|i| magnitude[i].copysign(sign[i]))
    }

    #[inline(always)]
    fn less(self, a: Lanes, b: Lanes) -> [u32; 4] {
        from_fn(|i| all_bits(a[i] < b[i]))
    }

    #[inline(always)]
    fn is_nan(self, a: Lanes) -> [u32; 4] {
        a.map(|x| all_bits(x.is_nan()))
    }

    #[inline(always)]
    fn select(self, mask: [u32; 4], yes: Lanes, no: Lanes) -> Lanes {
        from_fn(|i| f32::from_bits(mask[i] & yes[i].to_bits() | !mask[i] & no[i].to_bits()))
    }

    #[inline(always)]
    fn select_first(self, count: usize, yes: Lanes, no: Lanes) -> Lanes {
        from_fn(|i| if i < count { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn scale(self, a: Lanes, n: Lanes) -> Lanes {
        // Two factors, because 2^n itself may lie outside the normal numbers.
        // A NaN in `n` makes them meaningless, but then `a` is NaN too.
        from_fn(|i| {
            // In 1.5 * 2^23 + n the last bits count in ones; a conversion to an
            // integer would not become a vector instruction.
            let bits = (12_582_912.0 + n[i]).to_bits();
            let n = bits.wrapping_sub(12_582_912.0_f32.to_bits()).cast_signed();
            let half = n >> 1;
            let power = |n: i32| f32::from_bits(n.wrapping_add(127).cast_unsigned() << 23);
            a[i] * power(half) * power(n.wrapping_sub(half))
        })
    }

    #[inline(always)]
    fn split(self, a: Lanes) -> (Lanes, Lanes) {
        let mantissa = |x: f32| f32::from_bits(x.to_bits() & 0x007F_FFFF | 0x3F80_0000);
        let exponent = |x: f32| ((x.to_bits() >> 23) as i32 - 127) as f32;
        (a.map(mantissa), a.map(exponent))
    }

    #[inline(always)]
    fn reduce_add(self, a: Lanes) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }

    #[inline(always)]
    fn reduce_max(self, a: Lanes) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
