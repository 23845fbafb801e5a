//! A connection's bytes: input that is not used yet, and output.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::chunks::Chunks;
use super::head::BodyLength;
use super::timer::Timer;

/// The bytes of one read if the length is not known.
const READ_BYTES: usize = 8 << 10;
/// The bytes of one read ahead of a handler.
const AHEAD_READ_BYTES: usize = 1 << 10;
/// The most bytes of one read of a body that is known to be long.
const LONG_READ_BYTES: usize = 64 << 10;

/// The answer that a client waits for after `Expect: 100-continue`.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection as the operating system, or TLS, gives it.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection's wire, for its loop and for the body that a handler reads from it.
#[derive(Clone)]
pub(super) struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    pub(super) fn new(wire: Wire) -> Self {
        Self(Arc::new(Mutex::new(wire)))
    }

    /// The wire. Both sides are parts of one task, so that neither ever waits for it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        // A panic between two bytes leaves the bytes valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedWire")
    }
}

/// Both directions of a connection.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    /// What was read and not used yet.
    pub(super) input: BytesMut,
    /// What has not been read of the current request's body.
    body: BodyRest,
    /// Whether the client waits for [`CONTINUE`], and how much of that is sent.
    expects_continue: Option<usize>,
    /// Which request's body is being read.
    request: u64,
}

#[derive(Clone, Copy, Debug)]
enum BodyRest {
    Bytes(u64),
    Chunked(Chunks),
    /// It broke off.
    Broken,
}

impl BodyRest {
    fn is_read(self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Chunked(Chunks::Done))
    }
}

/// Why a body has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyBroken {
    /// The client left.
    Ended,
    /// Its chunks are malformed.
    Malformed,
}

impl Wire {
    pub(super) fn new(socket: impl Socket + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            input: BytesMut::new(),
            body: BodyRest::Bytes(0),
            expects_continue: None,
            request: 0,
        }
    }

    /// Begins the next request's body, and says which request it is.
    pub(super) fn begin_body(&mut self, length: BodyLength, expects_continue: bool) -> u64 {
        self.body = match length {
            BodyLength::Bytes(bytes) => BodyRest::Bytes(bytes),
            BodyLength::Chunked => BodyRest::Chunked(Chunks::Size),
        };
        // A client that sent part of the body does not wait for the answer.
        let waits = expects_continue && !self.body.is_read() && self.input.is_empty();
        self.expects_continue = waits.then_some(0);
        self.request += 1;
        self.request
    }

    /// The body, if it has been read in full and can be taken without a copy.
    pub(super) fn take_whole_body(&mut self) -> Option<Bytes> {
        let BodyRest::Bytes(length) = self.body else {
            return None;
        };
        let length = usize::try_from(length).ok()?;
        if length > self.input.len() {
            return None;
        }
        self.body = BodyRest::Bytes(0);
        Some(match length {
            0 => Bytes::new(),
            length => self.input.split_to(length).freeze(),
        })
    }

    /// Whether nothing of the current request is left to read.
    pub(super) fn body_is_read(&self) -> bool {
        self.body.is_read()
    }

    /// Bytes of the current body that are known to be left.
    pub(super) fn body_bytes_left(&self) -> u64 {
        match self.body {
            BodyRest::Bytes(left) => left,
            _ => 0,
        }
    }

    /// Whether it is this request's body that would be read.
    pub(super) fn is_at(&self, request: u64) -> bool {
        self.request == request
    }

    /// The next piece of the current body; `None` at its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyBroken>>> {
        loop {
            match self.next_of_body() {
                Ok(None) if self.body.is_read() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Err(broken) => return Poll::Ready(Some(Err(broken))),
            }
            let told = ready!(self.poll_continue(cx));
            let most = match self.body {
                BodyRest::Bytes(left) => usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .clamp(READ_BYTES, LONG_READ_BYTES),
                _ => READ_BYTES,
            };
            let read = match told {
                Ok(()) => ready!(self.poll_read(cx, most)),
                Err(error) => Err(error),
            };
            if !matches!(read, Ok(1..)) {
                self.body = BodyRest::Broken;
            }
        }
    }

    /// Takes the available part of the body off the input.
    fn next_of_body(&mut self) -> Result<Option<Bytes>, BodyBroken> {
        match &mut self.body {
            BodyRest::Bytes(left) => {
                let here = self
                    .input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                if here == 0 {
                    return Ok(None);
                }
                *left -= here as u64;
                Ok(Some(self.input.split_to(here).freeze()))
            }
            BodyRest::Chunked(chunks) => chunks.next(&mut self.input).map_err(|_malformed| {
                self.body = BodyRest::Broken;
                BodyBroken::Malformed
            }),
            BodyRest::Broken => Err(BodyBroken::Ended),
        }
    }

    /// Tells a client that waits for it to send its body.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sent) = &mut self.expects_continue else {
            return Poll::Ready(Ok(()));
        };
        while *sent < CONTINUE.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &CONTINUE[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *sent += count,
            }
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.expects_continue = None;
        Poll::Ready(Ok(()))
    }

    /// Reads once, up to `most` bytes; 0 is the client's end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.input.reserve(most);
        let mut room = (&mut self.input).limit(most);
        // Nothing is lost if it is dropped before it is ready.
        pin!(self.socket.read_buf(&mut room)).poll(cx)
    }

    /// Reads ahead of the handler, up to `most` unused bytes; ready when the client is gone.
    ///
    /// Nothing is read while the body is the handler's to read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        while self.body.is_read() && self.input.len() < most {
            if !matches!(ready!(self.poll_read(cx, AHEAD_READ_BYTES)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// Why bytes were not sent.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The transport failed.
    Io,
    /// The client took nothing for too long.
    Timeout,
}

/// The lowest rate at which a client may read a long answer, in bytes a second: slower clients hold
/// memory that others need.
const SLOWEST_BYTES_A_SECOND: u64 = 16 << 10;

/// How long a client may take for this many bytes, if it never stalls.
pub(super) fn at_slowest(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_BYTES_A_SECOND)
}

