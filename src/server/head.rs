//! Heads of requests: where one ends, and what it says (RFC 9112, sections 2 to 6).
//!
//! The syntax is `httparse`'s. This adds the framing of the body, and refuses everything that two
//! parsers could understand in two ways.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::InvalidUri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use memchr::memchr;

use super::answer::{self, Answer};

/// A head with more headers than this is parsed into memory of its own.
const USUAL_HEADERS: usize = 32;

/// The most bytes of empty lines before a head. Clients that send any send one.
const MAX_EMPTY_BYTES: usize = 64;

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) max_headers: usize,
    pub(super) max_bytes: usize,
}

/// A request's head, and what follows from it for the connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) length: BodyLength,
    /// Whether the client wants to reuse the connection.
    pub(super) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// This many bytes. 0 is no body.
    Bytes(u64),
    /// In chunks.
    Chunked,
}

/// Finds heads in what a connection has read.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// How much of the input is known not to hold the end of a head.
    searched: usize,
    /// Bytes of empty lines since the last head.
    empty_bytes: usize,
}

impl Heads {
    /// Takes the next head off `input`; `None` if it is not whole yet.
    ///
    /// # Errors
    /// The answer for a head that cannot become a good one. Where the next request begins is
    /// unknown then, and the connection has to end.
    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        limits: HeadLimits,
    ) -> Result<Option<Head>, Answer> {
        if self.searched == 0 {
            // Empty lines before a request are skipped (RFC 9112, section 2.2).
            while let Some(empty) = ["\n", "\r\n"]
                .iter()
                .find(|empty| input.starts_with(empty.as_bytes()))
            {
                input.advance(empty.len());
                self.empty_bytes += empty.len();
            }
            // Endless empty lines would keep the connection busy without any time limit.
            if self.empty_bytes > MAX_EMPTY_BYTES {
                return Err(answer::MALFORMED);
            }
            // Half an empty line.
            if **input == *b"\r" {
                return Ok(None);
            }
        }
        let Some(end) = end_of_head(input, self.searched) else {
            if input.len() > limits.max_bytes {
                return Err(too_large(input));
            }
            // Most input that is not HTTP never has an end.
            if self.searched == 0 && !input.is_empty() {
                refuse_garbage(input, limits.max_headers)?;
            }
            self.searched = input.len();
            return Ok(None);
        };
        if end > limits.max_bytes {
            return Err(too_large(input));
        }
        *self = Self::default();
        let bytes = input.split_to(end).freeze();
        parse(&bytes, limits.max_headers).map(Some)
    }
}

/// The bytes up to the end of the first empty line; `searched` of them hold none.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    // The last bytes may be the beginning of what is looked for.
    let mut from = searched.saturating_sub(2);
    while let Some(line_end) = memchr(b'\n', &bytes[from..]) {
        from += line_end + 1;
        match bytes[from..] {
            [b'\n', ..] => return Some(from + 1),
            [b'\r', b'\n', ..] => return Some(from + 2),
            _ => {}
        }
    }
    None
}

/// Which part of a head is too large.
fn too_large(head: &[u8]) -> Answer {
    match memchr(b'\n', head) {
        Some(_) => answer::HEADERS_TOO_LARGE,
        None => answer::URI_TOO_LONG,
    }
}

/// Refuses input that does not begin as a request.
fn refuse_garbage(bytes: &[u8], max_headers: usize) -> Result<(), Answer> {
    let mut headers = vec![httparse::EMPTY_HEADER; max_headers];
    match httparse::Request::new(&mut headers).parse(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(malformed(error)),
    }
}

fn malformed(error: httparse::Error) -> Answer {
    match error {
        httparse::Error::TooManyHeaders => answer::HEADERS_TOO_LARGE,
        _ => answer::MALFORMED,
    }
}

/// Reads a whole head.
fn parse(bytes: &Bytes, max_headers: usize) -> Result<Head, Answer> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let room = max_headers.min(USUAL_HEADERS);
    let parsed = request.parse_with_uninit_headers(bytes, &mut usual[..room]);
    match parsed {
        Ok(_) => read(bytes, &request),
        Err(httparse::Error::TooManyHeaders) if max_headers > USUAL_HEADERS => {
            let mut many = vec![MaybeUninit::uninit(); max_headers];
            let mut request = httparse::Request::new(&mut []);
            request
                .parse_with_uninit_headers(bytes, &mut many)
                .map_err(malformed)?;
            read(bytes, &request)
        }
        Err(error) => Err(malformed(error)),
    }
}

