//! From a position in a body to the path of the value there.

use crate::spelling::excerpt;

/// Keys longer than this are cut in a path.
const MAX_KEY_CHARS: usize = 40;
/// Paths longer than this are cut: what is nested that deep is wrong as a whole.
const MAX_PATH_BYTES: usize = 160;

/// The path of a document's root.
pub(super) const WHOLE: &str = "the body";

/// The path of the value that starts at, or holds, byte `at`: `inputs[0].data[3]`.
///
/// `text[..at]` must be the start of a JSON document; the reader that got there has checked it.
pub(super) fn path_at(text: &[u8], at: usize) -> String {
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

    let mut path = String::new();
    for container in open {
        if path.len() > MAX_PATH_BYTES {
            path.push('…');
            break;
        }
        match container {
            Open::Object { key: None } => {}
            Open::Object { key: Some(key) } => {
                let key = String::from_utf8_lossy(key);
                if is_plain(&key) {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key);
                } else {
                    path.push('[');
                    path.push_str(&excerpt(&key, MAX_KEY_CHARS));
                    path.push(']');
                }
            }
            Open::Array { index } => {
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
        path_at(
            text.as_bytes(),
            text.find(needle).expect("the needle is there"),
        )
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
        assert_eq!(path_at(br#"{"a":["b"#, 8), "a[0]");
        assert_eq!(path_at(br#"{"a":["b\"#, 9), "a[0]");
    }
}