/// Writes a head and a body. The client may stall for `timeout`, and the whole may take that plus the
/// time of the slowest client allowed.
pub(super) async fn write(
    wire: &SharedWire,
    timer: &mut Timer,
    timeout: Duration,
    head: &[u8],
    body: &[u8],
) -> Result<(), WriteError> {
    let mut sent = 0_usize;
    let bytes = (head.len() + body.len()) as u64;
    let mut latest = None;
    let mut stalled_until = None;
    poll_fn(|cx| {
        let socket = &mut wire.lock().socket;
        loop {
            let mut socket = Pin::new(&mut *socket);
            let written = if let Some(body_sent) = sent.checked_sub(head.len()) {
                match &body[body_sent..] {
                    [] => socket.as_mut().poll_flush(cx).map_ok(|()| None),
                    rest => socket.as_mut().poll_write(cx, rest).map_ok(Some),
                }
            } else {
                let rest = &head[sent..];
                let written = if body.is_empty() {
                    socket.as_mut().poll_write(cx, rest)
                } else {
                    let both = [IoSlice::new(rest), IoSlice::new(body)];
                    socket.as_mut().poll_write_vectored(cx, &both)
                };
                written.map_ok(Some)
            };
            match written {
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Some(0)) | Err(_)) => return Poll::Ready(Err(WriteError::Io)),
                Poll::Ready(Ok(Some(count))) => {
                    sent += count;
                    stalled_until = None;
                }
                Poll::Pending => {
                    let now = Instant::now();
                    let latest = *latest.get_or_insert(now + timeout + at_slowest(bytes));
                    let until = *stalled_until.get_or_insert(now + timeout);
                    ready!(timer.poll(cx, until.min(latest)));
                    return Poll::Ready(Err(WriteError::Timeout));
                }
            }
        }
    })
    .await
}

/// Ends the connection from this side. For another `linger`, what the client still sends is read and
/// discarded until it ends the connection too: closing earlier would reset the connection, and the reset
/// can overtake the last answer. Both together take at most `timeout`.
pub(super) async fn shut_down(
    wire: &SharedWire,
    timer: &mut Timer,
    timeout: Duration,
    linger: bool,
) {
    let until = Instant::now() + timeout;
    let mut is_shut_down = false;
    poll_fn(|cx| {
        let mut wire = wire.lock();
        if !is_shut_down {
            match Pin::new(&mut wire.socket).poll_shutdown(cx) {
                Poll::Pending => return timer.poll(cx, until),
                Poll::Ready(done) if !linger || done.is_err() => return Poll::Ready(()),
                Poll::Ready(_) => is_shut_down = true,
            }
        }
        loop {
            // Before the read, which a client that never stops sending would keep busy forever.
            if timer.poll(cx, until).is_ready() {
                return Poll::Ready(());
            }
            wire.input.clear();
            if !matches!(ready!(wire.poll_read(cx, READ_BYTES)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
    })
    .await;
}
