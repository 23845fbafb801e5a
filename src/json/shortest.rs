//! The shortest decimal text that reads back as the same `f32`, and of these the nearest.
//!
//! Around a float lies the interval of all that reads as it, as wide as the distance between two
//! floats. Counted in a power of ten that is at least that distance and less than ten times it, the
//! interval holds at most one whole number; if it does, that is the text, without its trailing
//! zeros. If it does not, one more digit is needed, the nearest.
//!
//! So one product, of the float's mantissa and the distance in that power of ten, holds it all: its
//! upper half is the whole number below the float, its lower half how far above it the float lies.
//! It is too small by less than 2^24 in 2^64, as the distances are cut off after 64 bits. No bound
//! of an interval is so near to a whole number without being one, of any float: a test that takes
//! minutes, and is ignored by default, writes them all.
//!
//! Source: R. Giulietti, "The Schubfach way to render doubles", 2020, for the interval and its
//! powers of ten; the crate `zmij` of D. Tolnay and V. Zverovich, with which the tests compare, for
//! doing with one product.

mod layout;

pub(super) use layout::SLOT;
use layout::{Layout, place};

/// How many numbers [`write_block`] takes.
///
/// Each of its steps is done for all of them before the next. A processor looks ahead a few hundred
/// instructions: with the short steps of several numbers before it, it need not wait for the long
/// way from one number's bits to its text.
pub(super) const BLOCK: usize = 8;

/// Room for [`BLOCK`] numbers, none of which but the last takes more than 20 bytes.
pub(super) const BLOCK_ROOM: usize = 256 + SLOT;

/// Writes numbers, each with a comma after it; returns how many bytes they take.
///
/// What is not finite becomes `NaN`, `Infinity` or `-Infinity`.
pub(super) fn write_block(values: &[f32; BLOCK], room: &mut [u8; BLOCK_ROOM]) -> usize {
    let decimals = values.map(|value| Decimal::common(value.to_bits()));
    let digits = decimals.map(|decimal| eight_digits(decimal.upper));
    let mut at = 0;
    for ((value, decimal), digits) in values.iter().zip(decimals).zip(digits) {
        let slot = room[at % 256..].first_chunk_mut().expect("it is longer");
        at += finish(value.to_bits(), decimal, digits, slot);
    }
    at
}

/// Writes one number as [`write_block`] does.
#[inline(never)]
pub(super) fn write(value: f32, slot: &mut [u8; SLOT]) -> usize {
    let bits = value.to_bits();
    let decimal = Decimal::common(bits);
    finish(bits, decimal, eight_digits(decimal.upper), slot)
}

#[inline(always)]
fn finish(bits: u32, decimal: Decimal, digits: u64, slot: &mut [u8; SLOT]) -> usize {
    let sign = (bits >> 31) as usize;
    slot[0] = b'-';
    let unsigned = slot[sign..].first_chunk_mut().expect("sign is 0 or 1");
    let layout = decimal.layout();
    if bits & FRACTION == 0 || layout.is_rare() {
        return sign + write_rare(bits & !SIGN, unsigned);
    }
    sign + place(decimal, digits, layout, unsigned)
}

/// What the other way does not know: powers of two, subnormals, what is not finite, and texts whose
/// point is after the seventh digit.
#[cold]
#[inline(never)]
fn write_rare(bits: u32, slot: &mut [u8; SLOT - 1]) -> usize {
    let text: &[u8] = match f32::from_bits(bits) {
        0.0 => b"0.0,",
        f32::INFINITY => b"Infinity,",
        value if value.is_nan() => b"NaN,",
        value => {
            let decimal = if value.is_subnormal() {
                Decimal::nearest(bits, &SCALES[1])
            } else if bits & FRACTION == 0 {
                Decimal::nearest_to_power_of_two(bits >> 23)
            } else {
                Decimal::common(bits)
            };
            let decimal = decimal.without_leading_zeros();
            let digits = eight_digits(decimal.upper);
            return match decimal.layout() {
                layout if layout.is_rare() => layout::place_far_point(decimal, digits, slot),
                layout => place(decimal, digits, layout, slot),
            };
        }
    };
    slot[..text.len()].copy_from_slice(text);
    text.len()
}

const SIGN: u32 = 1 << 31;
const FRACTION: u32 = (1 << 23) - 1;

/// The digits of a number and the place of its point.
#[derive(Clone, Copy)]
struct Decimal {
    /// Up to eight digits.
    upper: u32,
    /// The digit after them.
    last: u32,
    /// How many of the eight are zeros before the first that counts.
    zeros: u32,
    /// Which of the layouts: one for each power of ten of the first digit that counts.
    layout: u32,
}

impl Decimal {
    /// The shortest of a float that is no power of two, normal, and finite; anything for others.
    #[inline(always)]
    fn common(bits: u32) -> Self {
        Self::nearest(
            bits & FRACTION | 1 << 23,
            &SCALES[(bits >> 23) as usize & 0xFF],
        )
    }

