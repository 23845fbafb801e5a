//! What is to be predicted: the task that the target's column calls for, and its values.

use std::collections::{BTreeMap, BTreeSet};

use super::error::TrainError;
use super::number::number;
use super::options::{Options, TaskName};
use super::table::{Table, TextColumn};
use crate::messages::excerpt;

/// Whole numbers of at most this many different values are taken for classes.
const MAX_GUESSED_CLASSES: usize = 20;

/// The most classes: more would be identifiers of rows.
const MAX_CLASSES: usize = 1000;

/// The most bytes of a label, as a model's configuration has it.
const MAX_LABEL_BYTES: usize = 256;

/// What is learned.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// One of two classes, by name.
    Binary([String; 2]),
    /// One of several classes, by name.
    Multiclass(Vec<String>),
    /// A number.
    Regression,
}

impl Goal {
    /// The classes' names; empty for a regression.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Binary(labels) => labels,
            Self::Multiclass(labels) => labels,
            Self::Regression => &[],
        }
    }

    /// The task's name in a model's configuration.
    #[must_use]
    pub fn task(&self) -> &'static str {
        match self {
            Self::Binary(_) => "binary-classification",
            Self::Multiclass(_) => "multiclass-classification",
            Self::Regression => "regression",
        }
    }

    /// How many numbers the network gives for a row.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Binary(_) | Self::Regression => 1,
            Self::Multiclass(labels) => labels.len(),
        }
    }
}

/// The target of the rows that have one.
#[derive(Debug)]
pub(super) struct Target {
    /// Its column in the table.
    pub(super) column: usize,
    pub(super) goal: Goal,
    /// The rows of the table that have a target; everything else counts rows by their place here.
    pub(super) rows: Vec<usize>,
    /// One a row: a class's index, or the number.
    pub(super) values: Vec<f32>,
    /// What was decided without being asked for.
    pub(super) said: Vec<String>,
}

impl Target {
    /// Reads the target's column and settles the task.
    pub(super) fn of(table: &Table, options: &Options) -> Result<Self, TrainError> {
        let column = table.column("--target", &options.target)?;
        let text = &table.columns[column];
        let has_target = |row: &usize| !text.cell(*row).is_empty();
        let rows: Vec<usize> = (0..table.rows()).filter(has_target).collect();
        let mut said = Vec::new();
        match (table.rows() - rows.len(), rows.len()) {
            (0, _) => {}
            (_, 0) => {
                return Err(TrainError::column(
                    &text.name,
                    "no row has a target; expected one in each row to learn from",
                ));
            }
            (without, _) => {
                let lines = (0..table.rows()).filter(|row| !has_target(row));
                let first: Vec<String> = lines
                    .take(5)
                    .map(|row| table.line(row).to_string())
                    .collect();
                let more = if without > first.len() { ", ..." } else { "" };
                said.push(format!(
                    "column {:?}: {} the target and {} left out: line {}{more}",
                    text.name,
                    match without {
                        1 => "1 row lacks".to_owned(),
                        many => format!("{many} rows lack"),
                    },
                    if without == 1 { "is" } else { "are" },
                    first.join(", ")
                ));
            }
        }
        let numbers = numbers(table, text, &rows);
        let task = match options.task {
            Some(task) => task,
            None => {
                let (task, why) = guess(text, &numbers, &rows);
                said.push(format!(
                    "column {:?}: {why}, so the task is {} (--task says otherwise)",
                    text.name,
                    name_of(task)
                ));
                task
            }
        };
        let (goal, values) = match task {
            TaskName::Regression => (Goal::Regression, regression(text, &rows, numbers)?),
            task => classes(table, text, &rows, numbers.ok(), task)?,
        };
        Ok(Self {
            column,
            goal,
            rows,
            values,
            said,
        })
    }

    /// The class of a row.
    pub(super) fn class(&self, row: usize) -> usize {
        self.values[row] as usize
    }

    /// The size of what the network answers: that of a probability, or of the target's spread.
    pub(super) fn scale(&self) -> f32 {
        match self.goal {
            Goal::Binary(_) | Goal::Multiclass(_) => 1.0,
            Goal::Regression => {
                let all: Vec<usize> = (0..self.values.len()).collect();
                mean_and_deviation(&self.values, &all).1 as f32
            }
        }
    }
}

