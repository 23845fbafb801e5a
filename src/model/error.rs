//! Why a model does not load.

use std::fmt::{self, Write as _};
use std::io;

use super::files::{CONFIG_FILE, may_come};
use super::json::JsonError;
use super::weights::WeightsError;
use crate::engine::GraphError;

/// Why a model does not load. Each message names the file and the place in it.
#[derive(Debug)]
pub enum LoadError {
    /// `config.json` cannot be read.
    ConfigFile {
        /// What the system says.
        error: io::Error,
    },
    /// `config.json` is not one JSON object.
    ConfigSyntax {
        /// Where and what.
        error: JsonError,
    },
    /// `config.json` is not as expected.
    Config {
        /// Where and what.
        error: JsonError,
    },
    /// A layer does not fit its place.
    Layer {
        /// Its name.
        layer: String,
        /// What is wrong.
        problem: String,
    },
    /// An operator refuses a layer's inputs or weights.
    Graph {
        /// Which and why.
        error: Box<GraphError>,
        /// The layer's weights: role, tensor, shape and file.
        weights: Vec<String>,
    },
    /// A layer's weight is missing or unfit.
    LayerWeights {
        /// The layer's name.
        layer: String,
        /// What the layer calls the weight.
        role: &'static str,
        /// What is wrong.
        error: WeightsError,
    },
    /// The weights as a whole are refused.
    Weights {
        /// What is wrong.
        error: WeightsError,
    },
}

impl LoadError {
    /// Whether this is how files look while they are being copied: one is missing, shorter than its header
    /// says, or cut off in the middle of its text.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        match self {
            Self::ConfigFile { error } => may_come(error),
            Self::ConfigSyntax { .. } => true,
            Self::Weights { error } => error.is_incomplete(),
            Self::Config { .. }
            | Self::Layer { .. }
            | Self::Graph { .. }
            | Self::LayerWeights { .. } => false,
        }
    }
}

/// Passes text on with its control characters escaped. Messages quote names from a model's files, and
/// the author of such a file must not control the terminal that shows the message.
struct Printable<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = from.chars();
            if let Some(control) = characters.next() {
                write!(self.0, "{}", control.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Printable(f);
        match self {
            Self::ConfigFile { error } => write!(f, "{CONFIG_FILE}: {error}"),
            Self::ConfigSyntax { error } | Self::Config { error } => {
                write!(f, "{CONFIG_FILE}: {error}")
            }
            Self::Layer { layer, problem } => {
                write!(f, "{CONFIG_FILE}: layer {layer:?}: {problem}")
            }
            Self::Graph { error, weights } => {
                write!(f, "{CONFIG_FILE}: {error}")?;
                if !weights.is_empty() {
                    write!(f, "; its weights: {}", weights.join(", "))?;
                }
                Ok(())
            }
            Self::LayerWeights { layer, role, error } => {
                write!(f, "{CONFIG_FILE}: layer {layer:?}: {role}: {error}")
            }
            Self::Weights { error } => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<JsonError> for LoadError {
    fn from(error: JsonError) -> Self {
        Self::Config { error }
    }
}

impl From<GraphError> for LoadError {
    fn from(error: GraphError) -> Self {
        Self::Graph {
            error: Box::new(error),
            weights: Vec::new(),
        }
    }
}

impl From<WeightsError> for LoadError {
    fn from(error: WeightsError) -> Self {
        Self::Weights { error }
    }
}
