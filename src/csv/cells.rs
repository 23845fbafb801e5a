//! One line of CSV, split into its cells.

use csv_core::{ReadRecordResult, Reader};

/// The cells of a line, without their quotes.
pub(crate) struct Cells {
    reader: Reader,
    text: Vec<u8>,
    /// Where each cell ends in `text`; entries after the first `count` are undefined.
    ends: Vec<usize>,
    count: usize,
    max_cells: usize,
    max_text_bytes: usize,
}

/// The average bytes that cells may have; numbers have at most 15, names a few more.
const CELL_BYTES: usize = 64;

impl Cells {
    /// The most cells that are split of a line that should have `width`: a few more, for messages.
    pub(crate) fn most(width: usize) -> usize {
        width.saturating_add(64)
    }

    /// For lines of about `width` cells.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            reader: Reader::new(),
            text: vec![0; 1024],
            ends: vec![0; 64],
            count: 0,
            max_cells: Self::most(width),
            max_text_bytes: Self::most(width).saturating_mul(CELL_BYTES),
        }
    }

    /// As [`Self::new`], for lines whose cells may hold much text: up to `max_text_bytes` together.
    pub(crate) fn with_text(width: usize, max_text_bytes: usize) -> Self {
        Self {
            max_text_bytes,
            ..Self::new(width)
        }
    }

    /// Splits the line at the front; returns its length with its end. `None` if it has too many
    /// cells, or too much text in them.
    pub(crate) fn split(&mut self, input: &[u8]) -> Option<usize> {
        self.reader.reset();
        self.count = 0;
        let (mut at, mut length) = (0, 0);
        loop {
            // At the end of the input this reads nothing, which ends the line.
            let (result, read, written, ended) = self.reader.read_record(
                &input[at..],
                &mut self.text[length..],
                &mut self.ends[self.count..],
            );
            at += read;
            length += written;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.text.len() < self.max_text_bytes => {
                    self.text.resize(2 * self.text.len(), 0);
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < self.max_cells => {
                    let more = (2 * self.ends.len()).min(self.max_cells);
                    self.ends.resize(more, 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => return None,
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        // It ends a line at either character of CRLF.
        if input[..at].ends_with(b"\r") && input.get(at) == Some(&b'\n') {
            at += 1;
        }
        Some(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|cell| {
            let start = cell.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start..self.ends[cell]]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Cells;

    fn split(width: usize, input: &str) -> Option<(Vec<String>, usize)> {
        let mut cells = Cells::new(width);
        let length = cells.split(input.as_bytes())?;
        let texts = cells
            .iter()
            .map(|cell| String::from_utf8(cell.to_vec()).unwrap());
        Some((texts.collect(), length))
    }

    #[test]
    fn a_line_ends_where_it_ends_outside_of_quotes() {
        for (input, cells, length) in [
            ("a,b", &["a", "b"][..], 3),
            ("a,b\nc", &["a", "b"], 4),
            ("a,b\r\nc", &["a", "b"], 5),
            ("\"a\n\"\"x\",\r\nc", &["a\n\"x", ""], 10),
            ("\"a", &["a"], 2),
        ] {
            let cells: Vec<String> = cells.iter().map(|cell| cell.to_string()).collect();
            assert_eq!(split(2, input), Some((cells, length)), "{input:?}");
        }
    }

    #[test]
    fn what_is_far_too_long_is_not_read_to_its_end() {
        assert!(split(2, &"x,".repeat(60)).is_some());
        assert_eq!(split(2, &"x,".repeat(100)), None);
        assert_eq!(split(2, &"x".repeat(10_000)), None);
        assert!(split(1000, &"x,".repeat(1000)).is_some());
    }
}
