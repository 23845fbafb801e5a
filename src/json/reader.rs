mod numbers;

use std::borrow::Cow;

use super::number::BadNumber;
use super::path::{Path, path_at};
use super::text::plain_prefix;
use super::{Error, ErrorKind};
use crate::messages::excerpt;

/// The most arrays and objects that may be open at once, ignored ones included.
///
/// The deepest request of any protocol needs 4 levels besides the axes of its tensors.
pub const MAX_DEPTH: usize = 64;

/// Strings from the body are cut to this in messages.
const MAX_SHOWN_CHARS: usize = 32;

/// Pulls one JSON document out of bytes.
///
/// Each method reads one value, and the caller says of which type it must be.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    pub(super) text: &'a [u8],
    /// The same as `text`, to borrow strings from without checking them again.
    utf8: &'a str,
    pub(super) at: usize,
    pub(super) depth: usize,
    allow_non_finite: bool,
}

/// What sort of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or `-`; also `NaN` and the infinities where they are allowed.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// A place in the document to return to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Starts to read `body`. Nothing but its encoding is looked at yet.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] if it is not UTF-8, or starts with a byte order mark.
    pub fn new(body: &'a [u8]) -> Result<Self, Error> {
        let bad = |at, message: String| Err(Error::new(ErrorKind::Syntax, Path::root(at), message));
        let utf8 = match std::str::from_utf8(body) {
            Ok(utf8) => utf8,
            Err(error) => {
                let at = error.valid_up_to();
                return bad(
                    at,
                    format!(
                        "expected UTF-8, found byte 0x{:02x} at position {at}",
                        body[at]
                    ),
                );
            }
        };
        if body.starts_with("\u{feff}".as_bytes()) {
            return bad(
                0,
                "expected JSON, found a byte order mark; send UTF-8 without one".into(),
            );
        }
        Ok(Self {
            text: body,
            utf8,
            at: 0,
            depth: 0,
            allow_non_finite: false,
        })
    }

    /// Takes the bare tokens `NaN`, `Infinity` and `-Infinity` for numbers from here on, and
    /// numbers beyond the range of `f32` for infinities.
    #[must_use]
    pub fn allowing_non_finite(mut self, allow: bool) -> Self {
        self.allow_non_finite = allow;
        self
    }

    /// What comes next, without reading it.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] if no value starts here.
    pub fn peek(&mut self) -> Result<Kind, Error> {
        self.skip_blanks();
        match self.text.get(self.at) {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'N' | b'I') if self.allow_non_finite => Ok(Kind::Number),
            Some(b't') if self.comes(b"true") => Ok(Kind::Bool),
            Some(b'f') if self.comes(b"false") => Ok(Kind::Bool),
            Some(b'n') if self.comes(b"null") => Ok(Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    /// What the first element is of the array that comes next, without reading it; `None` for an
    /// empty array.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes.
    pub fn peek_element(&mut self) -> Result<Option<Kind>, Error> {
        if self.peek()? != Kind::Array {
            return Err(self.expected("an array"));
        }
        let mut ahead = self.clone();
        ahead.enter()?;
        if ahead.eat(b']') {
            return Ok(None);
        }
        ahead.peek().map(Some)
    }

    /// Reads `null` if it comes next; returns whether it did.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub fn null(&mut self) -> Result<bool, Error> {
        let is_null = self.peek()? == Kind::Null;
        if is_null {
            self.at += 4;
        }
        Ok(is_null)
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes.
    pub fn bool(&mut self) -> Result<bool, Error> {
        match self.peek()? {
            Kind::Bool if self.text[self.at] == b't' => {
                self.at += 4;
                Ok(true)
            }
            Kind::Bool => {
                self.at += 5;
                Ok(false)
            }
            _ => Err(self.expected("true or false")),
        }
    }

    /// Reads what a cell of a table may hold, as its text: a string's own, the literal of a number,
    /// `true` or `false`, and nothing for `null`.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if an array or an object comes, and as [`Self::string`].
    pub fn cell(&mut self) -> Result<Cow<'a, str>, Error> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::String => self.string(),
            Kind::Null => self.null().map(|_| Cow::Borrowed("")),
            Kind::Number | Kind::Bool => {
                self.skip()?;
                Ok(Cow::Borrowed(&self.utf8[start..self.at]))
            }
            Kind::Array | Kind::Object => {
                Err(self.expected("a string, a number, true, false or null"))
            }
        }
    }

    /// Reads a string; it is borrowed unless it holds escapes.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::Syntax`] for bare control
    /// characters, unknown escapes and halves of surrogate pairs.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        if self.peek()? != Kind::String {
            return Err(self.expected("a string"));
        }
        let start = self.at + 1;
        let mut unescaped = String::new();
        let mut plain = start;
        loop {
            let special = self.plain_end(plain);
            // Both ends are next to an ASCII character or the body's end, so never inside another.
            let piece = &self.utf8[plain..special];
            match self.text.get(special) {
                Some(b'"') => {
                    self.at = special + 1;
                    return Ok(if unescaped.is_empty() {
                        Cow::Borrowed(piece)
                    } else {
                        unescaped.push_str(piece);
                        Cow::Owned(unescaped)
                    });
                }
                Some(b'\\') => {
                    unescaped.push_str(piece);
                    let (character, end) = self.escape(special)?;
                    unescaped.push(character);
                    plain = end;
                }
                _ => return Err(self.bad_string(special)),
            }
        }
    }

    /// Reads past a string, as strictly as [`Self::string`].
    pub(super) fn skip_string(&mut self) -> Result<(), Error> {
        let mut plain = self.at + 1;
        loop {
            let special = self.plain_end(plain);
            match self.text.get(special) {
                Some(b'"') => {
                    self.at = special + 1;
                    return Ok(());
                }
                Some(b'\\') => plain = self.escape(special)?.1,
                _ => return Err(self.bad_string(special)),
            }
        }
    }

    /// The position of the first quote, backslash or control character from `start` on.
    fn plain_end(&self, start: usize) -> usize {
        plain_prefix(&self.text[start..]) + start
    }

    /// The character of the escape at `at`, and the position after it.
    fn escape(&self, at: usize) -> Result<(char, usize), Error> {
        let bad = |message: &str| Err(self.fault(ErrorKind::Syntax, self.at, message.into()));
        let character = match self.text.get(at + 1) {
            Some(&plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let Some(first) = self.hex4(at + 2) else {
                    return bad("expected four hexadecimal digits after \\u");
                };
                if let Some(character) = char::from_u32(first) {
                    return Ok((character, at + 6));
                }
                let second = match self.text.get(at + 6..at + 8) {
                    Some(br"\u") if first < 0xDC00 => self.hex4(at + 8),
                    _ => None,
                };
                return match second {
                    Some(second @ 0xDC00..=0xDFFF) => {
                        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                        let character =
                            char::from_u32(code).expect("a surrogate pair encodes a character");
                        Ok((character, at + 12))
                    }
                    _ => bad("the string holds half of a surrogate pair"),
                };
            }
            _ => return bad("the string holds an escape that JSON does not know"),
        };
        Ok((character, at + 2))
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        self.text
            .get(at..at + 4)?
            .iter()
            .try_fold(0, |code, &digit| {
                Some(code << 4 | char::from(digit).to_digit(16)?)
            })
    }

    #[cold]
    fn bad_string(&self, at: usize) -> Error {
        let message = match self.text.get(at) {
            None => "the string does not end before the body does".into(),
            Some(control) => format!("the string holds the bare control character 0x{control:02x}"),
        };
        self.fault(ErrorKind::Syntax, self.at, message)
    }

    /// Checks that nothing but blanks follows the document.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] if something does.
    pub fn end(&mut self) -> Result<(), Error> {
        self.skip_blanks();
        if self.at < self.text.len() {
            return Err(self.syntax("the end of the body"));
        }
        Ok(())
    }

    /// This place, to come back to with [`Self::revisit`].
    pub fn mark(&mut self) -> Mark {
        self.skip_blanks();
        Mark {
            at: self.at,
            depth: self.depth,
        }
    }

    /// Reads at an earlier place, then goes on here.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn revisit<T, E>(
        &mut self,
        mark: Mark,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let here = (self.at, self.depth);
        (self.at, self.depth) = (mark.at, mark.depth);
        let read = read(self);
        (self.at, self.depth) = here;
        read
    }

    /// The path of the value at `mark`, for messages about what it means.
    #[must_use]
    pub fn path(&self, mark: Mark) -> Path {
        path_at(self.text, mark.at)
    }

    /// The error of a value that is not what was expected, where it starts at `mark`.
    #[must_use]
    pub fn unexpected_at(&self, mark: Mark, what: &str) -> Error {
        let message = format!("expected {what}, found {}", self.found_at(mark.at));
        self.fault(ErrorKind::Type, mark.at, message)
    }

    /// The bytes of the body that are not read yet: no more values than these can come.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.text.len() - self.at
    }

    /// Opens an array or object whose bracket is here.
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            let message = format!("arrays and objects are nested more than {MAX_DEPTH} deep");
            return Err(self.fault(ErrorKind::TooDeep, self.at, message));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// Reads `byte` if it comes next; returns whether it did.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let comes = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(comes);
        comes
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    pub(super) fn comes(&self, token: &[u8]) -> bool {
        self.text[self.at..].starts_with(token)
    }

    #[cold]
    pub(super) fn bad_number(&self, bad: BadNumber) -> Error {
        let message = format!("{}, found {}", bad.message, self.found_at(bad.at));
        self.fault(ErrorKind::Syntax, self.at, message)
    }

    /// The error that something else was expected than what comes next.
    #[cold]
    #[must_use]
    pub fn expected(&self, what: &str) -> Error {
        let is_value = match self.text.get(self.at) {
            Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9') => true,
            _ => self.comes(b"true") || self.comes(b"false") || self.comes(b"null"),
        };
        let kind = if is_value {
            ErrorKind::Type
        } else {
            ErrorKind::Syntax
        };
        if let Some(trailing) = self.trailing_comma() {
            return trailing;
        }
        let hint = if what == "a number" {
            self.number_hint()
        } else {
            ""
        };
        let message = format!("expected {what}, found {}{hint}", self.found());
        self.fault(kind, self.at, message)
    }

    /// The error of a closing bracket here after a comma, if that is what there is.
    #[cold]
    pub(super) fn trailing_comma(&self) -> Option<Error> {
        let closing = self.text.get(self.at).filter(|byte| b"]}".contains(byte))?;
        let before = self.text[..self.at].trim_ascii_end();
        if before.last() != Some(&b',') {
            return None;
        }
        let message = format!(
            "expected no comma before '{}'; remove the trailing comma",
            char::from(*closing)
        );
        Some(self.fault(ErrorKind::Syntax, self.at, message))
    }

    /// Says which punctuation is missing here.
    #[cold]
    pub(super) fn syntax(&self, expected: &str) -> Error {
        if let Some(trailing) = self.trailing_comma() {
            return trailing;
        }
        let message = format!("expected {expected}, found {}", self.found());
        self.fault(ErrorKind::Syntax, self.at, message)
    }

    #[cold]
    pub(super) fn fault(&self, kind: ErrorKind, at: usize, message: String) -> Error {
        Error::new(kind, path_at(self.text, at), message)
    }

    /// Names what comes next, short enough for a message.
    #[must_use]
    pub fn found(&self) -> String {
        self.found_at(self.at)
    }

    /// Names what is at `at`, short enough for a message.
    fn found_at(&self, at: usize) -> String {
        let rest = self.text.get(at..).unwrap_or_default();
        match rest.first() {
            None => "the end of the body".into(),
            Some(b'{') => "an object".into(),
            Some(b'[') => "an array".into(),
            Some(b'"') => {
                let end = rest[1..]
                    .iter()
                    .position(|&byte| byte == b'"')
                    .map_or(rest.len(), |end| end + 1);
                excerpt(&String::from_utf8_lossy(&rest[1..end]), MAX_SHOWN_CHARS)
            }
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') => {
                let token: String = rest
                    .iter()
                    .map(|&byte| char::from(byte))
                    .take_while(|&c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))
                    .take(MAX_SHOWN_CHARS + 1)
                    .collect();
                match token.get(..MAX_SHOWN_CHARS) {
                    Some(cut) if token.len() > MAX_SHOWN_CHARS => format!("{cut}…"),
                    _ => token,
                }
            }
            Some(_) => {
                let character = String::from_utf8_lossy(&rest[..rest.len().min(4)])
                    .chars()
                    .next()
                    .unwrap_or(char::REPLACEMENT_CHARACTER);
                format!("{character:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
