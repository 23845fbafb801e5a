//! A model as it is served: its signature, its engine and which weights they came from.

mod columns;
mod expected;
mod families;
mod fingerprint;
pub mod graph;
mod json;
mod manifest;
mod program;
pub mod publish;
pub mod repository;
mod weights;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use self::manifest::Description;
use self::program::Program;
use self::weights::{INDEX_FILE, SINGLE_FILE, Weights};
use crate::engine::kernels::Isa;
use crate::engine::{Engine, GraphError};
use crate::request::{InferResponse, Prepare};
use crate::tensor::{DataType, Shape, TensorSpec};
use fingerprint::Fingerprint;

pub use self::columns::{CellError, Column, ColumnKind, Columns};
pub use self::expected::{Expected, ExpectedError, Furthest};
pub use self::json::JsonError;
pub use self::weights::WeightsError;

/// The file that describes a model.
pub const CONFIG_FILE: &str = "config.json";
/// The most bytes of a configuration or an index. Keras writes up to 1.3 kB a layer and an index
/// takes 0.1 kB a tensor, so a network of the most layers fits; parsed, it takes many times more.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// One loaded version of a model.
#[derive(Debug)]
pub struct Model {
    /// The name of its directory in the repository.
    pub name: String,
    /// The version: a positive number, the name of the version's directory.
    pub version: u64,
    /// Lower-case hexadecimal SHA-256 over the configuration and the weights.
    pub fingerprint: String,
    /// What requests send and what answers hold.
    pub signature: Signature,
    /// What makes the engine's inputs of a request's; `None` if they are the same.
    pub prepare: Option<Arc<dyn Prepare>>,
    /// The compiled forward pass.
    pub engine: Arc<Engine>,
}

impl Model {
    /// Loads the model whose files lie in `directory` for this machine's best instruction set.
    ///
    /// # Errors
    /// [`LoadError`] naming the file, the place in it, what was expected and what is there.
    pub fn load(name: &str, version: u64, directory: &Path) -> Result<Self, LoadError> {
        Self::load_for(name, version, directory, Isa::detect())
    }

    /// Loads the model whose files lie in `directory` for the given instruction set.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_for(
        name: &str,
        version: u64,
        directory: &Path,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        let text = read_small(&directory.join(CONFIG_FILE))
            .map_err(|error| LoadError::ConfigFile { error })?;
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(&(text.len() as u64).to_le_bytes());
        fingerprint.update(&text);
        let mut config = json::parse(&text).map_err(|error| LoadError::ConfigSyntax { error })?;
        let description = Description::take(&mut config)?;
        let mut weights = Weights::read(directory, &mut fingerprint)?;
        let Program { prepare, graph } = families::build(&mut config, &description, &mut weights)?;
        config.finish()?;
        weights.finish()?;
        let engine =
            Engine::compile_releasing(graph, isa, &mut |weight| fingerprint.let_go(weight));
        let signature = description.signature(engine.inputs(), engine.outputs())?;
        Ok(Self {
            name: name.to_owned(),
            version,
            fingerprint: fingerprint.finish(),
            signature,
            prepare,
            engine: Arc::new(engine),
        })
    }
}

/// Whether a file that gave this error may be one that is not there yet, or not whole.
fn may_come(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    )
}

/// Opens a file for reading and tells its length; refuses what is no regular file.
///
/// Links are followed, out of the repository too: whoever may write there may copy there as well,
/// and Kubernetes mounts models as links.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    // Without waiting: opening a pipe that nobody writes would never return.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    Ok((file, metadata.len()))
}

/// Reads a whole file of at most [`MAX_CONFIG_BYTES`].
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    if length > MAX_CONFIG_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("expected at most {MAX_CONFIG_BYTES} bytes, the file has {length}"),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

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
    /// Whether this is how files look that are still being copied: one is missing, shorter than it
    /// says itself, or cut off in the middle of its text.
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

/// Passes text on with its control characters escaped. Names in a model's files stand in messages,
/// and whoever wrote them must not steer the terminal that these are read on.
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

/// What requests send and what answers hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// The inputs, in the engine's order.
    pub inputs: Vec<TensorSpec>,
    /// The outputs that clients can ask for, the engine's own first.
    pub outputs: Vec<Output>,
    /// What the first output means.
    pub task: Task,
    /// Names of the classes by index: the model's own, else the indices in digits; empty for
    /// models without classes.
    pub labels: Vec<String>,
    /// Names of the single input's features; empty if the model does not say.
    pub feature_names: Vec<String>,
    /// The columns of the table whose rows become the features; `None` if the model does not say.
    pub columns: Option<Columns>,
    /// What the model does, for people; empty if the model does not say.
    pub description: String,
    /// Whether NaN and infinities may enter and leave.
    pub allow_non_finite: bool,
}

/// An output that clients can ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name, datatype and shape.
    pub spec: TensorSpec,
    /// How it comes from the engine's outputs.
    pub source: OutputSource,
}

impl Output {
    /// The shape of so many rows of it.
    #[must_use]
    pub fn with_rows(&self, rows: usize) -> Vec<usize> {
        let mut shape = vec![rows];
        shape.extend(&self.spec.shape.extents);
        shape
    }
}

/// How an output comes from the engine's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSource {
    /// The engine's output of this index, as it is.
    Engine(usize),
    /// The index of the class, one a row.
    ClassId,
    /// The label of the class, one a row.
    Label,
}

