//! Protocol Buffers, read field by field from the bytes of a message.
//!
//! Messages that carry tensors are read so, and not into the types of `proto`: their numbers go into
//! the engine's buffers in one pass, and a message of two-byte fields cannot become a hundred times
//! its size in memory.
//!
//! Source: the encoding guide of Protocol Buffers.

use std::borrow::Cow;

use crate::http::error::{ApiError, ErrorCode};

/// A message that is being read.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Fields<'b>(&'b [u8]);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::http) enum Value<'b> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// A text, a message, or numbers without anything between.
    Bytes(&'b [u8]),
}

/// What is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Malformed;

impl From<Malformed> for ApiError {
    fn from(_: Malformed) -> Self {
        Self::invalid(
            ErrorCode::MalformedMessage,
            "the message: expected Protocol Buffers of the method's request, got bytes that are none; \
             send what a client generated from the protocol's files makes",
        )
    }
}

impl<'b> Fields<'b> {
    pub(in crate::http) fn of(message: &'b [u8]) -> Self {
        Self(message)
    }

    /// The number of the next field, if all of it is there.
    pub(in crate::http) fn number(mut self) -> Option<u64> {
        self.varint().ok().map(|key| key >> 3)
    }

    /// The number and the value of the next field; `None` at the end.
    pub(in crate::http) fn next(&mut self) -> Result<Option<(u64, Value<'b>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.array()?),
            // Groups, which no version 3 of the language has.
            _ => return Err(Malformed),
        };
        match key >> 3 {
            0 => Err(Malformed),
            number => Ok(Some((number, value))),
        }
    }

    /// The next number of numbers without anything between; `None` at the end.
    pub(in crate::http) fn next_varint(&mut self) -> Result<Option<u64>, Malformed> {
        match self.0.is_empty() {
            true => Ok(None),
            false => self.varint().map(Some),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A number of at most 64 bits, seven a byte, the lowest first.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                // Of the tenth byte one bit fits.
                return if index < 9 || byte <= 1 {
                    Ok(number)
                } else {
                    Err(Malformed)
                };
            }
        }
        Err(Malformed)
    }
}

impl<'b> Value<'b> {
    pub(in crate::http) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Malformed),
        }
    }

    pub(in crate::http) fn bytes(self) -> Result<&'b [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    pub(in crate::http) fn text(self) -> Result<&'b str, Malformed> {
        str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The fields of a message within a message.
    pub(in crate::http) fn fields(self) -> Result<Fields<'b>, Malformed> {
        self.bytes().map(Fields::of)
    }

    /// Reads whole numbers, one or many in a field; each is given to `add`.
    pub(in crate::http) fn integers<E: From<Malformed>>(
        self,
        mut add: impl FnMut(i64) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Bytes(packed) => {
                let mut packed = Fields::of(packed);
                while let Some(number) = packed.next_varint()? {
                    add(number.cast_signed())?;
                }
                Ok(())
            }
            one => add(one.number()?.cast_signed()),
        }
    }
}

/// The bytes of repeated numbers of `N` bytes each, little-endian as they come: without a copy if they
/// came in one field, as every client sends them.
#[derive(Clone, Debug)]
pub(in crate::http) struct Packed<'b, const N: usize> {
    bytes: Cow<'b, [u8]>,
    /// How many numbers came.
    found: usize,
    /// How many are kept: those that are too many are counted only.
    most: usize,
}

impl<'b, const N: usize> Packed<'b, N> {
    /// None yet, of which so many are kept.
    pub(in crate::http) fn at_most(most: usize) -> Self {
        Self {
            bytes: Cow::Borrowed(&[]),
            found: 0,
            most,
        }
    }

    /// Adds a field, with one number or with many.
    pub(in crate::http) fn add(&mut self, value: Value<'b>) -> Result<(), Malformed> {
        let is_first = self.found == 0;
        match value {
            Value::Bytes(packed) if packed.len().is_multiple_of(N) => {
                self.found += packed.len() / N;
                match is_first {
                    true => self.bytes = Cow::Borrowed(packed),
                    false => self.keep(packed),
                }
            }
            Value::Fixed32(one) if N == 4 => {
                self.found += 1;
                self.keep(&one);
            }
            Value::Fixed64(one) if N == 8 => {
                self.found += 1;
                self.keep(&one);
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.found <= self.most {
            self.bytes.to_mut().extend_from_slice(bytes);
        }
    }

    /// How many numbers came.
    pub(in crate::http) fn found(&self) -> usize {
        self.found
    }

    /// The bytes of the numbers that are kept.
    pub(in crate::http) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let mut fields = Fields::of(bytes);
        std::iter::from_fn(|| fields.next().transpose()).collect()
    }

    #[test]
    fn fields_are_read_as_the_guide_writes_them() {
        assert_eq!(all(&[0x08, 0x96, 0x01]), Ok(vec![(1, Value::Varint(150))]));
        assert_eq!(
            all(b"\x12\x07testing"),
            Ok(vec![(2, Value::Bytes(b"testing"))])
        );
        assert_eq!(all(&[]), Ok(vec![]));
        let most = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(all(&most), Ok(vec![(1, Value::Varint(u64::MAX))]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[0x08][..],                                       // a key alone
            &[0x12, 5, 1],                                     // longer than there is
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // a length without an end
            &[0x00, 1],                                        // field 0
            &[0x0b],                                           // a group
            &[0x0d, 0, 0],                                     // half of a number
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ], // 65 bits
        ] {
            assert_eq!(all(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn floats_are_the_same_in_one_field_and_in_many() {
        let one = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
        let mut packed = Packed::<4>::at_most(2);
        packed.add(Value::Bytes(&one)).unwrap();
        let mut apart = Packed::<4>::at_most(2);
        apart.add(Value::Fixed32(1.0f32.to_le_bytes())).unwrap();
        apart.add(Value::Bytes(&one[4..])).unwrap();
        assert_eq!(packed.bytes(), apart.bytes());
        assert_eq!(packed.bytes(), one);
        assert_eq!(packed.add(Value::Bytes(&one[1..])), Err(Malformed));
        // More than are wanted are counted.
        apart.add(Value::Bytes(&one)).unwrap();
        assert_eq!((apart.found(), apart.bytes()), (4, &one[..]));
        let mut doubles = Packed::<8>::at_most(1);
        assert_eq!((doubles.found(), doubles.bytes().len()), (0, 0));
        assert_eq!(doubles.add(Value::Fixed32([0; 4])), Err(Malformed));
    }
}
