//! A blocking client of HTTP/1.1.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// No head of the server is near it.
const MAX_HEADERS: usize = 64;

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Whether the server ends the connection after it.
    pub(crate) fn closes(&self) -> bool {
        let value = self.headers.get(http::header::CONNECTION);
        value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    /// What came and was not read yet.
    received: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// If no one takes the connection.
    pub(crate) fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Says that nothing more comes, and still reads.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The next answer; `None` if the connection ended before it began.
    ///
    /// # Errors
    /// If it ended within one, timed out, or what came is no answer with one length.
    pub(crate) fn read(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if let Some((answer, length)) = split(&self.received)? {
                self.received.drain(..length);
                return Ok(Some(answer));
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece)? {
                0 if self.received.is_empty() => return Ok(None),
                0 => return Err(io::Error::other("the connection ended within an answer")),
                read => self.received.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// The answer to one request on a kept connection.
    ///
    /// # Errors
    /// The same, if there is none, or if more comes than it.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request)?;
        let answer = self
            .read()?
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        match self.received.is_empty() {
            true => Ok(answer),
            false => Err(io::Error::other("more than an answer")),
        }
    }
}

/// The first answer of some bytes, and its length; `None` as long as it is not whole.
fn split(received: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let broken = |what: &str| {
        let start = String::from_utf8_lossy(&received[..received.len().min(300)]);
        io::Error::other(format!("{what}: {start:?}"))
    };
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut lines);
    let head_bytes = match head.parse(received) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(broken(&error.to_string())),
    };
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let value = HeaderValue::from_bytes(line.value);
        headers.append(
            name.map_err(|_| broken("a header's name"))?,
            value.map_err(|_| broken("a header's value"))?,
        );
    }
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let length = lengths.next().and_then(|value| value.to_str().ok());
    let length: Option<usize> = length.and_then(|value| value.parse().ok());
    let (Some(length), None) = (length, lengths.next()) else {
        return Err(broken("not one length"));
    };
    let code = head.code.expect("a complete head has it");
    let status = StatusCode::from_u16(code).map_err(|_| broken("the status"))?;
    let end = head_bytes + length;
    Ok((received.len() >= end).then(|| {
        let body = received[head_bytes..end].to_vec();
        let answer = Answer {
            status,
            headers,
            body,
        };
        (answer, end)
    }))
}
