//! Numbers from their decimal text, eight digits at a time.

/// What is wrong with the text of a number, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadNumber {
    pub(super) at: usize,
    pub(super) message: &'static str,
}

/// Reads the number that starts at `start`; returns its value and the position behind it.
///
/// The value is the `f32` nearest to the decimal text, ties to even: bit for bit what
/// `str::parse::<f32>` gives, infinities for what is too large included.
pub(super) fn parse_f32(text: &[u8], start: usize) -> Result<(f32, usize), BadNumber> {
    let decimal = Decimal::scan(text, start)?;
    let value = decimal
        .nearest_f32()
        .unwrap_or_else(|| exact_f32(&text[start..decimal.end]));
    Ok((value, decimal.end))
}

/// As [`parse_f32`] of the number that takes all of `start..end`, for what clients mostly send: up
/// to 24 bytes, a short exponent beside. `None` for all that is longer, bad, hard to round, or in
/// the first 24 bytes of the text.
///
/// The end is known, so that no number waits for the one before it, and there is no loop over
/// digits and hardly a branch that the numbers of a body take differently: waiting and wrong
/// guesses are what reading numbers costs.
#[inline(always)]
pub(super) fn token_f32(text: &[u8], start: usize, end: usize) -> Option<f32> {
    let negative = *text.get(start)? == b'-';
    let start = start + usize::from(negative);
    let (digits, exponent) = match Digits::read(text, start, end) {
        Some(digits) => (digits, 0),
        None => {
            let (mantissa_end, exponent) = short_exponent(text, start, end)?;
            (Digits::read(text, start, mantissa_end)?, exponent)
        }
    };
    Decimal {
        negative,
        mantissa: digits.mantissa,
        digits: digits.count,
        exponent: exponent - digits.decimals as i64,
        end,
    }
    .nearest_f32()
}

/// The digits of `(0 | [1-9][0-9]*) (. [0-9]+)?`.
struct Digits {
    mantissa: u64,
    /// Those of the mantissa, without a lone 0 before the point.
    count: usize,
    /// Those behind the point.
    decimals: usize,
}

impl Digits {
    /// Reads what takes all of `start..end`, if that is 1 to 24 bytes.
    #[inline(always)]
    fn read(text: &[u8], start: usize, end: usize) -> Option<Self> {
        let len = end.checked_sub(start)?;
        let bytes: &[u8; 24] = text.get(..end)?.last_chunk()?;
        let [first, middle, last] = [0, 8, 16].map(|at| {
            let bytes = bytes[at..].first_chunk().expect("3 words");
            u64::from_le_bytes(*bytes) ^ ZEROS
        });
        // The bytes before the start become zeros, which change nothing before a number. A point
        // is taken out and the gap closed from below.
        let (mantissa, decimals, has_point) = match len {
            1..=8 => {
                let last = last & (u64::MAX << (64 - 8 * len));
                match non_digits(last) {
                    0 => (combine_eight(last), 0, false),
                    others => {
                        let (last, decimals) = without_point(last, others)?;
                        (combine_eight(last), decimals, true)
                    }
                }
            }
            9..=16 => {
                let middle = middle & (u64::MAX << (128 - 8 * len));
                let (middle, last, decimals, has_point) =
                    match (non_digits(middle), non_digits(last)) {
                        (0, 0) => (middle, last, 0, false),
                        (others, 0) => {
                            let (middle, decimals) = without_point(middle, others)?;
                            (middle, last, decimals + 8, true)
                        }
                        (0, others) => {
                            let (last, decimals) = without_point(last, others)?;
                            (middle << 8, last | middle >> 56, decimals, true)
                        }
                        _ => return None,
                    };
                let mantissa = combine_eight(middle) * SCALE[8] + combine_eight(last);
                (mantissa, decimals, has_point)
            }
            17..=24 => {
                let first = first & (u64::MAX << (192 - 8 * len));
                let (first, middle, decimals) =
                    match (non_digits(first), non_digits(middle), non_digits(last)) {
                        (others, 0, 0) => {
                            let (first, decimals) = without_point(first, others)?;
                            (first, middle, decimals + 16)
                        }
                        (0, others, 0) => {
                            let (middle, decimals) = without_point(middle, others)?;
                            (first << 8, middle | first >> 56, decimals + 8)
                        }
                        _ => return None,
                    };
                let high = combine_eight(first) * SCALE[8] + combine_eight(middle);
                let low = combine_eight(last);
                // Wraps around only where the count of digits says that it may.
                (
                    high.wrapping_mul(SCALE[8]).wrapping_add(low),
                    decimals,
                    true,
                )
            }
            _ => return None,
        };
        let starts_with_zero = text[start] == b'0';
        let whole = len - decimals - usize::from(has_point);
        // One branch that is never taken instead of three that the numbers decide.
        let is_bad =
            (whole == 0) | ((whole > 1) & starts_with_zero) | (has_point & (decimals == 0));
        if is_bad {
            return None;
        }
        Some(Self {
            mantissa,
            count: whole + decimals - usize::from(starts_with_zero & has_point),
            decimals,
        })
    }
}

