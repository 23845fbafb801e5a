//! Columns that harm a model: constant, duplicated, or leaking the target.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use super::features::{Features, LearnedColumn};
use super::split::Split;
use super::table::Table;
use super::target::{Goal, Target};
use crate::model::ColumnKind;

/// A column leaks if by itself it removes at least this share of the errors made without it.
const LEAK: f64 = 0.98;

/// The fewest rows on which a column is judged: on few, a harmless column may be right by chance.
const MIN_JUDGED_ROWS: usize = 10;

/// Two columns with at least this correlation are the same in another unit.
const SAME: f64 = 0.9999;

/// The most columns of numbers that are compared in pairs, and the most rows by which.
const MAX_COMPARED_COLUMNS: usize = 500;
const MAX_COMPARED_ROWS: usize = 1000;

/// A column that harms the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its name.
    pub column: String,
    /// How it harms the model.
    pub trouble: Trouble,
}

/// How a column harms the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// All rows learned from hold the same.
    Constant,
    /// It has the same information as another column.
    Duplicate {
        /// The other's name.
        of: String,
        /// Whether cell by cell, or in another unit.
        is_exact: bool,
    },
    /// By itself it predicts the target almost perfectly: it is probably known only afterwards.
    Leak {
        /// The accuracy or R² of the rows that are held out, by this column alone.
        score: f64,
        /// The accuracy or R² without any column.
        baseline: f64,
        /// `accuracy` or `R²`.
        measure: &'static str,
    },
    /// It counts the rows.
    Counts,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {:?} ", self.column)?;
        match &self.trouble {
            Trouble::Constant => f.write_str(
                "is constant in the rows learned from: it has no say in the answers, and need not be \
                 sent if --ignore leaves it out",
            ),
            Trouble::Duplicate { of, is_exact: true } => write!(
                f,
                "is a duplicate of column {of:?}: the same in each row; --ignore one of them"
            ),
            Trouble::Duplicate { of, is_exact: false } => write!(
                f,
                "is a duplicate of column {of:?} in another unit: their correlation is {SAME} or more; \
                 --ignore one of them"
            ),
            Trouble::Leak {
                score,
                baseline,
                measure,
            } => write!(
                f,
                "leaks the target: alone it reaches {measure} {score:.4} on the rows held out (without \
                 any column {baseline:.4}); if it is not known when the model is asked, --ignore it"
            ),
            Trouble::Counts => f.write_str(
                "counts the rows: a number of the row tells nothing of new ones; --ignore it",
            ),
        }
    }
}

/// Looks for columns that harm the model.
pub(super) fn find(
    table: &Table,
    features: &Features,
    target: &Target,
    split: &Split,
) -> Vec<Finding> {
    let vary = features.vary(&split.training);
    let starts = starts(features);
    let mut findings = Vec::new();
    let mut varying = Vec::new();
    for (known, &start) in features.columns.iter().zip(&starts) {
        let width = known.column.features();
        let finding = |trouble| Finding {
            column: known.column.name.clone(),
            trouble,
        };
        if !vary[start..start + width].contains(&true) {
            findings.push(finding(Trouble::Constant));
            continue;
        }
        varying.push((known, start));
        if counts(features, start, width) {
            findings.push(finding(Trouble::Counts));
        }
        if let Some(leak) = leak(features, target, split, start, width) {
            findings.push(finding(leak));
        }
    }
    findings.extend(duplicates(table, features, target, split, &varying));
    findings
}

/// Where the features of each column begin in a row.
fn starts(features: &Features) -> Vec<usize> {
    let mut next = 0;
    let widths = features.columns.iter().map(|known| known.column.features());
    widths
        .map(|width| {
            next += width;
            next - width
        })
        .collect()
}

/// Whether the numbers of a column go up by 1 from row to row.
fn counts(features: &Features, start: usize, width: usize) -> bool {
    let rows = features.values.len() / features.width();
    let value = |row: usize| features.row(row)[start];
    width == 1 && rows >= MIN_JUDGED_ROWS && (1..rows).all(|row| value(row) == value(row - 1) + 1.0)
}

