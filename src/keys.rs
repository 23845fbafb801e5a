//! API keys: who may ask, by name.
//!
//! The file has a name and a key a line. Several keys are valid at once, so that one can be
//! replaced while clients still use the other; a name may have several. A key may be given as
//! `sha256:HEX`, the digest of what clients send, so that the file holds no secret.
//!
//! ```text
//! # name    key
//! billing   3f1c9a0e5b7d4c62a8e9
//! notebook  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::metrics::Counter;

/// The fewest characters of a key in plain text: 16 random characters cannot be guessed.
const MIN_KEY_CHARS: usize = 16;
/// The most bytes of a key; longer ones cannot be valid and are refused unread.
const MAX_KEY_BYTES: usize = 512;
/// The most keys of a file. Each is compared with, and each name is a label of the metrics.
const MAX_KEYS: usize = 1000;
/// The most bytes of a name.
const MAX_NAME_BYTES: usize = 64;

/// All keys that are valid now.
pub struct Keys(Vec<Key>);

/// A valid key.
pub struct Key {
    /// The operator's name for its owner; the log shows it.
    pub name: Arc<str>,
    /// Its requests.
    pub requests: Counter,
    digest: [u8; 32],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|key| &key.name);
        f.debug_list().entries(names).finish()
    }
}

impl Keys {
    /// Reads the text of a file of keys. Each key counts its requests in the counter that `counter` returns
    /// for its name.
    ///
    /// # Errors
    /// What is wrong, with the line; it never quotes a key.
    pub fn parse(text: &str, counter: impl Fn(&str) -> Counter) -> Result<Self, String> {
        let mut keys: Vec<(&str, [u8; 32])> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: &str| Err(format!("line {number}: {what}"));
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(name), Some(key), None) = (words.next(), words.next(), words.next()) else {
                return wrong("expected a name and a key with a blank between them");
            };
            let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
            if !is_name {
                return wrong("expected a name of up to 64 of A-Z a-z 0-9 _ . -");
            }
            let digest = match key.strip_prefix("sha256:") {
                Some(hex) => match digest_of_hex(hex) {
                    Some(digest) => digest,
                    None => return wrong("expected 64 hexadecimal digits after sha256:"),
                },
                None if key.len() < MIN_KEY_CHARS => {
                    return wrong(
                        "the key is shorter than 16 characters; make one of 32, as by `openssl rand -hex 16`",
                    );
                }
                None if key.len() > MAX_KEY_BYTES => {
                    return wrong("the key is longer than 512 bytes");
                }
                None => Sha256::digest(key).into(),
            };
            if keys.iter().any(|(_, other)| *other == digest) {
                return wrong("the key is there already");
            }
            if keys.len() == MAX_KEYS {
                return wrong("expected at most 1000 keys");
            }
            keys.push((name, digest));
        }
        if keys.is_empty() {
            return Err("there is no key; expected a name and a key a line".to_owned());
        }
        // Only names that are used count, and only then.
        let keys = keys.into_iter().map(|(name, digest)| Key {
            name: name.into(),
            requests: counter(name),
            digest,
        });
        Ok(Self(keys.collect()))
    }

    /// The key that a client sent; `None` if it is not valid.
    ///
    /// The time that takes does not depend on how much of the key is right: whole digests are compared,
    /// with all of them.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&Key> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut found = None;
        for key in &self.0 {
            let pairs = key.digest.iter().zip(&digest);
            let difference = pairs.fold(0, |all, (one, other)| all | (one ^ other));
            if std::hint::black_box(difference) == 0 {
                found = Some(key);
            }
        }
        found
    }
}

fn digest_of_hex(hex: &str) -> Option<[u8; 32]> {
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Keys, String> {
        Keys::parse(text, |_| Counter::default())
    }

    #[test]
    fn every_key_of_the_file_is_valid_under_its_name_and_no_other_is() {
        let text = "# comment\n\nbilling  0123456789abcdef\nbilling\tfedcba9876543210\n\
                    notebook sha256:9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08\n";
        let keys = parse(text).unwrap();
        let name = |key: &str| keys.find(key.as_bytes()).map(|key| &*key.name);
        assert_eq!(name("0123456789abcdef"), Some("billing"));
        assert_eq!(name("fedcba9876543210"), Some("billing"));
        // Digests are meant for long random keys; this cannot be told from the digest of "test".
        assert_eq!(name("test"), Some("notebook"));
        let long = "x".repeat(1000);
        for other in ["", "0123456789abcde", "0123456789abcdef0", "TEST", &long] {
            assert_eq!(name(other), None, "{other}");
        }
        assert_eq!(format!("{keys:?}"), r#"["billing", "billing", "notebook"]"#);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_by_line_and_without_its_keys() {
        let secret = "0123456789abcdef";
        for (text, wrong) in [
            (String::new(), "there is no key"),
            ("# nothing\n".into(), "there is no key"),
            (format!("\n{secret}\n"), "line 2: expected a name and a key"),
            (format!("a {secret} b"), "line 1: expected a name and a key"),
            (format!("ä {secret}"), "line 1: expected a name of up to 64"),
            ("a 0123456789abcde".into(), "line 1: the key is shorter"),
            ("a sha256:12".into(), "line 1: expected 64 hexadecimal"),
            (
                format!("a {secret}\nb {secret}"),
                "line 2: the key is there already",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(wrong), "{text:?}: {error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
    }
}
