//! Which rows are held out.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::error::TrainError;
use super::options::Options;
use super::target::{Goal, Target};

/// The fewest rows of which some can be held out.
const MIN_ROWS: usize = 10;

/// The rows to learn from and those that are held out, by their places in [`Target::rows`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) training: Vec<usize>,
    /// None if nothing is held out.
    pub(super) validation: Vec<usize>,
}

impl Split {
    /// Holds a part of the rows out: of each class the same part, at least one row and never all.
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
            // Of a class with one row there is nothing to hold out.
            let held_out = wanted.max(1).min(group.len() - 1);
            split.validation.extend(&group[..held_out]);
            split.training.extend(&group[held_out..]);
        }
        // Else the rows would come class by class, whatever order they stood in.
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
