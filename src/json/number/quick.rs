//! One number as clients mostly send it, read from words of eight bytes.
//!
//! Waiting and wrong guesses cost more than arithmetic. So there is no loop over digits, and no
//! branch on what the numbers of one body do differently: their signs, the place of the point, the
//! last digits. The branches that are left depend on the number of words, on whether there is a
//! point, and on the length of an exponent, in which the numbers of a body mostly agree. The next
//! number waits for nothing but the position of the comma, which is known early.

use std::hint::select_unpredictable;

use super::{LEAST_POWER, POWERS_OF_TEN, SCALE, ZEROS, combine_eight, round_product};

/// The bytes that are looked at: a sign, 24, and what an exponent adds to them.
pub(super) const WINDOW: usize = 32;

// Bytes are compared after an exclusive or with `b'0'`, which turns digits into their values.
const COMMA: u8 = b',' ^ b'0';
const PLUS: u8 = b'+' ^ b'0';
const MINUS: u8 = b'-' ^ b'0';
const POINT: u8 = b'.' ^ b'0';
const EXPONENT: u8 = b'E' ^ b'0';
/// The bit that tells `e` from `E`. The exclusive or turns it around: `E` has it.
const CASE: u8 = 0x20;

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
/// Takes bytes above 9 to 0x80 and more, and those of ASCII not past 0xFF.
const ABOVE_NINE: u64 = 0x7676_7676_7676_7676;

/// By the sign: a factor, as no branch can guess it.
static SIGNS: [f32; 2] = [1.0, -1.0];

/// By the decimals, in a number of at most six digits. Both it and these are exact, so that their
/// quotient is the nearest.
static TENS: [f32; 8] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// By the decimals, at most 22.
static TENTHS: [f64; 32] = {
    let mut tenths = [0.0; 32];
    let mut decimals = 0;
    while decimals < 32 {
        tenths[decimals] = POWERS_OF_TEN[LEAST_POWER - decimals];
        decimals += 1;
    }
    tenths
};

/// Reads an integer of up to 7 bytes with a comma after it; returns the comma's position too.
///
/// It is exact, and takes fewer steps than [`number`].
#[inline(always)]
pub(super) fn short_integer(window: &[u8; WINDOW]) -> Option<(f32, usize)> {
    /// By the number of digits: what is less starts with a 0 that digits follow.
    const LEAST: [u64; 8] = [u64::MAX, 0, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
    const BUT_THE_FIRST: u64 = !0xFF;

    let digits = word(window, 0);
    let negative = digits as u8 == MINUS;
    // The first byte is a digit or the sign, so the first other byte that is no digit is the comma,
    // and to find it takes no sign.
    let others = digits.wrapping_add(ABOVE_NINE) & HIGH_BITS & BUT_THE_FIRST;
    let end = others.trailing_zeros();
    // If all are digits, what is compared is the last without its lowest bit: no comma.
    if digits & HIGH_BITS & BUT_THE_FIRST != 0 || (digits >> (end - 7)) as u8 != COMMA {
        return None;
    }
    // A 0 in the place of the sign changes nothing.
    let digits = select_unpredictable(negative, digits & BUT_THE_FIRST, digits);
    let mantissa = combine_eight(digits.wrapping_shl(7_u32.wrapping_sub(end)));
    let comma = (end / 8) as usize;
    let sign = usize::from(negative);
    if digits as u8 > 9 || mantissa < LEAST[(comma - sign) & 7] {
        return None;
    }
    Some((mantissa as i32 as f32 * SIGNS[sign], comma))
}

/// Reads a number of up to 24 bytes with a comma after it; returns the comma's position too.
///
/// What it returns is the nearest, and finite. `None` says nothing about the text.
#[inline(always)]
pub(super) fn number(window: &[u8; WINDOW]) -> Option<(f32, usize)> {
    // Both are loaded before the sign is known.
    let (unsigned, signed) = (word(window, 0), word(window, 1));
    let negative = unsigned as u8 == MINUS;
    let first = select_unpredictable(negative, signed, unsigned);
    let others = non_digits(first)?;
    let has_leading_zero = (first & 0xFF) | (others & 0x8000) == 0;
    if others & 0x80 != 0 || has_leading_zero {
        return None;
    }
    let text = Text {
        window,
        sign: usize::from(negative),
    };
    let whole = others.trailing_zeros() & 0x38;
    let read = if others == 0 {
        text.long_integer(first)?
    } else if (first >> whole) as u8 != POINT {
        Read {
            mantissa: exact(combine_eight(first << (64 - whole))),
            decimals: 0,
            len: (whole / 8) as usize,
            after: (first >> whole) as u8,
        }
    } else {
        // The point is taken out and the gap closed from above.
        let before = (others ^ (others - 1)) >> 8;
        let closed = (first >> 8) ^ ((first ^ (first >> 8)) & before);
        let others = others & (others - 1);
        if others == 0 {
            text.long_decimal(combine_eight(closed << 8), 7 - (whole / 8) as usize)?
        } else {
            let end = others.trailing_zeros() & 0x38;
            let decimals = ((end - whole) / 8) as usize - 1;
            if decimals == 0 {
                return None;
            }
            let mantissa = combine_eight(closed << (72 - end));
            let after = (first >> end) as u8;
            let len = (end / 8) as usize;
            if after == COMMA {
                let value = exact_f32(mantissa) / TENS[decimals & 7];
                return Some((value * SIGNS[text.sign], text.sign + len));
            }
            Read {
                mantissa: exact(mantissa),
                decimals,
                len,
                after,
            }
        }
    };
    if read.after != COMMA {
        return text.with_exponent(read);
    }
    let value = round_product(read.mantissa * TENTHS[read.decimals & 31])?;
    Some((value * SIGNS[text.sign], text.sign + read.len))
}

/// Digits with perhaps a point among them.
struct Read {
    /// The nearest `f64`, or two roundings away if there are more than 15 digits.
    mantissa: f64,
    /// How many digits are after the point.
    decimals: usize,
    /// Without the sign.
    len: usize,
    /// The byte after them.
    after: u8,
}

#[derive(Clone, Copy)]
struct Text<'a> {
    window: &'a [u8; WINDOW],
    /// The bytes before the digits: 1 if there is a minus.
    sign: usize,
}