/// Takes the only byte out that is no digit, if it is a point, and closes the gap from below;
/// returns how many bytes are above it too. The bytes are less `b'0'`.
#[inline(always)]
fn without_point(word: u64, others: u64) -> Option<(u64, usize)> {
    const POINT: u64 = (b'.' ^ b'0') as u64;

    let at = others.trailing_zeros() & 0x38;
    if others & others.wrapping_sub(1) != 0 || (word >> at) & 0xFF != POINT {
        return None;
    }
    let before = word & ((1 << at) - 1);
    let closed = (word ^ before ^ (POINT << at)) | (before << 8);
    Some((closed, 7 - (at / 8) as usize))
}

/// Reads an exponent of one or two digits that ends at `end`; returns where it starts.
#[inline]
fn short_exponent(text: &[u8], start: usize, end: usize) -> Option<(usize, i64)> {
    let tail = text.get(start..end)?;
    let at = tail.len()
        - tail
            .iter()
            .rev()
            .take(4)
            .position(|byte| byte | 0x20 == b'e')?
        - 1;
    let (sign, digits) = match &tail[at + 1..] {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let exponent = match *digits {
        [last] => digit(last)?,
        [first, last] => 10 * digit(first)? + digit(last)?,
        _ => return None,
    };
    Some((start + at, sign * exponent as i64))
}

#[inline(always)]
fn digit(byte: u8) -> Option<u64> {
    let value = byte.wrapping_sub(b'0');
    (value <= 9).then_some(u64::from(value))
}

/// The position behind the number that starts at `start`.
pub(super) fn number_end(text: &[u8], start: usize) -> Result<usize, BadNumber> {
    Decimal::scan(text, start).map(|decimal| decimal.end)
}

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
    /// The position behind the text.
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
                    message: "expected a digit behind the decimal point",
                });
            }
            digit_count = end - fraction + if lone_zero { 0 } else { digit_count };
            exponent = -((end - fraction) as i64);
        }
        if byte(end) | 0x20 == b'e' {
            let sign = byte(end + 1);
            let first = end + 1 + usize::from(matches!(sign, b'+' | b'-'));
            let (power, behind) = digits(text, first, 0);
            if behind == first {
                return Err(BadNumber {
                    at: first,
                    message: "expected a digit in the exponent",
                });
            }
            // A power that wrapped around must not look like a small one.
            let power = if behind - first <= MAX_EXACT_DIGITS {
                power as i64
            } else {
                i64::MAX / 2
            };
            exponent += if sign == b'-' { -power } else { power };
            end = behind;
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
    #[inline(always)]
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
/// The product is off by three roundings (the mantissa's, the power's and its own), which is less
/// than four of its last places. Rounding it once more therefore gives the nearest unless a point
/// halfway between two normal `f32` lies within that distance.
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

/// Eight times `b'0'`: with it, bytes of digits become 0 to 9 by exclusive or, and no other does.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The high bits of the bytes above 9. Only the lowest is sure, and all if no two are neighbours
/// or above 0x89: a carry can only touch the byte behind such a one.
#[inline(always)]
fn non_digits(values: u64) -> u64 {
    (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080
}

/// Eight bytes of text, of which the first few may be digits.
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
mod tests {
    use super::*;

    /// A small generator with a fixed seed, so that a failure can be seen again.
    struct SplitMix(u64);

    impl SplitMix {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, end: u64) -> u64 {
            self.next() % end
        }
    }

    fn assert_is_nearest(text: &str) {
        let (value, end) = parse_f32(text.as_bytes(), 0).expect(text);
        let nearest: f32 = text.parse().expect(text);
        assert_eq!(
            value.to_bits(),
            nearest.to_bits(),
            "{text}: {value} for {nearest}"
        );
        assert_eq!(end, text.len(), "{text}");
        let behind = format!("{}{text}", "9".repeat(24));
        if let Some(quick) = token_f32(behind.as_bytes(), 24, behind.len()) {
            assert_eq!(
                quick.to_bits(),
                nearest.to_bits(),
                "{text}: {quick} for {nearest}"
            );
        }
    }

    #[test]
    fn known_texts_give_the_nearest_f32() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "0e0",
            "-0e999",
            "0e-999",
            "1",
            "-1",
            "10",
            "0.1",
            "-0.3",
            "1e0",
            "1E+2",
            "1e-2",
            "123456789",
            "12345678",
            "1234567890123456789012345678901234",
            "0.12345678",
            "0.123456789012345678",
            "0.1234567890123456789012345678901234567890",
            "3.4028235e38",
            "3.4028235677973366e38",
            "3.4028235677973367e38",
            "1e38",
            "1e39",
            "1e400",
            "-1e39",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "1.17549435e-38",
            "1.1754942e-38",
            "1e-45",
            "7e-46",
            "7.1e-46",
            "1e-46",
            "1.4e-45",
            "0.00000000000000000000000000000000000000000000000001",
            "16777216",
            "16777217",
            "16777218",
            "16777219",
            "16777217.000000001",
            "16777216.999999999",
            "9007199254740993",
            "999.9999999999999999",
            "0.9999999999999999999",
            "-0.00123456789012345678",
            "123.1234567890123456",
            "0.0",
            "-0.000",
            "100.0",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999999999999999999",
            "0.30000001192092896",
            "1.0000000596046448",
            "1.00000005960464477539062500000000000001",
            "1.00000005960464477539062499999999999999",
        ] {
            assert_is_nearest(text);
        }
    }

    #[test]
    fn a_million_texts_give_the_nearest_f32() {
        use std::fmt::Write;
        let mut random = SplitMix(2026);
        let mut text = String::new();
        for round in 0..1_000_000 {
            text.clear();
            let float = f32::from_bits(random.next() as u32);
            let float = if float.is_finite() { float } else { 1.5 };
            let next = f32::from_bits(float.to_bits() ^ 1);
            let halfway = (f64::from(float) + f64::from(next)) / 2.0;
            match round % 10 {
                // What clients send: a few decimals, and what languages print for floats.
                0 | 1 => write!(text, "{:.4}", (random.below(2_000_000) as f64 - 1e6) / 1e4),
                2 => write!(text, "{float:?}"),
                3 => write!(text, "{:?}", f64::from(float)),
                4 => write!(text, "{:?}", random.next() as f64 / u64::MAX as f64),
                5 => write!(text, "{:?}", f64::from_bits(random.next() >> 1).min(1e300)),
                // Halfway points and their neighbours, where rounding is decided.
                6 => write!(text, "{halfway:?}"),
                7 => write!(text, "{halfway:e}"),
                8 => write!(
                    text,
                    "{:e}",
                    f64::from_bits(halfway.to_bits().wrapping_add(random.below(33)) - 16)
                ),
                // Any digits, any exponent.
                _ => write!(
                    text,
                    "{}.{:0width$}e{}",
                    random.below(100),
                    random.next() >> random.below(64),
                    random.below(100) as i64 - 60,
                    width = random.below(24) as usize,
                ),
            }
            .expect("a string takes what is written");
            if text.contains("NaN") || text.contains("inf") {
                continue;
            }
            assert_is_nearest(&text);
        }
    }

    #[test]
    fn a_number_ends_where_its_grammar_ends() {
        for (text, end) in [
            ("1,", 1),
            ("-1.5]", 4),
            ("1.5e3}", 5),
            ("12345678,", 8),
            ("123456789,1", 9),
            ("0.12345678 ", 10),
            ("1e5\n", 3),
            ("0:", 1),
            ("12/", 2),
        ] {
            assert_eq!(number_end(text.as_bytes(), 0), Ok(end), "{text}");
        }
    }

    #[test]
    fn what_json_does_not_allow_is_refused_where_it_stands() {
        for (text, at) in [
            ("", 0),
            ("-", 1),
            ("+1", 0),
            (".5", 0),
            ("1.", 2),
            ("1.e5", 2),
            ("-.5", 1),
            ("01", 0),
            ("-01", 1),
            ("00", 0),
            ("1e", 2),
            ("1e+", 3),
            ("1E-", 3),
            ("--1", 1),
            ("Infinity", 0),
            ("00000000000", 0),
        ] {
            let refused = number_end(text.as_bytes(), 0).expect_err(text);
            assert_eq!(refused.at, at, "{text}");
            let behind = format!("{}{text}", "9".repeat(24));
            assert_eq!(
                token_f32(behind.as_bytes(), 24, behind.len()),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn a_token_is_a_number_and_nothing_else() {
        for text in [
            "1.2.3",
            "1..2",
            "1 2",
            "1,2",
            "1:",
            "12345678/",
            "1234567.1234567:",
            "1x",
            "1.5]",
            "0x10",
            "1e5e5",
            "1.5e-",
            "1e 5",
            "\u{89}",
            "1\u{ff}1",
            "12345678:12345678",
        ] {
            let behind = format!("{}{text}", "9".repeat(24));
            assert_eq!(
                token_f32(behind.as_bytes(), 24, behind.len()),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn what_clients_send_takes_the_quick_way() {
        for text in [
            "0",
            "-7",
            "255",
            "0.5",
            "-12.3456",
            "0.23606797749978969",
            "-0.0001",
            "1.5e-7",
            "2.360680e-04",
            "1E+12",
            "123456789012",
            "0.9999999999999999",
        ] {
            let behind = format!("{}{text}", "9".repeat(24));
            assert!(
                token_f32(behind.as_bytes(), 24, behind.len()).is_some(),
                "{text}"
            );
        }
    }
}