/// What a model's first output means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// Numbers without a meaning known to the server.
    None,
    /// One number a row, or several targets.
    Regression,
    /// One probability a row: class 1 where it is over the threshold, else class 0.
    BinaryClassification {
        /// Class 1 needs more than this.
        threshold: f32,
    },
    /// One score a class: the class with the highest score, the first among equals.
    MulticlassClassification,
}

impl Task {
    /// Whether answers can name a class.
    #[must_use]
    pub fn is_classification(self) -> bool {
        matches!(
            self,
            Self::BinaryClassification { .. } | Self::MulticlassClassification
        )
    }

    /// The probabilities of both classes of a binary classifier, from the one number that it gives
    /// for a row; `None` for other tasks.
    ///
    /// A threshold between 0 and 1 is one of probabilities. Any other would put every probability
    /// in the same class, so it is one of logits, and 0 is where both classes are as probable.
    #[must_use]
    pub fn probabilities(self, output: f32) -> Option<[f32; 2]> {
        let Self::BinaryClassification { threshold } = self else {
            return None;
        };
        if 0.0 < threshold && threshold < 1.0 {
            return Some([1.0 - output, output]);
        }
        // Each from its own side: 1 minus a probability near 1 has lost its digits.
        let sigmoid = |x: f64| (1.0 / (1.0 + (-x).exp())) as f32;
        let logit = f64::from(output);
        Some([sigmoid(-logit), sigmoid(logit)])
    }

    /// The class of one row of scores, or `None` if the task has no classes.
    #[must_use]
    pub fn classify(self, scores: &[f32]) -> Option<usize> {
        match self {
            Self::None | Self::Regression => None,
            Self::BinaryClassification { threshold } => Some(usize::from(scores[0] > threshold)),
            Self::MulticlassClassification => {
                let mut best = 0;
                for (class, score) in scores.iter().enumerate() {
                    if *score > scores[best] {
                        best = class;
                    }
                }
                Some(best)
            }
        }
    }
}

impl Signature {
    /// The position of the output with this name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs
            .iter()
            .position(|output| output.spec.name == name)
    }

    /// The names of an output's numbers where each has a cell of its own: `NAME` of an output of one
    /// number, else `NAME[LABEL]` if each number is the score of a label, else `NAME[INDEX]`.
    #[must_use]
    pub fn cell_names(&self, output: &Output) -> Vec<String> {
        let name = &output.spec.name;
        let elements = output.spec.shape.elements();
        if output.spec.shape.extents.is_empty() || elements == 1 {
            return vec![name.clone()];
        }
        // The task is the first output's.
        let is_scores = output.source == OutputSource::Engine(0)
            && self.task.is_classification()
            && self.labels.len() == elements;
        let of = |element: usize| match is_scores {
            true => format!("{name}[{}]", self.labels[element]),
            false => format!("{name}[{element}]"),
        };
        (0..elements).map(of).collect()
    }

    /// The classes of an answer's rows, or `None` if the task has no classes.
    #[must_use]
    pub fn classes(&self, response: &InferResponse) -> Option<Vec<usize>> {
        let columns = self.outputs.first()?.spec.shape.elements();
        response
            .outputs
            .first()?
            .chunks_exact(columns)
            .map(|scores| self.task.classify(scores))
            .collect()
    }
}

/// The outputs of a classifier beside the engine's own: `class_id` and `label`.
pub(crate) fn class_outputs() -> [Output; 2] {
    let output = |name: &str, datatype, description: &str, source| Output {
        spec: TensorSpec {
            description: description.to_owned(),
            ..TensorSpec::new(name, datatype, Shape::rows([]))
        },
        source,
    };
    [
        output(
            "class_id",
            DataType::Int64,
            "index of the class",
            OutputSource::ClassId,
        ),
        output(
            "label",
            DataType::Bytes,
            "name of the class",
            OutputSource::Label,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::Task;

    fn probabilities(output: f32, threshold: f32) -> [f32; 2] {
        let task = Task::BinaryClassification { threshold };
        task.probabilities(output).unwrap()
    }

    #[test]
    fn a_threshold_between_0_and_1_is_one_of_probabilities() {
        for threshold in [f32::MIN_POSITIVE, 0.3, 0.5, 0.999] {
            assert_eq!(probabilities(0.25, threshold), [0.75, 0.25]);
        }
    }

    #[test]
    fn any_other_threshold_is_one_of_logits() {
        // ln 3: three to one.
        let three_to_one = 3f32.ln();
        for threshold in [0.0, -0.0, -2.5, 1.0, 7.0] {
            let [no, yes] = probabilities(three_to_one, threshold);
            // Half a unit in the last place of 0.75, and as much of the rounded logarithm.
            assert!(
                (no - 0.25).abs() < 1e-7 && (yes - 0.75).abs() < 1e-7,
                "{no} {yes}"
            );
        }
        assert_eq!(probabilities(0.0, 0.0), [0.5, 0.5]);
    }

    #[test]
    fn probabilities_of_logits_stay_within_0_and_1_and_keep_their_digits() {
        for (logit, expected) in [
            (40.0, [4.248_354e-18, 1.0]),
            (-40.0, [1.0, 4.248_354e-18]),
            (f32::MAX, [0.0, 1.0]),
            (f32::MIN, [1.0, 0.0]),
            (f32::INFINITY, [0.0, 1.0]),
        ] {
            assert_eq!(probabilities(logit, 0.0), expected, "{logit}");
        }
        assert!(
            probabilities(f32::NAN, 0.0)
                .iter()
                .all(|score| score.is_nan())
        );
    }
}
