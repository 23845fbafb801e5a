//! Rows of numbers, and what training learned of each column: its mean, its deviation, its categories.

use ndarray::Array2;
use serde_json::{Map, Value, json};

use super::error::TrainError;
use super::inputs::Input;
use super::number::number;
use super::split::Split;
use super::table::Table;
use super::target::Target;
use crate::model::{Column, ColumnKind};

/// Every row that has a target, as a served model gets it.
#[derive(Debug)]
pub(super) struct Features {
    pub(super) columns: Vec<LearnedColumn>,
    /// One a feature.
    pub(super) names: Vec<String>,
    /// What is subtracted from each feature, and what the difference is divided by.
    pub(super) mean: Vec<f32>,
    pub(super) scale: Vec<f32>,
    /// Row by row, as the model's clients send them.
    pub(super) values: Vec<f32>,
}

/// A column, with what training learned of it.
#[derive(Debug)]
pub(super) struct LearnedColumn {
    /// Its place in the table.
    pub(super) place: usize,
    pub(super) column: Column,
    pub(super) statistics: Statistics,
}

/// What the training rows hold in a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Statistics {
    /// Of the numbers that are there.
    Number {
        /// How many there are.
        count: usize,
        /// How many are missing.
        missing: usize,
        /// Their mean.
        mean: f32,
        /// Their deviation from it, that of the population.
        std: f32,
        /// The smallest.
        min: f32,
        /// The largest.
        max: f32,
    },
    /// Of the categories.
    Categories {
        /// How many cells are missing.
        missing: usize,
        /// How often each category occurs; the first may be that of missing cells.
        counts: Vec<usize>,
    },
}

impl Features {
    /// Encodes the rows. The replacements for missing numbers and the scales come from the training rows
    /// alone.
    pub(super) fn encode(
        table: &Table,
        inputs: &[Input],
        target: &Target,
        split: &Split,
    ) -> Result<Self, TrainError> {
        let known = |input: &Input| LearnedColumn::learn(table, input, target, split);
        let columns: Vec<LearnedColumn> = inputs.iter().map(known).collect::<Result<_, _>>()?;
        let mut features = Self {
            names: columns
                .iter()
                .flat_map(LearnedColumn::feature_names)
                .collect(),
            mean: Vec::new(),
            scale: Vec::new(),
            values: Vec::with_capacity(target.rows.len() * columns.len()),
            columns,
        };
        for known in &features.columns {
            let (mean, scale) = known.normalisation();
            features.mean.extend(mean);
            features.scale.extend(scale);
        }
        for &row in &target.rows {
            for known in &features.columns {
                let text = &table.columns[known.place];
                let encoded = known.column.encode(text.cell(row), &mut features.values);
                encoded.map_err(|error| {
                    TrainError::cell(table.line(row), &text.name, error.to_string())
                })?;
            }
        }
        Ok(features)
    }

    /// How many features a row has.
    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// One row, as clients send it.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width()..][..self.width()]
    }

    /// Rows as the first layer gets them, `[rows, features]`: without their mean, in units of their deviation.
    pub(super) fn standardised(&self, rows: &[usize]) -> Array2<f32> {
        let mut standardised = Vec::with_capacity(rows.len() * self.width());
        for &row in rows {
            let scaled = self.row(row).iter().zip(&self.mean).zip(&self.scale);
            standardised.extend(scaled.map(|((value, mean), scale)| (value - mean) / scale));
        }
        let shape = (rows.len(), self.width());
        Array2::from_shape_vec(shape, standardised).expect("each row has all features")
    }

    /// Whether each feature differs between rows to learn from.
    pub(super) fn vary(&self, training: &[usize]) -> Vec<bool> {
        let mut vary = vec![false; self.width()];
        if let Some((first, rest)) = training.split_first() {
            for &row in rest {
                let pairs = self.row(row).iter().zip(self.row(*first));
                for (varies, (value, first)) in vary.iter_mut().zip(pairs) {
                    *varies |= value != first;
                }
            }
        }
        vary
    }

    /// The columns as a model's configuration describes them.
    pub(super) fn configuration(&self) -> Value {
        self.columns
            .iter()
            .map(LearnedColumn::configuration)
            .collect()
    }

    /// The columns and what training met in them, for the report.
    pub(super) fn described(&self) -> Vec<(String, ColumnKind, Statistics)> {
        let described = |known: &LearnedColumn| {
            let column = &known.column;
            (
                column.name.clone(),
                column.kind.clone(),
                known.statistics.clone(),
            )
        };
        self.columns.iter().map(described).collect()
    }
}

