//! Files of lines, cut into blocks of whole records.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memrchr};

use super::tally::Position;
use crate::csv;

/// The most bytes of a record of several lines: in longer ones a quote was never closed.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 20;
/// The most bytes of one line. A row of a model of images has some MB; without a bound a file with no
/// line ends would be read into memory whole.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;

/// How records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// At line ends outside of quotes.
    Csv,
    /// At line ends.
    Lines,
}

/// Whole records, one after the other.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) text: Vec<u8>,
    pub(super) start: Position,
    pub(super) end: Position,
    /// Whether it is one line that was skipped because it is too long: its text is not here.
    pub(super) is_too_long: bool,
}

/// Text of records that is being cut into blocks.
pub(super) struct Text<R> {
    input: R,
    records: Records,
    block_bytes: usize,
    max_line_bytes: usize,
    /// What was read after the last block.
    pending: Vec<u8>,
    position: Position,
    is_at_end: bool,
}

impl<R: Read> Text<R> {
    /// Cuts `input`, which is at `position`, into blocks of about `block_bytes`.
    pub(super) fn new(input: R, records: Records, position: Position, block_bytes: usize) -> Self {
        Self {
            input,
            records,
            block_bytes,
            max_line_bytes: MAX_LINE_BYTES,
            pending: Vec::new(),
            position,
            is_at_end: false,
        }
    }

    /// The same for an input at another position.
    pub(super) fn again(&self, input: R, position: Position) -> Self {
        Self::new(input, self.records, position, self.block_bytes)
    }

