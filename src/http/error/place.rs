//! Where in a request something is wrong.

use crate::json::Path;

/// Where in a request something is wrong, in a form that the log may have: of what a client wrote
/// it holds the keys on the way, and shows those alone that are known.
#[derive(Clone)]
pub(in crate::http) enum Place {
    /// A field, a header, a parameter, by its name in the protocol.
    Field(&'static str),
    /// An item of a list, by the list's name in the protocol.
    #[cfg(feature = "grpc")]
    Item(&'static str, usize),
    /// A value of a JSON document.
    Value(Path),
    /// A line of a body, from 1.
    Line {
        line: usize,
        /// The cell, from 1, of CSV.
        column: Option<usize>,
        /// The value, of JSON lines.
        value: Option<Path>,
    },
}

impl Place {
    /// A line of a body, from 1.
    pub(in crate::http) fn line(line: usize) -> Self {
        Self::Line {
            line,
            column: None,
            value: None,
        }
    }

    /// A cell of a line of CSV, both from 1.
    pub(in crate::http) fn cell(line: usize, column: usize) -> Self {
        Self::Line {
            line,
            column: Some(column),
            value: None,
        }
    }

    /// The place in words, with `*` for each key that is not known.
    pub(in crate::http) fn masked(&self, is_known: impl Fn(&str) -> bool) -> String {
        match self {
            Self::Field(name) => (*name).to_owned(),
            #[cfg(feature = "grpc")]
            Self::Item(list, index) => format!("{list}[{index}]"),
            Self::Value(path) => path.masked(is_known),
            Self::Line {
                line,
                column,
                value,
            } => {
                let mut place = format!("line {line}");
                if let Some(column) = column {
                    place.push_str(&format!(", column {column}"));
                }
                if let Some(value) = value {
                    place.push_str(&format!(", {}", value.masked(is_known)));
                }
                place
            }
        }
    }

    /// The byte at which it starts: of the body, or of its line.
    pub(in crate::http) fn offset(&self) -> Option<usize> {
        match self {
            Self::Value(path)
            | Self::Line {
                value: Some(path), ..
            } => Some(path.offset()),
            _ => None,
        }
    }

    /// The same place, in a document that is a line of the body.
    pub(in crate::http) fn on_line(self, line: usize) -> Self {
        Self::Line {
            line,
            column: None,
            value: match self {
                Self::Value(path) => Some(path),
                _ => None,
            },
        }
    }
}

impl From<Path> for Place {
    fn from(path: Path) -> Self {
        Self::Value(path)
    }
}

impl From<&'static str> for Place {
    fn from(field: &'static str) -> Self {
        Self::Field(field)
    }
}
