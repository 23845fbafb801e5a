//! Numbers from their decimal text, eight digits at a time.
//!
//! Any number is read here, and what is wrong with it is found here. [`read_run`] is for arrays,
//! and leaves to this what it does not know.

mod quick;
mod run;

pub(crate) use run::read_run;

/// What is wrong with the text of a number, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadNumber {
    pub(super) at: usize,
    pub(super) message: &'static str,
}

/// Reads the number that starts at `start`; returns its value and the position after it.
///
/// The value is the `f32` nearest to the decimal text, ties to even: bit for bit what
/// `str::parse::<f32>` gives, infinities for what is too large included.
pub(crate) fn parse_f32(text: &[u8], start: usize) -> Result<(f32, usize), BadNumber> {
    let decimal = Decimal::scan(text, start)?;
    let value = decimal
        .nearest_f32()
        .unwrap_or_else(|| exact_f32(&text[start..decimal.end]));
    Ok((value, decimal.end))
}

/// The position after the number that starts at `start`.
pub(super) fn number_end(text: &[u8], start: usize) -> Result<usize, BadNumber> {
    Decimal::scan(text, start).map(|decimal| decimal.end)
}

/// A power of ten beyond all that a body can make small or large again.
const HUGE_POWER: u64 = 1 << 40;

/// Up to this many digits a mantissa does not wrap around.
const MAX_EXACT_DIGITS: usize = 19;

/// A number's text: `±mantissa · 10^exponent`.
struct Decimal {
    negative: bool,
    /// The digits without the point; wraps around when there are more than [`MAX_EXACT_DIGITS`].
    mantissa: u64,
    /// The number of digits, without a lone 0 before the point.
    digits: usize,
    exponent: i64,
    /// The position after the text.
    end: usize,
}

impl Decimal {
    /// Reads `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
    fn scan(text: &[u8], start: usize) -> Result<Self, BadNumber> {
        let byte = |at: usize| text.get(at).copied().unwrap_or(0);
        let negative = byte(start) == b'-';
        let whole = start + usize::from(negative);
        let (mut mantissa, mut end) = digits(text, whole, 0);
        let mut digit_count = end - whole;
        if digit_count == 0 {
            return Err(BadNumber {
                at: whole,
                message: "expected a digit",
            });
        }
        if digit_count > 1 && text[whole] == b'0' {
            return Err(BadNumber {
                at: whole,
                message: "a number may not start with a 0 that more digits follow",
            });
        }
        let mut exponent = 0;
        if byte(end) == b'.' {
            let fraction = end + 1;
            let lone_zero = mantissa == 0;
            (mantissa, end) = digits(text, fraction, mantissa);
            if end == fraction {
                return Err(BadNumber {
                    at: end,
                    message: "expected a digit after the decimal point",
                });
            }
            digit_count = end - fraction + if lone_zero { 0 } else { digit_count };
            exponent = -((end - fraction) as i64);
        }
        if byte(end) | 0x20 == b'e' {
            let sign = byte(end + 1);
            let first = end + 1 + usize::from(matches!(sign, b'+' | b'-'));
            let (power, after) = digits(text, first, 0);
            if after == first {
                return Err(BadNumber {
                    at: first,
                    message: "expected a digit in the exponent",
                });
            }
            // A power that wrapped around must not look like a small one, and none overflows with what the
            // fraction takes away.
            let power = if after - first <= MAX_EXACT_DIGITS {
                power.min(HUGE_POWER) as i64
            } else {
                HUGE_POWER as i64
            };
            exponent += if sign == b'-' { -power } else { power };
            end = after;
        }
        Ok(Self {
            negative,
            mantissa,
            digits: digit_count,
            exponent,
            end,
        })
    }

    /// The nearest `f32`, or `None` where this way cannot prove that it is the nearest.
    #[inline]
    fn nearest_f32(&self) -> Option<f32> {
        /// Above the subnormals, whose halfway points lie elsewhere, and below the overflow.
        const SURE: std::ops::RangeInclusive<f64> = 1.2e-38..=3.4e38;

        let mantissa = self.mantissa as i64;
        if self.digits > MAX_EXACT_DIGITS || mantissa < 0 {
            return None;
        }
        let sign = u32::from(self.negative) << 31;
        if mantissa == 0 {
            return Some(f32::from_bits(sign));
        }
        let power = usize::try_from(self.exponent + LEAST_POWER as i64).ok()?;
        let product = mantissa as f64 * POWERS_OF_TEN.get(power)?;
        let value = round_product(product).filter(|_| SURE.contains(&product))?;
        Some(f32::from_bits(value.to_bits() | sign))
    }
}

