//! The classification extension: of each row the best classes, as text.
//!
//! Source: `protocol/extension_classification.md` of Triton.

use std::fmt::Write;

use crate::model::Signature;
use crate::tensor::ByteStrings;

/// The classes of an output's rows, best first, as `"score:index"` or `"score:index:label"`.
#[derive(Debug)]
pub(super) struct Ranked {
    /// How many classes of each row there are: those asked for, or all if that is fewer.
    pub(super) classes: usize,
    /// The classes of all rows, row by row.
    pub(super) texts: ByteStrings,
}

impl Ranked {
    /// Ranks the values of the output at `position`, which are finite; equal ones by their index.
    ///
    /// A model's labels are those of its first output. A binary classifier gives one number a row
    /// there, and has both of its classes here, each with its probability.
    pub(super) fn of(signature: &Signature, position: usize, values: &[f32], most: usize) -> Self {
        let output = &signature.outputs[position];
        let has_labels = position == 0;
        let labels = if has_labels { &*signature.labels } else { &[] };
        let mut ranked = Self {
            classes: 0,
            texts: ByteStrings::default(),
        };
        for row in values.chunks_exact(output.spec.shape.elements().max(1)) {
            match signature.task.probabilities(row[0]) {
                Some(both) if has_labels => ranked.add(&both, labels, most),
                _ => ranked.add(row, labels, most),
            }
        }
        ranked
    }

    fn add(&mut self, scores: &[f32], labels: &[String], most: usize) {
        self.classes = most.min(scores.len());
        // Adding 0 makes -0 and 0 the same.
        let score = |class: usize| scores[class] + 0.0;
        let order = |a: &usize, b: &usize| score(*b).total_cmp(&score(*a)).then(a.cmp(b));
        let mut classes: Vec<usize> = (0..scores.len()).collect();
        if self.classes < classes.len() {
            classes.select_nth_unstable_by(self.classes, order);
            classes.truncate(self.classes);
        }
        classes.sort_unstable_by(order);
        let mut text = String::new();
        for class in classes {
            text.clear();
            write!(text, "{:?}:{class}", scores[class]).expect("text takes any text");
            if let Some(label) = labels.get(class) {
                text.extend([":", label]);
            }
            self.texts.push(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(scores: &[f32], labels: &[&str], most: usize) -> Vec<String> {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let mut ranked = Ranked {
            classes: 0,
            texts: ByteStrings::default(),
        };
        ranked.add(scores, &labels, most);
        let texts = ranked.texts.view();
        assert_eq!(ranked.classes, texts.len());
        let texts = texts
            .iter()
            .map(|text| str::from_utf8(text).unwrap().to_owned());
        texts.collect()
    }

    #[test]
    fn the_best_come_first_and_of_equals_the_first() {
        let scores = [0.25, -0.0, 0.5, 0.0, 0.5];
        assert_eq!(
            ranked(&scores, &[], 5),
            ["0.5:2", "0.5:4", "0.25:0", "-0.0:1", "0.0:3"]
        );
        assert_eq!(ranked(&scores, &[], 1), ["0.5:2"]);
        assert_eq!(ranked(&scores, &[], 2), ["0.5:2", "0.5:4"]);
    }

    #[test]
    fn more_than_there_are_is_all_of_them() {
        assert_eq!(ranked(&[1e-12], &["a:b"], usize::MAX), ["1e-12:0:a:b"]);
        assert_eq!(ranked(&[3e38, 1.0], &["x"], 2), ["3e38:0:x", "1.0:1"]);
    }
}
