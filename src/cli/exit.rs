//! How the process ends.

use std::process::ExitCode;

/// What the process says by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped as asked.
    Done = 0,
    /// A check or the running server failed.
    Failed = 1,
    /// Bad arguments or settings; also clap's own code.
    BadSettings = 2,
    /// The model repository cannot be served.
    BadRepository = 3,
    /// The address cannot be listened on.
    CannotBind = 4,
    /// A second signal ended the drain; the code of a program that Ctrl-C ended.
    Forced = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
