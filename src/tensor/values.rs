//! The elements of a tensor, in the type that its datatype asks for.

use std::ops::Range;

use super::DataType;

/// The elements of a tensor, item after item, row-major.
///
/// Narrower types arrive in the one that holds all of their values: `FP16`, `BF16` and `FP32` in
/// `F32`; booleans and the integers in `I64`.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Single precision: what networks compute with.
    F32(Vec<f32>),
    /// Double precision: for preparing inputs and for ensembles of trees.
    F64(Vec<f64>),
    /// Integers: for look-ups.
    I64(Vec<i64>),
    /// Byte strings: texts, labels, pictures.
    Bytes(ByteStrings),
}

/// Byte strings, one after the other in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteStrings {
    bytes: Vec<u8>,
    /// Where each string starts, and where the last ends.
    bounds: Vec<usize>,
}

/// Borrowed elements of a tensor, item after item, row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Double precision.
    F64(&'a [f64]),
    /// Integers.
    I64(&'a [i64]),
    /// Byte strings.
    Bytes(ByteStringsView<'a>),
}

/// Some byte strings of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteStringsView<'a> {
    bytes: &'a [u8],
    bounds: &'a [usize],
}

impl Values {
    /// No elements, of the type that holds a tensor of this datatype.
    #[must_use]
    pub fn empty(datatype: DataType) -> Self {
        match datatype {
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => Self::F32(Vec::new()),
            DataType::Fp64 => Self::F64(Vec::new()),
            DataType::Bytes => Self::Bytes(ByteStrings::default()),
            DataType::Bool
            | DataType::Uint8
            | DataType::Uint16
            | DataType::Uint32
            | DataType::Uint64
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64 => Self::I64(Vec::new()),
        }
    }

    /// As many zeros, or empty strings, of the type that holds a tensor of this datatype.
    #[must_use]
    pub fn zeros(datatype: DataType, len: usize) -> Self {
        let mut values = Self::empty(datatype);
        match &mut values {
            Self::F32(values) => values.resize(len, 0.0),
            Self::F64(values) => values.resize(len, 0.0),
            Self::I64(values) => values.resize(len, 0),
            Self::Bytes(strings) => strings.bounds.resize(len + 1, 0),
        }
        values
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        match self {
            Self::F32(values) => View::F32(values),
            Self::F64(values) => View::F64(values),
            Self::I64(values) => View::I64(values),
            Self::Bytes(strings) => View::Bytes(strings.view()),
        }
    }

    /// Removes all elements, and keeps their memory for the next.
    pub fn clear(&mut self) {
        match self {
            Self::F32(values) => values.clear(),
            Self::F64(values) => values.clear(),
            Self::I64(values) => values.clear(),
            Self::Bytes(strings) => strings.clear(),
        }
    }

    /// Whether these hold elements of the same type as `view`.
    #[must_use]
    pub fn holds(&self, view: View<'_>) -> bool {
        self.view().kind() == view.kind()
    }

    /// Adds the elements of `view`.
    ///
    /// # Panics
    /// If they are of another type.
    pub fn extend(&mut self, view: View<'_>) {
        match (self, view) {
            (Self::F32(values), View::F32(more)) => values.extend_from_slice(more),
            (Self::F64(values), View::F64(more)) => values.extend_from_slice(more),
            (Self::I64(values), View::I64(more)) => values.extend_from_slice(more),
            (Self::Bytes(strings), View::Bytes(more)) => strings.extend(more),
            (values, view) => panic!("{} cannot hold {}", values.view().kind(), view.kind()),
        }
    }

    /// The bytes that the elements take in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::F64(values) => size_of_val(values.as_slice()),
            Self::I64(values) => size_of_val(values.as_slice()),
            Self::Bytes(strings) => strings.bytes.len() + size_of_val(strings.bounds.as_slice()),
        }
    }
}

