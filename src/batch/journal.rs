//! How far a run has come, stored next to its output, so that another run can continue it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::BatchError;
use super::settings::{Format, Settings, errors_path, with_suffix};
use super::tally::{Position, Tally};
use crate::model::Model;

/// What identifies a run: another run with the same gives the same output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The model's fingerprint.
    model: String,
    /// The input's size in bytes and its modification time: seconds and nanoseconds.
    input_bytes: u64,
    input_written: (i64, i64),
    /// The options that affect the output.
    options: String,
    /// Where the bad rows go: the journal's entries apply only to that file.
    errors: String,
}

impl Identity {
    /// Of a run of this model over a file.
    pub(super) fn of(model: &Model, settings: &Settings, input: &File) -> io::Result<Self> {
        let metadata = input.metadata()?;
        let Settings {
            from,
            to,
            header,
            keep,
            outputs,
            line,
            errors,
            output,
            ..
        } = settings;
        let errors = errors.clone();
        let errors = errors.unwrap_or_else(|| errors_path(output));
        Ok(Self {
            model: model.fingerprint.clone(),
            input_bytes: metadata.len(),
            input_written: (metadata.mtime(), metadata.mtime_nsec()),
            options: format!(
                "from {from:?} to {to:?}, header {header}, keep {keep:?}, outputs {outputs:?}, line {line}"
            ),
            errors: errors.display().to_string(),
        })
    }

    /// What differs from an earlier run, in words.
    fn changed(&self, earlier: &Self) -> Option<&'static str> {
        if self.model != earlier.model {
            Some("the model is another one")
        } else if self.input_bytes != earlier.input_bytes
            || self.input_written != earlier.input_written
        {
            Some("the input was written since")
        } else if self.options != earlier.options {
            Some("it was told to keep or write other columns, or in another form")
        } else if self.errors != earlier.errors {
            Some("--errors names another file")
        } else {
            None
        }
    }
}

/// What is safely on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) identity: Identity,
    /// Where in the input the next block begins.
    pub(super) position: Position,
    /// The bytes of the output and of the file of bad rows up to there.
    pub(super) output_bytes: u64,
    pub(super) faults_bytes: u64,
    pub(super) tally: Tally,
}

impl Journal {
    /// The journal of an output's run.
    pub(super) fn path(output: &Path) -> PathBuf {
        with_suffix(output, ".journal")
    }

    /// Reads what an earlier run left.
    ///
    /// # Errors
    /// If it cannot be read, or the run was of something else.
    pub(super) fn read(output: &Path, identity: &Identity) -> Result<Option<Self>, BatchError> {
        let path = Self::path(output);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(BatchError::at(&path))?,
        };
        let journal: Self = serde_json::from_slice(&text).map_err(|error| {
            BatchError::refused(format!(
                "{}: not a journal of this version of safeserve ({error}); begin again with \
                 --overwrite",
                path.display()
            ))
        })?;
        match identity.changed(&journal.identity) {
            Some(changed) => Err(BatchError::refused(format!(
                "--resume: expected what the interrupted run had, but {changed}; begin again with \
                 --overwrite"
            ))),
            None => Ok(Some(journal)),
        }
    }

    /// Replaces the journal in one step.
    pub(super) fn write(&self, output: &Path) -> Result<(), BatchError> {
        let path = Self::path(output);
        let new = with_suffix(output, ".journal.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_data()?;
            fs::rename(&new, &path)
        };
        write().map_err(BatchError::at(&path))
    }

    /// Removes it.
    pub(super) fn remove(output: &Path) -> Result<(), BatchError> {
        let path = Self::path(output);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BatchError::at(&path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a run's output can be resumed: only text can.
pub(super) fn can_resume(to: Format) -> bool {
    to != Format::Parquet
}
