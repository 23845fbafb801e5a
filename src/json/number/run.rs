//! Numbers with commas between them.

use super::quick::{WINDOW, number, short_integer};

/// For how many numbers room is made at once: few at first, because rows may be short.
const FIRST_BLOCK: usize = 8;
const BLOCK: usize = 128;

/// Reads the numbers of an innermost array that have a comma after them, up to the first that is
/// not as numbers mostly come; appends at most `max_values`.
///
/// Returns the position after the last comma, and after the blank if each comma has one.
pub(crate) fn read_run(text: &[u8], values: &mut Vec<f32>, max_values: usize) -> usize {
    let end = values.len().saturating_add(max_values);
    let at = read_blocks(text, values, end);
    let tail = &text[at..];
    if tail.len() >= WINDOW || !tail.contains(&b',') {
        return at;
    }
    // The same where the text ends soon, over a copy with room after it. No number ends in a 0.
    let mut padded = [0; 2 * WINDOW];
    padded[..tail.len()].copy_from_slice(tail);
    at + read_blocks(&padded, values, end)
}

fn read_blocks(text: &[u8], values: &mut Vec<f32>, end: usize) -> usize {
    let mut at = 0;
    let mut block = FIRST_BLOCK;
    let mut has_blanks = false;
    while text.len() - at >= WINDOW {
        let start = values.len();
        let room = block.min(end - start);
        values.resize(start + room, 0.0);
        let (count, len) = if has_blanks {
            fill::<true>(&text[at..], &mut values[start..])
        } else {
            fill::<false>(&text[at..], &mut values[start..])
        };
        values.truncate(start + count);
        at += len;
        if count < room {
            let blank_comes = count > 0 && text[at] == b' ';
            if has_blanks || !blank_comes {
                break;
            }
            has_blanks = true;
            at += 1;
        } else if room < block {
            break;
        }
        block = BLOCK;
    }
    at
}

/// Reads integers while such come, then any numbers; returns how many, and their length.
fn fill<const BLANKS: bool>(text: &[u8], values: &mut [f32]) -> (usize, usize) {
    let (integers, at) = fill_with::<BLANKS, true>(text, values);
    let (numbers, len) = fill_with::<BLANKS, false>(&text[at..], &mut values[integers..]);
    (integers + numbers, at + len)
}

/// A function for each of the four, so that each loop has the processor's registers to itself.
#[inline(never)]
fn fill_with<const BLANKS: bool, const INTEGERS: bool>(
    text: &[u8],
    values: &mut [f32],
) -> (usize, usize) {
    let (mut count, mut at) = (0, 0);
    let Some(last) = text.len().checked_sub(WINDOW) else {
        return (0, 0);
    };
    while count < values.len() && at <= last {
        let window = text[at..]
            .first_chunk()
            .expect("it starts at `last` or before");
        let found = if INTEGERS {
            short_integer(window)
        } else {
            number(window)
        };
        let Some((value, comma)) = found else {
            break;
        };
        if BLANKS && window[(comma + 1) % WINDOW] != b' ' {
            break;
        }
        values[count] = value;
        count += 1;
        at += comma + 1 + usize::from(BLANKS);
    }
    (count, at)
}
