//! Digits to text: the point, the zeros around, and the exponent.

use super::Decimal;

/// Room for a text, its comma, and what the stores write after them.
pub(in super::super) const SLOT: usize = 48;

/// How numbers of one power of ten look: `0.00123`, `12.3` or `1.23e-12`, each with a comma.
///
/// A text is put together by four stores, each over what the one before wrote too much, so that
/// neither the number of digits nor the place of the point is anything to branch on.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// The bytes of the digits before the point.
    before_point: u64,
    /// The point, and the zeros before and after it in front of the digits.
    fill: u64,
    /// The exponent, if there is one, and the comma.
    suffix: u64,
    suffix_len: u32,
    /// How many bits the digits after the point are moved by.
    shift: u8,
    /// The fewest digits: one is after the point.
    least_digits: u8,
}

/// Powers of ten that are written without an exponent, as `zmij` has them.
const FIXED: std::ops::RangeInclusive<i32> = -6..=12;

/// Beyond the seventh digit the point has no place in the first eight bytes.
const MAX_BEFORE_POINT: i32 = 7;

/// The power of ten of the least subnormal.
const LEAST_POWER: i32 = -45;
const MAX_POWER: i32 = 38;

const ZEROS: u64 = 0x3030_3030_3030_3030;

impl Layout {
    /// The index of what [`place`] cannot do, from which one or two may be taken.
    pub(super) const RARE: u32 = 127;

    /// The index of the layout of numbers whose first digit has this power of ten.
    pub(super) const fn index(power: i32) -> u32 {
        (power - LEAST_POWER) as u32
    }

    #[inline(always)]
    pub(super) fn of(index: u32) -> &'static Self {
        static LAYOUTS: [Layout; 128] = {
            let mut layouts = [Layout::fixed(MAX_BEFORE_POINT); 128];
            let mut power = LEAST_POWER;
            while power <= MAX_POWER {
                layouts[Layout::index(power) as usize] =
                    if power < *FIXED.start() || power > *FIXED.end() {
                        Layout::scientific(power)
                    } else if power < 0 {
                        Layout::fraction(power)
                    } else {
                        Layout::fixed(power)
                    };
                power += 1;
            }
            layouts
        };
        &LAYOUTS[index as usize & 127]
    }

    /// Whether [`place`] cannot do it.
    #[inline(always)]
    pub(super) const fn is_rare(&self) -> bool {
        self.least_digits as i32 > MAX_BEFORE_POINT + 1
    }

    /// `12.3` for 1.
    const fn fixed(power: i32) -> Self {
        let before = power as u32 + 1;
        // Too far, the point has no place; nothing but the number of digits counts then.
        let bits = if before <= MAX_BEFORE_POINT as u32 {
            8 * before
        } else {
            0
        };
        Self {
            before_point: (1 << bits) - 1,
            fill: (b'.' as u64) << bits,
            suffix: b',' as u64,
            suffix_len: 1,
            shift: 8,
            least_digits: before as u8 + 1,
        }
    }

    /// `0.00123` for -3.
    const fn fraction(power: i32) -> Self {
        let bits = 8 * (1 - power) as u32;
        Self {
            before_point: 0,
            fill: (ZEROS ^ ((b'.' ^ b'0') as u64) << 8) & ((1 << bits) - 1),
            suffix: b',' as u64,
            suffix_len: 1,
            shift: bits as u8,
            least_digits: 1,
        }
    }

    /// `1.23e-12` for -12.
    const fn scientific(power: i32) -> Self {
        let sign = if power < 0 { b'-' } else { b'+' };
        let size = power.unsigned_abs() as u8;
        let (tens, ones) = (b'0' + size / 10, b'0' + size % 10);
        let (suffix, suffix_len) = if size < 10 {
            ([b'e', sign, ones, b',', 0, 0, 0, 0], 4)
        } else {
            ([b'e', sign, tens, ones, b',', 0, 0, 0], 5)
        };
        Self {
            suffix: u64::from_le_bytes(suffix),
            suffix_len,
            ..Self::fixed(0)
        }
    }
}

/// Writes a number and a comma; returns how many bytes they take.
///
/// `digits` are those of `decimal.upper`, a byte each, the first in the highest byte.
#[inline(always)]
pub(super) fn place(
    decimal: Decimal,
    digits: u64,
    layout: &Layout,
    slot: &mut [u8; SLOT - 1],
) -> usize {
    let Decimal { last, zeros, .. } = decimal;
    // Trailing zeros are counted in the last eight digits: if the first is the only one, all are
    // zeros there.
    let trailing = (digits << 8 | u64::from(last)).trailing_zeros() / 8;
    let count = 9 - zeros - trailing;
    let last = u64::from(last) << (8 * zeros);
    let text = ((digits << (8 * zeros) | last >> 8) | ZEROS).swap_bytes();
    let ninth = last as u8 | b'0';

    let before = text & layout.before_point;
    let start = before | layout.fill | ((text ^ before) << (layout.shift & 63));
    let offset = usize::from(layout.shift / 8);
    slot[offset..offset + 8].copy_from_slice(&text.to_le_bytes());
    slot[offset + 8] = ninth;
    slot[..8].copy_from_slice(&start.to_le_bytes());
    let len = offset + count.max(u32::from(layout.least_digits)) as usize;
    let end = len & 31;
    slot[end..end + 8].copy_from_slice(&layout.suffix.to_le_bytes());
    len + layout.suffix_len as usize
}

/// Does what [`place`] cannot: a point after more than seven digits. There are no leading zeros.
pub(super) fn place_far_point(decimal: Decimal, digits: u64, slot: &mut [u8; SLOT - 1]) -> usize {
    let mut text = [b'0'; 16];
    text[..8].copy_from_slice(&(digits | ZEROS).to_be_bytes());
    text[8] |= decimal.last as u8;
    let before = usize::from(decimal.layout().least_digits) - 1;
    let trailing = text.iter().rev().take_while(|&&digit| digit == b'0');
    let count = (text.len() - trailing.count()).max(before + 1);
    slot[..before].copy_from_slice(&text[..before]);
    slot[before] = b'.';
    slot[before + 1..count + 1].copy_from_slice(&text[before..count]);
    slot[count + 1] = b',';
    count + 2
}
