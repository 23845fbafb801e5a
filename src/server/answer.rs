//! How answers are written, and the connection's own answers, in the JSON of all other errors.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Version};

use crate::http::{REQUEST_ID, new_request_id};

/// An error answer that no handler made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(super) status: StatusCode,
    /// The machine-readable code of the error's body.
    code: &'static str,
    message: &'static str,
}

/// As many connections as allowed are open.
pub(super) const TOO_MANY_CONNECTIONS: Answer = Answer {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "too_many_connections",
    message: "as many connections as the server allows are open; \
              try again in 1 s, and reuse connections",
};

/// A head took longer than allowed.
pub(super) const HEADER_TIMEOUT: Answer = Answer {
    status: StatusCode::REQUEST_TIMEOUT,
    code: "header_timeout",
    message: "the request's line and headers took too long to arrive; send them at once",
};

/// Both lengths in one head.
pub(super) const AMBIGUOUS_LENGTH: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    code: "ambiguous_length",
    message: "the request has both Content-Length and Transfer-Encoding; send one of them",
};

/// A transfer coding other than `chunked`, whose bytes would be taken for the body's.
pub(super) const UNKNOWN_TRANSFER_CODING: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    code: "unknown_transfer_coding",
    message: "the request's Transfer-Encoding is not chunked; send the body as it is",
};

/// HTTP/1.1 without exactly one `Host`.
pub(super) const BAD_HOST: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    code: "bad_host",
    message: "an HTTP/1.1 request needs exactly one Host header",
};

/// No HTTP/1.1.
pub(super) const MALFORMED: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    code: "malformed_request",
    message: "the request's line or headers are not well-formed HTTP/1.1",
};

/// The first line alone is larger than a head may be.
pub(super) const URI_TOO_LONG: Answer = Answer {
    status: StatusCode::URI_TOO_LONG,
    code: "uri_too_long",
    message: "the request's path is too long; send data in the body",
};

/// The head is larger than allowed.
pub(super) const HEADERS_TOO_LARGE: Answer = Answer {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "headers_too_large",
    message: "the request has too many or too large headers",
};

impl Answer {
    /// The whole answer as it goes over the wire, after which the connection closes.
    pub(super) fn bytes(self) -> Vec<u8> {
        // The messages are written here and need no escaping; a test checks that.
        let body = format!(
            "{{\"error\":\"{}\",\"code\":\"{}\"}}",
            self.message, self.code
        );
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REQUEST_ID, new_request_id());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let mut answer = Vec::new();
        write_head(&mut answer, &response, Version::HTTP_11, false);
        answer.extend_from_slice(response.body());
        answer
    }
}

/// Writes the head of a response to a request.
///
/// `keep_alive` says whether another request may follow: as HTTP/1.1 does not have to say, unless
/// the client's version is older.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    response: &Response<Bytes>,
    version: Version,
    keep_alive: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    let reason = response.status().canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    for (name, value) in response.headers() {
        write_header(out, name.as_str(), value.as_bytes());
    }
    let mut digits = itoa::Buffer::new();
    let length = digits.format(response.body().len());
    write_header(out, "content-length", length.as_bytes());
    write_header(out, "date", &date());
    match (keep_alive, version) {
        (false, _) => write_header(out, "connection", b"close"),
        (true, Version::HTTP_10) => write_header(out, "connection", b"keep-alive"),
        (true, _) => {}
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Ends the previous line, and begins another.
fn write_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// The length of a date as HTTP writes it.
const DATE_BYTES: usize = 29;

/// The time now, formatted once a second a thread.
fn date() -> [u8; DATE_BYTES] {
    thread_local! {
        static LAST: Cell<(u64, [u8; DATE_BYTES])> = const { Cell::new((0, [b' '; DATE_BYTES])) };
    }
    let now = SystemTime::now();
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (last, mut text) = LAST.get();
    if seconds != last {
        // The length is fixed (RFC 9110, section 5.6.7).
        let date = httpdate::fmt_http_date(now);
        text.copy_from_slice(date.as_bytes());
        LAST.set((seconds, text));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_one_json_object_with_its_length() {
        for answer in [
            TOO_MANY_CONNECTIONS,
            HEADER_TIMEOUT,
            AMBIGUOUS_LENGTH,
            UNKNOWN_TRANSFER_CODING,
            BAD_HOST,
            MALFORMED,
            URI_TOO_LONG,
            HEADERS_TOO_LARGE,
        ] {
            let text = String::from_utf8(answer.bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {}\r\n", answer.status)));
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
            assert!(head.contains("\r\nconnection: close"));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"], answer.message);
            assert_eq!(body["code"], answer.code);
        }
    }

    #[test]
    fn a_head_says_what_the_response_says_and_whether_another_request_may_follow() {
        let mut response = Response::new(Bytes::from_static(b"{}"));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let head = |version, keep_alive| {
            let mut out = Vec::new();
            write_head(&mut out, &response, version, keep_alive);
            let text = String::from_utf8(out).unwrap();
            let (before, after) = text.split_once("date: ").unwrap();
            let (date, end) = after.split_at(DATE_BYTES);
            assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
            (before.to_owned(), end.to_owned())
        };
        let (start, end) = head(Version::HTTP_11, true);
        assert_eq!(
            start,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        );
        assert_eq!(end, "\r\n\r\n");
        let close = "\r\nconnection: close\r\n\r\n";
        assert_eq!(head(Version::HTTP_11, false).1, close);
        assert_eq!(head(Version::HTTP_10, false).1, close);
        let kept = "\r\nconnection: keep-alive\r\n\r\n";
        assert_eq!(head(Version::HTTP_10, true).1, kept);
    }
}
