//! Bodies in chunks (RFC 9112, section 7.1).
//!
//! Line ends are CR LF and nothing else, sizes are digits and nothing else: a difference in what two
//! parsers accept is how a body can hide a request.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

/// The most bytes of a line with a chunk's size, extensions included, or of a trailer.
const MAX_LINE_BYTES: usize = 4096;
/// The most bytes of all trailers.
const MAX_TRAILER_BYTES: usize = 16 << 10;
/// Hexadecimal digits of the largest size.
const MAX_DIGITS: usize = 16;

/// What comes next in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// A line with the size of a chunk.
    Size,
    /// This many bytes of a chunk, at least 1.
    Data(u64),
    /// The line end after a chunk's bytes.
    DataEnd,
    /// Trailers; this many bytes of them have come.
    Trailers(usize),
    /// The next request.
    Done,
}

/// The chunks are not well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    /// Takes the next bytes of the body off `input`.
    ///
    /// `None` if more input is needed first, or none is left to come: [`Chunks::Done`].
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        loop {
            match *self {
                Self::Size => {
                    let Some(line) = line(input)? else {
                        return Ok(None);
                    };
                    *self = match size(&line)? {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    let here = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if here == 0 {
                        return Ok(None);
                    }
                    *self = match left - here as u64 {
                        0 => Self::DataEnd,
                        left => Self::Data(left),
                    };
                    return Ok(Some(input.split_to(here).freeze()));
                }
                Self::DataEnd => match **input {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Malformed),
                },
                Self::Trailers(before) => {
                    let Some(line) = line(input)? else {
                        return Ok(None);
                    };
                    let after = before + line.len();
                    *self = match line.len() {
                        0 => Self::Done,
                        _ if after > MAX_TRAILER_BYTES => return Err(Malformed),
                        _ => Self::Trailers(after),
                    };
                }
                Self::Done => return Ok(None),
            }
        }
    }
}

/// Takes a line off the input, and gives it without its end.
fn line(input: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    match memchr(b'\n', input) {
        Some(end) if end <= MAX_LINE_BYTES => {
            let mut line = input.split_to(end + 1);
            line.truncate(end);
            // Some parsers would take a CR inside for a line end.
            match memchr(b'\r', &line) {
                Some(cr) if cr + 1 == end => {
                    line.truncate(cr);
                    Ok(Some(line))
                }
                _ => Err(Malformed),
            }
        }
        None if input.len() <= MAX_LINE_BYTES => Ok(None),
        _ => Err(Malformed),
    }
}

/// The size that a line gives, whatever extensions follow it.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, rest) = line.split_at(digits.count());
    // RFC 9112, section 7.1.1, allows blanks before the semicolon.
    let has_extensions = matches!(rest.trim_ascii_start().first(), Some(b';'));
    if digits.is_empty() || digits.len() > MAX_DIGITS || !rest.is_empty() && !has_extensions {
        return Err(Malformed);
    }
    let digits = str::from_utf8(digits).map_err(|_| Malformed)?;
    u64::from_str_radix(digits, 16).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body of a whole input and what follows it.
    fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Chunks, Vec<u8>), Malformed> {
        let mut input = BytesMut::from(bytes);
        let mut chunks = Chunks::Size;
        let mut body = Vec::new();
        while let Some(piece) = chunks.next(&mut input)? {
            body.extend_from_slice(&piece);
        }
        Ok((body, chunks, input.to_vec()))
    }

    #[test]
    fn a_body_ends_after_its_trailers() {
        let body =
            b"5;name=value\r\n\r\n\r\nX\r\nA \t;q\r\n0123456789\r\n000\r\nDigest: x\r\n\r\nGET";
        let (body, end, rest) = decode(body).unwrap();
        assert_eq!(body, b"\r\n\r\nX0123456789");
        assert_eq!((end, &rest[..]), (Chunks::Done, &b"GET"[..]));
    }

    #[test]
    fn half_a_body_waits_for_the_other_half() {
        let whole = b"3\r\nabc\r\n0\r\nT: v\r\n\r\n";
        for cut in 0..whole.len() {
            let (body, end, _) = decode(&whole[..cut]).unwrap();
            assert!(b"abc".starts_with(&body[..]), "{cut}");
            assert_ne!(end, Chunks::Done, "{cut}");
        }
    }

    #[test]
    fn what_readers_could_disagree_about_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1 2\r\na\r\n",
            "1\na\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\nabc\r\n",
            "1;a\rb\r\na\r\n",
            "0\r\nX: y\n\r\n",
            "00000000000000001\r\na\r\n",
            "10000000000000000\r\na\r\n",
        ] {
            assert_eq!(decode(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }

    #[test]
    fn lines_and_trailers_have_a_bound() {
        let long = "x".repeat(MAX_LINE_BYTES);
        assert!(decode(format!("1;{long}").as_bytes()).is_err());
        assert!(decode(format!("1;{}\r\na", &long[..1000]).as_bytes()).is_ok());
        let trailers = format!("X: {}\r\n", &long[..1000]).repeat(17);
        assert!(decode(format!("0\r\n{trailers}").as_bytes()).is_err());
        assert!(decode(format!("0\r\n{}", &trailers[..10_050]).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8),
            cuts in prop::collection::vec(1usize..9, 0..200),
        ) {
            let mut wire = Vec::new();
            for piece in &pieces {
                wire.extend(format!("{:X}\r\n", piece.len()).bytes());
                wire.extend(piece);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\nrest");
            let mut input = BytesMut::new();
            let mut chunks = Chunks::Size;
            let mut body = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                input.extend_from_slice(part);
                while let Some(piece) = chunks.next(&mut input).unwrap() {
                    body.extend_from_slice(&piece);
                }
            }
            prop_assert_eq!(chunks, Chunks::Done);
            prop_assert_eq!(body, pieces.concat());
            prop_assert_eq!(&input[..], b"rest");
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
