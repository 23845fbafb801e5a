//! What is scored, and how.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The name of standard input and of standard output.
pub const STANDARD: &str = "-";

/// The format of a file of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180.
    Csv,
    /// A JSON document a line.
    Ndjson,
    /// Apache Parquet; needs the feature `parquet`.
    Parquet,
}

impl Format {
    /// The format that a file name's last extension implies.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match &*extension {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What to do with an output that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Replace it.
    Overwrite,
    /// Continue where an interrupted run ended; begin if there was none.
    Resume,
}

/// What is scored, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The input; [`STANDARD`] is standard input.
    pub input: PathBuf,
    /// Its form.
    pub from: Format,
    /// Whether CSV begins with the names of its columns.
    pub header: bool,
    /// The output; [`STANDARD`] is standard output.
    pub output: PathBuf,
    /// Its form.
    pub to: Format,
    /// The file of bad rows; `None` for the output's name followed by `.errors.csv`.
    pub errors: Option<PathBuf>,
    /// What to do if the output exists.
    pub existing: Existing,
    /// Whether the output says from which line each row is.
    pub line: bool,
    /// The columns of the input that are carried along.
    pub keep: Vec<String>,
    /// The model's outputs that are written; none for all.
    pub outputs: Vec<String>,
    /// The threads that compute.
    pub threads: usize,
}

/// The file of bad rows of an output, if none is named.
#[must_use]
pub fn errors_path(output: &Path) -> PathBuf {
    with_suffix(output, ".errors.csv")
}

/// A file's name with more added.
pub(super) fn with_suffix(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
