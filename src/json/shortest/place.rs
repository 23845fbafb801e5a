//! Digits to text.

use super::decimal::Decimal;
use super::layout::{Layout, ZEROS};

/// Room for a text, its comma, and what the stores write after them.
pub(in crate::json) const SLOT: usize = 48;

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
