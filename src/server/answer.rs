//! Answers that the connection gives itself, in the JSON of all other errors.

use crate::http::{REQUEST_ID, new_request_id};
use bytes::Bytes;
use http::StatusCode;

/// An error answer that no handler made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
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

const MALFORMED: Answer = Answer {
    status: StatusCode::BAD_REQUEST,
    code: "malformed_request",
    message: "the request's line or headers are not well-formed HTTP/1.1",
};

const URI_TOO_LONG: Answer = Answer {
    status: StatusCode::URI_TOO_LONG,
    code: "uri_too_long",
    message: "the request's path is too long; send data in the body",
};

const HEADERS_TOO_LARGE: Answer = Answer {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "headers_too_large",
    message: "the request has too many or too large headers",
};

impl Answer {
    pub(super) fn body(self) -> Bytes {
        // The messages are written here and need no escaping; a test holds that.
        format!(
            "{{\"error\":\"{}\",\"code\":\"{}\"}}",
            self.message, self.code
        )
        .into()
    }

    /// The whole answer as it goes over the wire, after which the connection closes.
    pub(super) fn bytes(self) -> Vec<u8> {
        let body = self.body();
        let retry_after = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => "retry-after: 1\r\n",
            _ => "",
        };
        let mut answer = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             {REQUEST_ID}: {}\r\n{retry_after}connection: close\r\n\r\n",
            self.status,
            body.len(),
            new_request_id().to_str().unwrap_or_default(),
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        answer
    }
}

/// What the HTTP library is about to send for a head that it refuses.
///
/// It answers those itself, without a body, and has no hook for another answer. Its answer is the
/// last thing it writes: a status line, `connection: close`, `content-length: 0` and a date. No
/// handler's answer ends so: errors of this server have bodies, and JSON has no bare line ends.
///
/// Returns where in `output` that answer begins, and the answer to send instead.
pub(super) fn replacement(output: &[u8]) -> Option<(usize, Answer)> {
    // The answer is 102 bytes long with the longest of its reasons, 135.
    const LONGEST: usize = 160;
    if !output.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = output.len().saturating_sub(LONGEST);
    let start = from + memchr::memmem::rfind(&output[from..], b"HTTP/1.1 4")?;
    let head = std::str::from_utf8(&output[start..]).ok()?;
    let mut lines = head.split("\r\n");
    let answer = match lines.next()?.get(9..12)? {
        "400" => MALFORMED,
        "414" => URI_TOO_LONG,
        "431" => HEADERS_TOO_LARGE,
        _ => return None,
    };
    let is_bare = lines.next() == Some("connection: close")
        && lines.next() == Some("content-length: 0")
        && lines.next()?.starts_with("date: ")
        && lines.eq(["", ""]);
    is_bare.then_some((start, answer))
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
    fn the_librarys_bare_answer_is_found_behind_an_answer_of_ours() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: Mon, 23 Nov 2026 22:19:36 GMT\r\n\r\n";
        assert_eq!(replacement(bare.as_bytes()), Some((0, HEADERS_TOO_LARGE)));
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let both = format!("{before}{bare}");
        assert_eq!(
            replacement(both.as_bytes()),
            Some((before.len(), HEADERS_TOO_LARGE))
        );
    }

    #[test]
    fn other_output_is_left_alone() {
        for output in [
            "",
            "\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 31\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
            "HTTP/1.1 4\r\n\r\n",
        ] {
            assert_eq!(replacement(output.as_bytes()), None, "{output}");
        }
    }
}