/// The mean of some values, and their deviation from it (of the population).
pub(super) fn mean_and_deviation(values: &[f32], rows: &[usize]) -> (f64, f64) {
    let count = rows.len().max(1) as f64;
    let mean = rows.iter().map(|&row| f64::from(values[row])).sum::<f64>() / count;
    let squares = rows
        .iter()
        .map(|&row| (f64::from(values[row]) - mean).powi(2));
    (mean, (squares.sum::<f64>() / count).sqrt())
}

/// The task's name as `--task` has it.
pub(super) fn name_of(task: TaskName) -> &'static str {
    match task {
        TaskName::Binary => "binary-classification",
        TaskName::Multiclass => "multiclass-classification",
        TaskName::Regression => "regression",
    }
}

/// The numbers of a column, or the first row that has none and why.
fn numbers(table: &Table, text: &TextColumn, rows: &[usize]) -> Result<Vec<f32>, TrainError> {
    let number = |&row: &usize| {
        number(text.cell(row))
            .map_err(|error| TrainError::cell(table.line(row), &text.name, error.to_string()))
    };
    rows.iter().map(number).collect()
}

/// The task that a column calls for, and why.
fn guess(
    text: &TextColumn,
    numbers: &Result<Vec<f32>, TrainError>,
    rows: &[usize],
) -> (TaskName, String) {
    let by_classes = |classes: usize| match classes {
        0..=2 => TaskName::Binary,
        _ => TaskName::Multiclass,
    };
    let Ok(numbers) = numbers else {
        let texts: BTreeSet<&str> = rows.iter().map(|&row| text.cell(row)).collect();
        return (
            by_classes(texts.len()),
            format!("the target is {} different texts", texts.len()),
        );
    };
    let different: BTreeSet<u32> = numbers
        .iter()
        .map(|number| (number + 0.0).to_bits())
        .collect();
    let are_whole = numbers.iter().all(|number| number.fract() == 0.0);
    match different.len() {
        count if count <= 2 || are_whole && count <= MAX_GUESSED_CLASSES => (
            by_classes(count),
            format!("the target is {count} different numbers"),
        ),
        count if are_whole => (
            TaskName::Regression,
            format!("the target is {count} different whole numbers"),
        ),
        count => (
            TaskName::Regression,
            format!("the target is {count} different numbers, not all whole"),
        ),
    }
}

/// The numbers of a regression.
fn regression(
    text: &TextColumn,
    rows: &[usize],
    numbers: Result<Vec<f32>, TrainError>,
) -> Result<Vec<f32>, TrainError> {
    let numbers = numbers?;
    match numbers.iter().all(|number| *number == numbers[0]) {
        true => Err(constant(text, rows)),
        false => Ok(numbers),
    }
}

fn constant(text: &TextColumn, rows: &[usize]) -> TrainError {
    TrainError::column(
        &text.name,
        format!(
            "every row has the target {}; there is nothing to learn, expected two different values \
             or more",
            excerpt(text.cell(rows[0]), 40)
        ),
    )
}

