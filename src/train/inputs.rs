//! Which columns a network sees, and what their cells hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::error::TrainError;
use super::number::number;
use super::options::Options;
use super::table::{Table, TextColumn};
use super::target::Target;
use crate::messages::excerpt;

/// Text columns with more distinct values than this are not categories unless an option says so.
const MAX_GUESSED_CATEGORIES: usize = 50;

/// The most categories of a column that an option declares as categories.
const MAX_CATEGORIES: usize = 1000;

/// The most features of a row.
const MAX_FEATURES: usize = 20_000;

/// The most bytes of a feature's name, as a model's configuration has it.
const MAX_NAME_BYTES: usize = 256;

/// A column that the network sees.
#[derive(Debug)]
pub(super) struct Input {
    /// Its place in the table.
    pub(super) column: usize,
    /// The categories in order, the empty one first if cells are missing; `None` for numbers.
    pub(super) categories: Option<Vec<String>>,
}

/// A column that the network does not see.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {:?} is left out: {}", self.name, self.why)
    }
}

/// Settles what each column but the target's holds.
pub(super) fn choose(
    table: &Table,
    target: &Target,
    options: &Options,
) -> Result<(Vec<Input>, Vec<LeftOut>), TrainError> {
    let forced = named(table, target, "--categories", &options.categories)?;
    let ignored = named(table, target, "--ignore", &options.ignore)?;
    if let Some(&both) = forced.intersection(&ignored).next() {
        let name = &table.columns[both].name;
        let problem = format!("the column {name:?} is named by --categories too; name it once");
        return Err(TrainError::option("--ignore", problem));
    }
    let mut inputs = Vec::new();
    let mut left_out = Vec::new();
    for (column, text) in table.columns.iter().enumerate() {
        if column == target.column {
            continue;
        }
        let seen = match (ignored.contains(&column), forced.contains(&column)) {
            (true, _) => Contents::LeftOut("--ignore says so".to_owned()),
            (_, true) => forced_categories(text, target)?,
            _ => guess(table, text, target)?,
        };
        match seen {
            Contents::Numbers => inputs.push(Input {
                column,
                categories: None,
            }),
            Contents::Categories(categories) => inputs.push(Input {
                column,
                categories: Some(categories),
            }),
            Contents::LeftOut(why) => left_out.push(LeftOut {
                name: text.name.clone(),
                why,
            }),
        }
    }
    check_features(table, &inputs, &left_out)?;
    Ok((inputs, left_out))
}

/// What a column's cells hold.
enum Contents {
    Numbers,
    Categories(Vec<String>),
    LeftOut(String),
}

/// The columns that an option names; the target is refused.
fn named(
    table: &Table,
    target: &Target,
    flag: &'static str,
    names: &[String],
) -> Result<BTreeSet<usize>, TrainError> {
    let mut columns = BTreeSet::new();
    for name in names {
        let column = table.column(flag, name)?;
        if column == target.column {
            let problem = format!("the column {name:?} is the target; take it out here");
            return Err(TrainError::option(flag, problem));
        }
        columns.insert(column);
    }
    Ok(columns)
}

/// The different texts of a column and how often each occurs.
fn texts<'a>(text: &'a TextColumn, target: &Target) -> BTreeMap<&'a str, usize> {
    let mut texts = BTreeMap::new();
    for &row in &target.rows {
        *texts.entry(text.cell(row)).or_insert(0) += 1;
    }
    texts
}

fn forced_categories(text: &TextColumn, target: &Target) -> Result<Contents, TrainError> {
    let texts = texts(text, target);
    if texts.len() > MAX_CATEGORIES {
        return Err(TrainError::column(
            &text.name,
            format!(
                "expected at most {MAX_CATEGORIES} categories, got {}; leave it out by --ignore, or \
                 join some",
                texts.len()
            ),
        ));
    }
    categories(text, texts)
}

