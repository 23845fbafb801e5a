//! Files of lines, cut into blocks of whole records.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memrchr};

use super::Position;
use crate::csv;

/// The most bytes of one record: longer ones are a quote that nobody closed, or no rows.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 20;

/// How records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// At line ends outside of quotes.
    Csv,
    /// At line ends.
    Lines,
}

/// Whole records, one behind the other.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) text: Vec<u8>,
    pub(super) start: Position,
    pub(super) end: Position,
}

/// Text of records, being cut.
pub(super) struct Text<R> {
    input: R,
    records: Records,
    block_bytes: usize,
    /// What was read behind the last block.
    pending: Vec<u8>,
    position: Position,
    is_at_end: bool,
}

impl<R: Read> Text<R> {
    /// Cuts what comes from `input`, which stands at `position`, into blocks of about so many bytes.
    pub(super) fn new(input: R, records: Records, position: Position, block_bytes: usize) -> Self {
        Self {
            input,
            records,
            block_bytes,
            pending: Vec::new(),
            position,
            is_at_end: false,
        }
    }

    /// The same of an input that stands at another position.
    pub(super) fn again(&self, input: R, position: Position) -> Self {
        Self::new(input, self.records, position, self.block_bytes)
    }

    /// The first record alone, without a byte order mark: the header of CSV.
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
                None if self.is_at_end || wanted > MAX_RECORD_BYTES => {
                    return Ok(self.cut(self.first_line()));
                }
                None => wanted += self.block_bytes,
            }
        }
    }

    /// The next block; `None` behind the last.
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
                // A quote that is not closed spoils its own line, not all behind it.
                None if self.is_at_end || self.pending.len() > MAX_RECORD_BYTES => {
                    return Ok(Some(self.cut(self.first_line())));
                }
                None => wanted += self.block_bytes,
            }
        }
    }

    /// Where the first line ends, whatever is quoted in it.
    fn first_line(&self) -> usize {
        memchr(b'\n', &self.pending).map_or(self.pending.len(), |end| end + 1)
    }

    /// Reads until so many bytes wait, or to the end.
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

    /// Takes the first `end` bytes of what waits.
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
