//! What requests send to a model and what answers hold.

use super::columns::Columns;
use crate::tensor::TensorSpec;

/// What requests send and what answers hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// The inputs: the engine's, or those that the model's first step makes the engine's of.
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
    /// Which step of the model's program makes it.
    pub source: OutputSource,
}

/// The step of a model's program that makes an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSource {
    /// The engine.
    Engine,
    /// The step after the engine: the class of a row and its label, for example.
    Finish,
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
    /// The outputs that the engine computes, which come first.
    pub fn engine_outputs(&self) -> impl Iterator<Item = &Output> {
        let outputs = self.outputs.iter();
        outputs.take_while(|output| output.source == OutputSource::Engine)
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
        let is_first = self
            .outputs
            .first()
            .is_some_and(|first| first.spec.name == *name);
        let is_scores = is_first && self.task.is_classification() && self.labels.len() == elements;
        let of = |element: usize| match is_scores {
            true => format!("{name}[{}]", self.labels[element]),
            false => format!("{name}[{element}]"),
        };
        (0..elements).map(of).collect()
    }
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
