//! How good answers are.

use super::split::Split;
use super::target::{Goal, Target, mean_and_deviation};

/// The quantiles of residuals that are reported.
pub(super) const QUANTILES: [f64; 7] = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];

/// The most pairs of answer and truth that are kept for a plot.
const MAX_PAIRS: usize = 2000;

/// How good a model's answers are.
#[derive(Clone, Debug, PartialEq)]
pub enum Score {
    /// Of classes.
    Classification(Classification),
    /// Of numbers.
    Regression(Regression),
}

/// How good classes are.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// The share of the rows that got the right class.
    pub accuracy: f64,
    /// The accuracy of always answering the most frequent class of these rows.
    pub baseline: f64,
    /// The mean of minus the logarithm of the probability that the row's class was given.
    pub log_loss: f64,
    /// The part of all pairs of a row of class 1 and one of class 0 in which the former has the higher
    /// probability; of binary classifiers whose rows hold both.
    pub auc: Option<f64>,
    /// How often rows of a class (first index) were given a class (second).
    pub confusion: Vec<Vec<usize>>,
}

/// How good numbers are.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// 1 less the mean squared error in units of the target's variance; `None` if these rows' targets
    /// are all the same.
    pub r2: Option<f64>,
    /// The root of the mean squared error.
    pub rmse: f64,
    /// The mean absolute error.
    pub mae: f64,
    /// The root of the mean squared error of always answering the mean of these rows.
    pub baseline: f64,
    /// Of the answers less the truth: the least, the 5th, 25th, 50th, 75th and 95th percentile, the greatest.
    pub residuals: [f64; 7],
    /// The truth and the answer of some rows, spread over all of them.
    pub pairs: Vec<(f32, f32)>,
}

impl Score {
    /// Judges the answers to some rows; `answers` holds those to all rows.
    pub(super) fn of(target: &Target, answers: &[f32], rows: &[usize]) -> Self {
        match &target.goal {
            Goal::Regression => Self::Regression(regression(&target.values, answers, rows)),
            goal => {
                let classes = goal.labels().len();
                let outputs = goal.outputs();
                let scores = |row: usize| -> Vec<f32> {
                    match answers[row * outputs..][..outputs] {
                        [probability] => vec![1.0 - probability, probability],
                        ref scores => scores.to_vec(),
                    }
                };
                Self::Classification(classification(target, scores, rows, classes))
            }
        }
    }

    /// The accuracy or R², and its name.
    #[must_use]
    pub fn main(&self) -> (&'static str, f64) {
        match self {
            Self::Classification(score) => ("accuracy", score.accuracy),
            Self::Regression(score) => ("R²", score.r2.unwrap_or(0.0)),
        }
    }
}

/// The index of the highest score, the first among equals.
pub(super) fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

fn classification(
    target: &Target,
    scores: impl Fn(usize) -> Vec<f32>,
    rows: &[usize],
    classes: usize,
) -> Classification {
    // A probability that was rounded to 0 counts as the smallest positive one.
    let logarithm = |probability: f32| f64::from(probability.max(f32::MIN_POSITIVE)).ln();
    let mut confusion = vec![vec![0; classes]; classes];
    let mut log_loss = 0.0;
    let mut of_class_1 = Vec::new();
    for &row in rows {
        let scores = scores(row);
        let class = target.class(row);
        confusion[class][highest(&scores)] += 1;
        log_loss -= logarithm(scores[class]);
        of_class_1.push((scores[1], class == 1));
    }
    let count = rows.len() as f64;
    let right: usize = (0..classes).map(|class| confusion[class][class]).sum();
    let largest = confusion
        .iter()
        .map(|given| given.iter().sum::<usize>())
        .max();
    Classification {
        accuracy: right as f64 / count,
        baseline: largest.unwrap_or(0) as f64 / count,
        log_loss: log_loss / count,
        auc: if classes == 2 { auc(of_class_1) } else { None },
        confusion,
    }
}

