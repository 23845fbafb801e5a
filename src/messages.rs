//! Names and texts from outside in messages: how they are shown, and what name a misspelled one may have meant.

/// Shows text from outside in a message: quoted, escaped, and cut after `max_chars` characters.
#[must_use]
pub(crate) fn excerpt(text: &str, max_chars: usize) -> String {
    format!("\"{}\"", escaped(text, max_chars))
}

/// As [`excerpt`], without the quotes.
#[must_use]
pub(crate) fn escaped(text: &str, max_chars: usize) -> String {
    let mut shown = String::with_capacity(max_chars.min(text.len()) + 3);
    for (count, character) in text.chars().enumerate() {
        if count == max_chars {
            shown.push('…');
            break;
        }
        match character {
            '"' => shown.push('"'),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// The fewest bytes to insert, remove or replace that make `a` out of `b` (Levenshtein).
///
/// It takes as many steps as the product of both lengths.
pub(crate) fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Longer names are not compared, and a name is compared with at most this many others, so that an error
/// costs less than a forward pass.
const MAX_COMPARED_BYTES: usize = 64;
const MAX_COMPARED_NAMES: usize = 1000;

/// The known name that `name` is most likely a misspelling of; `None` if it resembles none.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is another word, not a slip; case and separators are free.
    let plain = |text: &str| text.to_lowercase().replace(['-', ' ', '.'], "_");
    if name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let name = plain(name);
    let most = name.len() / 3;
    known
        .into_iter()
        .take(MAX_COMPARED_NAMES)
        .filter(|known| known.len().abs_diff(name.len()) <= most)
        .map(|known| (edits(&name, &plain(known)), known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_the_fewest() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn a_slip_has_a_nearest_name_and_another_word_has_none() {
        let known = ["sepal_length", "sepal_width", "age"];
        let nearest = |name| nearest(name, known);
        assert_eq!(nearest("sepal_lenght"), Some("sepal_length"));
        assert_eq!(nearest("Sepal Width"), Some("sepal_width"));
        assert_eq!(nearest("AGE"), Some("age"));
        assert_eq!(nearest("petal"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(nearest(&"x".repeat(100)), None);
    }
}
