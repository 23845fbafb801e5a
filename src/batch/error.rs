//! Why a file is not scored.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::tally::Tally;

/// Why a file is not scored.
#[derive(Debug)]
pub enum BatchError {
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The input, the output or the model does not fit the request.
    Refused {
        /// The place, what was expected, what is there, and how to fix it.
        message: String,
    },
    /// The row counts do not add up. It is a fault of the program.
    Lost {
        /// The outcome of the rows.
        tally: Tally,
    },
    /// A thread panicked. It is a fault of the program.
    Broken {
        /// Its message.
        message: String,
    },
}

impl BatchError {
    pub(super) fn refused(message: String) -> Self {
        Self::Refused { message }
    }

    /// Of a file.
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File {
            path: path.clone(),
            error,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Refused { message } => f.write_str(message),
            Self::Lost { tally } => write!(
                f,
                "expected {} rows to be scored or bad, got {} scored and {} bad; this is a fault of \
                 safeserve: keep the input and report it",
                tally.rows, tally.scored, tally.bad
            ),
            Self::Broken { message } => write!(
                f,
                "the forward pass failed ({message}); this is a fault of safeserve: keep the input \
                 and report it"
            ),
        }
    }
}

impl std::error::Error for BatchError {}