/// Whether a column predicts the target by itself.
///
/// Each held-out row gets the target of the training rows with the nearest value: their most frequent
/// class, or their mean. That assumes no form of the relation, and noise makes it fail, as it should.
fn leak(
    features: &Features,
    target: &Target,
    split: &Split,
    start: usize,
    width: usize,
) -> Option<Trouble> {
    if split.validation.len() < MIN_JUDGED_ROWS {
        return None;
    }
    // For categories the index is the value: the nearest to one that training saw is itself.
    let value = |row: usize| {
        let cell = &features.row(row)[start..start + width];
        match cell {
            [number] => *number,
            categories => super::score::highest(categories) as f32,
        }
    };
    let mut sorted: Vec<(f32, usize)> = split
        .training
        .iter()
        .map(|&row| (value(row), row))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups: Vec<(f32, f64)> = sorted
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| (group[0].0, typical(target, group)))
        .collect();
    let answer = |value: f32| {
        let above = groups.partition_point(|group| group.0 < value);
        let next = [above.checked_sub(1), Some(above)].into_iter().flatten();
        let nearest = next.filter_map(|index| groups.get(index));
        let nearest = nearest.min_by(|a, b| (a.0 - value).abs().total_cmp(&(b.0 - value).abs()));
        nearest.map_or(0.0, |group| group.1)
    };
    let truth = |row: usize| f64::from(target.values[row]);
    let without = typical(target, &sorted);
    let rows = || split.validation.iter().copied();
    let is_class = target.goal != Goal::Regression;
    let error = |wanted: f64, given: f64| match is_class {
        true => f64::from(u8::from(wanted != given)),
        false => (wanted - given).powi(2),
    };
    let errors: f64 = rows()
        .map(|row| error(truth(row), answer(value(row))))
        .sum();
    let errors_without: f64 = rows().map(|row| error(truth(row), without)).sum();
    if errors_without == 0.0 || errors > (1.0 - LEAK) * errors_without {
        return None;
    }
    let count = split.validation.len() as f64;
    Some(match is_class {
        true => Trouble::Leak {
            score: 1.0 - errors / count,
            baseline: 1.0 - errors_without / count,
            measure: "accuracy",
        },
        false => Trouble::Leak {
            score: 1.0 - errors / errors_without,
            baseline: 0.0,
            measure: "R²",
        },
    })
}

/// The most frequent class of some rows, or their mean.
fn typical(target: &Target, rows: &[(f32, usize)]) -> f64 {
    let values = rows.iter().map(|&(_, row)| target.values[row]);
    if target.goal == Goal::Regression {
        return values.map(f64::from).sum::<f64>() / rows.len() as f64;
    }
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for class in values {
        *counts.entry(class as usize).or_insert(0) += 1;
    }
    // The first among equals.
    let most = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
    most.map_or(0.0, |(&class, _)| class as f64)
}

/// Columns with the same information as an earlier one.
fn duplicates(
    table: &Table,
    features: &Features,
    target: &Target,
    split: &Split,
    varying: &[(&LearnedColumn, usize)],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if target.rows.len() < MIN_JUDGED_ROWS {
        return findings;
    }
    let mut seen: BTreeMap<Cells, &str> = BTreeMap::new();
    let mut numbers: Vec<(&str, Vec<f64>)> = Vec::new();
    let every = split.training.len().div_ceil(MAX_COMPARED_ROWS).max(1);
    for &(known, start) in varying {
        let name = known.column.name.as_str();
        let duplicate = |of: &str, is_exact| Finding {
            column: name.to_owned(),
            trouble: Trouble::Duplicate {
                of: of.to_owned(),
                is_exact,
            },
        };
        match seen.entry(Cells::of(table, features, target, known, start)) {
            Entry::Occupied(same) => {
                findings.push(duplicate(same.get(), true));
                continue;
            }
            Entry::Vacant(place) => place.insert(name),
        };
        let is_number = matches!(known.column.kind, ColumnKind::Number { .. });
        if !is_number || numbers.len() == MAX_COMPARED_COLUMNS {
            continue;
        }
        let rows = split.training.iter().step_by(every);
        let Some(direction) = direction(rows.map(|&row| features.row(row)[start]).collect()) else {
            continue;
        };
        let cosine =
            |other: &[f64]| -> f64 { other.iter().zip(&direction).map(|(a, b)| a * b).sum() };
        match numbers
            .iter()
            .find(|(_, other)| cosine(other).abs() >= SAME)
        {
            Some((of, _)) => findings.push(duplicate(of, false)),
            None => numbers.push((name, direction)),
        }
    }
    findings
}

/// A key that two columns share if and only if they are equal in each row.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Cells {
    /// The numbers' bits.
    Numbers(Vec<u32>),
    /// For each row the first row with the same text: categories that are renamed one by one say the
    /// same.
    Categories(Vec<usize>),
}

impl Cells {
    fn of(
        table: &Table,
        features: &Features,
        target: &Target,
        known: &LearnedColumn,
        start: usize,
    ) -> Self {
        let rows = 0..target.rows.len();
        match known.column.kind {
            ColumnKind::Number { .. } => {
                Self::Numbers(rows.map(|row| features.row(row)[start].to_bits()).collect())
            }
            ColumnKind::Categories(_) => {
                let text = &table.columns[known.place];
                let mut first: BTreeMap<&str, usize> = BTreeMap::new();
                let first_of = |row| *first.entry(text.cell(target.rows[row])).or_insert(row);
                Self::Categories(rows.map(first_of).collect())
            }
        }
    }
}

/// Numbers without their mean and of length 1; `None` if they are all the same.
fn direction(values: Vec<f32>) -> Option<Vec<f64>> {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let mut direction: Vec<f64> = values
        .iter()
        .map(|&value| f64::from(value) - mean)
        .collect();
    let length = direction
        .iter()
        .map(|value| value.powi(2))
        .sum::<f64>()
        .sqrt();
    if length == 0.0 {
        return None;
    }
    direction.iter_mut().for_each(|value| *value /= length);
    Some(direction)
}
