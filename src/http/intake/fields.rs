//! Values in fields of a message of Protocol Buffers.

use super::declared::Size;
use super::input::InputRows;
use crate::http::error::ApiError;
use crate::http::grpc::{Malformed, Packed, Value};
use crate::tensor::{DataType, Values};

/// The sort of field that has the values of a datatype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A repeated `float`.
    Singles,
    /// A repeated `double`.
    Doubles,
    /// Repeated integers, each the bits of a number of 16 bits.
    Halves,
    /// Repeated integers or truth values.
    Integers,
    /// A repeated `bytes`.
    Strings,
}

impl Kind {
    fn of(datatype: DataType) -> Self {
        match datatype {
            DataType::Fp32 => Self::Singles,
            DataType::Fp64 => Self::Doubles,
            DataType::Fp16 | DataType::Bf16 => Self::Halves,
            DataType::Bytes => Self::Strings,
            _ => Self::Integers,
        }
    }
}

impl InputRows<'_> {
    /// Reads the values of a tensor of this size from the fields that `next` gives, all of those that hold
    /// its datatype. `place` is where they are. Values that are too many are counted, and not kept.
    ///
    /// # Errors
    /// 400 if there are not as many, or if one is none of the datatype.
    pub(in crate::http) fn read_fields<'b>(
        &mut self,
        size: Size,
        allow_non_finite: bool,
        place: impl Fn() -> String,
        mut next: impl FnMut() -> Result<Option<Value<'b>>, ApiError>,
    ) -> Result<(), ApiError> {
        let most = size.values(self.spec);
        let mut found = 0;
        match (Kind::of(size.datatype), &mut self.values) {
            (Kind::Singles, _) => self.read_packed::<4>(size, allow_non_finite, place, next),
            (Kind::Doubles, _) => self.read_packed::<8>(size, allow_non_finite, place, next),
            (Kind::Halves, _) => {
                let mut halves: Vec<u8> = Vec::new();
                while let Some(value) = next()? {
                    value.integers(|half| {
                        found += 1;
                        if found <= most {
                            // What is above the 16 bits is padding.
                            halves.extend((half as u16).to_le_bytes());
                        }
                        Ok::<_, Malformed>(())
                    })?;
                }
                match found == most {
                    true => self.read_binary(size, &halves, allow_non_finite, place),
                    false => Err(self.wrong_count(size, found)),
                }
            }
            (Kind::Integers, Values::I64(values)) => {
                let start = values.len();
                while let Some(value) = next()? {
                    value.integers(|integer| {
                        found += 1;
                        if found <= most {
                            values.push(integer);
                        }
                        Ok::<_, Malformed>(())
                    })?;
                }
                self.end_counted(start, size, found)
            }
            (Kind::Strings, Values::Bytes(strings)) => {
                let start = strings.view().len();
                while let Some(value) = next()? {
                    found += 1;
                    if found <= most {
                        strings.push(value.bytes()?);
                    }
                }
                self.end_counted(start, size, found)
            }
            (Kind::Integers | Kind::Strings, _) => {
                unreachable!("`check` takes integers and strings for inputs of such only")
            }
        }
    }

    /// Reads numbers of `N` bytes each.
    fn read_packed<'b, const N: usize>(
        &mut self,
        size: Size,
        allow_non_finite: bool,
        place: impl Fn() -> String,
        mut next: impl FnMut() -> Result<Option<Value<'b>>, ApiError>,
    ) -> Result<(), ApiError> {
        let most = size.values(self.spec);
        let mut packed = Packed::<N>::at_most(most);
        while let Some(value) = next()? {
            packed.add(value)?;
        }
        match packed.found() == most {
            true => self.read_binary(size, packed.bytes(), allow_non_finite, place),
            false => Err(self.wrong_count(size, packed.found())),
        }
    }

    fn end_counted(&mut self, start: usize, size: Size, found: usize) -> Result<(), ApiError> {
        match found == size.values(self.spec) {
            true => self.end_declared(start, size),
            false => Err(self.wrong_count(size, found)),
        }
    }
}