/// Takes over what was parsed. Values share the head's memory.
fn read(bytes: &Bytes, request: &httparse::Request<'_, '_>) -> Result<Head, Answer> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        // The head has its end, so all of its parts were there to be parsed.
        return Err(answer::MALFORMED);
    };
    let mut parts = Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| answer::MALFORMED)?;
    parts.uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes()))
        .map_err(|error: InvalidUri| uri_refusal(&error))?;
    parts.version = match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let mut facts = Facts::default();
    parts.headers = HeaderMap::with_capacity(request.headers.len());
    for header in &*request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| answer::MALFORMED)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value))
            .map_err(|_| answer::MALFORMED)?;
        facts.learn(&name, header.value);
        parts.headers.append(name, value);
    }
    // RFC 9112, section 3.2.
    let is_old = parts.version == Version::HTTP_10;
    if facts.hosts > 1 || facts.hosts == 0 && !is_old {
        return Err(answer::BAD_HOST);
    }
    Ok(Head {
        parts,
        length: facts.body_length(is_old)?,
        keep_alive: if is_old {
            facts.says_keep_alive && !facts.says_close
        } else {
            !facts.says_close
        },
        expects_continue: facts.expects_continue && !is_old,
    })
}

/// What a head's headers say about the connection.
#[derive(Debug, Default)]
struct Facts {
    hosts: usize,
    content_length: Option<ContentLength>,
    transfer_codings: usize,
    /// Whether one of the transfer codings is another than `chunked`.
    is_coded: bool,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentLength {
    Bytes(u64),
    /// No number, or several that differ.
    Malformed,
}

impl Facts {
    fn learn(&mut self, name: &HeaderName, value: &[u8]) {
        match *name {
            HOST => self.hosts += 1,
            CONTENT_LENGTH => {
                let length = content_length(value);
                self.content_length = match self.content_length {
                    Some(before) if before != length => Some(ContentLength::Malformed),
                    _ => Some(length),
                };
            }
            TRANSFER_ENCODING => {
                self.transfer_codings += 1;
                self.is_coded |= !value.eq_ignore_ascii_case(b"chunked");
            }
            CONNECTION => {
                self.says_close |= has_token(value, b"close");
                self.says_keep_alive |= has_token(value, b"keep-alive");
            }
            EXPECT => self.expects_continue |= has_token(value, b"100-continue"),
            _ => {}
        }
    }

    /// How the body is framed (RFC 9112, section 6.3), and no guesses.
    fn body_length(&self, is_old: bool) -> Result<BodyLength, Answer> {
        match (self.content_length, self.transfer_codings) {
            (None, 0) => Ok(BodyLength::Bytes(0)),
            (Some(ContentLength::Bytes(bytes)), 0) => Ok(BodyLength::Bytes(bytes)),
            (Some(ContentLength::Malformed), 0) => Err(answer::MALFORMED),
            // A proxy that trusts the other length would take the rest of the body for the next request.
            (Some(_), _) => Err(answer::AMBIGUOUS_LENGTH),
            // Several such headers are one list (RFC 9110, section 5.3), and of a list the last
            // coding alone would take a compressed body for a plain one.
            (None, 1) if !self.is_coded && !is_old => Ok(BodyLength::Chunked),
            (None, _) => Err(answer::UNKNOWN_TRANSFER_CODING),
        }
    }
}

fn content_length(value: &[u8]) -> ContentLength {
    let digits = str::from_utf8(value).ok().filter(|digits| {
        // A sign would parse too.
        digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    digits
        .and_then(|digits| digits.parse().ok())
        .map_or(ContentLength::Malformed, ContentLength::Bytes)
}

/// Whether a list has a token.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

fn uri_refusal(error: &InvalidUri) -> Answer {
    // The type's kinds differ only in their text.
    if error.to_string().contains("too long") {
        answer::URI_TOO_LONG
    } else {
        answer::MALFORMED
    }
}

#[cfg(test)]
mod tests;
