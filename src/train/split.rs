//! Which rows are held out.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::error::TrainError;
use super::options::Options;
use super::target::{Goal, Target};

/// The fewest rows from which some can be held out.
const MIN_ROWS: usize = 10;

/// The rows to learn from and those that are held out, by their places in [`Target::rows`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) training: Vec<usize>,
    /// Empty if nothing is held out.
    pub(super) validation: Vec<usize>,
}

impl Split {
    /// Holds a part of the rows out: the same share of each class, at least one row and never all.
    pub(super) fn of(target: &Target, options: &Options) -> Result<Self, TrainError> {
        let rows = target.rows.len();
        if options.validation == 0.0 {
            let all = (0..rows).collect();
            return match rows {
                1 => Err(TrainError::table(
                    "expected 2 rows or more to learn from, got 1",
                )),
                _ => Ok(Self {
                    training: all,
                    validation: Vec::new(),
                }),
            };
        }
        if rows < MIN_ROWS {
            return Err(TrainError::table(format!(
                "expected {MIN_ROWS} rows or more to hold some out, got {rows}; give --validation 0 to \
                 learn from all of them"
            )));
        }
        let mut generator = StdRng::seed_from_u64(options.seed);
        let mut split = Self {
            training: Vec::new(),
            validation: Vec::new(),
        };
        for mut group in groups(target) {
            group.shuffle(&mut generator);
            let wanted = (group.len() as f64 * options.validation).round() as usize;
            // A class with one row has nothing to hold out.
            let held_out = wanted.max(1).min(group.len() - 1);
            split.validation.extend(&group[..held_out]);
            split.training.extend(&group[held_out..]);
        }
        // Else the rows would be grouped by class instead of in their original order.
        split.training.sort_unstable();
        split.validation.sort_unstable();
        Ok(split)
    }

    /// The rows by which the model is judged: those that it has not learned from, if there are any.
    pub(super) fn scored(&self) -> &[usize] {
        match self.validation.is_empty() {
            true => &self.training,
            false => &self.validation,
        }
    }
}

/// The rows of each class; of a regression all rows.
fn groups(target: &Target) -> Vec<Vec<usize>> {
    let rows = 0..target.rows.len();
    if target.goal == Goal::Regression {
        return vec![rows.collect()];
    }
    let mut groups = vec![Vec::new(); target.goal.labels().len()];
    for row in rows {
        groups[target.class(row)].push(row);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(goal: Goal, values: Vec<f32>) -> Target {
        Target {
            column: 0,
            goal,
            rows: (0..values.len()).collect(),
            values,
            said: Vec::new(),
        }
    }

    fn split(target: &Target, validation: f64, seed: u64) -> Split {
        let mut options = Options::new("t.csv".into(), "y", "models/m".into());
        options.validation = validation;
        options.seed = seed;
        Split::of(target, &options).unwrap()
    }

    /// 60 rows of class a, 10 of b, 3 of c, 1 of d.
    fn classes() -> Target {
        let mut values = vec![0.0; 60];
        values.extend([1.0; 10]);
        values.extend([2.0; 3]);
        values.push(3.0);
        let labels = ["a", "b", "c", "d"].map(String::from);
        target(Goal::Multiclass(labels.to_vec()), values)
    }

    #[test]
    fn each_class_is_held_out_in_the_same_part_and_never_whole() {
        let target = classes();
        for (part, expected) in [
            (0.2, [12, 2, 1, 0]),
            (0.01, [1, 1, 1, 0]),
            (0.9, [54, 9, 2, 0]),
        ] {
            let split = split(&target, part, 7);
            let mut held_out = [0; 4];
            for &row in &split.validation {
                held_out[target.class(row)] += 1;
            }
            assert_eq!(held_out, expected, "{part}");
        }
    }

    #[test]
    fn every_row_is_in_one_part_and_the_seed_says_in_which() {
        let target = target(Goal::Regression, (0..50).map(|row| row as f32).collect());
        let first = split(&target, 0.3, 1);
        assert_eq!((first.training.len(), first.validation.len()), (35, 15));
        let mut all = [&first.training[..], &first.validation].concat();
        all.sort_unstable();
        assert_eq!(all, target.rows);
        assert_eq!(first, split(&target, 0.3, 1));
        assert_ne!(first, split(&target, 0.3, 2));
        assert_eq!(first.scored(), first.validation);
        let none = split(&target, 0.0, 1);
        assert_eq!((none.training.len(), none.validation.len()), (50, 0));
        assert_eq!(none.scored(), none.training);
    }
}
