//! How numbers of each power of ten look: the point, the zeros around, and the exponent.

/// How numbers of one power of ten look: `0.00123`, `12.3` or `1.23e-12`, each with a comma.
///
/// A text is put together by four stores, each over what the one before wrote too much, so that
/// neither the number of digits nor the place of the point is anything to branch on.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// The bytes of the digits before the point.
    pub(super) before_point: u64,
    /// The point, and the zeros before and after it in front of the digits.
    pub(super) fill: u64,
    /// The exponent, if there is one, and the comma.
    pub(super) suffix: u64,
    pub(super) suffix_len: u32,
    /// How many bits the digits after the point are moved by.
    pub(super) shift: u8,
    /// The fewest digits: one is after the point.
    pub(super) least_digits: u8,
}

/// Powers of ten that are written without an exponent, as `zmij` has them.
const FIXED: std::ops::RangeInclusive<i32> = -6..=12;

/// Beyond the seventh digit the point has no place in the first eight bytes.
const MAX_BEFORE_POINT: i32 = 7;

/// The power of ten of the least subnormal.
const LEAST_POWER: i32 = -45;
const MAX_POWER: i32 = 38;

/// Eight digits `0`.
pub(super) const ZEROS: u64 = 0x3030_3030_3030_3030;

impl Layout {
    /// The index of what [`place`](super::place::place) cannot do, from which one or two may be taken.
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

    /// Whether [`place`](super::place::place) cannot do it.
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