/// The classes of a classification, in order: numbers by size, texts by letters.
fn classes(
    table: &Table,
    text: &TextColumn,
    rows: &[usize],
    numbers: Option<Vec<f32>>,
    task: TaskName,
) -> Result<(Goal, Vec<f32>), TrainError> {
    // Beyond these, numbers that differ are the same as 32-bit floats: such names stay text.
    let is_exact = |numbers: &Vec<f32>| numbers.iter().all(|number| number.abs() <= 16_777_216.0);
    let numbers = numbers.filter(is_exact);
    // 1, 1.0 and 01 are one class, and one whose name is 1.
    let names: Vec<String> = match &numbers {
        Some(numbers) => numbers
            .iter()
            .map(|number| (number + 0.0).to_string())
            .collect(),
        None => rows.iter().map(|&row| text.cell(row).to_owned()).collect(),
    };
    let mut labels: Vec<&String> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    if numbers.is_some() {
        let value = |label: &String| label.parse::<f32>().unwrap_or(0.0);
        labels.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
    let problem = |problem: String| Err(TrainError::column(&text.name, problem));
    match (labels.len(), task) {
        (1, _) => return Err(constant(text, rows)),
        (2, TaskName::Binary) | (2..=MAX_CLASSES, TaskName::Multiclass) => {}
        (count @ 3.., TaskName::Binary) => {
            return problem(format!(
                "binary-classification needs a target of 2 different values, got {count}; give \
                 --task multiclass-classification"
            ));
        }
        (count, _) => {
            return problem(format!(
                "expected a target of at most {MAX_CLASSES} classes, got {count}; {}",
                match numbers {
                    Some(_) => "give --task regression",
                    None => "is it a name of the row? join its classes, or choose another --target",
                }
            ));
        }
    }
    for (row, name) in rows.iter().zip(&names) {
        if name.len() > MAX_LABEL_BYTES || name.chars().any(char::is_control) {
            return Err(TrainError::cell(
                table.line(*row),
                &text.name,
                format!(
                    "expected a class's name of at most {MAX_LABEL_BYTES} bytes without control \
                     characters, got {}",
                    excerpt(name, 40)
                ),
            ));
        }
    }
    let index: BTreeMap<&str, usize> = labels
        .iter()
        .enumerate()
        .map(|(index, label)| (label.as_str(), index))
        .collect();
    let values = names
        .iter()
        .map(|name| index[name.as_str()] as f32)
        .collect();
    let labels: Vec<String> = labels.into_iter().cloned().collect();
    let goal = match (<[String; 2]>::try_from(labels.clone()), task) {
        (Ok(labels), TaskName::Binary) => Goal::Binary(labels),
        _ => Goal::Multiclass(labels),
    };
    Ok((goal, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Stop;

    fn target(cells: &[&str], task: Option<TaskName>) -> Target {
        let text = format!(
            "x,y\n{}",
            cells
                .iter()
                .map(|cell| format!("1,{cell}\n"))
                .collect::<String>()
        );
        let options = Options {
            task,
            ..Options::new("t.csv".into(), "y", "models/m".into())
        };
        let table = Table::parse(text.as_bytes(), &options, &|| Stop::No).unwrap();
        Target::of(&table, &options).unwrap()
    }

    #[test]
    fn the_task_is_told_by_the_values() {
        let many: Vec<String> = (0..21).map(|value| value.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (cells, task) in [
            (&["b", "a", "b"][..], "binary-classification"),
            (&["0", "1"], "binary-classification"),
            (&["0.5", "1.5"], "binary-classification"),
            (&["a", "b", "1"], "multiclass-classification"),
            (&["3", "1", "2"], "multiclass-classification"),
            (&many[..20], "multiclass-classification"),
            (&many, "regression"),
            (&["0.5", "1", "2"], "regression"),
        ] {
            let target = target(cells, None);
            assert_eq!(target.goal.task(), task, "{cells:?}");
            assert!(target.said[0].contains(task), "{:?}", target.said);
        }
    }

    #[test]
    fn classes_are_in_order_and_a_number_is_one_class_in_any_notation() {
        let numbers = target(&["10", "2", "2.0", "-0", "0", "1e1"], None);
        assert_eq!(numbers.goal.labels(), ["0", "2", "10"]);
        assert_eq!(numbers.values, [2.0, 1.0, 1.0, 0.0, 0.0, 2.0]);
        let texts = target(&["no", "yes", "no"], None);
        assert_eq!(texts.goal, Goal::Binary(["no".into(), "yes".into()]));
        assert_eq!(texts.values, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_task_that_is_asked_for_is_not_guessed() {
        let target = target(&["1", "2", "3"], Some(TaskName::Regression));
        assert_eq!((target.goal, target.said), (Goal::Regression, Vec::new()));
    }

    #[test]
    fn rows_without_a_target_are_left_out_and_told() {
        let target = target(&["a", "", "b", "", "a"], None);
        assert_eq!(target.rows, [0, 2, 4]);
        assert_eq!(
            target.said[0],
            "column \"y\": 2 rows lack the target and are left out: line 3, 5"
        );
    }
}
