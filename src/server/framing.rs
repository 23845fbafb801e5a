//! Follows where in a connection's bytes one request ends and the next begins.
//!
//! The HTTP library tells nobody when a head has begun but not ended, and it drops
//! `Content-Length` from a request that has `Transfer-Encoding` too before any handler sees it.
//! Both matter here: the first to tell a slow client from an idle one, the second because proxies
//! that trust the other header would take the rest of the body for a request of its own (RFC 9112,
//! section 6.3). This follows the bytes beside the library and decides nothing else: what is not
//! well-formed makes it [`Phase::Lost`], and the library refuses it.

use memchr::memchr;

/// The first bytes of a line that are looked at; no line that matters is longer.
const LINE_START_BYTES: usize = 64;

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two requests.
    Between,
    /// In a request's line or headers.
    Head,
    /// In a request's body.
    Body,
    /// Unknown, after something malformed.
    Lost,
}

/// The place in a connection's incoming bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The start of the line that is being read, without its end.
    line: Vec<u8>,
    /// Whether the current line holds more than `line` does.
    line_is_longer: bool,
    /// Whether a byte of the current head has come.
    begun: bool,
    request_line_seen: bool,
    length: Length,
    chunked: bool,
    heads: u64,
    ambiguous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailers,
    Lost,
}

