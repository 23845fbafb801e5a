//! The columns that a model reads, found among those of a file.

use super::error::BatchError;
use crate::csv;
use crate::messages::{excerpt, nearest};
use crate::model::{Column, ColumnKind, Signature};
use crate::tensor::TensorSpec;

/// What is read of each row.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The columns of the model's single input; none if it has several inputs.
    pub(super) columns: Vec<Column>,
    /// The first feature of each column.
    pub(super) offsets: Vec<usize>,
    /// The features of all columns.
    pub(super) features: usize,
    /// Whether the model names its columns; without names they are counted.
    pub(super) is_named: bool,
    /// Whether the model says what is missing and what is a category.
    pub(super) has_columns: bool,
    pub(super) allow_non_finite: bool,
    /// The columns that are carried along.
    pub(super) keep: Vec<String>,
    pub(super) inputs: Vec<TensorSpec>,
}

impl Table {
    pub(super) fn new(signature: &Signature, keep: &[String]) -> Self {
        let columns = match (&*signature.inputs, &signature.columns) {
            (_, Some(columns)) => columns.columns().to_vec(),
            ([spec], None) => (0..spec.shape.elements())
                .map(|index| Column {
                    name: match signature.feature_names.get(index) {
                        Some(name) => name.clone(),
                        None => format!("{}[{index}]", spec.name),
                    },
                    kind: ColumnKind::Number { fill: None },
                })
                .collect(),
            (_, None) => Vec::new(),
        };
        let mut features = 0;
        let offsets = columns.iter().map(|column| {
            features += column.features();
            features - column.features()
        });
        Self {
            offsets: offsets.collect(),
            features,
            columns,
            is_named: !signature.feature_names.is_empty(),
            has_columns: signature.columns.is_some(),
            allow_non_finite: signature.allow_non_finite,
            keep: keep.to_vec(),
            inputs: signature.inputs.clone(),
        }
    }

    /// Appends the features of a column's cell.
    ///
    /// # Errors
    /// The code and the words.
    pub(super) fn encode(
        &self,
        column: usize,
        cell: &[u8],
        into: &mut Vec<f32>,
    ) -> Result<(), (&'static str, String)> {
        let column = &self.columns[column];
        if let ColumnKind::Number { .. } = column.kind {
            match csv::number(cell, self.allow_non_finite) {
                Ok(value) => {
                    into.push(value);
                    return Ok(());
                }
                Err(fault) if !self.has_columns => return Err(fault.told(cell)),
                Err(_) => {}
            }
        }
        let encoded = column.encode(text(cell)?.trim(), into);
        encoded.map_err(|error| (error.code(), error.to_string()))
    }

    /// The index of the column with this name; fast if it is the one at `guess`.
    pub(super) fn column(&self, name: &str, guess: usize) -> Option<usize> {
        let is_it = |column: &Column| column.name == name;
        match self.columns.get(guess) {
            Some(column) if is_it(column) => Some(guess),
            _ => self.columns.iter().position(is_it),
        }
    }
}

/// The text of a cell.
///
/// # Errors
/// The code and the words, if it is not UTF-8.
pub(super) fn text(cell: &[u8]) -> Result<&str, (&'static str, String)> {
    std::str::from_utf8(cell).map_err(|_| {
        let shown = excerpt(&String::from_utf8_lossy(cell), 32);
        let message = format!("expected text in UTF-8, got {shown}; convert the file to UTF-8");
        ("not_utf8", message)
    })
}

/// The positions of the columns among the cells of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The cells of a record.
    pub(super) width: usize,
    /// The cell of each column of the model.
    pub(super) cells: Vec<usize>,
    /// The cell of each column that is carried along.
    pub(super) keep: Vec<usize>,
    /// The columns that no one reads.
    pub(super) unused: Vec<String>,
}

impl Layout {
    /// For a file without names: the model's columns in their order.
    ///
    /// # Errors
    /// If columns are to be kept, since only names can select them.
    pub(super) fn in_order(table: &Table) -> Result<Self, BatchError> {
        if let Some(name) = table.keep.first() {
            return Err(BatchError::refused(format!(
                "--keep: expected a file with names, got --no-header; give the file a header, or \
                 leave --keep {name} out"
            )));
        }
        let width = table.columns.len();
        Ok(Self {
            width,
            cells: (0..width).collect(),
            keep: Vec::new(),
            unused: Vec::new(),
        })
    }