fn categories(text: &TextColumn, texts: BTreeMap<&str, usize>) -> Result<Contents, TrainError> {
    if texts.keys().all(|category| category.is_empty()) {
        return Ok(Contents::LeftOut("every cell is missing".to_owned()));
    }
    let fits = |category: &&str| {
        text.name.len() + 1 + category.len() <= MAX_NAME_BYTES
            && !category.chars().any(char::is_control)
    };
    if let Some(category) = texts.keys().find(|category| !fits(category)) {
        return Err(TrainError::column(
            &text.name,
            format!(
                "expected categories that with the column's name have at most {MAX_NAME_BYTES} bytes, \
                 without control characters, got {}; leave the column out by --ignore",
                excerpt(category, 40)
            ),
        ));
    }
    Ok(Contents::Categories(
        texts.keys().map(|&category| category.to_owned()).collect(),
    ))
}

/// Guesses from its cells what a column holds.
fn guess(table: &Table, text: &TextColumn, target: &Target) -> Result<Contents, TrainError> {
    let mut present = 0;
    let mut read = 0;
    let mut first_bad = None;
    for &row in &target.rows {
        let cell = text.cell(row);
        if cell.is_empty() {
            continue;
        }
        present += 1;
        match number(cell) {
            Ok(_) => read += 1,
            Err(error) => {
                first_bad.get_or_insert((row, error));
            }
        }
    }
    let Some((row, error)) = first_bad else {
        return Ok(match present {
            0 => Contents::LeftOut("every cell is missing".to_owned()),
            _ => Contents::Numbers,
        });
    };
    // A column of numbers with a mistake in it must not silently become one of categories.
    if read * 2 > present {
        return Err(TrainError::cell(
            table.line(row),
            &text.name,
            format!(
                "{error} ({read} of {present} cells are numbers); --missing {} takes it for a missing \
                 value, --categories {} takes all of them for categories",
                quoted(text.cell(row)),
                quoted(&text.name)
            ),
        ));
    }
    let texts = texts(text, target);
    let different = texts.len();
    // Nearly every row differs: a name, an identifier, free text.
    if different > MAX_GUESSED_CATEGORIES || different > 10 && different * 2 > present {
        return Ok(Contents::LeftOut(format!(
            "its {present} cells hold {different} different texts, as names of rows do; --categories \
             {} takes them for categories",
            quoted(&text.name)
        )));
    }
    categories(text, texts)
}

/// A text as a person would type it in a shell, for messages.
fn quoted(text: &str) -> String {
    let shown: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(40)
        .collect();
    match shown
        .chars()
        .all(|letter| letter.is_alphanumeric() || "_-.".contains(letter))
    {
        true => shown,
        false => format!("'{shown}'"),
    }
}

/// Refuses inputs that no model can have.
fn check_features(table: &Table, inputs: &[Input], left_out: &[LeftOut]) -> Result<(), TrainError> {
    if inputs.is_empty() {
        let reasons: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
        return Err(TrainError::table(match reasons.is_empty() {
            true => {
                "the target is the only column; expected one or more to predict it from".to_owned()
            }
            false => format!("no column is left to predict from: {}", reasons.join("; ")),
        }));
    }
    let mut names = BTreeSet::new();
    let mut features = 0;
    for input in inputs {
        let name = &table.columns[input.column].name;
        let made: Vec<String> = match &input.categories {
            None => vec![name.clone()],
            Some(categories) => categories
                .iter()
                .map(|category| format!("{name}={category}"))
                .collect(),
        };
        features += made.len();
        for feature in made {
            if names.contains(&feature) {
                return Err(TrainError::column(
                    name,
                    format!(
                        "two columns make a feature {feature:?}; rename a column or a category"
                    ),
                ));
            }
            names.insert(feature);
        }
    }
    match features <= MAX_FEATURES {
        true => Ok(()),
        false => Err(TrainError::table(format!(
            "expected at most {MAX_FEATURES} features, got {features}: one a column of numbers and one \
             a category; leave columns out by --ignore"
        ))),
    }
}
