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

mod decimal;
mod layout;
mod place;

pub(super) use place::SLOT;

use decimal::{Decimal, FRACTION};
use place::{place, place_far_point};

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
                Decimal::subnormal(bits)
            } else if bits & FRACTION == 0 {
                Decimal::nearest_to_power_of_two(bits >> 23)
            } else {
                Decimal::common(bits)
            };
            let decimal = decimal.without_leading_zeros();
            let digits = eight_digits(decimal.upper);
            return match decimal.layout() {
                layout if layout.is_rare() => place_far_point(decimal, digits, slot),
                layout => place(decimal, digits, layout, slot),
            };
        }
    };
    slot[..text.len()].copy_from_slice(text);
    text.len()
}

const SIGN: u32 = 1 << 31;

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

#[cfg(test)]
mod tests;