/// Rounds the product of a mantissa and a power of ten, computed in `f64`, to the `f32` nearest to
/// their exact product; `None` where the two may differ.
///
/// The product is off by at most four roundings (two of the mantissa, the power's and its own),
/// which are four of its last places. Rounding it once more therefore gives the nearest unless a
/// point halfway between two normal `f32` lies within that distance. 0 stays 0.
#[inline(always)]
fn round_product(product: f64) -> Option<f32> {
    /// Bits of an `f64`'s mantissa that an `f32` has no room for.
    const EXTRA: u64 = (1 << 29) - 1;
    /// Twice the error, for good measure.
    const MARGIN: u64 = 8;
    let past_halfway = (product.to_bits() & EXTRA).wrapping_sub(EXTRA.div_ceil(2) - MARGIN);
    (past_halfway > 2 * MARGIN).then_some(product as f32)
}

/// The rare rest: many digits, subnormals, near-halfway and huge values.
#[cold]
fn exact_f32(text: &[u8]) -> f32 {
    std::str::from_utf8(text)
        .expect("a scanned number is ASCII")
        .parse()
        .expect("JSON's numbers are a subset of Rust's")
}

/// Appends the digits from `at` on to `mantissa` (modulo 2^64); returns it and the position of
/// the first byte that is none.
fn digits(text: &[u8], mut at: usize, mut mantissa: u64) -> (u64, usize) {
    while let Some(chunk) = Chunk::at(text, at) {
        let count = chunk.len();
        mantissa = match count {
            8 => mantissa
                .wrapping_mul(SCALE[8])
                .wrapping_add(combine_eight(chunk.values)),
            _ => chunk.append_to(mantissa, count),
        };
        at += count;
        if count < 8 {
            return (mantissa, at);
        }
    }
    while let Some(next) = text.get(at).copied().and_then(digit) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(next);
        at += 1;
    }
    (mantissa, at)
}

#[inline(always)]
fn digit(byte: u8) -> Option<u64> {
    let value = byte.wrapping_sub(b'0');
    (value <= 9).then_some(u64::from(value))
}

/// Eight times `b'0'`: with it, bytes of digits become 0 to 9 by exclusive or, and no other does.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The high bits of the bytes above 9. Only the lowest is sure, and all if no two are neighbours
/// or above 0x89: a carry can only touch the byte after such a one.
#[inline(always)]
fn non_digits(values: u64) -> u64 {
    (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080
}

/// Eight bytes of text, whose first few may be digits.
struct Chunk {
    /// The bytes less `b'0'`, the first in the lowest byte.
    values: u64,
    /// The lowest bit that is set lies in the first byte that is no digit; 0 if all are digits.
    others: u64,
}

impl Chunk {
    #[inline(always)]
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let bytes = text.get(at..)?.first_chunk::<8>()?;
        let values = u64::from_le_bytes(*bytes) ^ ZEROS;
        let others = non_digits(values);
        Some(Self { values, others })
    }

    /// How many digits it starts with, 0 to 8.
    #[inline(always)]
    fn len(&self) -> usize {
        (self.others.trailing_zeros() / 8) as usize
    }

    /// The number that starts with `mantissa` and goes on with the first `count` < 8 digits.
    #[inline(always)]
    fn append_to(&self, mantissa: u64, count: usize) -> u64 {
        // Shifted up, the digits have zeros before them: again a number of eight digits. Two
        // shifts, because `count` may be 0 and there is no shift by 64.
        let eight = combine_eight((self.values << 8) << (56 - 8 * count));
        mantissa.wrapping_mul(SCALE[count]).wrapping_add(eight)
    }
}

/// What a number is worth more when `count` digits follow it.
const SCALE: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The number whose eight digits are the bytes of `digits`, the first in the lowest byte.
///
/// Source: D. Lemire, "Quickly parsing eight digits", 2018.
#[inline(always)]
fn combine_eight(digits: u64) -> u64 {
    const PAIR: u64 = 0x0000_00FF_0000_00FF;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & PAIR).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIR).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// The exponent of the first of [`POWERS_OF_TEN`] is minus this.
const LEAST_POWER: usize = 64;

/// 10^-64 to 10^40: from what underflows with 18 digits to what overflows with one.
#[rustfmt::skip]
const POWERS_OF_TEN: [f64; 105] = [
    1e-64, 1e-63, 1e-62, 1e-61, 1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52,
    1e-51, 1e-50, 1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39,
    1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26,
    1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13,
    1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3,
    1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36,
    1e37, 1e38, 1e39, 1e40,
];

#[cfg(test)]
mod tests;
