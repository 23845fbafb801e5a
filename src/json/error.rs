use std::fmt;

use super::path::Path;

/// Why a body is not what its reader asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not JSON.
    Syntax,
    /// JSON of another type than asked for.
    Type,
    /// A number outside what its place can hold.
    Range,
    /// A number that is not finite as an `f32`.
    NotFinite,
    /// A key that the object already has.
    DuplicateKey,
    /// Nested arrays whose lengths differ.
    Ragged,
    /// More values than the place takes.
    TooMany,
    /// More nested arrays and objects than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
}

/// What is wrong with a body, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Fault>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    kind: ErrorKind,
    path: Path,
    /// What the document is part of.
    within: Option<String>,
    message: String,
}

impl Error {
    #[cold]
    pub(super) fn new(kind: ErrorKind, path: Path, message: String) -> Self {
        Self(Box::new(Fault {
            kind,
            path,
            within: None,
            message,
        }))
    }

    /// Adds what would help.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(hint);
        self
    }

    /// The same fault of a document that is not the whole body but lies at `place` in it.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.0.within = Some(place.to_owned());
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Writes `inputs[0].data[3]: expected a number, found "abc"`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            path,
            within,
            message,
            ..
        } = &*self.0;
        match within {
            None => write!(f, "{path}: {message}"),
            Some(place) if path.is_root() => write!(f, "{place}: {message}"),
            Some(place) => write!(f, "{place}, {path}: {message}"),
        }
    }
}

impl std::error::Error for Error {}
