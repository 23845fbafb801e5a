//! The columns of the table that a model was trained on, and how one of its rows becomes features.
//!
//! A number is one feature. A column of categories is one feature a category, 1 for the one that the
//! row holds and 0 for the others (one-hot). Code that reads rows knows text, nulls and numbers; what
//! they mean is decided here, for files and for requests alike.

use std::collections::HashSet;
use std::fmt;

use super::json::{Field, JsonError};
use super::names::{MAX_NAME_BYTES, is_name, not_a_name};
use crate::messages::{excerpt, nearest};

/// The columns of a model's table, in order: at least one, each of another name.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns(Vec<Column>);

/// One column of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, as the header of a table has it.
    pub name: String,
    /// What its cells hold.
    pub kind: ColumnKind,
}

/// What the cells of a column hold.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// Numbers.
    Number {
        /// The replacement for a missing number; without it a missing number is refused.
        fill: Option<f32>,
    },
    /// Names, in the order of their features; the empty one is that of a missing cell.
    Categories(Vec<String>),
}

impl Column {
    /// How many features a cell becomes.
    #[must_use]
    pub fn features(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { .. } => 1,
            ColumnKind::Categories(categories) => categories.len(),
        }
    }

    /// Appends the features of one cell. Blanks around its text are trimmed; an empty cell is missing.
    ///
    /// # Errors
    /// [`CellError`] if it is missing and may not be, no finite number, or a category that training
    /// did not see; `into` is then unchanged.
    pub fn encode(&self, cell: &str, into: &mut Vec<f32>) -> Result<(), CellError> {
        match &self.kind {
            ColumnKind::Number { fill } => into.push(number(cell, *fill)?),
            ColumnKind::Categories(categories) => {
                let known = categories.iter().position(|category| category == cell);
                let known = known.ok_or_else(|| CellError::unknown(cell, categories))?;
                let first = into.len();
                into.resize(first + categories.len(), 0.0);
                into[first + known] = 1.0;
            }
        }
        Ok(())
    }
}

/// The number of a trimmed cell.
fn number(cell: &str, fill: Option<f32>) -> Result<f32, CellError> {
    if cell.is_empty() {
        return fill.ok_or(CellError::Missing);
    }
    // "nan" and "inf" would be read too, which tables do not mean as numbers.
    let value: f32 = match cell.parse() {
        Ok(value) if !cell.ends_with(|last: char| last.is_ascii_alphabetic()) => value,
        _ => return Err(CellError::NoNumber { cell: shown(cell) }),
    };
    match value.is_finite() {
        true => Ok(value),
        false => Err(CellError::NotFinite { cell: shown(cell) }),
    }
}

fn shown(cell: &str) -> String {
    excerpt(cell, 32)
}

impl Columns {
    /// Reads the configuration's list.
    pub(super) fn take(field: Field) -> Result<Self, JsonError> {
        let place = field.clone();
        let columns = field.list()?.into_iter().map(column);
        let columns: Vec<Column> = columns.collect::<Result<_, _>>()?;
        if columns.is_empty() {
            return Err(place.error(
                "expected a column or more, got none; leave the key out if the model has no table",
            ));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = columns.iter().find(|column| !seen.insert(&*column.name)) {
            return Err(place.error(format!(
                "the column {:?} appears twice; each needs a name of its own",
                twice.name
            )));
        }
        let columns = Self(columns);
        let mut seen = HashSet::new();
        for name in columns.feature_names() {
            if !is_name(&name) {
                return Err(place.error(format!("a feature's name: {}", not_a_name(&name))));
            }
            if seen.contains(&name) {
                return Err(place.error(format!(
                    "two columns make a feature {name:?}; rename a column or a category"
                )));
            }
            seen.insert(name);
        }
        Ok(columns)
    }

    /// How many features a row becomes.
    #[must_use]
    pub fn features(&self) -> usize {
        self.0.iter().map(Column::features).sum()
    }

    /// The features' names, in order: a number's is that of its column, a category's is
    /// `column=category`.
    #[must_use]
    pub fn feature_names(&self) -> Vec<String> {
        let mut names = Vec::with_capacity(self.features());
        for Column { name, kind } in &self.0 {
            match kind {
                ColumnKind::Number { .. } => names.push(name.clone()),
                ColumnKind::Categories(categories) => {
                    let of = |category: &String| format!("{name}={category}");
                    names.extend(categories.iter().map(of));
                }
            }
        }
        names
    }

    /// The columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.0
    }

