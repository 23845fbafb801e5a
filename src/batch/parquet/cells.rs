//! The cells of a column.

use std::borrow::Cow;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::schema::types::Type;

/// What the cells of a column are, if they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Signed,
    Unsigned,
    /// Of 16, 32 or 64 bits.
    Float,
    Text,
}

impl Kind {
    /// The kind of a column; `None` if its cells are neither numbers nor text: bytes, dates, decimals,
    /// and nested types.
    ///
    /// Source: the specification's [logical types](https://github.com/apache/parquet-format/blob/master/LogicalTypes.md).
    pub(super) fn of(column: &Type) -> Option<Self> {
        let info = column.get_basic_info();
        if !column.is_primitive() || info.repetition() == Repetition::REPEATED {
            return None;
        }
        let logical = match info.logical_type_ref() {
            // All of its cells are null, whatever their physical type.
            Some(LogicalType::Unknown) => None,
            logical => logical,
        };
        match (column.get_physical_type(), logical, info.converted_type()) {
            (Physical::BOOLEAN, ..) => Some(Self::Boolean),
            (Physical::FLOAT | Physical::DOUBLE, ..) => Some(Self::Float),
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16), _) => Some(Self::Float),
            (Physical::INT32 | Physical::INT64, Some(LogicalType::Integer(integer)), _) => {
                match integer.is_signed {
                    true => Some(Self::Signed),
                    false => Some(Self::Unsigned),
                }
            }
            (Physical::INT32 | Physical::INT64, None, converted) => match converted {
                ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64 => Some(Self::Signed),
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64 => Some(Self::Unsigned),
                _ => None,
            },
            (Physical::BYTE_ARRAY, Some(LogicalType::String | LogicalType::Json), _)
            | (Physical::BYTE_ARRAY, None, ConvertedType::UTF8 | ConvertedType::JSON) => {
                Some(Self::Text)
            }
            _ => None,
        }
    }
}

/// Cells of one column, one a row; `None` is a null.
#[derive(Clone, Debug)]
pub(super) enum Cells {
    Booleans(Vec<Option<bool>>),
    Signed(Vec<Option<i64>>),
    Unsigned(Vec<Option<u64>>),
    Floats(Vec<Option<f32>>),
    Doubles(Vec<Option<f64>>),
    Texts(Vec<Option<ByteArray>>),
}

impl Cells {
    /// Reads the next cells of a column of this kind, as many as there are `rows`.
    ///
    /// # Errors
    /// If the column has fewer, or cannot be decoded.
    pub(super) fn read(
        column: &mut ColumnReader,
        kind: Kind,
        is_optional: bool,
        rows: usize,
    ) -> Result<Self, ParquetError> {
        let half = |cell: FixedLenByteArray| {
            let bytes = cell.data().try_into();
            bytes.map_or(f32::NAN, |bytes| half::f16::from_le_bytes(bytes).to_f32())
        };
        Ok(match (column, kind) {
            (ColumnReader::BoolColumnReader(column), _) => {
                Self::Booleans(read(column, is_optional, rows, |cell| cell)?)
            }
            (ColumnReader::Int32ColumnReader(column), Kind::Unsigned) => {
                Self::Unsigned(read(column, is_optional, rows, |cell| {
                    (cell as u32).into()
                })?)
            }
            (ColumnReader::Int32ColumnReader(column), _) => {
                Self::Signed(read(column, is_optional, rows, i64::from)?)
            }
            (ColumnReader::Int64ColumnReader(column), Kind::Unsigned) => {
                Self::Unsigned(read(column, is_optional, rows, |cell| cell as u64)?)
            }
            (ColumnReader::Int64ColumnReader(column), _) => {
                Self::Signed(read(column, is_optional, rows, |cell| cell)?)
            }
            (ColumnReader::FloatColumnReader(column), _) => {
                Self::Floats(read(column, is_optional, rows, |cell| cell)?)
            }
            (ColumnReader::DoubleColumnReader(column), _) => {
                Self::Doubles(read(column, is_optional, rows, |cell| cell)?)
            }
            (ColumnReader::FixedLenByteArrayColumnReader(column), _) => {
                Self::Floats(read(column, is_optional, rows, half)?)
            }
            (ColumnReader::ByteArrayColumnReader(column), _) => {
                Self::Texts(read(column, is_optional, rows, |cell| cell)?)
            }
            (ColumnReader::Int96ColumnReader(_), _) => unreachable!("a time has no kind"),
        })
    }

    /// The nearest `f32` to a number, 1 and 0 for true and false; `None` for a null and for text.
    pub(super) fn number(&self, row: usize) -> Option<f32> {
        match self {
            Self::Booleans(cells) => cells[row].map(|cell| f32::from(u8::from(cell))),
            Self::Signed(cells) => cells[row].map(|cell| cell as f32),
            Self::Unsigned(cells) => cells[row].map(|cell| cell as f32),
            Self::Floats(cells) => cells[row],
            Self::Doubles(cells) => cells[row].map(|cell| cell as f32),
            Self::Texts(_) => None,
        }
    }

    /// The text of a cell: for numbers the shortest that reads back, for a null none. Text in a file need
    /// not be UTF-8.
    pub(super) fn text(&self, row: usize) -> Cow<'_, [u8]> {
        let text = match self {
            Self::Booleans(cells) => cells[row].map(|cell| cell.to_string()),
            Self::Signed(cells) => cells[row].map(|cell| cell.to_string()),
            Self::Unsigned(cells) => cells[row].map(|cell| cell.to_string()),
            Self::Floats(cells) => cells[row].map(|cell| cell.to_string()),
            Self::Doubles(cells) => cells[row].map(|cell| cell.to_string()),
            Self::Texts(cells) => {
                return cells[row].as_ref().map_or(&[][..], ByteArray::data).into();
            }
        };
        text.unwrap_or_default().into_bytes().into()
    }
}

/// Reads the next cells of a column.
fn read<T: DataType, V>(
    column: &mut ColumnReaderImpl<T>,
    is_optional: bool,
    rows: usize,
    value: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let levels_wanted = is_optional.then_some(&mut levels);
    let (read, ..) = column.read_records(rows, levels_wanted, None, &mut values)?;
    if read != rows {
        return Err(ParquetError::General(format!(
            "a column ends {} rows before its row group",
            rows - read
        )));
    }
    let mut values = values.into_iter().map(value);
    Ok(match is_optional {
        // In a column that is not nested a value is present (1) or not (0).
        true => levels
            .iter()
            .map(|&level| if level > 0 { values.next() } else { None })
            .collect(),
        false => values.map(Some).collect(),
    })
}
