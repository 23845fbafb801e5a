//! The options of a training.

use std::path::PathBuf;

use super::error::TrainError;
use super::layers::Layers;

/// What to train on, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The table: CSV with a header.
    pub data: PathBuf,
    /// The byte between two cells.
    pub delimiter: u8,
    /// The column to predict.
    pub target: String,
    /// The model's directory, for example `models/churn`.
    pub out: PathBuf,
    /// What to learn; `None` guesses from the target.
    pub task: Option<TaskName>,
    /// Columns that hold categories, even if they look like numbers.
    pub categories: Vec<String>,
    /// Columns that are not looked at.
    pub ignore: Vec<String>,
    /// Texts that mean a missing value, in addition to the empty one.
    pub missing: Vec<String>,
    /// The layers before the last.
    pub layers: Layers,
    /// How weights follow their gradients.
    pub optimizer: Optimizer,
    /// Rows of a mini-batch.
    pub batch_rows: usize,
    /// The most times that every row is seen.
    pub epochs: usize,
    /// How many epochs without a better validation loss end it; 0 never does.
    pub patience: usize,
    /// The part of the rows that is held out.
    pub validation: f64,
    /// The seed of all random choices.
    pub seed: u64,
    /// What the model does, for people.
    pub description: Option<String>,
}

/// A kind of target, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskName {
    /// One of two classes.
    Binary,
    /// One of several classes.
    Multiclass,
    /// A number.
    Regression,
}

/// How weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adam with decoupled decay of the weights (Loshchilov and Hutter 2019).
    AdamW {
        /// The length of a step.
        learning_rate: f64,
        /// The part of a weight, in steps, that decays.
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum, as PyTorch has it.
    Sgd {
        /// The length of a step.
        learning_rate: f64,
        /// The momentum: the share of the last step that is kept.
        momentum: f64,
        /// The part of a weight that is added to its gradient.
        weight_decay: f64,
    },
}

/// The defaults: enough for tables of some thousand rows, in a minute or so.
pub const LAYERS: &str = "32:relu,16:relu";
/// The part of the rows that is held out.
pub const VALIDATION: f64 = 0.2;
/// Rows of a mini-batch.
pub const BATCH_ROWS: usize = 32;
/// The most times that every row is seen.
pub const EPOCHS: usize = 300;
/// Epochs without a better validation loss.
pub const PATIENCE: usize = 30;

impl Optimizer {
    /// AdamW, with defaults for most tables.
    #[must_use]
    pub fn adamw(learning_rate: Option<f64>, weight_decay: Option<f64>) -> Self {
        Self::AdamW {
            learning_rate: learning_rate.unwrap_or(0.003),
            weight_decay: weight_decay.unwrap_or(0.01),
        }
    }

    /// Gradient descent, with defaults for most tables.
    #[must_use]
    pub fn sgd(
        learning_rate: Option<f64>,
        momentum: Option<f64>,
        weight_decay: Option<f64>,
    ) -> Self {
        Self::Sgd {
            learning_rate: learning_rate.unwrap_or(0.05),
            momentum: momentum.unwrap_or(0.9),
            weight_decay: weight_decay.unwrap_or(0.0),
        }
    }
}

impl Options {
    /// Trains with the defaults.
    ///
    /// # Panics
    /// Never: the default layers are sound.
    #[must_use]
    pub fn new(data: PathBuf, target: &str, out: PathBuf) -> Self {
        Self {
            data,
            delimiter: b',',
            target: target.to_owned(),
            out,
            task: None,
            categories: Vec::new(),
            ignore: Vec::new(),
            missing: Vec::new(),
            layers: LAYERS.parse().expect("the default layers are sound"),
            optimizer: Optimizer::adamw(None, None),
            batch_rows: BATCH_ROWS,
            epochs: EPOCHS,
            patience: PATIENCE,
            validation: VALIDATION,
            seed: 0,
            description: None,
        }
    }

    /// Refuses numbers outside of their ranges.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let (rate, momentum, decay) = match self.optimizer {
            Optimizer::AdamW {
                learning_rate,
                weight_decay,
            } => (learning_rate, 0.0, weight_decay),
            Optimizer::Sgd {
                learning_rate,
                momentum,
                weight_decay,
            } => (learning_rate, momentum, weight_decay),
        };
        // Written so that NaN is refused too.
        let ranges = [
            (
                "--learning-rate",
                rate,
                rate > 0.0 && rate <= 1e3,
                "over 0 and at most 1000",
            ),
            (
                "--momentum",
                momentum,
                (0.0..1.0).contains(&momentum),
                "from 0 to below 1",
            ),
            (
                "--weight-decay",
                decay,
                (0.0..=10.0).contains(&decay),
                "from 0 to 10",
            ),
            (
                "--validation",
                self.validation,
                (0.0..=0.9).contains(&self.validation),
                "from 0 to 0.9",
            ),
        ];
        for (flag, value, is_in_range, range) in ranges {
            if !is_in_range {
                return Err(TrainError::option(
                    flag,
                    format!("expected a number {range}, got {value}"),
                ));
            }
        }
        for (flag, value) in [("--epochs", self.epochs), ("--batch-size", self.batch_rows)] {
            if value == 0 {
                return Err(TrainError::option(
                    flag,
                    "expected a number from 1 on, got 0",
                ));
            }
        }
        Ok(())
    }
}
