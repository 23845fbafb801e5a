//! Numbers and strings in nested arrays, straight into one buffer.

use std::ops::Deref;

use super::number::read_run;
use super::reader::Reader;
use super::{Error, ErrorKind};

/// The most axes that nested arrays may have.
pub const MAX_RANK: usize = 16;

/// A buffer that takes the elements of nested arrays, all of one type.
pub trait Elements {
    /// What an element is, for messages.
    const NAME: &'static str;

    /// How many elements there are.
    fn count(&self) -> usize;

    /// Reads the element that starts right here.
    ///
    /// # Errors
    /// As of the reader's method for such elements.
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error>;

    /// Reads elements that have a comma after them from the start of `text`, up to the first that is
    /// not as they mostly come, at most `max`; returns the position after the last comma.
    fn read_run(&mut self, text: &[u8], max: usize) -> usize {
        let _ = (text, max);
        0
    }
}

impl Elements for Vec<f32> {
    const NAME: &'static str = "a number";

    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.push(reader.f32_here()?);
        Ok(())
    }

    #[inline]
    fn read_run(&mut self, text: &[u8], max: usize) -> usize {
        read_run(text, self, max)
    }
}

impl Elements for Vec<f64> {
    const NAME: &'static str = "a number";

    fn count(&self) -> usize {
        self.len()
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.push(reader.f64()?);
        Ok(())
    }
}

impl Elements for Vec<i64> {
    const NAME: &'static str = "an integer";

    fn count(&self) -> usize {
        self.len()
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.push(reader.i64()?);
        Ok(())
    }
}

/// Truth values, as 1 and 0.
#[derive(Debug)]
pub struct Bools<'a>(pub &'a mut Vec<i64>);

impl Elements for Bools<'_> {
    const NAME: &'static str = "true or false";

    fn count(&self) -> usize {
        self.0.len()
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.0.push(reader.bool()?.into());
        Ok(())
    }
}

/// The extents of nested arrays, outermost first; a bare number has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    rank: usize,
    extents: [usize; MAX_RANK],
}

impl Deref for Extents {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

impl Reader<'_> {
    /// Reads an element, or arrays of elements nested to any depth, and appends the elements to
    /// `values` in row-major order; returns the shape of the nesting.
    ///
    /// At most `max_values` elements are read. `values` grows as they come: a caller that knows their
    /// number reserves room before.
    ///
    /// # Errors
    /// [`ErrorKind::Ragged`] if arrays of one level differ in length or depth,
    /// [`ErrorKind::TooMany`] for more elements than asked for, and as [`Elements::read`].
    pub fn nested<E: Elements>(
        &mut self,
        values: &mut E,
        max_values: usize,
    ) -> Result<Extents, Error> {
        let end = values.count().saturating_add(max_values);
        let mut nesting = Nesting::default();
        loop {
            // A value starts here: arrays open until the innermost one, whose numbers follow.
            self.skip_blanks();
            while self.text.get(self.at) == Some(&b'[') {
                nesting.open(self, E::NAME)?;
            }
            nesting.expect_innermost(self)?;
            if nesting.level == 0 {
                if values.count() == end {
                    return Err(self.too_many(max_values));
                }
                values.read(self)?;
                return Ok(nesting.extents());
            }
            let row = &mut nesting.counts[nesting.level - 1];
            if self.text.get(self.at) != Some(&b']') {
                *row = self.row(values, end, max_values)?;
            }
            // The innermost array ends here, and perhaps those around it do.
            while self.eat(b']') {
                nesting.close(self)?;
                if nesting.level == 0 {
                    return Ok(nesting.extents());
                }
                nesting.counts[nesting.level - 1] += 1;
            }
            if !self.eat(b',') {
                return Err(self.syntax("',' or ']'"));
            }
        }
    }

    /// Reads `1, 2, 3` up to the closing bracket; returns how many elements there are.
    fn row<E: Elements>(&mut self, values: &mut E, end: usize, max: usize) -> Result<usize, Error> {
        let start = values.count();
        loop {
            self.at += values.read_run(&self.text[self.at..], end - values.count());
            self.skip_blanks();
            if values.count() == end {
                return Err(self.too_many(max));
            }
            values.read(self)?;
            if !self.eat(b',') {
                if self.text.get(self.at) == Some(&b']') {
                    return Ok(values.count() - start);
                }
                return Err(self.syntax("',' or ']'"));
            }
            self.skip_blanks();
        }
    }

    #[cold]
    fn too_many(&self, max_values: usize) -> Error {
        if let Some(trailing) = self.trailing_comma() {
            return trailing;
        }
        let message = format!("expected at most {max_values} values, found more");
        self.fault(ErrorKind::TooMany, self.at, message)
    }
}

/// The arrays that are open, and what those before them had.
#[derive(Default)]
struct Nesting {
    /// How many arrays are open.
    level: usize,
    /// The elements so far of each open array.
    counts: [usize; MAX_RANK],
    /// Where each open array opened.
    opened: [usize; MAX_RANK],
    /// The length of the arrays of each level, once the first of them has closed.
    extents: [Option<usize>; MAX_RANK],
    /// The level that the numbers are at, once the first of them has come.
    rank: Option<usize>,
}

impl Nesting {
    fn open(&mut self, reader: &mut Reader<'_>, element: &str) -> Result<(), Error> {
        if self.rank == Some(self.level) {
            return Err(reader.expected(element));
        }
        if self.level == MAX_RANK {
            let message = format!("arrays of values are nested more than {MAX_RANK} deep");
            return Err(reader.fault(ErrorKind::TooDeep, reader.at, message));
        }
        self.opened[self.level] = reader.at;
        self.counts[self.level] = 0;
        self.level += 1;
        reader.enter()?;
        reader.skip_blanks();
        Ok(())
    }

    /// All numbers, and all arrays without elements, are at the level of the first.
    fn expect_innermost(&mut self, reader: &Reader<'_>) -> Result<(), Error> {
        let level = self.level;
        if *self.rank.get_or_insert(level) == level {
            return Ok(());
        }
        if let Some(trailing) = reader.trailing_comma() {
            return Err(trailing);
        }
        let message = format!("expected an array as before it, found {}", reader.found());
        Err(reader.fault(ErrorKind::Ragged, reader.at, message))
    }

    fn close(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.level -= 1;
        reader.depth -= 1;
        let found = self.counts[self.level];
        let expected = *self.extents[self.level].get_or_insert(found);
        if found != expected {
            let message =
                format!("expected {expected} elements as in the array before it, found {found}");
            return Err(reader.fault(ErrorKind::Ragged, self.opened[self.level], message));
        }
        Ok(())
    }

    fn extents(&self) -> Extents {
        let mut extents = [0; MAX_RANK];
        let mut rank = 0;
        while let Some(Some(extent)) = self.extents.get(rank) {
            extents[rank] = *extent;
            rank += 1;
        }
        Extents { rank, extents }
    }
}
