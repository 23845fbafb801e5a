use bytes::Bytes;

use super::shortest;
use super::text::plain_prefix;
use crate::tensor::View;

/// Writes one JSON document, front to back, into bytes.
///
/// The caller keeps the structure right; the writer puts the commas. What it writes for a finite
/// number is always a JSON number with a decimal point, the shortest that reads back as the same
/// value, and `null` for none.
#[derive(Debug, Default)]
pub struct Writer {
    /// The text, and zeros after it as room for what comes next: numbers are written over more
    /// bytes than they take.
    out: Vec<u8>,
    /// The length of the text.
    len: usize,
}

impl From<Writer> for Bytes {
    fn from(document: Writer) -> Self {
        document.into_bytes().into()
    }
}

impl Writer {
    /// An empty document with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            out: vec![0; capacity],
            len: 0,
        }
    }

    /// Begins another document in the same memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The document.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.out.truncate(self.len);
        self.out
    }

    /// Writes an object whose members `members` writes with [`Self::key`].
    pub fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.open(b'{');
        members(self);
        self.push(b'}');
    }

    /// Writes an array whose elements `elements` writes.
    pub fn array(&mut self, elements: impl FnOnce(&mut Self)) {
        self.open(b'[');
        elements(self);
        self.push(b']');
    }

    /// Writes the key of the next member.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.string(key);
        self.push(b':');
        self
    }

    /// Writes a string.
    pub fn string(&mut self, text: &str) {
        self.separate();
        self.push(b'"');
        let mut rest = text.as_bytes();
        loop {
            let plain = plain_prefix(rest);
            if plain == rest.len() {
                break;
            }
            self.extend(&rest[..plain]);
            match rest[plain] {
                b'\n' => self.extend(b"\\n"),
                b'\t' => self.extend(b"\\t"),
                byte @ (b'"' | b'\\') => self.extend(&[b'\\', byte]),
                control => {
                    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                    self.extend(b"\\u00");
                    self.extend(&[digit(control >> 4), digit(control & 15)]);
                }
            }
            rest = &rest[plain + 1..];
        }
        self.extend(rest);
        self.push(b'"');
    }

    /// Writes `true` or `false`.
    pub fn bool(&mut self, value: bool) {
        self.separate();
        self.extend(if value { b"true" } else { b"false" });
    }

    /// Writes an integer.
    pub fn integer(&mut self, value: impl itoa::Integer) {
        self.separate();
        self.extend(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Writes one number.
    ///
    /// What is not finite becomes the bare token `NaN`, `Infinity` or `-Infinity`, which is not
    /// JSON: only formats whose clients read these tokens may get here with such a value.
    #[inline]
    pub fn f32(&mut self, value: f32) {
        self.separate();
        // Without the comma.
        self.len += shortest::write(value, room(&mut self.out, self.len)) - 1;
    }

    /// Writes the values as one array.
    pub fn f32s(&mut self, values: &[f32]) {
        self.open(b'[');
        let mut len = self.len;
        let (blocks, rest) = values.as_chunks();
        for block in blocks {
            len += shortest::write_block(block, room(&mut self.out, len));
        }
        for &value in rest {
            len += shortest::write(value, room(&mut self.out, len));
        }
        // The bracket takes the place of the last comma.
        len -= usize::from(!values.is_empty());
        room::<1>(&mut self.out, len)[0] = b']';
        self.len = len + 1;
    }

    /// Writes a number of double precision, with the fewest digits that read back as it. What is
    /// not finite is written as by [`Self::f32`].
    pub fn f64(&mut self, value: f64) {
        self.separate();
        match value {
            f64::INFINITY => self.extend(b"Infinity"),
            f64::NEG_INFINITY => self.extend(b"-Infinity"),
            value => self.extend(format!("{value:?}").as_bytes()),
        }
    }

    /// Writes values as one array: numbers, or texts as strings.
    pub fn values(&mut self, values: View<'_>) {
        match values {
            View::F32(values) => self.f32s(values),
            values => self.array(|writer| {
                (0..values.len()).for_each(|index| writer.value(values, index));
            }),
        }
    }

    /// Writes values as cells of CSV.
    pub fn cells(&mut self, values: View<'_>) {
        match values {
            View::F32(values) => values.iter().for_each(|value| self.f32(*value)),
            View::F64(values) => values.iter().for_each(|value| self.f64(*value)),
            View::I64(values) => values.iter().for_each(|value| self.integer(*value)),
            View::Bytes(texts) => texts
                .iter()
                .for_each(|text| self.cell(&String::from_utf8_lossy(text))),
        }
    }

    fn value(&mut self, values: View<'_>, index: usize) {
        match values {
            View::F32(values) => self.f32(values[index]),
            View::F64(values) => self.f64(values[index]),
            View::I64(values) => self.integer(values[index]),
            View::Bytes(texts) => self.string(&String::from_utf8_lossy(texts.get(index))),
        }
    }

    /// Writes row-major `values` as arrays nested by `extents`; a bare value if there are none.
    pub fn nested(&mut self, values: View<'_>, extents: &[usize]) {
        match extents {
            [] => self.value(values, 0),
            [_] => self.values(values),
            &[rows, ref inner @ ..] => self.array(|writer| {
                let row_elements: usize = inner.iter().product();
                for row in 0..rows {
                    let start = row * row_elements;
                    writer.nested(values.slice(start..start + row_elements), inner);
                }
            }),
        }
    }

    /// Ends a line: of documents written one a line, or of numbers and [cells](Self::cell) with
    /// commas between them, which are CSV.
    pub fn line(&mut self) {
        self.push(b'\n');
    }

    /// Writes a text as a cell of CSV (RFC 4180).
    pub fn cell(&mut self, text: &str) {
        self.separate();
        // Behind nothing, or one of these characters, the next comma would seem not to be due.
        let hides_comma = text.is_empty() || text.ends_with(['{', '[', ':']);
        if !hides_comma && !text.contains([',', '"', '\r', '\n']) {
            return self.extend(text.as_bytes());
        }
        self.push(b'"');
        for (index, piece) in text.split('"').enumerate() {
            if index > 0 {
                self.extend(b"\"\"");
            }
            self.extend(piece.as_bytes());
        }
        self.push(b'"');
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        room::<1>(&mut self.out, self.len)[0] = byte;
        self.len += 1;
    }

    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.out.len() {
            grow(&mut self.out, end);
        }
        self.out[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    #[inline]
    fn open(&mut self, bracket: u8) {
        self.separate();
        self.push(bracket);
    }

    /// Puts the comma before a value or key that follows another in its container.
    #[inline]
    fn separate(&mut self) {
        if !matches!(
            self.out[..self.len].last(),
            None | Some(b'{' | b'[' | b':' | b',' | b'\n')
        ) {
            self.push(b',');
        }
    }
}

/// The bytes after the first `len`. (It takes the fields apart so that who writes an array may keep
/// the length in a register.)
#[inline]
fn room<const BYTES: usize>(out: &mut Vec<u8>, len: usize) -> &mut [u8; BYTES] {
    if out.len() < len + BYTES {
        grow(out, len + BYTES);
    }
    out[len..].first_chunk_mut().expect("`out` has grown to it")
}

#[cold]
fn grow(out: &mut Vec<u8>, len: usize) {
    out.resize(len.max(2 * out.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::default();
        write(&mut writer);
        String::from_utf8(writer.into_bytes()).expect("JSON is UTF-8")
    }

    #[test]
    fn commas_stand_between_and_nowhere_else() {
        let text = written(|w| {
            w.object(|w| {
                w.key("a").array(|w| {
                    w.integer(1);
                    w.string("");
                    w.array(|_| {});
                    w.object(|_| {});
                });
                w.key("b").bool(true);
                w.key("c").f32s(&[]);
                w.key("d").f32s(&[1.0, -2.5]);
            });
        });
        assert_eq!(text, r#"{"a":[1,"",[],{}],"b":true,"c":[],"d":[1.0,-2.5]}"#);
    }

    #[test]
    fn strings_that_end_in_a_bracket_still_get_their_comma() {
        let text = written(|w| {
            w.array(|w| {
                w.string("[");
                w.string("{");
            });
        });
        assert_eq!(text, r#"["[","{"]"#);
    }

    #[test]
    fn strings_are_escaped() {
        let text = written(|w| w.string("\"\\\n\t\u{0}\u{1b}é\u{2028}/"));
        assert_eq!(text, "\"\\\"\\\\\\n\\t\\u0000\\u001bé\u{2028}/\"");
        let back: String = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back, "\"\\\n\t\u{0}\u{1b}é\u{2028}/");
    }

    #[test]
    fn every_number_carries_a_decimal_point() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e20, "1.0e+20"),
            (-1e-20, "-1.0e-20"),
            (1.5e20, "1.5e+20"),
            (f32::MAX, "3.4028235e+38"),
            (f32::from_bits(1), "1.0e-45"),
        ] {
            assert_eq!(written(|w| w.f32(value)), text);
        }
    }

    #[test]
    fn each_cell_has_its_comma() {
        let text = written(|w| {
            for text in ["", "a:", "[", "b c", "d\"e", "", "f"] {
                w.cell(text);
            }
            w.f32(1.0);
            w.line();
            w.cell("");
            w.cell("");
            w.line();
        });
        let lines = "\"\",\"a:\",\"[\",b c,\"d\"\"e\",\"\",f,1.0\n\"\",\"\"\n";
        assert_eq!(text, lines);
    }

    #[test]
    fn the_shape_of_a_tensor_is_its_nesting() {
        let values: Vec<f32> = (0..6).map(|value| value as f32).collect();
        let nested = |extents: &[usize]| written(|w| w.nested(View::F32(&values), extents));
        assert_eq!(nested(&[3, 2]), "[[0.0,1.0],[2.0,3.0],[4.0,5.0]]");
        assert_eq!(
            nested(&[1, 3, 2, 1]),
            "[[[[0.0],[1.0]],[[2.0],[3.0]],[[4.0],[5.0]]]]"
        );
        assert_eq!(written(|w| w.nested(View::F32(&[7.0]), &[])), "7.0");
        let integers = View::I64(&[1, -2, (1 << 53) + 1, i64::MIN]);
        assert_eq!(
            written(|w| w.nested(integers, &[2, 2])),
            "[[1,-2],[9007199254740993,-9223372036854775808]]"
        );
    }

    #[test]
    fn double_precision_reads_back() {
        for (value, text) in [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e300, "1e300"),
            (f64::from_bits(1), "5e-324"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(written(|w| w.f64(value)), text);
        }
    }

    #[test]
    fn what_is_written_reads_back_bit_for_bit() {
        // Every 40,009th pattern: all exponents, both signs, over 10^5 mantissas.
        for bits in (0..=u32::MAX).step_by(40_009) {
            let value = f32::from_bits(bits);
            if value.is_finite() {
                let text = written(|w| w.f32(value));
                assert!(text.contains('.'), "{text}");
                let (back, _) =
                    crate::json::number::parse_f32(text.as_bytes(), 0).expect("a number");
                assert_eq!(back.to_bits(), bits, "{text}");
            }
        }
    }
}
