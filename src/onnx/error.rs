//! Why a file cannot become a model.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::operators::understood;
use crate::model::LoadError;

/// Why a file cannot become a model.
#[derive(Debug)]
pub enum ImportError {
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is no ONNX model, or damaged.
    Format {
        /// What is wrong.
        problem: String,
    },
    /// The engine lacks operators.
    Operators {
        /// Each with how often it occurs.
        missing: BTreeMap<String, usize>,
    },
    /// A node does not fit.
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        operator: String,
        /// What is wrong.
        problem: String,
    },
    /// What was made does not load.
    Load {
        /// Why.
        error: LoadError,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Format { problem } => write!(f, "{problem}"),
            Self::Operators { missing } => {
                let each = missing
                    .iter()
                    .map(|(name, times)| format!("{name} ({times})"));
                let known: Vec<_> = understood().collect();
                write!(
                    f,
                    "the engine lacks operators of this model: {}; it has: {}",
                    each.collect::<Vec<_>>().join(", "),
                    known.join(", ")
                )
            }
            Self::Node {
                node,
                operator,
                problem,
            } => write!(f, "node {node:?} ({operator}): {problem}"),
            Self::Load { error } => write!(f, "the imported model does not load: {error}"),
        }
    }
}

impl std::error::Error for ImportError {}

/// The error of a file that is no ONNX model.
pub(super) fn format(problem: impl Into<String>) -> ImportError {
    ImportError::Format {
        problem: problem.into(),
    }
}
