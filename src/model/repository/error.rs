//! Why a model version does not answer, or a repository cannot be served.

use std::path::PathBuf;
use std::{fmt, io};

use crate::metrics::ModelState;
use crate::model::CONFIG_FILE;

/// Why no model version answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No model has this name.
    UnknownModel {
        /// The name that was asked for, cut if it is long.
        model: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The model has no such version.
    UnknownVersion {
        /// The model's name.
        model: String,
        /// The version that was asked for, cut if it is long.
        version: String,
        /// The versions that exist.
        known: Vec<u64>,
    },
    /// The version does not serve.
    NotReady {
        /// The model's name.
        model: String,
        /// The version.
        version: u64,
        /// Its state.
        state: ModelState,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most names shown; the rest is only counted.
        const SHOWN: usize = 20;
        let list = |f: &mut fmt::Formatter<'_>, names: &[String]| {
            f.write_str(&names[..names.len().min(SHOWN)].join(", "))?;
            match names.len().saturating_sub(SHOWN) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        };
        match self {
            // What clients sent is quoted with its control characters escaped.
            Self::UnknownModel { model, known } => {
                write!(f, "there is no model {model:?}; this server has ")?;
                list(f, known)
            }
            Self::UnknownVersion {
                model,
                version,
                known,
            } => {
                let known: Vec<String> = known.iter().map(u64::to_string).collect();
                write!(f, "model {model:?} has no version {version:?}; it has ")?;
                list(f, &known)
            }
            Self::NotReady {
                model,
                version,
                state,
                reason,
            } => write!(
                f,
                "version {version} of model {model:?} is {}: {reason}",
                state.as_str()
            ),
        }
    }
}

impl std::error::Error for LookupError {}

/// Why a repository cannot be served at all.
#[derive(Debug)]
pub enum RepositoryError {
    /// The directory cannot be listed.
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The directory holds nothing that looks like a model.
    Empty {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no thread to load models on.
    NoThread {
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for RepositoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { directory, error } => write!(
                f,
                "cannot read the model repository {}: {error}; name another with --models",
                directory.display()
            ),
            Self::Empty { directory } => write!(
                f,
                "the model repository {} holds no model; expected \
                 <name>/{CONFIG_FILE} and <name>/model.safetensors, or the same in \
                 <name>/<version>/",
                directory.display()
            ),
            Self::NoThread { error } => {
                write!(f, "cannot start the thread that loads models: {error}")
            }
        }
    }
}

impl std::error::Error for RepositoryError {}
