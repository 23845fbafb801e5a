//! Why settings are refused.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use super::origin::Origin;

/// Why settings are refused. Each message names the place, what was expected, what came and how to
/// fix it.
#[derive(Debug)]
pub enum ConfigError {
    /// The file given by `--config` cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The file, with its line where the parser knows it.
        origin: Origin,
        /// The parser's reason.
        message: String,
    },
    /// There is no such setting.
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// The key, `section.key`.
        key: String,
        /// The known key that is spelt most alike.
        nearest: Option<String>,
        /// The keys of the section, or the sections if the section is unknown.
        known: Vec<String>,
    },
    /// A setting has a value that it cannot have.
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// The key, `section.key`.
        key: String,
        /// What it could have been.
        expected: String,
        /// What it was.
        actual: String,
        /// What to do.
        hint: &'static str,
    },
    /// A `--set` flag without `=`.
    NotAnAssignment {
        /// The flag's argument.
        argument: String,
    },
    /// An environment variable of ours that is not UTF-8.
    NotUnicode {
        /// The variable, its bad bytes replaced.
        variable: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => {
                write!(f, "cannot read the settings file {}", path.display())
            }
            Self::Syntax { origin, message } => {
                write!(f, "{origin}: not valid TOML: {}", message.trim_end())
            }
            Self::UnknownKey {
                origin,
                key,
                nearest,
                known,
            } => {
                write!(f, "{origin}: unknown setting {key}; ")?;
                if let Some(nearest) = nearest {
                    write!(f, "did you mean {nearest}? ")?;
                }
                write!(f, "Known: {}", known.join(", "))
            }
            Self::BadValue {
                origin,
                key,
                expected,
                actual,
                hint,
            } => write!(
                f,
                "{origin}: {key}: expected {expected}, got {actual}; {hint}"
            ),
            Self::NotAnAssignment { argument } => write!(
                f,
                "--set {argument}: expected SECTION.KEY=VALUE, got no \"=\"; \
                 write for example --set limits.max_connections=1024"
            ),
            Self::NotUnicode { variable } => write!(
                f,
                "environment variable {variable}: expected UTF-8 text, got other bytes; \
                 unset it or set it again"
            ),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
