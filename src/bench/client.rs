//! One connection to the server, reopened when it was closed.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::tally::{Failed, Failure};
use super::target::Target;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A whole answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A connection that is kept alive.
pub(super) struct Client {
    target: Arc<Target>,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// How long a request may take, connecting included.
    timeout: Duration,
    /// How often it connected.
    pub(super) connects: u64,
}

impl Client {
    pub(super) fn new(target: Arc<Target>, timeout: Duration) -> Self {
        Self {
            target,
            sender: None,
            timeout,
            connects: 0,
        }
    }

    pub(super) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    /// Connects if there is no connection. A request does so too; this is for use before the clock starts.
    pub(super) async fn connect(&mut self) -> Result<(), Failed> {
        let connected = tokio::time::timeout(self.timeout, self.sender());
        match connected.await {
            Ok(sender) => sender.map(drop),
            Err(_late) => Err(self.late("connection")),
        }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failed> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_late| Err(self.late("answer")));
        if answered.is_err() {
            // The rest of that exchange must not be taken for the next answer.
            self.sender = None;
        }
        answered
    }

    fn late(&self, what: &str) -> Failed {
        let message = format!("no {what} within {} ms", self.timeout.as_millis());
        Failed::new(Failure::TimedOut, message)
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failed> {
        let sender = self.sender().await?;
        let answer = sender.send_request(request).await.map_err(of_library)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => of_library(*error),
            Err(error) if error.is::<LengthLimitError>() => Failed::new(
                Failure::Malformed,
                format!("an answer longer than {MAX_ANSWER_BYTES} bytes"),
            ),
            Err(error) => Failed::new(Failure::Closed, error),
        })?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// The connection, a new one if the server closed the last one between two requests.
    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failed> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            self.sender = None;
            let socket = self.target.connect().await.map_err(of_connecting)?;
            let (sender, connection) = http1::handshake(TokioIo::new(socket))
                .await
                .map_err(of_library)?;
            self.connects += 1;
            // It ends with the sender or with the server's side; its error is the request's.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self
            .sender
            .as_mut()
            .expect("it was made if it was not there"))
    }
}

fn of_connecting(error: io::Error) -> Failed {
    let failure = match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Unreachable,
    };
    Failed::new(failure, error)
}

fn of_library(error: hyper::Error) -> Failed {
    let failure = match error.is_parse() || is_wrong_chunk(&error) {
        true => Failure::Malformed,
        false => Failure::Closed,
    };
    match error.source() {
        Some(cause) => Failed::new(failure, format!("{error}: {cause}")),
        None => Failed::new(failure, error),
    }
}

/// The library reports a chunk's wrong length, which it parsed, as a read error.
fn is_wrong_chunk(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        )
    })
}