/// What the `Content-Length` headers of a head say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Absent,
    Given(u64),
    Malformed,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            line_is_longer: false,
            begun: false,
            request_line_seen: false,
            length: Length::Absent,
            chunked: false,
            heads: 0,
            ambiguous: false,
        }
    }

    /// Where the next byte belongs.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Head if self.begun => Phase::Head,
            State::Head => Phase::Between,
            State::Lost => Phase::Lost,
            _ => Phase::Body,
        }
    }

    /// Heads that ended.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether some head had both `Content-Length` and `Transfer-Encoding`.
    pub(super) fn is_ambiguous(&self) -> bool {
        // What this parser cannot follow may hide a second length.
        self.ambiguous || matches!(self.state, State::Lost)
    }

    /// Takes the next bytes.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Body(left) | State::ChunkData(left) => {
                    let taken = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = match self.state {
                            State::ChunkData(_) => State::ChunkEnd,
                            _ => State::Head,
                        };
                    }
                }
                State::Lost => return,
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    self.begun |= self.state == State::Head;
                    let (part, rest, ended) = match memchr(b'\n', bytes) {
                        Some(end) => (&bytes[..end], &bytes[end + 1..], true),
                        None => (bytes, &[][..], false),
                    };
                    let room = LINE_START_BYTES - self.line.len();
                    self.line_is_longer |= part.len() > room;
                    self.line.extend_from_slice(&part[..part.len().min(room)]);
                    bytes = rest;
                    if ended {
                        self.end_line();
                        self.line.clear();
                        self.line_is_longer = false;
                    }
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let is_empty = line.is_empty() && !self.line_is_longer;
        match self.state {
            State::Head if !is_empty => {
                if self.request_line_seen {
                    self.header();
                }
                self.request_line_seen = true;
            }
            // Empty lines before a request are skipped (RFC 9112, section 2.2).
            State::Head if !self.request_line_seen => self.begun = false,
            State::Head => self.end_head(),
            State::ChunkSize => {
                let digits = line
                    .iter()
                    .take_while(|byte| byte.is_ascii_hexdigit())
                    .count();
                let size = std::str::from_utf8(&line[..digits])
                    .ok()
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok());
                self.state = match size {
                    Some(0) => State::Trailers,
                    Some(size) => State::ChunkData(size),
                    None => State::Lost,
                };
            }
            State::ChunkEnd => {
                self.state = if is_empty {
                    State::ChunkSize
                } else {
                    State::Lost
                };
            }
            State::Trailers if is_empty => self.state = State::Head,
            State::Trailers => {}
            State::Body(_) | State::ChunkData(_) | State::Lost => {
                unreachable!("these states read no lines")
            }
        }
    }

    fn header(&mut self) {
        let Some(colon) = memchr(b':', &self.line) else {
            return;
        };
        let (name, value) = (&self.line[..colon], &self.line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).ok().map(str::trim);
            let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let given = digits.and_then(|digits| digits.parse().ok());
            self.length = match (self.length, given) {
                _ if self.line_is_longer => Length::Malformed,
                (Length::Absent, Some(length)) => Length::Given(length),
                (Length::Given(before), Some(length)) if before == length => self.length,
                _ => Length::Malformed,
            };
        }
    }

    fn end_head(&mut self) {
        self.heads += 1;
        self.ambiguous |= self.chunked && self.length != Length::Absent;
        self.state = match self.length {
            _ if self.chunked => State::ChunkSize,
            Length::Absent | Length::Given(0) => State::Head,
            Length::Given(length) => State::Body(length),
            Length::Malformed => State::Lost,
        };
        self.begun = false;
        self.request_line_seen = false;
        self.length = Length::Absent;
        self.chunked = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(bytes: &[u8]) -> Framing {
        let mut framing = Framing::new();
        framing.advance(bytes);
        framing
    }

    #[test]
    fn a_head_begins_with_its_first_byte_and_ends_with_the_empty_line() {
        assert_eq!(after(b"").phase(), Phase::Between);
        assert_eq!(after(b"P").phase(), Phase::Head);
        assert_eq!(after(b"GET / HTTP/1.1\r\nHost: a\r\n").phase(), Phase::Head);
        let whole = after(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((whole.phase(), whole.heads()), (Phase::Between, 1));
        let bare = after(b"GET / HTTP/1.1\nHost: a\n\n");
        assert_eq!((bare.phase(), bare.heads()), (Phase::Between, 1));
    }

    #[test]
    fn empty_lines_before_a_request_are_no_head() {
        let framing = after(b"\r\n\r\n");
        assert_eq!((framing.phase(), framing.heads()), (Phase::Between, 0));
    }

    #[test]
    fn a_body_is_skipped_by_its_length_whatever_it_says() {
        let head = b"POST / HTTP/1.1\r\ncontent-LENGTH:  45 \r\n\r\n".as_slice();
        let body = b"a: b\r\n\r\nTransfer-Encoding: chunked\r\n\r\nGET / \n";
        assert_eq!(body.len(), 45);
        let most = [head, &body[..44]].concat();
        assert_eq!(after(&most).phase(), Phase::Body);
        let whole = after(&[head, body].concat());
        assert_eq!((whole.phase(), whole.heads()), (Phase::Between, 1));
        assert!(!whole.is_ambiguous());
    }

    #[test]
    fn chunks_are_skipped_with_their_extensions_and_trailers() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        let body = b"5;name=value\r\n\r\n\r\nX\r\nA\r\n0123456789\r\n0\r\nDigest: x\r\n\r\n";
        let whole = after(&[head, body].concat());
        assert_eq!((whole.phase(), whole.heads()), (Phase::Between, 1));
        let most = after(&[head, &body[..body.len() - 1]].concat());
        assert_eq!(most.phase(), Phase::Body);
    }

    #[test]
    fn both_lengths_in_one_head_are_ambiguous_in_either_order() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "transfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:bad\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n");
            assert!(after(head.as_bytes()).is_ambiguous(), "{headers}");
        }
        let two = b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let framing = after(two);
        assert_eq!((framing.heads(), framing.is_ambiguous()), (2, false));
    }

    #[test]
    fn a_request_line_that_looks_like_a_header_is_none() {
        let framing = after(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(!framing.is_ambiguous());
    }

    #[test]
    fn lengths_that_disagree_or_are_no_numbers_are_lost() {
        for headers in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 0000000000000000000000000000000000000000000000000000000000000001\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(after(head.as_bytes()).phase(), Phase::Lost, "{headers}");
        }
        let same = after(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n1234");
        assert_eq!(same.phase(), Phase::Body);
        let chunk = after(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
        assert_eq!(chunk.phase(), Phase::Lost);
        let end = after(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n");
        assert_eq!(end.phase(), Phase::Lost);
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(cuts in prop::collection::vec(1usize..7, 0..80)) {
            let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789\
                POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n\
                GET /c HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nx";
            let mut framing = Framing::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                framing.advance(part);
                rest = after;
            }
            framing.advance(rest);
            prop_assert_eq!(framing.heads(), 3);
            prop_assert!(framing.is_ambiguous());
            prop_assert_eq!(framing.phase(), Phase::Body);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            after(&bytes);
        }
    }
}
