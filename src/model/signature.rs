//! What requests send to a model and what answers hold.

use super::columns::Columns;
use crate::request::InferResponse;
use crate::tensor::{DataType, Domain, Shape, TensorSpec};

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
    /// Whether requests and files of rows can carry what the model takes: they are read into single
    /// precision, as many numbers for each row.
    ///
    /// # Errors
    /// The first input of which that is not so, and what can be sent.
    pub fn check_inputs_can_be_sent(&self) -> Result<(), String> {
        let mut inputs = self.inputs.iter();
        let fits = |spec: &&TensorSpec| {
            spec.datatype == DataType::Fp32 && spec.shape.domain == Domain::Rows
        };
        match inputs.find(|spec| !fits(spec)) {
            None => Ok(()),
            Some(spec) => Err(format!(
                "input {:?}: expected FP32 of a fixed shape, got {spec}; neither requests nor files can \
                 carry whole numbers or tokens yet",
                spec.name
            )),
        }
    }

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

/// The outputs that a classifier has besides the engine's own: `class_id` and `label`.
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
