//! What wakes the loader.

use std::sync::mpsc::SyncSender;

/// A request to the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Rescan,
    Load(String),
    Unload(String),
}

/// What wakes the loader.
#[derive(Debug)]
pub(super) enum Message {
    /// Do this, and drop the sender when it is done.
    Order(Order, SyncSender<()>),
    /// Something may have changed.
    Changed,
    /// The repository is dropped.
    Stop,
}
