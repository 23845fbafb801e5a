//! A server that answers requests for predictions from a script, one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What it does with a request for predictions of two rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Right,
    /// 200 with predictions for one row.
    FewerRows,
    NoJson,
    /// Another status and the lines of further headers.
    Status(u16, &'static str),
    CloseBefore,
    CloseInHead,
    CloseInBody,
    CloseInChunk,
    /// Nothing, until the client goes.
    Never,
    NoHttp,
    WrongChunk,
}

/// The script and its outcome.
struct Script {
    answers: Vec<Answer>,
    metadata: (u16, &'static str),
    root: (u16, &'static str),
    key: Option<&'static str>,
}

pub(super) struct Scripted {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    inferences: Arc<AtomicU64>,
}

/// A request: its first line, the value of `Authorization`.
struct ReceivedRequest {
    line: String,
    key: Option<String>,
}

const METADATA: &str = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}]}"#;
const TWO_ROWS: &str = r#"{"outputs":[{"name":"y","shape":[2],"data":[1,2]}]}"#;
const ONE_ROW: &str = r#"{"outputs":[{"name":"y","shape":[1],"data":[1]}]}"#;
const SAID: &str = r#"{"error":"said so"}"#;

impl Scripted {
    /// Listens on a port of its own until the test's process ends. Each request for predictions takes the
    /// next answer; there must be one.
    pub(super) fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(Script {
                answers,
                metadata: (200, METADATA),
                root: (404, ""),
                key: None,
            })),
            inferences: Arc::default(),
        };
        let (script, inferences) = (Arc::clone(&server.script), Arc::clone(&server.inferences));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, inferences) = (Arc::clone(&script), Arc::clone(&inferences));
                thread::spawn(move || serve(&stream.unwrap(), &script, &inferences));
            }
        });
        server
    }

    /// Answers so where the model's metadata are asked for.
    pub(super) fn with_metadata(self, status: u16, body: &'static str) -> Self {
        self.script.lock().unwrap().metadata = (status, body);
        self
    }

    /// Answers so at `/v2`.
    pub(super) fn with_root(self, body: &'static str) -> Self {
        self.script.lock().unwrap().root = (200, body);
        self
    }

    /// Answers 401 to whatever comes without this `Authorization`.
    pub(super) fn with_key(self, key: &'static str) -> Self {
        self.script.lock().unwrap().key = Some(key);
        self
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests for predictions that arrived, with any answer.
    pub(super) fn inferences(&self) -> u64 {
        self.inferences.load(Ordering::SeqCst)
    }
}

/// Serves a connection until either side ends it.
fn serve(stream: &TcpStream, script: &Mutex<Script>, inferences: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let (answer, body) = {
            let script = script.lock().unwrap();
            if script
                .key
                .is_some_and(|key| asked.key.as_deref() != Some(key))
            {
                (whole(401, "", r#"{"error":"no key"}"#), Next::Request)
            } else if asked.line.starts_with("POST /v2/models/m/infer ") {
                let number = inferences.fetch_add(1, Ordering::SeqCst);
                script.answers[number as usize].bytes()
            } else {
                let (status, body) = match asked.line.split(' ').nth(1) {
                    Some("/v2/models/m") => script.metadata,
                    Some("/v2") => script.root,
                    _ => (404, ""),
                };
                (whole(status, "", body), Next::Request)
            }
        };
        // A client that has gone needs no answer.
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
        match body {
            Next::Request => {}
            Next::Close => return,
            // It ends when the client goes.
            Next::Silence => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
        }
    }
}

/// What follows an answer.
enum Next {
    Request,
    Close,
    Silence,
}

impl Answer {
    fn bytes(self) -> (String, Next) {
        let close = |text: &str| (text.to_owned(), Next::Close);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        match self {
            Self::Right => (whole(200, "", TWO_ROWS), Next::Request),
            Self::FewerRows => (whole(200, "", ONE_ROW), Next::Request),
            Self::NoJson => (whole(200, "", "<html>"), Next::Request),
            Self::Status(status, headers) => (whole(status, headers, SAID), Next::Request),
            Self::CloseBefore => close(""),
            Self::CloseInHead => close("HTTP/1.1 200 OK\r\nContent-Le"),
            Self::CloseInBody => {
                let answer = whole(200, "", TWO_ROWS);
                close(&answer[..answer.len() - 1])
            }
            Self::CloseInChunk => close(&format!("{chunked}33\r\n{{\"outputs\"")),
            Self::Never => (String::new(), Next::Silence),
            Self::NoHttp => close("+OK ready\r\n\r\n"),
            Self::WrongChunk => close(&format!("{chunked}many\r\n{TWO_ROWS}\r\n0\r\n\r\n")),
        }
    }
}

/// An answer after which the connection stays.
fn whole(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} \r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// Reads a request to the end of its body; `None` when the client has gone.
fn read(reader: &mut impl BufRead) -> Option<ReceivedRequest> {
    let mut asked = ReceivedRequest {
        line: line(reader)?,
        key: None,
    };
    let mut length = 0;
    loop {
        let header = line(reader)?;
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        match name {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => asked.key = Some(value.to_owned()),
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(asked)
}

/// A line without its end; `None` after the last.
fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}
