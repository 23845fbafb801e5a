//! What a model may be called.

use std::fmt;
use std::str::FromStr;

/// The most bytes of a model's name, which appears in paths, labels and log lines.
const MAX_NAME_BYTES: usize = 128;

/// What [`is_model_name`] asks for, in words.
pub const RULE: &str = "up to 128 of A-Z a-z 0-9 _ . -, not beginning with .";

/// A name that a model can have.
///
/// ```
/// use safeserve::names::ModelName;
///
/// assert_eq!("digits-2.1".parse::<ModelName>()?.as_str(), "digits-2.1");
/// assert!("two words".parse::<ModelName>().is_err());
/// # Ok::<(), safeserve::names::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName(String);

impl ModelName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match is_model_name(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError),
        }
    }
}

/// A text that is no model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError;

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a model's name: expected {RULE}")
    }
}

impl std::error::Error for NameError {}

/// Whether a model can have this name.
#[must_use]
pub fn is_model_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_few_signs() {
        let longest = "n".repeat(MAX_NAME_BYTES);
        for name in ["iris", "a", "Iris-2.1_b", "_private", "2", &longest] {
            assert!(is_model_name(name), "{name}");
        }
        let longer = format!("{longest}n");
        for name in [
            "",
            ".hidden",
            "..",
            "a/b",
            "two words",
            "größe",
            "a\0",
            &longer,
        ] {
            assert!(!is_model_name(name), "{name}");
            assert_eq!(name.parse::<ModelName>(), Err(NameError), "{name}");
        }
        assert!(RULE.contains(&MAX_NAME_BYTES.to_string()));
    }
}
