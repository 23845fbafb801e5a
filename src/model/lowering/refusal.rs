//! Why a network is refused.

use std::fmt;

use crate::engine::GraphError;
use crate::model::weights::WeightsError;

/// Why a step, an input or an output cannot be part of a network.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It does not fit its place, in words.
    Problem(String),
    /// There is no value of this name.
    Missing(String),
    /// Another value has this name.
    NameTaken(String),
    /// An operator of the engine refuses its operands.
    Operator(Box<GraphError>),
    /// The tensor that an input names is unfit.
    Tensor(WeightsError),
    /// A weight is missing or unfit.
    Weight {
        /// What the step calls the weight.
        role: &'static str,
        /// What is wrong.
        error: WeightsError,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(problem),
            Self::Missing(name) => write!(f, "there is no value {name:?}"),
            Self::NameTaken(name) => {
                write!(f, "another value has the name {name:?}; each needs its own")
            }
            Self::Operator(error) => write!(f, "{}", error.error),
            Self::Tensor(error) => write!(f, "{error}"),
            Self::Weight { role, error } => write!(f, "{role}: {error}"),
        }
    }
}

impl From<String> for Refusal {
    fn from(problem: String) -> Self {
        Self::Problem(problem)
    }
}

impl From<&str> for Refusal {
    fn from(problem: &str) -> Self {
        Self::Problem(problem.to_owned())
    }
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        Self::Operator(Box::new(error))
    }
}

/// A step that is refused.
#[derive(Debug)]
pub(crate) struct StepError {
    /// The step's name.
    pub(crate) step: String,
    /// What is wrong.
    pub(crate) refusal: Box<Refusal>,
    /// The weights that the step had found: role, tensor, shape and file.
    pub(crate) weights: Vec<String>,
}

/// A value that no step and no output uses.
#[derive(Debug)]
pub(crate) struct Unused {
    /// Its name.
    pub(crate) value: String,
    /// The step that computes it; `None` for an input.
    pub(crate) step: Option<String>,
}