impl LearnedColumn {
    /// Learns a column from the training rows.
    fn learn(
        table: &Table,
        input: &Input,
        target: &Target,
        split: &Split,
    ) -> Result<Self, TrainError> {
        let text = &table.columns[input.column];
        let cells = split
            .training
            .iter()
            .map(|&row| (target.rows[row], text.cell(target.rows[row])));
        let (kind, statistics) = match &input.categories {
            Some(categories) => {
                let mut counts = vec![0; categories.len()];
                for (_, cell) in cells {
                    if let Some(known) = categories.iter().position(|category| category == cell) {
                        counts[known] += 1;
                    }
                }
                let is_missing = categories.first().is_some_and(String::is_empty);
                let missing = if is_missing { counts[0] } else { 0 };
                let statistics = Statistics::Categories { missing, counts };
                (ColumnKind::Categories(categories.clone()), statistics)
            }
            None => {
                let mut numbers = Vec::with_capacity(split.training.len());
                for (row, cell) in cells.filter(|(_, cell)| !cell.is_empty()) {
                    numbers.push(number(cell).map_err(|error| {
                        TrainError::cell(table.line(row), &text.name, error.to_string())
                    })?);
                }
                let missing = split.training.len() - numbers.len();
                let statistics = Statistics::of_numbers(&numbers, missing);
                let Statistics::Number { mean, .. } = statistics else {
                    unreachable!("statistics of numbers are those of a number")
                };
                (ColumnKind::Number { fill: Some(mean) }, statistics)
            }
        };
        let name = text.name.clone();
        Ok(Self {
            place: input.column,
            column: Column { name, kind },
            statistics,
        })
    }

    fn feature_names(&self) -> Vec<String> {
        let name = &self.column.name;
        match &self.column.kind {
            ColumnKind::Number { .. } => vec![name.clone()],
            ColumnKind::Categories(categories) => categories
                .iter()
                .map(|category| format!("{name}={category}"))
                .collect(),
        }
    }

    /// What is subtracted from the column's features, and what the difference is divided by.
    fn normalisation(&self) -> (Vec<f32>, Vec<f32>) {
        match &self.statistics {
            Statistics::Number { mean, std, .. } => {
                // For the network a constant column is zero, with any divisor.
                let scale = if *std > 0.0 { *std } else { 1.0 };
                (vec![*mean], vec![scale])
            }
            // 0 and 1 already have the right size, and a rare category would become huge. A category that every
            // row has would be a second bias: with its mean subtracted it is zero for the network.
            Statistics::Categories { counts, .. } => {
                let all: usize = counts.iter().sum();
                let mean = |count: &usize| if *count == all { 1.0 } else { 0.0 };
                (counts.iter().map(mean).collect(), vec![1.0; counts.len()])
            }
        }
    }

    fn configuration(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("name".into(), json!(self.column.name));
        match &self.column.kind {
            ColumnKind::Number { fill } => entry.insert("fill".into(), json!(fill.map(shortest))),
            ColumnKind::Categories(categories) => {
                entry.insert("categories".into(), json!(categories))
            }
        };
        entry.insert("statistics".into(), self.statistics.to_json());
        Value::Object(entry)
    }
}

impl Statistics {
    fn of_numbers(numbers: &[f32], missing: usize) -> Self {
        let all: Vec<usize> = (0..numbers.len()).collect();
        let (mean, std) = super::target::mean_and_deviation(numbers, &all);
        let or_zero = |value: Option<f32>| value.unwrap_or(0.0);
        Self::Number {
            count: numbers.len(),
            missing,
            mean: mean as f32,
            std: std as f32,
            min: or_zero(numbers.iter().copied().reduce(f32::min)),
            max: or_zero(numbers.iter().copied().reduce(f32::max)),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Number {
                count,
                missing,
                mean,
                std,
                min,
                max,
            } => json!({
                "count": count,
                "missing": missing,
                "mean": shortest(*mean),
                "std": shortest(*std),
                "min": shortest(*min),
                "max": shortest(*max),
            }),
            Self::Categories { missing, counts } => json!({
                "count": counts.iter().sum::<usize>() - missing, "missing": missing, "counts": counts
            }),
        }
    }
}

/// The shortest number that reads back as this one: 29.7, not 29.700000762939453.
pub(super) fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}
