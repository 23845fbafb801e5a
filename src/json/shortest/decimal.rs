//! A float's bits to the digits of its shortest text.

use super::layout::Layout;

/// The bits of a float's fraction.
pub(super) const FRACTION: u32 = (1 << 23) - 1;

/// The digits of a number and the place of its point.
#[derive(Clone, Copy)]
pub(super) struct Decimal {
    /// Up to eight digits.
    pub(super) upper: u32,
    /// The digit after them.
    pub(super) last: u32,
    /// How many of the eight are zeros before the first that counts.
    pub(super) zeros: u32,
    /// Which of the layouts: one for each power of ten of the first digit that counts.
    layout: u32,
}

impl Decimal {
    /// The shortest of a float that is no power of two, normal, and finite; anything for others.
    #[inline(always)]
    pub(super) fn common(bits: u32) -> Self {
        Self::nearest(
            bits & FRACTION | 1 << 23,
            &SCALES[(bits >> 23) as usize & 0xFF],
        )
    }

    /// The shortest of a subnormal float.
    pub(super) fn subnormal(bits: u32) -> Self {
        Self::nearest(bits, &SCALES[1])
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
    pub(super) fn nearest_to_power_of_two(exponent: u32) -> Self {
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
    pub(super) fn without_leading_zeros(mut self) -> Self {
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
    pub(super) fn layout(&self) -> &'static Layout {
        Layout::of(self.layout)
    }
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
