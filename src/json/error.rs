use std::fmt;

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
    path: String,
    message: String,
}

impl Error {
    #[cold]
    pub(super) fn new(kind: ErrorKind, path: String, message: String) -> Self {
        Self(Box::new(Fault {
            kind,
            path,
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
        let fault = &mut self.0;
        fault.path = match &*fault.path {
            super::path::WHOLE => place.to_owned(),
            path => format!("{place}, {path}"),
        };
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where: `inputs[0].data[3]`, or `the body` for its root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }
}

/// Writes `inputs[0].data[3]: expected a number, found "abc"`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.path, self.0.message)
    }
}

impl std::error::Error for Error {}
