//! The last step of a classifier: the class of each row, as an index and as a label.

use std::sync::Arc;

use super::program::FinishStep;
use super::signature::Task;
use crate::request::{Computed, Finish};
use crate::tensor::{ByteStrings, DataType, Shape, TensorSpec, Values};

/// Names the class of each row by the scores of the engine's first output.
#[derive(Debug)]
struct Classes {
    task: Task,
    /// One a class.
    labels: Vec<String>,
}

/// The step of a classifier with this task and a label for each of its classes: it makes the outputs
/// `class_id` and `label`.
pub(super) fn finish(task: Task, labels: &[String]) -> FinishStep {
    let output = |name: &str, datatype, description: &str| TensorSpec {
        description: description.to_owned(),
        ..TensorSpec::new(name, datatype, Shape::rows([]))
    };
    FinishStep {
        outputs: vec![
            output("class_id", DataType::Int64, "index of the class"),
            output("label", DataType::Bytes, "name of the class"),
        ],
        step: Arc::new(Classes {
            task,
            labels: labels.to_vec(),
        }),
    }
}

/// What labels have mostly.
const LABEL_BYTES: usize = 12;

impl Finish for Classes {
    fn finish(&self, computed: Computed<'_>) -> Vec<Values> {
        let scores = computed.outputs[0];
        let mut ids = Vec::with_capacity(computed.rows);
        let mut labels = ByteStrings::with_capacity(computed.rows, LABEL_BYTES * computed.rows);
        for scores in scores.chunks_exact(scores.len() / computed.rows) {
            let class = self.task.classify(scores);
            let class = class.expect("only classifiers have classes");
            ids.push(class as i64);
            labels.push(self.labels[class].as_bytes());
        }
        vec![Values::I64(ids), Values::Bytes(labels)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(task: Task, labels: &[&str], scores: &[f32], rows: usize) -> Vec<Values> {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        finish(task, &labels).step.finish(Computed {
            rows,
            offsets: &[],
            outputs: &[scores],
        })
    }

    fn texts(texts: &[&str]) -> Values {
        let mut strings = ByteStrings::default();
        texts.iter().for_each(|text| strings.push(text.as_bytes()));
        Values::Bytes(strings)
    }

    #[test]
    fn class_one_needs_more_than_the_threshold() {
        let task = Task::BinaryClassification { threshold: 0.25 };
        let scores = [0.0, 0.25, 0.25001, 1.0];
        assert_eq!(
            classes(task, &["no", "yes"], &scores, 4),
            [
                Values::I64(vec![0, 0, 1, 1]),
                texts(&["no", "no", "yes", "yes"])
            ]
        );
    }

    #[test]
    fn the_class_has_the_highest_score_the_first_among_equals() {
        let scores = [
            0.1, 0.5, 0.4, 0.5, 0.5, 0.0, 0.2, 0.2, 0.2, -3.0, -2.0, -1.0,
        ];
        assert_eq!(
            classes(Task::MulticlassClassification, &["a", "b", "c"], &scores, 4),
            [Values::I64(vec![1, 0, 0, 2]), texts(&["b", "a", "a", "c"])]
        );
    }
}
