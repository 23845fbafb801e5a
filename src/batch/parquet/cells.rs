//! Single cells of Arrow's arrays.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

/// Whether cells of this type are numbers or text.
pub(super) fn is_read(datatype: &DataType) -> bool {
    match datatype {
        DataType::Dictionary(_, values) => is_read(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Boolean => true,
        datatype => datatype.is_integer() || datatype.is_floating(),
    }
}

/// The nearest `f32` of a number, 1 and 0 of true and false; `None` of a null and of text.
pub(super) fn number(array: &ArrayRef, row: usize) -> Option<f32> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row) as f32,
        DataType::Float16 => array.as_primitive::<Float16Type>().value(row).to_f32(),
        DataType::Boolean => f32::from(u8::from(array.as_boolean().value(row))),
        DataType::Dictionary(..) => {
            let array = array.as_any_dictionary();
            return number(array.values(), key(array.keys(), row)?);
        }
        datatype if datatype.is_integer() => integer(array, row)? as f32,
        _ => return None,
    })
}

/// The value of an integer of any size.
fn integer(array: &dyn Array, row: usize) -> Option<i128> {
    Some(match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        _ => return None,
    })
}

/// Which of a dictionary's values a row has.
fn key(keys: &dyn Array, row: usize) -> Option<usize> {
    usize::try_from(integer(keys, row)?).ok()
}

/// The text of a cell, of numbers the shortest that reads back; `None` of a null.
pub(super) fn text(array: &ArrayRef, row: usize) -> Option<Cow<'_, str>> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Boolean => match array.as_boolean().value(row) {
            true => "true".into(),
            false => "false".into(),
        },
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .value(row)
            .to_string()
            .into(),
        DataType::Dictionary(..) => {
            let array = array.as_any_dictionary();
            return text(array.values(), key(array.keys(), row)?);
        }
        datatype if datatype.is_integer() => integer(array, row)?.to_string().into(),
        _ => number(array, row)?.to_string().into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int8Type;
    use arrow_array::{
        BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray, UInt64Array,
    };

    use super::*;

    fn cell(array: impl Array + 'static, row: usize) -> (Option<f32>, Option<String>) {
        let array: ArrayRef = Arc::new(array);
        assert!(is_read(array.data_type()));
        (number(&array, row), text(&array, row).map(Cow::into_owned))
    }

    #[test]
    fn each_type_has_its_number_and_text() {
        let some = |number: f32, text: &str| (Some(number), Some(text.to_owned()));
        assert_eq!(cell(Int64Array::from(vec![-3]), 0), some(-3.0, "-3"));
        assert_eq!(
            cell(UInt64Array::from(vec![u64::MAX]), 0),
            some(1.844_674_4e19, "18446744073709551615")
        );
        assert_eq!(cell(Float64Array::from(vec![0.1]), 0), some(0.1, "0.1"));
        assert_eq!(cell(BooleanArray::from(vec![true]), 0), some(1.0, "true"));
        assert_eq!(
            cell(StringArray::from(vec!["x"]), 0),
            (None, Some("x".to_owned()))
        );
        let words: DictionaryArray<Int8Type> =
            vec![Some("a"), None, Some("b")].into_iter().collect();
        assert_eq!(cell(words.clone(), 2), (None, Some("b".to_owned())));
        assert_eq!(cell(words, 1), (None, None));
        assert_eq!(cell(Int64Array::from(vec![None]), 0), (None, None));
    }
}