    /// For a file whose columns have these names, in any order.
    ///
    /// # Errors
    /// If a column that the model reads or that is to be kept is missing or appears twice.
    pub(super) fn named(table: &Table, names: &[String]) -> Result<Self, BatchError> {
        let keep = table.keep.iter().map(|name| find(name, names));
        let keep: Vec<usize> = all_found(keep, names, "--keep")?;
        if !table.is_named {
            return Self::counted(table, names, keep);
        }
        let cells = table.columns.iter().map(|column| find(&column.name, names));
        let cells = all_found(cells, names, "the header")?;
        let is_used = |cell: &usize| cells.contains(cell) || keep.contains(cell);
        let unused = (0..names.len()).filter(|cell| !is_used(cell));
        Ok(Self {
            width: names.len(),
            unused: unused.map(|cell| names[cell].clone()).collect(),
            cells,
            keep,
        })
    }

    /// For a model that names no columns: all columns that are not kept, in their order.
    fn counted(table: &Table, names: &[String], keep: Vec<usize>) -> Result<Self, BatchError> {
        let cells: Vec<usize> = (0..names.len())
            .filter(|cell| !keep.contains(cell))
            .collect();
        if cells.len() != table.columns.len() {
            return Err(BatchError::refused(format!(
                "the header: expected {} columns apart from those that are kept, as the model names none \
                 and takes {}, got {}; take the others out, or name the model's in \"feature_names\"",
                table.columns.len(),
                table.inputs[0],
                cells.len()
            )));
        }
        Ok(Self {
            width: names.len(),
            cells,
            keep,
            unused: Vec::new(),
        })
    }

    /// Whether a record holds the model's columns and nothing else, all of them numbers.
    pub(super) fn is_plain(&self, table: &Table) -> bool {
        self.keep.is_empty()
            && self.width == table.columns.len()
            && self.width == table.features
            && table
                .columns
                .iter()
                .all(|column| matches!(column.kind, ColumnKind::Number { .. }))
    }
}

/// The cell with a name: none, one, or an error.
fn find<'a>(name: &'a str, names: &[String]) -> Result<usize, (&'a str, bool)> {
    let mut cells = names.iter().enumerate().filter(|(_, given)| *given == name);
    match (cells.next(), cells.next()) {
        (Some((cell, _)), None) => Ok(cell),
        (first, _) => Err((name, first.is_some())),
    }
}

/// All cells, or the error that names all that are missing or appear twice.
fn all_found<'a>(
    found: impl Iterator<Item = Result<usize, (&'a str, bool)>>,
    names: &[String],
    place: &str,
) -> Result<Vec<usize>, BatchError> {
    /// The most names in a message.
    const MAX_SHOWN: usize = 10;

    let (mut cells, mut missing, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    for cell in found {
        match cell {
            Ok(cell) => cells.push(cell),
            Err((name, true)) => twice.push(excerpt(name, 40)),
            Err((name, false)) => missing.push(name),
        }
    }
    if !twice.is_empty() {
        return Err(BatchError::refused(format!(
            "{place}: expected each column once, got {} twice; rename one",
            twice.join(", ")
        )));
    }
    if missing.is_empty() {
        return Ok(cells);
    }
    let told = missing.iter().take(MAX_SHOWN).map(|name| {
        match nearest(name, names.iter().map(|name| &**name)) {
            Some(near) => format!("{} (is it {}?)", excerpt(name, 40), excerpt(near, 40)),
            None => excerpt(name, 40),
        }
    });
    let told: Vec<String> = told.collect();
    let given = names
        .iter()
        .take(2 * MAX_SHOWN)
        .map(|name| excerpt(name, 40));
    let given: Vec<String> = given.collect();
    let more = |count: usize, shown: usize| match count.saturating_sub(shown) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(BatchError::refused(format!(
        "{place}: expected the columns {}{}, which the file does not have; it has {}{}; rename its \
         columns, or say --no-header if its first line is a row",
        told.join(", "),
        more(missing.len(), MAX_SHOWN),
        given.join(", "),
        more(names.len(), 2 * MAX_SHOWN)
    )))
}