impl<'a> View<'a> {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::Bytes(strings) => strings.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the elements.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F64(values) => Self::F64(&values[range]),
            Self::I64(values) => Self::I64(&values[range]),
            Self::Bytes(strings) => Self::Bytes(strings.slice(range)),
        }
    }

    /// The elements of a tensor in single precision.
    ///
    /// # Panics
    /// If they are of another type: what decoded the tensor kept to its datatype.
    #[must_use]
    pub fn f32s(&self) -> &'a [f32] {
        match self {
            Self::F32(values) => values,
            other => panic!("expected f32 values, got {}", other.kind()),
        }
    }

    /// The elements of a tensor of integers.
    ///
    /// # Panics
    /// As [`View::f32s`].
    #[must_use]
    pub fn i64s(&self) -> &'a [i64] {
        match self {
            Self::I64(values) => values,
            other => panic!("expected i64 values, got {}", other.kind()),
        }
    }

    /// An empty owned list of the same type.
    #[must_use]
    pub fn to_empty(&self) -> Values {
        match self {
            Self::F32(_) => Values::F32(Vec::new()),
            Self::F64(_) => Values::F64(Vec::new()),
            Self::I64(_) => Values::I64(Vec::new()),
            Self::Bytes(_) => Values::Bytes(ByteStrings::default()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::I64(_) => "i64",
            Self::Bytes(_) => "byte strings",
        }
    }
}

impl Default for ByteStrings {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            bounds: vec![0],
        }
    }
}

impl ByteStrings {
    /// None yet, with room for so many strings of so many bytes together.
    #[must_use]
    pub fn with_capacity(strings: usize, bytes: usize) -> Self {
        let mut bounds = Vec::with_capacity(strings + 1);
        bounds.push(0);
        Self {
            bytes: Vec::with_capacity(bytes),
            bounds,
        }
    }

    /// Adds a string.
    pub fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bounds.push(self.bytes.len());
    }

    /// All strings.
    #[must_use]
    pub fn view(&self) -> ByteStringsView<'_> {
        ByteStringsView {
            bytes: &self.bytes,
            bounds: &self.bounds,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bounds.truncate(1);
    }

    fn extend(&mut self, strings: ByteStringsView<'_>) {
        for string in strings.iter() {
            self.push(string);
        }
    }
}

impl<'a> ByteStringsView<'a> {
    /// The number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One string.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn get(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.bounds[index]..self.bounds[index + 1]]
    }

    /// The strings in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.len()).map(move |index| self.get(index))
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self {
            bytes: self.bytes,
            bounds: &self.bounds[range.start..=range.end],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(of: &[&str]) -> Values {
        let mut strings = ByteStrings::default();
        of.iter().for_each(|string| strings.push(string.as_bytes()));
        Values::Bytes(strings)
    }

    #[test]
    fn parts_of_each_type_are_joined_in_order() {
        let all = [
            Values::F32(vec![1.0, 2.0, 3.0]),
            Values::F64(vec![1.0, 2.0, 3.0]),
            Values::I64(vec![1, 2, (1 << 53) + 1]),
            strings(&["a", "", "\u{e4}bc"]),
        ];
        for values in all {
            let mut joined = values.view().to_empty();
            joined.extend(values.view().slice(0..1));
            joined.extend(values.view().slice(1..1));
            joined.extend(values.view().slice(1..3));
            assert_eq!(joined, values);
            joined.clear();
            assert!(joined.is_empty());
            joined.extend(values.view());
            assert_eq!(joined, values);
        }
    }

    #[test]
    fn each_datatype_has_zeros_of_its_type() {
        let types = [
            (DataType::Bool, Values::I64(vec![0, 0])),
            (DataType::Uint64, Values::I64(vec![0, 0])),
            (DataType::Bf16, Values::F32(vec![0.0, 0.0])),
            (DataType::Fp64, Values::F64(vec![0.0, 0.0])),
            (DataType::Bytes, strings(&["", ""])),
        ];
        for (datatype, zeros) in types {
            assert_eq!(Values::zeros(datatype, 2), zeros);
            assert_eq!(Values::zeros(datatype, 0), Values::empty(datatype));
        }
    }

    #[test]
    #[should_panic(expected = "f32 cannot hold i64")]
    fn values_of_another_type_are_not_taken_in() {
        Values::F32(vec![1.0]).extend(View::I64(&[1]));
    }

    #[test]
    fn memory_is_counted_by_element_and_byte() {
        assert_eq!(Values::F32(vec![0.0; 3]).bytes(), 12);
        assert_eq!(Values::I64(vec![0; 3]).bytes(), 24);
        assert_eq!(strings(&["ab", "c"]).bytes(), 3 + 3 * size_of::<usize>());
    }
}
