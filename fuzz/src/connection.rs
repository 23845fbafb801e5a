//! Bytes of a connection, through the loop that serves connections, over a real socket.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use safeserve::config::{Overrides, Settings};
use safeserve::http::Routes;
use safeserve::lifecycle::Lifecycle;
use safeserve::server::{Handler, IoThreads, Listen, RequestBody, Server};

use super::answer::check;
use super::requests::app;

/// How long nothing may come from the server before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// The method of the request that an answer is for: one to `HEAD` has no body.
const METHOD: HeaderName = HeaderName::from_static("x-fuzz-method");

/// The routes, saying the method.
struct Named(Routes);

impl Handler for Named {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let method = HeaderValue::from_str(request.method().as_str());
        let mut response = self.0.answer(request).await;
        let method = method.expect("a token is a header's value");
        response.headers_mut().insert(METHOD, method);
        response
    }
}

/// A server that runs until the process ends.
static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (sender, address) = mpsc::channel();
    let app = app();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = Settings::load(Overrides {
                assignments: vec!["server.bind=127.0.0.1:0".to_owned()],
                ..Overrides::default()
            })
            .unwrap()
            .config;
            let server = Server::bind(
                Listen::for_clients(&config, None),
                &config,
                Named(Routes::new(Arc::clone(&app))),
                Arc::new(Lifecycle::new()),
                app.metrics.clone(),
            )
            .await
            .unwrap();
            sender.send(server.address()).unwrap();
            let threads = Arc::new(IoThreads::start(1).unwrap());
            server.run(threads, std::future::pending()).await
        })
    });
    address.recv().unwrap()
});

thread_local! {
    /// Another client's connection.
    static OTHER: RefCell<TcpStream> = RefCell::new(connect());
}

fn connect() -> TcpStream {
    let socket = TcpStream::connect(*ADDRESS).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// All bytes that a client sends, in pieces of as many bytes as the first says (0: at once).
pub fn connection(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else {
        return;
    };
    let piece = match piece {
        0 => bytes.len().max(1),
        piece => usize::from(piece).max(bytes.len() / 64),
    };
    let mut client = connect();
    for piece in bytes.chunks(piece) {
        // The server closes as soon as it has seen enough.
        if client.write_all(piece).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    client
        .read_to_end(&mut answers)
        .unwrap_or_else(|error| panic!("the connection does not end: {error}"));
    if let Err(broken) = well_formed(&answers) {
        panic!("{broken}:\n{}", String::from_utf8_lossy(&answers));
    }
    OTHER.with_borrow_mut(|other| {
        if let Err(error) = ask(other) {
            // It may have been idle for too long.
            *other = connect();
            ask(other).unwrap_or_else(|again| panic!("{error}, then {again}"));
        }
    });
}

/// Another client's valid request.
fn ask(socket: &mut TcpStream) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    socket
        .write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        .map_err(failed)?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(b"{\"live\":true}") {
        match socket.read(&mut part).map_err(failed)? {
            0 => return Err("closed".to_owned()),
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    match well_formed(&answer)? {
        1 => Ok(()),
        count => Err(format!("{count} answers for one request")),
    }
}

/// The number of answers in these bytes, or what is wrong with them (RFC 9112).
fn well_formed(mut bytes: &[u8]) -> Result<usize, String> {
    let mut answers = 0;
    let mut is_last = false;
    while !bytes.is_empty() {
        if is_last {
            return Err("something follows the answer that closes".to_owned());
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|error| error.to_string())?;
        let httparse::Status::Complete(head_bytes) = parsed else {
            return Err("a head without its end".to_owned());
        };
        let head = &bytes[..head_bytes];
        if head
            .split(|byte| *byte == b'\n')
            .any(|line| !matches!(line, [] | [.., b'\r']))
        {
            return Err("a line without its return".to_owned());
        }
        bytes = &bytes[head_bytes..];
        let status = response.code.unwrap_or_default();
        if status == 100 && response.headers.is_empty() {
            continue;
        }
        let mut map = HeaderMap::new();
        for header in &*response.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let value = HeaderValue::from_bytes(header.value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(format!("header {:?}", header.name));
            };
            map.append(name, value);
        }
        let one = |name: &str| {
            let mut values = map.get_all(name).iter();
            match (
                values.next().and_then(|value| value.to_str().ok()),
                values.next(),
            ) {
                (Some(value), None) => Ok(value),
                _ => Err(format!("not one {name}")),
            }
        };
        one("date")?;
        one("x-request-id")?;
        if map.contains_key("transfer-encoding") {
            return Err("two lengths".to_owned());
        }
        is_last = map.get("connection").is_some_and(|value| value == "close");
        let length: usize = one("content-length")?
            .parse()
            .map_err(|_| "a length that is no number")?;
        let status = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
        answers += 1;
        if map.get(METHOD).is_some_and(|method| method == "HEAD") {
            continue;
        }
        let Some((body, rest)) = bytes.split_at_checked(length) else {
            return Err("a body shorter than its length".to_owned());
        };
        bytes = rest;
        check(status, &map, body, true)?;
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: 1\r\n\
                        date: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: ";

    fn found(bytes: &str) -> Result<usize, String> {
        well_formed(bytes.as_bytes())
    }

    #[test]
    fn well_formed_answers_are_counted() {
        assert_eq!(found(""), Ok(0));
        let close = "HTTP/1.1 100 Continue\r\n\r\n".to_owned()
            + &format!("{HEAD}2\r\n\r\n{{}}{HEAD}7\r\nconnection: close\r\n\r\n{{\"a\":1}}");
        assert_eq!(found(&close), Ok(2));
        let no_body = format!("{HEAD}2000\r\nx-fuzz-method: HEAD\r\n\r\n{HEAD}2\r\n\r\n{{}}");
        assert_eq!(found(&no_body), Ok(2));
    }

    /// Planted faults that the fuzzer must find.
    #[test]
    fn an_answer_that_is_not_well_formed_is_found() {
        let good = format!("{HEAD}2\r\n\r\n{{}}");
        assert_eq!(found(&good), Ok(1));
        for (part, instead) in [
            ("HTTP/1.1 200", "HTTP/1.1 500"),
            ("HTTP/1.1 200", "HTTP/1,1 200"),
            ("\r\n\r\n{}", "\r\n\r\n{"),
            ("\r\n\r\n{}", "\r\n\r\n{}}"),
            ("\r\n\r\n{}", "\r\n"),
            ("\r\n\r\n{}", "\r\n\r\n[null]"),
            ("content-length: 2\r\n", ""),
            ("content-length: 2\r\n", "content-length: 2\n"),
            (
                "content-length: 2\r\n",
                "content-length: 2\r\ncontent-length: 3\r\n",
            ),
            (
                "content-length: 2\r\n",
                "content-length: 2\r\ntransfer-encoding: chunked\r\n",
            ),
            ("content-length: 2\r\n", "content-length: x\r\n"),
            (
                "content-length: 2\r\n\r\n{}",
                "content-length: 6\r\n\r\n[null]",
            ),
            ("date: ", "data: "),
        ] {
            let bad = good.replace(part, instead);
            assert_ne!(bad, good, "{part}");
            assert!(found(&bad).is_err(), "{bad}");
        }
        let closing = good.replace("date", "connection: close\r\ndate");
        assert!(found(&(closing + &good)).is_err());
    }
}
