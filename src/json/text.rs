//! Which bytes a JSON string holds as they are.

/// How many bytes at the front are no quote, backslash or control character.
pub(super) fn plain_prefix(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text[at..].iter();
    at + rest
        .take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
        .count()
}

/// The high bit of the first byte that is special; what is above it means nothing.
///
/// Source: H. S. Warren, Hacker's Delight, section 6-1: a borrow can only come from below.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word & HIGH;
    let quotes = word ^ (ONES * b'"' as u64);
    let backslashes = word ^ (ONES * b'\\' as u64);
    below(word, 0x20) | below(quotes, 1) | below(backslashes, 1)
}

#[cfg(test)]
mod tests {
    use super::plain_prefix;

    #[test]
    fn every_special_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for len in 0..20 {
                for at in 0..len {
                    for beside in [b'a', 0x20, 0x7F, 0x80, 0xFF] {
                        let mut text = vec![beside; len];
                        text[at] = byte;
                        let expected = if special { at } else { len };
                        assert_eq!(plain_prefix(&text), expected, "{byte} at {at} of {text:?}");
                    }
                }
            }
        }
    }
}
