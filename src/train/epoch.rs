//! Epochs of a training, and why it ended.

/// The result of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Its number, from 1 on.
    pub number: usize,
    /// The mean loss of the rows learned from, each as its batch came.
    pub loss: f64,
    /// The mean loss of the rows that are held out, if there are any, at the epoch's end.
    pub validation_loss: Option<f64>,
    /// The accuracy or R² of the rows that are held out, if there are any, at the epoch's end.
    pub validation_score: Option<f64>,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Epochs,
    /// The validation loss no longer fell.
    Patience,
    /// The caller asked for it.
    Requested,
}
