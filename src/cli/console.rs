//! What is written for the person at the terminal.

use std::error::Error;
use std::io::{self, Write};

/// Writes text to stdout. A reader that has gone is no error: `safeserve check | head` is fine.
pub(super) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Writes a line to stderr.
pub(super) fn tell(text: &str) {
    // As in `report`.
    let _ = writeln!(io::stderr().lock(), "safeserve: {text}");
}

/// Writes an error and its causes to stderr, one a line.
pub(super) fn report(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    complain(&text);
}

/// Writes what is wrong to stderr.
pub(super) fn complain(text: &str) {
    let text = format!("safeserve: {text}\n");
    // If no one reads it, the error cannot be reported; the exit code still tells.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