    /// Appends the features of one cell of this column, as [`Column::encode`] does.
    ///
    /// # Errors
    /// As [`Column::encode`].
    ///
    /// # Panics
    /// If there is no such column.
    pub fn encode(&self, column: usize, cell: &str, into: &mut Vec<f32>) -> Result<(), CellError> {
        self.0[column].encode(cell, into)
    }
}

/// One entry of the configuration's list.
fn column(field: Field) -> Result<Column, JsonError> {
    let place = field.clone();
    let mut fields = field.object()?;
    let name = fields.require("name")?;
    let name_place = name.clone();
    let name = name.string()?;
    if !is_name(&name) || name != name.trim() {
        return Err(name_place.error(not_a_name(&name) + ", and no blanks around them"));
    }
    let fill = fields.take("fill");
    let kind = match (fields.take("categories"), fill) {
        (Some(_), Some(fill)) => {
            return Err(fill.error(
                "only a column of numbers has a fill; a missing category is the category \"\"",
            ));
        }
        (Some(categories), None) => ColumnKind::Categories(self::categories(categories)?),
        (None, fill) => ColumnKind::Number {
            fill: fill.map(Field::single).transpose()?,
        },
    };
    if let Some(statistics) = fields.take("statistics") {
        check_statistics(statistics)?;
    }
    fields.finish()?;
    let column = Column { name, kind };
    match column.features() {
        0 => Err(place.error("expected a category or more, got none; take the column out")),
        _ => Ok(column),
    }
}

/// The names of a column's categories: each once, as cells are once they are trimmed.
fn categories(field: Field) -> Result<Vec<String>, JsonError> {
    let categories = field.clone().strings()?;
    let mut seen = HashSet::new();
    for category in &categories {
        let is_text = category.is_empty() || is_name(category) && category == category.trim();
        if !is_text {
            let shown: String = category.chars().take(40).collect();
            return Err(field.error(format!(
                "expected categories of at most {MAX_NAME_BYTES} bytes without control characters \
                 or blanks around them, got {shown:?}"
            )));
        }
        if !seen.insert(category) {
            return Err(field.error(format!("the category {category:?} appears twice")));
        }
    }
    Ok(categories)
}

/// Statistics of the training are for people; they only have to be numbers.
fn check_statistics(field: Field) -> Result<(), JsonError> {
    for (_, member) in field.object()?.into_rest() {
        if !member.is_list() {
            member.number()?;
            continue;
        }
        for entry in member.list()? {
            entry.number()?;
        }
    }
    Ok(())
}

/// Why a cell has no features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellError {
    /// It is missing, and the model has no replacement for it.
    Missing,
    /// It is no number.
    NoNumber {
        /// The cell, shown.
        cell: String,
    },
    /// It is no number that is finite in single precision.
    NotFinite {
        /// The cell, shown.
        cell: String,
    },
    /// It is not one of the column's categories.
    UnknownCategory {
        /// The cell, shown; of a missing one an empty text.
        cell: String,
        /// The category that may have been meant.
        nearest: Option<String>,
        /// The categories, shown; the first if there are many.
        known: String,
    },
}

impl CellError {
    #[cold]
    fn unknown(cell: &str, categories: &[String]) -> Self {
        Self::UnknownCategory {
            cell: shown(cell),
            nearest: nearest(cell, categories.iter().map(|known| &**known)).map(shown),
            known: listed(categories),
        }
    }

    /// What kind of fault it is, in a word: `missing_value`, `wrong_type`, `not_finite` or
    /// `unknown_category`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_value",
            Self::NoNumber { .. } => "wrong_type",
            Self::NotFinite { .. } => "not_finite",
            Self::UnknownCategory { .. } => "unknown_category",
        }
    }
}

