//! Arrays and objects, element by element.

use std::borrow::Cow;
use std::collections::HashSet;

use super::path::{Path, path_at};
use super::reader::{Kind, Reader};
use super::{Error, ErrorKind};
use crate::messages::excerpt;

impl<'a> Reader<'a> {
    /// Reads an array; `element` reads each of its values, whose index it gets.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, and those of `element`.
    pub fn array<E: From<Error>>(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek()? != Kind::Array {
            return Err(self.expected("an array").into());
        }
        self.enter()?;
        if !self.eat(b']') {
            let mut index = 0;
            loop {
                self.skip_blanks();
                element(self, index)?;
                index += 1;
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.syntax("',' or ']'").into());
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an object; `member` reads each of its values, whose key it gets.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::DuplicateKey`] if a key comes
    /// twice, and those of `member`.
    pub fn object<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seen = Seen::new();
        self.members(|reader, key, at| {
            if !seen.insert(key.clone()) {
                return Err(reader.duplicate_key(&key, at).into());
            }
            member(reader, &key)
        })
    }

    /// Reads an object whose keys are all among `index_of`'s; `member` gets the key's index.
    ///
    /// Nothing is allocated a key: for the objects that come once a row. `taken` holds one flag
    /// an index, false at first, true for each key that came.
    ///
    /// # Errors
    /// As [`Self::object`]; the error that `unknown` makes of any other key and its path.
    pub fn known_members<E: From<Error>>(
        &mut self,
        taken: &mut [bool],
        mut index_of: impl FnMut(&str) -> Option<usize>,
        unknown: impl Fn(&str, Path) -> E,
        mut member: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.members(|reader, key, at| {
            let Some(index) = index_of(&key) else {
                return Err(unknown(&key, path_at(reader.text, at)));
            };
            if std::mem::replace(&mut taken[index], true) {
                return Err(reader.duplicate_key(&key, at).into());
            }
            member(reader, index)
        })
    }

    /// Reads an object; `member` gets each key and its position. Keys may come twice.
    fn members<E: From<Error>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        // At the root, what comes is often no JSON at all.
        if self.depth == 0 && !matches!(self.peek(), Ok(Kind::Object)) {
            return Err(self.not_an_object().into());
        }
        if self.peek()? != Kind::Object {
            return Err(self.expected("an object").into());
        }
        self.enter()?;
        if !self.eat(b'}') {
            loop {
                let (key, at) = self.key()?;
                member(self, key, at)?;
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.syntax("',' or '}'").into());
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a key and its colon; returns the key and its position.
    pub(super) fn key(&mut self) -> Result<(Cow<'a, str>, usize), Error> {
        self.skip_blanks();
        let at = self.at;
        if self.text.get(at) != Some(&b'"') {
            return Err(self.syntax("a key in double quotes"));
        }
        let key = self.string()?;
        if !self.eat(b':') {
            return Err(self.syntax("':' after the key"));
        }
        self.skip_blanks();
        Ok((key, at))
    }

    #[cold]
    fn not_an_object(&self) -> Error {
        let error = self.expected("a JSON object");
        let hint = "send one, with curl as -d '{...}', with Python's requests as json={...}";
        error.with_hint(hint)
    }

    #[cold]
    fn duplicate_key(&self, key: &str, at: usize) -> Error {
        let message = format!("the key {} comes twice", excerpt(key, 40));
        self.fault(ErrorKind::DuplicateKey, at, message)
    }
}

/// The keys that an object had so far.
struct Seen<'a> {
    few: [Cow<'a, str>; FEW],
    count: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

/// Up to this many keys are compared one by one, which is faster than hashing and allocates
/// nothing. The objects of the protocols have up to five.
const FEW: usize = 8;

impl<'a> Seen<'a> {
    fn new() -> Self {
        Self {
            few: [const { Cow::Borrowed("") }; FEW],
            count: 0,
            many: None,
        }
    }

    /// Remembers a key; false if it was there already.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.few[..self.count].contains(&key) {
            return false;
        }
        if let Some(free) = self.few.get_mut(self.count) {
            *free = key;
            self.count += 1;
            return true;
        }
        self.many.get_or_insert_default().insert(key)
    }
}
