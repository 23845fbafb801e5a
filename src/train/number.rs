//! Cells that hold numbers.

use crate::model::{CellError, Column, ColumnKind};

/// Reads a number as a served model does.
pub(super) fn number(cell: &str) -> Result<f32, CellError> {
    let column = Column {
        name: String::new(),
        kind: ColumnKind::Number { fill: None },
    };
    let mut value = Vec::with_capacity(1);
    column.encode(cell, &mut value)?;
    Ok(value[0])
}