/// Categories for a message: all of them, unless there are too many to read.
fn listed(categories: &[String]) -> String {
    const MAX_SHOWN: usize = 10;
    let known = categories.iter().take(MAX_SHOWN);
    let mut known = known.map(|known| shown(known)).collect::<Vec<_>>();
    if categories.len() > MAX_SHOWN {
        known.push(format!("{} more", categories.len() - MAX_SHOWN));
    }
    known.join(", ")
}

impl fmt::Display for CellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "expected a number, got an empty cell; the model met no missing values in this \
                 column, so give it one",
            ),
            Self::NoNumber { cell } => write!(
                f,
                "expected a number, got {cell}; write for example 0.5 or 1e-3, and leave missing \
                 values empty"
            ),
            Self::NotFinite { cell } => write!(
                f,
                "expected a number that is finite as FP32 (at most 3.4028235e38), got {cell}; \
                 replace it by another"
            ),
            Self::UnknownCategory {
                cell,
                nearest,
                known,
            } => {
                write!(f, "expected one of {known}, got {cell}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None if cell == "\"\"" => f.write_str(
                        "; the model met no missing values in this column, so give it one",
                    ),
                    None => f.write_str("; replace it by one that the model has met"),
                }
            }
        }
    }
}

impl std::error::Error for CellError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json;

    fn read(list: &str) -> Result<Columns, String> {
        let mut fields = json::parse(format!(r#"{{"columns": {list}}}"#).as_bytes()).unwrap();
        let columns = Columns::take(fields.require("columns").unwrap());
        columns.map_err(|error| error.to_string())
    }

    fn passengers() -> Columns {
        read(
            r#"[
              {"name": "age", "fill": 29.5, "statistics": {"count": 700, "mean": 29.5}},
              {"name": "fare"},
              {"name": "port", "categories": ["", "Cork", "Southampton"],
               "statistics": {"count": 714, "counts": [2, 300, 412]}},
              {"name": "sex", "categories": ["female", "male"]}
            ]"#,
        )
        .unwrap()
    }

    fn encoded(column: usize, cell: &str) -> Result<Vec<f32>, String> {
        let mut features = vec![7.0];
        match passengers().encode(column, cell, &mut features) {
            Ok(()) => Ok(features[1..].to_vec()),
            Err(error) => {
                assert_eq!(features, [7.0], "a refused cell leaves nothing");
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn columns_become_features_in_order() {
        let columns = passengers();
        assert_eq!(columns.features(), 7);
        assert_eq!(
            columns.feature_names(),
            [
                "age",
                "fare",
                "port=",
                "port=Cork",
                "port=Southampton",
                "sex=female",
                "sex=male"
            ]
        );
        assert_eq!(encoded(0, "-1.5e1"), Ok(vec![-15.0]));
        assert_eq!(encoded(2, "Cork"), Ok(vec![0.0, 1.0, 0.0]));
        assert_eq!(encoded(3, "male"), Ok(vec![0.0, 1.0]));
    }

    #[test]
    fn a_missing_cell_is_filled_or_a_category_or_refused() {
        assert_eq!(encoded(0, ""), Ok(vec![29.5]));
        assert_eq!(encoded(2, ""), Ok(vec![1.0, 0.0, 0.0]));
        assert_eq!(
            encoded(1, "").unwrap_err(),
            "expected a number, got an empty cell; the model met no missing values in this column, \
             so give it one"
        );
        assert_eq!(
            encoded(3, "").unwrap_err(),
            "expected one of \"female\", \"male\", got \"\"; the model met no missing values in \
             this column, so give it one"
        );
    }

    #[test]
    fn a_bad_cell_is_reported_with_what_was_expected_and_a_hint() {
        for cell in ["x", "nan", "NaN", "inf", "-Infinity", "1,5", "1 2", "0x10"] {
            let error = encoded(1, cell).unwrap_err();
            let expected = format!("expected a number, got {cell:?}; write for example 0.5");
            assert!(error.starts_with(&expected), "{error}");
        }
        assert!(
            encoded(1, "1e39")
                .unwrap_err()
                .starts_with("expected a number that is finite as FP32")
        );
        assert_eq!(
            encoded(3, "Femal").unwrap_err(),
            "expected one of \"female\", \"male\", got \"Femal\"; did you mean \"female\"?"
        );
        assert_eq!(
            encoded(3, "\u{1b}[2J").unwrap_err(),
            "expected one of \"female\", \"male\", got \"\\u{1b}[2J\"; replace it by one that the \
             model has met"
        );
    }

    #[test]
    fn of_many_categories_the_first_are_named() {
        let many: Vec<String> = (0..12).map(|index| format!("c{index}")).collect();
        let error = CellError::unknown("other", &many).to_string();
        assert!(error.contains("\"c9\", 2 more, got \"other\""), "{error}");
    }

    #[test]
    fn a_list_that_is_no_table_is_refused_with_its_place() {
        for (list, expected) in [
            ("[]", "columns: expected a column or more, got none"),
            ("7", "columns: expected a list, got 7"),
            ("[1]", "columns[0]: expected an object, got 1"),
            ("[{}]", "columns[0]: the key \"name\" is missing"),
            (
                r#"[{"name": 1}]"#,
                "columns[0].name: expected a string, got 1",
            ),
            (
                r#"[{"name": ""}]"#,
                "columns[0].name: expected names of 1 to 256 bytes",
            ),
            (
                r#"[{"name": " a"}]"#,
                "columns[0].name: expected names of 1 to 256 bytes",
            ),
            (
                r#"[{"name": "a", "mean": 1}]"#,
                "columns[0].mean: unknown key; expected one of: categories, fill, name, statistics",
            ),
            (
                r#"[{"name": "a"}, {"name": "a"}]"#,
                "columns: the column \"a\" appears twice",
            ),
            (
                r#"[{"name": "a", "fill": "x"}]"#,
                "columns[0].fill: expected a number in the range of 32-bit floats, got \"x\"",
            ),
            (
                r#"[{"name": "a", "fill": 1e39}]"#,
                "columns[0].fill: expected a number in the range of 32-bit floats, got 1e+39",
            ),
            (
                r#"[{"name": "a", "fill": 1, "categories": ["b"]}]"#,
                "columns[0].fill: only a column of numbers has a fill",
            ),
            (
                r#"[{"name": "a", "categories": []}]"#,
                "columns[0]: expected a category or more, got none",
            ),
            (
                r#"[{"name": "a", "categories": ["b", "b"]}]"#,
                "columns[0].categories: the category \"b\" appears twice",
            ),
            (
                r#"[{"name": "a", "categories": ["b "]}]"#,
                "columns[0].categories: expected categories of at most 256 bytes",
            ),
            (
                r#"[{"name": "a", "categories": [1]}]"#,
                "columns[0].categories[0]: expected a string, got 1",
            ),
            (
                r#"[{"name": "a", "categories": ["b=c"]}, {"name": "a=b", "categories": ["c"]}]"#,
                "columns: two columns make a feature \"a=b=c\"",
            ),
            (
                r#"[{"name": "a", "statistics": []}]"#,
                "columns[0].statistics: expected an object, got []",
            ),
            (
                r#"[{"name": "a", "statistics": {"mean": "1"}}]"#,
                "columns[0].statistics.mean: expected a number, got \"1\"",
            ),
            (
                r#"[{"name": "a", "statistics": {"counts": [1, true]}}]"#,
                "columns[0].statistics.counts[1]: expected a number, got true",
            ),
        ] {
            let error = read(list).unwrap_err();
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
        let long = "x".repeat(200);
        let error = read(&format!(
            r#"[{{"name": "{long}", "categories": ["{long}"]}}]"#
        ));
        let error = error.unwrap_err();
        assert!(
            error.starts_with("columns: a feature's name: expected"),
            "{error}"
        );
    }
}
