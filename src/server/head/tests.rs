use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    max_headers: 100,
    max_bytes: 1000,
};

fn next(bytes: &[u8]) -> Result<Option<Head>, Answer> {
    Heads::default().next(&mut BytesMut::from(bytes), LIMITS)
}

/// The head of a request with these header lines, each with its end.
fn post(headers: &str) -> Result<Head, Answer> {
    let head = format!("POST /a?b HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    next(head.as_bytes()).map(|head| head.expect("it is whole"))
}

#[test]
fn a_head_ends_with_its_empty_line_and_leaves_the_rest() {
    let mut input = BytesMut::from(
        &b"\r\n\nPOST /a?b HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 3\r\n\r\nabcGET"[..],
    );
    let mut heads = Heads::default();
    let head = heads.next(&mut input, LIMITS).unwrap().unwrap();
    assert_eq!(&input[..], b"abcGET");
    assert_eq!(head.parts.method, "POST");
    assert_eq!(head.parts.uri, "/a?b");
    assert_eq!(head.parts.version, Version::HTTP_11);
    let values: Vec<_> = head.parts.headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(head.length, BodyLength::Bytes(3));
    assert!(head.keep_alive && !head.expects_continue);
    // Lines may end in LF alone (RFC 9112, section 2.2).
    assert!(next(b"GET / HTTP/1.1\nHost: a\n\n").unwrap().is_some());
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let whole = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut input = BytesMut::new();
    let mut heads = Heads::default();
    for (i, byte) in whole.iter().enumerate() {
        input.extend_from_slice(&[*byte]);
        let head = heads.next(&mut input, LIMITS).unwrap();
        assert_eq!(head.is_some(), i == whole.len() - 1, "{i}");
    }
    assert!(input.is_empty());
}

#[test]
fn empty_lines_may_be_cut_anywhere_and_have_a_bound() {
    let mut input = BytesMut::new();
    let mut heads = Heads::default();
    for part in ["\r", "\n\r", "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        input.extend_from_slice(part.as_bytes());
        let head = heads.next(&mut input, LIMITS).unwrap();
        assert_eq!(head.is_some(), part.len() > 2, "{part:?}");
    }
    assert!(next("\r\n".repeat(MAX_EMPTY_BYTES / 2).as_bytes()).is_ok());
    let endless = "\r\n".repeat(MAX_EMPTY_BYTES / 2 + 1);
    assert_eq!(next(endless.as_bytes()).unwrap_err(), answer::MALFORMED);
}

#[test]
fn what_is_no_request_is_refused_before_its_end() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\0",
        b"G@T / HT",
        b"GET / HTTP/2",
        b"GET / HTTP/9.9\r\n",
    ] {
        assert_eq!(next(garbage).unwrap_err(), answer::MALFORMED, "{garbage:?}");
    }
}

#[test]
fn a_head_has_a_bound_on_its_bytes_and_headers() {
    let long = "x".repeat(1000);
    let refusal = |head: String| next(head.as_bytes()).unwrap_err();
    assert_eq!(refusal(format!("GET /{long}")), answer::URI_TOO_LONG);
    assert_eq!(
        refusal(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}")),
        answer::HEADERS_TOO_LARGE
    );
    assert_eq!(
        refusal(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")),
        answer::HEADERS_TOO_LARGE
    );
    let headers = |count| {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "a: b\r\n".repeat(count)
        );
        next(head.as_bytes()).map(|head| head.unwrap().parts.headers.len())
    };
    for count in [USUAL_HEADERS - 1, USUAL_HEADERS, 99] {
        assert_eq!(headers(count), Ok(count + 1));
    }
    assert_eq!(headers(100), Err(answer::HEADERS_TOO_LARGE));
}

#[test]
fn the_length_of_a_body_is_told_in_one_way() {
    let length = |headers: &str| post(headers).map(|head| head.length);
    assert_eq!(length(""), Ok(BodyLength::Bytes(0)));
    assert_eq!(
        length("content-LENGTH:  45 \r\n"),
        Ok(BodyLength::Bytes(45))
    );
    assert_eq!(
        length("Content-Length: 5\r\nContent-Length: 5\r\n"),
        Ok(BodyLength::Bytes(5))
    );
    assert_eq!(
        length("Transfer-Encoding: Chunked\r\n"),
        Ok(BodyLength::Chunked)
    );
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:bad\r\n",
    ] {
        assert_eq!(length(headers), Err(answer::AMBIGUOUS_LENGTH), "{headers}");
    }
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 18446744073709551616\r\n",
    ] {
        assert_eq!(length(headers), Err(answer::MALFORMED), "{headers}");
    }
    for headers in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \r\n",
    ] {
        let refusal = Err(answer::UNKNOWN_TRANSFER_CODING);
        assert_eq!(length(headers), refusal, "{headers}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(next(old).unwrap_err(), answer::UNKNOWN_TRANSFER_CODING);
}

#[test]
fn http_1_1_needs_one_host_and_http_1_0_none() {
    let refusal = |head: &[u8]| next(head).map(|_| ()).unwrap_err();
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\r\n"), answer::BAD_HOST);
    assert_eq!(post("Host: y\r\n").unwrap_err(), answer::BAD_HOST);
    assert!(next(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
}

#[test]
fn who_keeps_the_connection() {
    assert!(post("Connection: keep-alive\r\n").unwrap().keep_alive);
    for headers in [
        "Connection: close\r\n",
        "Connection: TE, Close\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
    ] {
        assert!(!post(headers).unwrap().keep_alive, "{headers}");
    }
    let old = |headers: &str| {
        let head = format!("GET / HTTP/1.0\r\n{headers}\r\n");
        next(head.as_bytes()).unwrap().unwrap().keep_alive
    };
    assert!(!old(""));
    assert!(old("Connection: Keep-Alive\r\n"));
    assert!(!old("Connection: close, keep-alive\r\n"));
    assert!(post("Expect: 100-Continue\r\n").unwrap().expects_continue);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = next(&bytes);
    }

    #[test]
    fn almost_heads_do_not_panic(
        start in "(GET|POST|\\*|) ?[ -~]{0,20} HTTP/1.[01]\r?\n",
        headers in "([!-~]{1,9}: ?[ -~\t]{0,20}\r?\n){0,5}",
    ) {
        let _ = next(format!("{start}{headers}\r\n").as_bytes());
    }
}