    /// The first record alone, without a byte order mark: the header of CSV.
    ///
    /// # Errors
    /// If it cannot be read, or is too long.
    pub(super) fn header(&mut self) -> io::Result<Block> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        self.fill(MARK.len())?;
        if self.pending.starts_with(MARK) {
            self.pending.drain(..MARK.len());
            self.position.offset += MARK.len() as u64;
        }
        let mut wanted = self.block_bytes;
        loop {
            self.fill(wanted)?;
            match csv::record_end(&self.pending, 0) {
                Some(end) => return Ok(self.cut(end)),
                // A header that is cut would leave half of the columns without names.
                None if !self.is_at_end && wanted > MAX_RECORD_BYTES && !self.has_line() => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "line 1: expected the names of the columns within {MAX_RECORD_BYTES} bytes, \
                             got a longer line; end lines with \\n, or say --from if the file is no CSV"
                        ),
                    ));
                }
                None if self.is_at_end || wanted > MAX_RECORD_BYTES => {
                    return Ok(self.cut(self.first_line()));
                }
                None => wanted = self.more_than(wanted),
            }
        }
    }

    /// The next block; `None` after the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Block>> {
        let mut wanted = self.block_bytes;
        loop {
            self.fill(wanted)?;
            if self.pending.is_empty() {
                return Ok(None);
            }
            let end = match self.records {
                Records::Csv => csv::last_record_end(&self.pending),
                Records::Lines => memrchr(b'\n', &self.pending).map(|end| end + 1),
            };
            // A last line may end with the file.
            let rest = &self.pending[end.unwrap_or(0)..];
            if self.is_at_end && memchr(b'\n', rest).is_none() {
                return Ok(Some(self.cut(self.pending.len())));
            }
            match end {
                Some(end) => return Ok(Some(self.cut(end))),
                // Blocks are cut only at the end of a line: half a line would be a row that no one wrote.
                None if !self.has_line() && self.pending.len() > self.max_line_bytes => {
                    return self.skip_line().map(Some);
                }
                // A quote that is not closed spoils its own line, not those after it.
                None if self.has_line()
                    && (self.is_at_end || self.pending.len() > MAX_RECORD_BYTES) =>
                {
                    return Ok(Some(self.cut(self.first_line())));
                }
                None => wanted = self.more_than(wanted),
            }
        }
    }

    /// How many bytes to wait for if `wanted` hold no whole record: twice as many, so that a long line is
    /// not searched again for each of its blocks, but at most enough to tell whether it is too long.
    fn more_than(&self, wanted: usize) -> usize {
        let bound = match wanted {
            ..=MAX_RECORD_BYTES => MAX_RECORD_BYTES,
            _ => self.max_line_bytes,
        };
        (2 * wanted).min(bound.max(wanted) + 1)
    }

    /// Skips to the end of a line that is too long, with little of it in memory.
    fn skip_line(&mut self) -> io::Result<Block> {
        let start = self.position;
        loop {
            let has_end = self.has_line();
            self.cut(self.first_line());
            self.fill(MAX_RECORD_BYTES)?;
            if has_end || self.pending.is_empty() {
                return Ok(Block {
                    text: Vec::new(),
                    start,
                    end: self.position,
                    is_too_long: true,
                });
            }
        }
    }

    /// Whether a line ends in the pending bytes.
    fn has_line(&self) -> bool {
        memchr(b'\n', &self.pending).is_some()
    }

    /// Where the first line ends, regardless of quotes.
    fn first_line(&self) -> usize {
        memchr(b'\n', &self.pending).map_or(self.pending.len(), |end| end + 1)
    }

    /// Reads until `wanted` bytes are pending, or to the end.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while !self.is_at_end && self.pending.len() < wanted {
            let more = (wanted - self.pending.len()) as u64;
            let read = self
                .input
                .by_ref()
                .take(more)
                .read_to_end(&mut self.pending)?;
            self.is_at_end = read == 0;
        }
        Ok(())
    }

    /// Takes the first `end` pending bytes.
    fn cut(&mut self, end: usize) -> Block {
        let rest = self.pending.split_off(end);
        let text = std::mem::replace(&mut self.pending, rest);
        let start = self.position;
        self.position = Position {
            offset: start.offset + text.len() as u64,
            line: start.line + memchr_iter(b'\n', &text).count() as u64,
        };
        Block {
            text,
            start,
            end: self.position,
            is_too_long: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &[u8], records: Records, block_bytes: usize) -> Vec<(String, u64)> {
        let mut text = Text::new(text, records, Position::START, block_bytes);
        let mut blocks = Vec::new();
        while let Some(block) = text.next().unwrap() {
            blocks.push((String::from_utf8(block.text).unwrap(), block.start.line));
        }
        blocks
    }

    #[test]
    fn blocks_end_with_records_and_lose_nothing() {
        let text = "a,b\n\"c\nd\",e\nf,\"g\"\"\n\"\nh,i";
        for block_bytes in 1..30 {
            let blocks = blocks(text.as_bytes(), Records::Csv, block_bytes);
            let whole: String = blocks.iter().map(|(text, _)| &**text).collect();
            assert_eq!(whole, text);
            for (block, line) in &blocks {
                let before = &text[..text.find(&**block).unwrap()];
                assert_eq!(*line as usize, 1 + before.matches('\n').count());
                assert!(
                    ["a", "\"c", "f", "h"]
                        .iter()
                        .any(|start| block.starts_with(start))
                );
            }
        }
        assert_eq!(blocks(b"1\n2\n3", Records::Lines, 2).len(), 3);
        assert_eq!(blocks(b"", Records::Csv, 8), []);
    }

    #[test]
    fn a_quote_that_is_not_closed_takes_its_own_line_only() {
        let text = "1,2\n\"3,4\n5,6\n7,8";
        let blocks = blocks(text.as_bytes(), Records::Csv, 64);
        let expected = [("1,2\n", 1), ("\"3,4\n", 2), ("5,6\n7,8", 3)];
        assert_eq!(blocks, expected.map(|(text, line)| (text.to_owned(), line)));
    }

    #[test]
    fn a_long_line_is_whole_or_skipped_but_never_cut() {
        let long = "1,".repeat(MAX_RECORD_BYTES);
        for (records, block_bytes) in [(Records::Lines, 4096), (Records::Csv, 256 << 10)] {
            let whole = format!("1\n{long}\n2\n");
            let blocks = blocks(whole.as_bytes(), records, block_bytes);
            let found: String = blocks.iter().map(|(text, _)| &**text).collect();
            assert_eq!(found.len(), whole.len());
            assert!(blocks.iter().all(|(text, _)| text.ends_with('\n')));
        }
        for (end, lines) in [("\n3\n", 2), ("", 1)] {
            for (records, bytes) in [(Records::Lines, 8), (Records::Csv, 16)] {
                let input = format!("1\n{long}{end}");
                let mut text = Text::new(input.as_bytes(), records, Position::START, bytes);
                text.max_line_bytes = 3 << 19;
                assert_eq!(text.next().unwrap().unwrap().text, b"1\n");
                let skipped = text.next().unwrap().unwrap();
                assert!(skipped.is_too_long && skipped.text.is_empty());
                assert_eq!((skipped.start.line, skipped.end.line), (2, 1 + lines));
                let rest = text.next().unwrap().map(|block| block.text);
                assert_eq!(rest, (lines == 2).then(|| b"3\n".to_vec()));
            }
        }
    }

    #[test]
    fn a_header_that_is_too_long_is_an_error() {
        let input = "a,".repeat(MAX_RECORD_BYTES);
        let mut text = Text::new(input.as_bytes(), Records::Csv, Position::START, 4096);
        let error = text.header().unwrap_err().to_string();
        assert!(error.starts_with("line 1: expected the names"), "{error}");
    }

    #[test]
    fn a_header_is_read_without_its_byte_order_mark() {
        let mut text = Text::new(
            &b"\xef\xbb\xbfa,\"b\nc\"\r\n1,2\n"[..],
            Records::Csv,
            Position::START,
            4,
        );
        assert_eq!(text.header().unwrap().text, b"a,\"b\nc\"\r\n");
        let block = text.next().unwrap().unwrap();
        assert_eq!(
            (block.text, block.start.line, block.end.line),
            (b"1,2\n".to_vec(), 3, 4)
        );
        assert_eq!(block.start.offset, 3 + 9);
    }
}