impl Text<'_> {
    /// The eight bytes that are `at` after the sign.
    #[inline(always)]
    fn word(self, at: usize) -> u64 {
        word(self.window, self.sign + at)
    }

    /// Goes on after `first`, eight digits, with up to seven more.
    #[inline(always)]
    fn long_integer(self, first: u64) -> Option<Read> {
        let second = self.word(8);
        let others = non_digits(second)?;
        if others == 0 {
            return None;
        }
        let tail = Tail::of(second, others);
        Some(Read {
            mantissa: exact(combine_eight(first) * SCALE[tail.count] + tail.value),
            decimals: 0,
            len: 8 + tail.count,
            after: tail.after,
        })
    }

    /// Goes on after a point and seven digits, `decimals` of them after the point, with up to
    /// fifteen more.
    #[inline(always)]
    fn long_decimal(self, high: u64, decimals: usize) -> Option<Read> {
        let second = self.word(8);
        if decimals == 0 && second as u8 > 9 {
            return None;
        }
        // What `printf` writes.
        if second as u8 | CASE == EXPONENT {
            return Some(Read {
                mantissa: exact(high),
                decimals,
                len: 8,
                after: second as u8,
            });
        }
        let others = non_digits(second)?;
        if others != 0 {
            let tail = Tail::of(second, others);
            return Some(Read {
                mantissa: exact(high * SCALE[tail.count] + tail.value),
                decimals: decimals + tail.count,
                len: 8 + tail.count,
                after: tail.after,
            });
        }
        let third = self.word(16);
        let others = non_digits(third)?;
        if others == 0 {
            return None;
        }
        let tail = Tail::of(third, others);
        let high = exact(high * SCALE[8] + combine_eight(second));
        Some(Read {
            mantissa: high * SCALE[tail.count] as f64 + exact(tail.value),
            decimals: decimals + 8 + tail.count,
            len: 16 + tail.count,
            after: tail.after,
        })
    }

    /// Reads a signed exponent of one or two digits after what was read, and the comma.
    #[inline(always)]
    fn with_exponent(self, read: Read) -> Option<(f32, usize)> {
        /// Those that leave any mantissa, at least 1 and below 10^22, among the normal `f32`.
        const SURE: std::ops::RangeInclusive<usize> = LEAST_POWER - 37..=LEAST_POWER + 15;

        if read.after | CASE != EXPONENT {
            return None;
        }
        let at = self.sign + read.len + 1;
        let bytes: &[u8; 4] = self.window.get(at..)?.first_chunk()?;
        let [sign, first, second, third] = bytes.map(|byte| byte ^ b'0');
        let negative = sign == MINUS;
        if !negative && sign != PLUS || first > 9 {
            return None;
        }
        let (size, len) = if second == COMMA {
            (first, 2)
        } else if third == COMMA && second <= 9 {
            (10 * first + second, 3)
        } else {
            return None;
        };
        let size = usize::from(size);
        let power = if negative {
            LEAST_POWER.wrapping_sub(size)
        } else {
            LEAST_POWER + size
        };
        let power = power.wrapping_sub(read.decimals);
        if !SURE.contains(&power) {
            return None;
        }
        let value = round_product(read.mantissa * POWERS_OF_TEN[power])?;
        Some((value * SIGNS[self.sign], at + len))
    }
}

/// The last digits of a number, up to seven, and what is after them.
struct Tail {
    value: u64,
    count: usize,
    after: u8,
}

impl Tail {
    /// `others` are the [`non_digits`] of the word, at least one.
    #[inline(always)]
    fn of(word: u64, others: u64) -> Self {
        let end = others.trailing_zeros();
        let count = (end / 8) as usize;
        let end = end & 0x38;
        Self {
            // Two shifts, because there may be no digit and there is no shift by 64.
            value: combine_eight((word << 1) << (63 - end)),
            count,
            after: (word >> end) as u8,
        }
    }
}

/// An integer below 2^52. (The machine's conversion would also wait for the number before it: it
/// keeps the other half of its register.)
#[inline(always)]
fn exact(value: u64) -> f64 {
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    f64::from_bits(TWO_TO_52.to_bits() | value) - TWO_TO_52
}

/// An integer below 2^23.
#[inline(always)]
fn exact_f32(value: u64) -> f32 {
    const TWO_TO_23: f32 = 8_388_608.0;
    f32::from_bits(TWO_TO_23.to_bits() | value as u32) - TWO_TO_23
}

/// Eight bytes, digits as their values, the first in the lowest byte.
#[inline(always)]
fn word(window: &[u8; WINDOW], at: usize) -> u64 {
    let bytes = window[at..].first_chunk().expect("the window is longer");
    u64::from_le_bytes(*bytes) ^ ZEROS
}

/// The high bits of the bytes that are no digits. `None` if one is not ASCII: its carry would touch
/// its neighbour.
#[inline(always)]
fn non_digits(word: u64) -> Option<u64> {
    (word & HIGH_BITS == 0).then_some(word.wrapping_add(ABOVE_NINE) & HIGH_BITS)
}
