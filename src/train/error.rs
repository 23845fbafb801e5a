//! Why there is no model.

use std::path::PathBuf;
use std::{fmt, io};

use crate::model::LoadError;

/// Why a training ended without a model. Each message names the place and the fix.
#[derive(Debug)]
pub enum TrainError {
    /// An option is wrong, by itself or for this table.
    Option {
        /// Its flag.
        flag: &'static str,
        /// What was expected, what came, and how to fix it.
        problem: String,
    },
    /// The table is wrong.
    Data {
        /// The line of the file, from 1 on; `None` where it concerns no line.
        line: Option<u64>,
        /// The column's name; `None` where it concerns no column.
        column: Option<String>,
        /// What was expected, what came, and how to fix it.
        problem: String,
    },
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The loss is no longer a finite number.
    Diverged {
        /// In which epoch.
        epoch: usize,
    },
    /// The caller asked it to end without a model.
    Interrupted,
    /// The model does not load: a fault of this program.
    Load(LoadError),
    /// The loaded model's answers differ from the trained network's: a fault of this program.
    SelfCheck {
        /// An answer of the loaded model and that of the trained network; `None` if their numbers differ.
        pair: Option<(f32, f32)>,
    },
}

impl TrainError {
    pub(super) fn option(flag: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Option { flag, problem }
    }

    /// Concerns the table as a whole.
    pub(super) fn table(problem: impl Into<String>) -> Self {
        Self::Data {
            line: None,
            column: None,
            problem: problem.into(),
        }
    }

    pub(super) fn line(line: u64, problem: impl Into<String>) -> Self {
        Self::Data {
            line: Some(line),
            column: None,
            problem: problem.into(),
        }
    }

    pub(super) fn column(column: &str, problem: impl Into<String>) -> Self {
        Self::Data {
            line: None,
            column: Some(column.to_owned()),
            problem: problem.into(),
        }
    }

    pub(super) fn cell(line: u64, column: &str, problem: impl Into<String>) -> Self {
        Self::Data {
            line: Some(line),
            column: Some(column.to_owned()),
            problem: problem.into(),
        }
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { flag, problem } => write!(f, "{flag}: {problem}"),
            Self::Data {
                line,
                column,
                problem,
            } => {
                match (line, column) {
                    (Some(line), Some(column)) => write!(f, "line {line}, column {column:?}: ")?,
                    (Some(line), None) => write!(f, "line {line}: ")?,
                    (None, Some(column)) => write!(f, "column {column:?}: ")?,
                    (None, None) => {}
                }
                f.write_str(problem)
            }
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Diverged { epoch } => write!(
                f,
                "the loss is no number any more in epoch {epoch}: the steps are too long; give a \
                 smaller --learning-rate, or look for values far out in the table"
            ),
            Self::Interrupted => f.write_str("interrupted; nothing was written"),
            Self::Load(error) => write!(f, "the trained model cannot be served: {error}"),
            Self::SelfCheck { pair: Some(pair) } => write!(
                f,
                "the trained model answers {} where the network in training had {}; nothing was \
                 written",
                pair.0, pair.1
            ),
            Self::SelfCheck { pair: None } => f.write_str(
                "the trained model gives another number of answers than the network in training; \
                 nothing was written",
            ),
        }
    }
}

impl std::error::Error for TrainError {}

impl From<LoadError> for TrainError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}
