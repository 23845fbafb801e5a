//! The observer of a training.

use super::epoch::Epoch;

/// How urgently the caller wants it to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// After this epoch; the best weights so far are kept and published.
    Keep,
    /// At once, and nothing is written.
    Abandon,
}

/// Watches a training, and may end it.
pub trait Observer {
    /// A decision was made that the options left open.
    fn said(&mut self, line: &str);
    /// An epoch is done.
    fn epoch(&mut self, epoch: &Epoch);
    /// Whether to go on.
    fn stop(&self) -> Stop;
}