    /// The shortest of `mantissa` times the distance of two floats.
    #[inline(always)]
    fn nearest(mantissa: u32, scale: &Scale) -> Self {
        /// Ten, and a little: of the halves that floats end in, 2.5 is to be rounded down to the
        /// even digit and 7.5 up. The little is more for the second, and half of both is taken off.
        const TEN: u64 = (10 << 59) + (1 << 20);
        const HALF: u64 = (1 << 58) - (1 << 19);

        let product = u128::from(mantissa) * u128::from(scale.ulp);
        let (upper, rest) = ((product >> 64) as u32, product as u64);
        let half = scale.half(mantissa);
        let (_, is_next) = rest.overflowing_add(half);
        let tenths = ((u128::from(rest) * u128::from(TEN)) >> 64) as u64;
        let last = ((tenths + HALF) >> 59) as u32;
        let upper = upper + u32::from(is_next);
        let zeros = u32::from(upper < 10_000_000) + u32::from(upper < 1_000_000);
        Self {
            upper,
            last: if is_next | (rest <= half) { 0 } else { last },
            zeros,
            layout: scale.layout.wrapping_sub(zeros),
        }
    }

    /// Below a power of two floats are twice as dense as above, so that its interval reaches only
    /// half as far there.
    fn nearest_to_power_of_two(exponent: u32) -> Self {
        let scale = &SCALES[exponent as usize];
        let product = u128::from(scale.ulp) << 23;
        let tenths = 10 * u128::from(product as u64);
        let above = 10 * u128::from(scale.half(1 << 23));
        let below = if exponent == 1 { above } else { above / 2 };
        let is_inside =
            |digit: &u128| (tenths.saturating_sub(below)..=tenths + above).contains(&(digit << 64));
        let is_odd = (tenths >> 64) & 1;
        let nearest = (tenths + (1 << 63) - 1 + is_odd) >> 64;
        let Some(digit) = [0, 10, nearest, nearest + 1].into_iter().find(is_inside) else {
            // One more digit: the same as a number of twice as dense floats.
            return Self::nearest(1 << 24, &SCALES[exponent as usize - 1]);
        };
        Self {
            upper: (product >> 64) as u32 + digit as u32 / 10,
            last: digit as u32 % 10,
            zeros: 0,
            layout: scale.layout,
        }
    }

    /// The same number from its first digit on; subnormals have few.
    fn without_leading_zeros(mut self) -> Self {
        self.layout += self.zeros;
        self.zeros = 0;
        while self.upper < 10_000_000 {
            self.upper = 10 * self.upper + self.last;
            self.last = 0;
            self.layout -= 1;
        }
        self
    }

    #[inline(always)]
    fn layout(&self) -> &'static Layout {
        Layout::of(self.layout)
    }
}

/// The digits of a number below 10^8, a byte each, the first in the highest byte.
///
/// Source: P. Khuong, "How to print integers really fast", 2017.
#[inline(always)]
fn eight_digits(value: u32) -> u64 {
    // Each step splits all numbers at once into two of half the digits, the upper one above the
    // lower. The factors are the inverses of 10^4, 10^2 and 10, as exact as their numbers need.
    let value = u64::from(value);
    let high = (value * 109_951_163) >> 40;
    let fours = value + high * ((1 << 32) - 10_000);
    let high = ((fours * 10_486) >> 20) & 0x7F_0000_007F;
    let twos = fours + high * ((1 << 16) - 100);
    let high = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    twos + high * ((1 << 8) - 10)
}

/// What floats of one binary exponent have in common.
#[derive(Clone, Copy)]
struct Scale {
    /// The distance between two of them, in the power of ten, in 2^-64: 0.1 to 1.
    ulp: u64,
    /// The layout of a number whose first of nine digits counts.
    layout: u32,
}

impl Scale {
    /// Half the distance, which the bounds are away; a little more if they belong to the interval,
    /// as they do for even mantissas, and a little less if they do not.
    #[inline(always)]
    fn half(&self, mantissa: u32) -> u64 {
        /// More than what a product may lack.
        const SLACK: u64 = 1 << 26;
        self.ulp / 2 + SLACK - u64::from(mantissa & 1) * (2 * SLACK)
    }
}

/// By the exponent's bits. The first and the last entry lead to the rare layout, whatever is
/// computed on the way.
static SCALES: [Scale; 256] = {
    let mut scales = [Scale {
        ulp: 1 << 62,
        layout: Layout::RARE,
    }; 256];
    let mut exponent = 1;
    while exponent < 255 {
        let binary = exponent - 150;
        // The power of ten below the distance: the logarithm's product, rounded down.
        let decimal = (binary * 315_653) >> 20;
        scales[exponent as usize] = Scale {
            ulp: power_of_two_in_tens(binary, decimal + 1),
            layout: Layout::index(decimal + 8),
        };
        exponent += 1;
    }
    scales
};

/// 2^`binary` / 10^`decimal` in 2^-64, rounded down.
const fn power_of_two_in_tens(binary: i32, decimal: i32) -> u64 {
    let fives = 5_u128.pow(decimal.unsigned_abs());
    let twos = binary + 64 - decimal;
    if decimal <= 0 {
        return if twos < 0 {
            (fives >> -twos) as u64
        } else {
            (fives << twos) as u64
        };
    }
    // Long division of a power of two that may have more bits than any integer.
    let (mut quotient, mut rest, mut step) = (0_u64, 1_u128, 0);
    while step < twos {
        rest *= 2;
        quotient = 2 * quotient + (rest >= fives) as u64;
        rest -= if rest >= fives { fives } else { 0 };
        step += 1;
    }
    quotient
}

#[cfg(test)]
mod tests;