/// The area under the ROC curve, from the ranks of the scores (Mann and Whitney 1947); equal scores
/// share the mean of their ranks.
fn auc(mut scores: Vec<(f32, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scores
        .iter()
        .filter(|(_, is_positive)| *is_positive)
        .count() as f64;
    let negatives = scores.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut ranks = 0.0;
    let mut first = 0;
    for equal in scores.chunk_by(|a, b| a.0 == b.0) {
        let rank = first as f64 + (equal.len() + 1) as f64 / 2.0;
        ranks += rank * equal.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        first += equal.len();
    }
    Some((ranks - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

fn regression(truth: &[f32], answers: &[f32], rows: &[usize]) -> Regression {
    let count = rows.len() as f64;
    let mut residuals: Vec<f64> = rows
        .iter()
        .map(|&row| f64::from(answers[row]) - f64::from(truth[row]))
        .collect();
    residuals.sort_by(f64::total_cmp);
    let mse = residuals
        .iter()
        .map(|residual| residual.powi(2))
        .sum::<f64>()
        / count;
    let (_, deviation) = mean_and_deviation(truth, rows);
    let every = rows.len().div_ceil(MAX_PAIRS).max(1);
    let pairs = rows.iter().step_by(every);
    Regression {
        r2: (deviation > 0.0).then(|| 1.0 - mse / deviation.powi(2)),
        rmse: mse.sqrt(),
        mae: residuals.iter().map(|residual| residual.abs()).sum::<f64>() / count,
        baseline: deviation,
        residuals: QUANTILES.map(|quantile| at(&residuals, quantile)),
        pairs: pairs.map(|&row| (truth[row], answers[row])).collect(),
    }
}

/// A quantile of sorted numbers, on the line between the two that are next to it.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    let place = quantile * (sorted.len() - 1) as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
}

/// How many rows of each class were learned from and held out; empty for a regression.
pub(super) fn balance(target: &Target, split: &Split) -> Vec<[usize; 2]> {
    let mut balance = vec![[0; 2]; target.goal.labels().len()];
    if !balance.is_empty() {
        for (part, rows) in [&split.training, &split.validation].into_iter().enumerate() {
            for &row in rows {
                balance[target.class(row)][part] += 1;
            }
        }
    }
    balance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(goal: Goal, values: &[f32]) -> Target {
        Target {
            column: 0,
            goal,
            rows: (0..values.len()).collect(),
            values: values.to_vec(),
            said: Vec::new(),
        }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }

    #[test]
    fn binary_scores_are_those_computed_by_hand() {
        let goal = Goal::Binary(["no".into(), "yes".into()]);
        let target = target(goal, &[0.0, 0.0, 1.0, 1.0, 1.0]);
        let answers = [0.2, 0.6, 0.5, 0.75, 0.6];
        let Score::Classification(score) = Score::of(&target, &answers, &[0, 1, 2, 3, 4]) else {
            panic!("classes");
        };
        // 0.5 is not over the threshold.
        assert_eq!(score.confusion, [[1, 1], [1, 2]]);
        close(score.accuracy, 0.6);
        close(score.baseline, 0.6);
        let expected =
            -(0.8f64.ln() + 0.4f64.ln() + 0.5f64.ln() + 0.75f64.ln() + 0.6f64.ln()) / 5.0;
        close(score.log_loss, expected);
        // Of 6 pairs 4 are in order, one is even: (0.2: 3) + (0.6: 0.75 over it, 0.6 even).
        close(score.auc.unwrap(), 4.5 / 6.0);
        // With one class there are no pairs.
        let Score::Classification(score) = Score::of(&target, &answers, &[2, 3]) else {
            panic!("classes");
        };
        assert_eq!(score.auc, None);
    }

    #[test]
    fn multiclass_scores_are_those_computed_by_hand() {
        let goal = Goal::Multiclass(vec!["a".into(), "b".into(), "c".into()]);
        let target = target(goal, &[0.0, 1.0, 2.0]);
        let answers = [0.5, 0.3, 0.2, 0.4, 0.4, 0.2, 0.0, 1.0, 0.0];
        let Score::Classification(score) = Score::of(&target, &answers, &[0, 1, 2]) else {
            panic!("classes");
        };
        assert_eq!(score.confusion, [[1, 0, 0], [1, 0, 0], [0, 1, 0]]);
        close(score.accuracy, 1.0 / 3.0);
        // The last row's class was given no probability at all.
        let smallest = f64::from(f32::MIN_POSITIVE).ln();
        close(
            score.log_loss,
            -(0.5f64.ln() + 0.4f64.ln() + smallest) / 3.0,
        );
        assert_eq!(score.auc, None);
    }

    #[test]
    fn scores_of_numbers_are_those_computed_by_hand() {
        let target = target(Goal::Regression, &[1.0, 2.0, 3.0, 6.0]);
        let Score::Regression(score) = Score::of(&target, &[2.0, 2.0, 2.0, 8.0], &[0, 1, 2, 3])
        else {
            panic!("numbers");
        };
        // Residuals 1, 0, -1, 2; the truth has mean 3 and variance 14 / 4.
        close(score.rmse, 1.5f64.sqrt());
        close(score.mae, 1.0);
        close(score.baseline, 3.5f64.sqrt());
        close(score.r2.unwrap(), 1.0 - 1.5 / 3.5);
        assert_eq!(
            score.residuals,
            [-1.0, -0.85, -0.25, 0.5, 1.25, 1.85, 2.0].map(rounded)
        );
        assert_eq!(
            score.pairs,
            [(1.0, 2.0), (2.0, 2.0), (3.0, 2.0), (6.0, 8.0)]
        );
    }

    /// What the line between two quantiles gives in binary.
    fn rounded(value: f64) -> f64 {
        match value {
            -0.85 => -1.0 + 3.0 * 0.05,
            1.85 => 1.0 + (3.0 * 0.95 - 2.0),
            value => value,
        }
    }

    #[test]
    fn targets_that_are_all_the_same_have_no_r2() {
        let target = target(Goal::Regression, &[1.0, 1.0, 2.0]);
        let Score::Regression(score) = Score::of(&target, &[1.0, 2.0, 2.0], &[0, 1]) else {
            panic!("numbers");
        };
        assert_eq!(score.r2, None);
        close(score.mae, 0.5);
    }
}
