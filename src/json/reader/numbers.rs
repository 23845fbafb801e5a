//! Numbers, in the type that the caller asks for.

use super::Reader;
use crate::json::number::{BadNumber, number_end, parse_f32};
use crate::json::{Error, ErrorKind, Kind};

impl Reader<'_> {
    /// Reads an integer; `1.0` and `1e3` are none.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::Range`] if it is negative or does
    /// not fit.
    pub fn u64(&mut self) -> Result<u64, Error> {
        if self.peek()? != Kind::Number {
            return Err(self.expected("an integer"));
        }
        let end = number_end(self.text, self.at).map_err(|bad| self.bad_number(bad))?;
        let digits = std::str::from_utf8(&self.text[self.at..end]).expect("a number is ASCII");
        if digits.contains(['.', 'e', 'E']) {
            return Err(self.expected("an integer"));
        }
        let Ok(value) = digits.parse() else {
            let expected = if digits.starts_with('-') {
                ", 0 or more"
            } else {
                " of 64 bits"
            };
            let message = format!("expected an integer{expected}, found {}", self.found());
            return Err(self.fault(ErrorKind::Range, self.at, message));
        };
        self.at = end;
        Ok(value)
    }

    /// Reads an integer with a sign; `1.0` and `1e3` are none.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::Range`] if it does not fit 64 bits.
    pub fn i64(&mut self) -> Result<i64, Error> {
        if self.peek()? != Kind::Number {
            return Err(self.expected("an integer"));
        }
        let text = &self.text[self.at..];
        // A sign and up to 18 digits fit.
        let digits = usize::from(text.first() == Some(&b'-'));
        let mut end = digits;
        let mut value = 0;
        while let Some(digit @ b'0'..=b'9') = text.get(end)
            && end - digits < 18
        {
            value = 10 * value + i64::from(digit - b'0');
            end += 1;
        }
        let is_plain = end > digits && (text[digits] != b'0' || end == digits + 1);
        if is_plain && matches!(text.get(end), Some(b',' | b']')) {
            self.at += end;
            return Ok(if digits == 1 { -value } else { value });
        }
        self.unusual_i64()
    }

    #[cold]
    fn unusual_i64(&mut self) -> Result<i64, Error> {
        let end = number_end(self.text, self.at).map_err(|bad| self.bad_number(bad))?;
        let digits = std::str::from_utf8(&self.text[self.at..end]).expect("a number is ASCII");
        if digits.contains(['.', 'e', 'E']) {
            return Err(self.expected("an integer"));
        }
        let Ok(value) = digits.parse() else {
            let message = format!(
                "expected an integer of 64 bits with a sign, found {}",
                self.found()
            );
            return Err(self.fault(ErrorKind::Range, self.at, message));
        };
        self.at = end;
        Ok(value)
    }

    /// Reads the `f64` nearest to a number.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::NotFinite`] if it is beyond the
    /// range of `f64` (unless [allowed](Self::allowing_non_finite)).
    pub fn f64(&mut self) -> Result<f64, Error> {
        self.skip_blanks();
        let is_token = self.comes(b"-Infinity");
        match self.text.get(self.at) {
            Some(b'-' | b'0'..=b'9') if !is_token => {
                let end = number_end(self.text, self.at).map_err(|bad| self.bad_number(bad))?;
                let text = std::str::from_utf8(&self.text[self.at..end]);
                let value: f64 = text
                    .expect("a number is ASCII")
                    .parse()
                    .expect("JSON's numbers are a subset of Rust's");
                if !value.is_finite() && !self.allow_non_finite {
                    let message = format!(
                        "expected a number that is finite as FP64 (at most 1.7976931348623157e308), \
                         found {}; send a smaller one",
                        self.found()
                    );
                    return Err(self.fault(ErrorKind::NotFinite, self.at, message));
                }
                self.at = end;
                Ok(value)
            }
            _ => self.non_finite_token().map(f64::from),
        }
    }

    /// Reads the `f32` nearest to a number.
    ///
    /// # Errors
    /// [`ErrorKind::Type`] if something else comes, [`ErrorKind::NotFinite`] if it is beyond the
    /// range of `f32` (unless [allowed](Self::allowing_non_finite)).
    pub fn f32(&mut self) -> Result<f32, Error> {
        self.skip_blanks();
        self.f32_here()
    }

    /// As [`Self::f32`], of a number that starts right here.
    pub(in crate::json) fn f32_here(&mut self) -> Result<f32, Error> {
        match self.text.get(self.at) {
            Some(b'-' | b'0'..=b'9') => match parse_f32(self.text, self.at) {
                Ok((value, end)) if value.is_finite() => {
                    self.at = end;
                    Ok(value)
                }
                other => self.unusual_number(other),
            },
            _ => self.non_finite_token(),
        }
    }

    /// A number that is infinite, a token with a sign, or no number.
    #[cold]
    fn unusual_number(&mut self, parsed: Result<(f32, usize), BadNumber>) -> Result<f32, Error> {
        match parsed {
            Ok((infinite, end)) if self.allow_non_finite => {
                self.at = end;
                Ok(infinite)
            }
            Ok(_) => {
                let message = format!(
                    "expected a number that is finite as FP32 (at most 3.4028235e38), found {}; \
                     send a smaller one",
                    self.found()
                );
                Err(self.fault(ErrorKind::NotFinite, self.at, message))
            }
            Err(_) if self.comes(b"-Infinity") => self.non_finite_token(),
            Err(bad) => Err(self.bad_number(bad)),
        }
    }

    #[cold]
    fn non_finite_token(&mut self) -> Result<f32, Error> {
        let tokens: [(&[u8], f32); 3] = [
            (b"NaN", f32::NAN),
            (b"Infinity", f32::INFINITY),
            (b"-Infinity", f32::NEG_INFINITY),
        ];
        for (token, value) in tokens {
            if self.comes(token) {
                if self.allow_non_finite {
                    self.at += token.len();
                    return Ok(value);
                }
                let message = format!(
                    "expected a finite number, found {}; replace it by a number before sending",
                    String::from_utf8_lossy(token)
                );
                return Err(self.fault(ErrorKind::NotFinite, self.at, message));
            }
        }
        Err(self.expected("a number"))
    }

    /// A hint on what is here instead of a number.
    pub(super) fn number_hint(&self) -> &'static str {
        match self.text.get(self.at) {
            Some(b'"') => "; send numbers without quotes",
            _ if self.comes(b"true") || self.comes(b"false") => "; send 1 for true, 0 for false",
            _ if self.comes(b"null") || self.comes(b"nan") => "; replace missing values by numbers",
            _ => "",
        }
    }
}
