//! From a position in a body to the path of the value there.

use std::fmt;

use crate::messages::excerpt;

/// Keys longer than this are cut in a path.
const MAX_KEY_CHARS: usize = 40;
/// Paths longer than this are cut: what is nested that deep is wrong as a whole.
const MAX_PATH_BYTES: usize = 160;

/// The path of a document's root.
const WHOLE: &str = "the body";

/// Where a value is in a document: `inputs[0].data[3]`, or `the body` for its root.
///
/// Displayed, it has the document's own keys, escaped and cut: for the one who wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
    offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A key, its escapes as they were written; of a long one the start.
    Key(String),
    Index(usize),
}

impl Path {
    /// The path of the root, for what is wrong at byte `offset` of a document that cannot be read.
    pub(super) fn root(offset: usize) -> Self {
        Self {
            steps: Vec::new(),
            offset,
        }
    }

    /// Whether it is the root's.
    pub(super) fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// The byte of the document at which the value starts.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The index of the value in its array, if it is in one.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self.steps.last()? {
            Step::Index(index) => Some(*index),
            Step::Key(_) => None,
        }
    }

    /// The path with `*` in place of each key that is not known: for those who must not see what the
    /// document holds.
    #[must_use]
    pub fn masked(&self, is_known: impl Fn(&str) -> bool) -> String {
        self.text(is_known)
    }

    /// The path, with `*` in place of each key that is not to be shown.
    fn text(&self, is_shown: impl Fn(&str) -> bool) -> String {
        let mut path = String::new();
        for step in &self.steps {
            if path.len() > MAX_PATH_BYTES {
                path.push('…');
                break;
            }
            match step {
                Step::Key(key) => {
                    let key = if is_shown(key) { key } else { "*" };
                    if is_plain(key) || key == "*" {
                        if !path.is_empty() {
                            path.push('.');
                        }
                        path.push_str(key);
                    } else {
                        path.push('[');
                        path.push_str(&excerpt(key, MAX_KEY_CHARS));
                        path.push(']');
                    }
                }
                Step::Index(index) => {
                    path.push('[');
                    path.push_str(&index.to_string());
                    path.push(']');
                }
            }
        }
        if path.is_empty() {
            path.push_str(WHOLE);
        }
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(|_| true))
    }
}

/// The path of the value that starts at, or holds, byte `at`.
///
/// `text[..at]` must be the start of a JSON document; the reader that got there has checked it.
pub(super) fn path_at(text: &[u8], at: usize) -> Path {
    let mut open = Vec::new();
    let mut position = 0;
    while position < at {
        match text[position] {
            b'{' => open.push(Open::Object { key: None }),
            b'[' => open.push(Open::Array { index: 0 }),
            b'}' | b']' => {
                open.pop();
            }
            b',' => match open.last_mut() {
                Some(Open::Object { key }) => *key = None,
                Some(Open::Array { index }) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = string_end(text, position);
                if end > at {
                    break;
                }
                if let Some(Open::Object { key }) = open.last_mut()
                    && key.is_none()
                {
                    *key = Some(&text[position + 1..end - 1]);
                }
                position = end;
                continue;
            }
            _ => {}
        }
        position += 1;
    }

    let steps = open.into_iter().filter_map(|container| match container {
        Open::Object { key } => {
            let key = String::from_utf8_lossy(key?);
            Some(Step::Key(key.chars().take(MAX_KEY_CHARS + 1).collect()))
        }
        Open::Array { index } => Some(Step::Index(index)),
    });
    Path {
        steps: steps.collect(),
        offset: at,
    }
}

/// A container that is open at the position.
enum Open<'a> {
    /// `key` is the member whose value is being walked, its escapes as they were written.
    Object {
        key: Option<&'a [u8]>,
    },
    Array {
        index: usize,
    },
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= MAX_KEY_CHARS
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The position after the closing quote of the string that opens at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while let Some(&byte) = text.get(position) {
        match byte {
            b'"' => return position + 1,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    // The string does not end: the position asked for lies inside it.
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::path_at;

    fn path_of(text: &str, needle: &str) -> String {
        let at = text.find(needle).expect("the needle is there");
        path_at(text.as_bytes(), at).to_string()
    }

    #[test]
    fn a_path_leads_to_the_value_at_a_position() {
        let text = r#"{"id":"a,]}","inputs":[{"name":"x"},{"data":[[1,2],[3,!]]}],"o p":{"q":?}}"#;
        assert_eq!(path_of(text, "!"), "inputs[1].data[1][1]");
        assert_eq!(path_of(text, "?"), r#"["o p"].q"#);
        assert_eq!(path_of(text, "\"x\""), "inputs[0].name");
        assert_eq!(path_of(text, "{"), "the body");
        assert_eq!(path_of(text, "[{"), "inputs");
    }

    #[test]
    fn a_key_is_not_part_of_the_path_to_itself() {
        assert_eq!(path_of(r#"{"a":{"b":1,"c":2}}"#, "\"c\""), "a");
    }

    #[test]
    fn odd_keys_are_escaped_and_cut() {
        let text = format!("{{\"{}\n\":!}}", "k".repeat(60));
        assert_eq!(path_of(&text, "!"), format!("[\"{}…\"]", "k".repeat(40)));
        assert_eq!(path_of("{\"\u{1b}[31m\":!}", "!"), r#"["\u{1b}[31m"]"#);
    }

    #[test]
    fn a_path_ends_where_it_gets_too_long() {
        let text = format!("{}!", "[".repeat(1000));
        assert_eq!(path_of(&text, "!"), format!("{}…", "[0]".repeat(54)));
    }

    #[test]
    fn an_unfinished_string_is_where_it_opens() {
        assert_eq!(path_at(br#"{"a":["b"#, 8).to_string(), "a[0]");
        assert_eq!(path_at(br#"{"a":["b\"#, 9).to_string(), "a[0]");
    }

    #[test]
    fn a_masked_path_has_no_key_that_is_not_known() {
        let text = r#"{"inputs":[{"o p":{"x":!}}]}"#;
        let path = path_at(text.as_bytes(), text.find('!').unwrap());
        assert_eq!(path.masked(|key| key == "inputs"), "inputs[0].*.*");
        assert_eq!(path.masked(|key| key == "o p"), r#"*[0]["o p"].*"#);
        assert_eq!((path.offset(), path.index()), (23, None));
        let text = "[1,!";
        assert_eq!(path_at(text.as_bytes(), 3).index(), Some(1));
    }
}
