//! Numbers in nested arrays, straight into one buffer.

use std::ops::Deref;

use super::number::read_run;
use super::reader::Reader;
use super::{Error, ErrorKind};

/// The most axes that nested arrays of numbers may have.
pub const MAX_RANK: usize = 16;

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
    /// Reads a number, or arrays of numbers nested to any depth, and appends the numbers to
    /// `values` in row-major order; returns the shape of the nesting.
    ///
    /// At most `max_values` numbers are read. `values` grows as they come: a caller that knows their
    /// number reserves room before.
    ///
    /// # Errors
    /// [`ErrorKind::Ragged`] if arrays of one level differ in length or depth,
    /// [`ErrorKind::TooMany`] for more numbers than asked for, and as [`Reader::f32`].
    pub fn numbers(&mut self, values: &mut Vec<f32>, max_values: usize) -> Result<Extents, Error> {
        let end = values.len().saturating_add(max_values);
        let mut nesting = Nesting::default();
        loop {
            // A value starts here: arrays open until the innermost one, whose numbers follow.
            self.skip_blanks();
            while self.text.get(self.at) == Some(&b'[') {
                nesting.open(self)?;
            }
            nesting.expect_innermost(self)?;
            if nesting.level == 0 {
                if values.len() == end {
                    return Err(self.too_many(max_values));
                }
                values.push(self.f32_here()?);
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

    /// Reads `1, 2, 3` up to the closing bracket; returns how many numbers there are.
    fn row(&mut self, values: &mut Vec<f32>, end: usize, max: usize) -> Result<usize, Error> {
        let start = values.len();
        loop {
            self.run(values, end);
            self.skip_blanks();
            if values.len() == end {
                return Err(self.too_many(max));
            }
            values.push(self.f32_here()?);
            if !self.eat(b',') {
                if self.text.get(self.at) == Some(&b']') {
                    return Ok(values.len() - start);
                }
                return Err(self.syntax("',' or ']'"));
            }
            self.skip_blanks();
        }
    }

    /// Reads numbers with a comma after them, up to the first that is not as they mostly come.
    fn run(&mut self, values: &mut Vec<f32>, end: usize) {
        self.at += read_run(&self.text[self.at..], values, end - values.len());
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
    fn open(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        if self.rank == Some(self.level) {
            return Err(reader.expected("a number"));
        }
        if self.level == MAX_RANK {
            let message = format!("arrays of numbers are nested more than {MAX_RANK} deep");
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
