use super::Error;
use super::number::number_end;
use super::reader::{Kind, MAX_DEPTH, Reader};

impl Reader<'_> {
    /// Reads past one value of any type, without recursion.
    ///
    /// Its grammar and depth are checked, its meaning is not: keys in it may come twice.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`](super::ErrorKind::Syntax) if it is not JSON,
    /// [`ErrorKind::NotFinite`](super::ErrorKind::NotFinite) for a bare `NaN` or infinity (unless
    /// [allowed](Reader::allowing_non_finite)),
    /// [`ErrorKind::TooDeep`](super::ErrorKind::TooDeep) beyond [`MAX_DEPTH`].
    pub fn skip(&mut self) -> Result<(), Error> {
        // Whether each open container is an object, by depth.
        let mut is_object = [false; MAX_DEPTH + 1];
        let floor = self.depth;
        loop {
            let kind = match self.peek() {
                // Refused, but in a number's words: the same wherever it is.
                Err(_) if self.comes(b"NaN") || self.comes(b"Infinity") => Kind::Number,
                kind => kind?,
            };
            match kind {
                Kind::Object => {
                    self.enter()?;
                    is_object[self.depth] = true;
                    if !self.eat(b'}') {
                        self.key()?;
                        continue;
                    }
                    self.depth -= 1;
                }
                Kind::Array => {
                    self.enter()?;
                    is_object[self.depth] = false;
                    if !self.eat(b']') {
                        continue;
                    }
                    self.depth -= 1;
                }
                Kind::String => self.skip_string()?,
                Kind::Number => self.skip_number()?,
                Kind::Bool => {
                    self.bool()?;
                }
                Kind::Null => {
                    self.null()?;
                }
            }
            // A value ends here, and perhaps the containers around it do.
            loop {
                if self.depth == floor {
                    return Ok(());
                }
                if self.eat(b',') {
                    if is_object[self.depth] {
                        self.key()?;
                    }
                    break;
                }
                let (closing, expected) = if is_object[self.depth] {
                    (b'}', "',' or '}'")
                } else {
                    (b']', "',' or ']'")
                };
                if !self.eat(closing) {
                    return Err(self.syntax(expected));
                }
                self.depth -= 1;
            }
        }
    }

    fn skip_number(&mut self) -> Result<(), Error> {
        match number_end(self.text, self.at) {
            Ok(end) => self.at = end,
            // A bare token, where these are allowed: `f32` knows. Overflow is no one's concern.
            Err(_) => {
                self.f32_here()?;
            }
        }
        Ok(())
    }
}
