//! Why weights are refused.

use std::fmt;
use std::io;

use safetensors::Dtype;

use crate::model::files::{self, INDEX_FILE};
use crate::model::json::JsonError;

/// Why weights are refused.
#[derive(Debug)]
pub enum WeightsError {
    /// A file cannot be read.
    Io {
        /// Its name.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not what the safetensors format says.
    Format {
        /// Its name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A file is shorter than its header says.
    Truncated {
        /// Its name.
        file: String,
        /// What is missing.
        problem: String,
    },
    /// The index of the shards is wrong.
    Index {
        /// Where and what.
        error: JsonError,
    },
    /// A layer's tensor is in no file.
    Missing {
        /// The names that it may have.
        names: Vec<String>,
        /// What is there.
        found: Vec<String>,
    },
    /// A layer wants a tensor that holds no floating-point numbers.
    Datatype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its datatype.
        found: Dtype,
    },
    /// Two layers want the same tensor.
    UsedTwice {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// No layer wants these tensors.
    Unused {
        /// The file, the first of several shards that hold such tensors.
        file: String,
        /// Their names and shapes.
        tensors: Vec<String>,
    },
    /// A weight is NaN, infinite, or too large for 32 bits.
    NonFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The element's index, row-major.
        index: usize,
        /// What it is as `f32`.
        value: f32,
    },
}

impl WeightsError {
    /// Whether this is how an incomplete copy looks.
    pub(in crate::model) fn is_incomplete(&self) -> bool {
        match self {
            Self::Truncated { .. } => true,
            // No place in it: the index as a whole cannot be read.
            Self::Index { error } => error.path.is_empty(),
            Self::Io { error, .. } => files::may_come(error),
            _ => false,
        }
    }

    pub(super) fn io(file: &str, error: io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            error,
        }
    }
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "{file}: {error}"),
            Self::Format { file, problem } | Self::Truncated { file, problem } => {
                write!(f, "{file}: {problem}")
            }
            Self::Index { error } => write!(f, "{INDEX_FILE}: {error}"),
            Self::Missing { names, found } => write!(
                f,
                "no tensor {}; the weights hold: {}",
                quoted(names).join(" or "),
                some_of(&quoted(found))
            ),
            Self::Datatype {
                file,
                tensor,
                found,
            } => write!(
                f,
                "{file}: tensor {tensor:?}: expected F64, F32, F16 or BF16, got {found}"
            ),
            Self::UsedTwice { file, tensor } => write!(
                f,
                "{file}: tensor {tensor:?}: two layers use it; give each its own"
            ),
            Self::Unused { file, tensors } => write!(
                f,
                "{file}: no layer uses these tensors: {}; remove them or name them in a layer's \
                 \"weights\"",
                some_of(tensors)
            ),
            Self::NonFinite {
                file,
                tensor,
                index,
                value,
            } => write!(
                f,
                "{file}: tensor {tensor:?}: element {index} is {value}; weights must be finite \
                 32-bit numbers"
            ),
        }
    }
}

impl std::error::Error for WeightsError {}

/// Why a part of a file could not be read.
pub(super) enum ReadError {
    Io(io::Error),
    Format(String),
    Truncated(String),
}

impl ReadError {
    pub(super) fn into_weights_error(self, file: &str) -> WeightsError {
        match self {
            Self::Io(error) => WeightsError::io(file, error),
            Self::Format(problem) => WeightsError::Format {
                file: file.to_owned(),
                problem,
            },
            Self::Truncated(problem) => WeightsError::Truncated {
                file: file.to_owned(),
                problem,
            },
        }
    }
}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{name:?}")).collect()
}

/// A list for people: the first dozen, then how many more.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
