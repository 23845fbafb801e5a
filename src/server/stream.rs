//! A client's connection as the HTTP library sees it: bytes with time limits.
//!
//! The library has one limit, for the head, which also runs between requests. Here a head that has
//! begun, the wait for the next request and a client that does not read are limited apart; bodies
//! are limited by their handler. A limit that passes looks to the library as if the client left.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::{self, Answer};
use super::framing::{Framing, Phase};
use crate::metrics::Closed;

/// How long a connection that has sent nothing yet stays open once the server closes: its client
/// connected a moment ago and is likely to be sending.
const FIRST_BYTE_GRACE: Duration = Duration::from_millis(500);

/// How long a client may go on sending what nobody reads after its answer. Closing earlier resets
/// the connection, and the reset can overtake the answer.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the connection's start, or a later head's first byte, to the head's end.
    pub(super) header: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Without any byte of an answer being taken.
    pub(super) write: Duration,
}

/// What the two sides of a connection, its bytes and its requests, know of each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    busy: AtomicBool,
    ambiguous: AtomicBool,
    closing: AtomicBool,
    /// 0, or 1 + the place of the reason in [`Closed::ALL`].
    closed: AtomicU8,
}

impl Shared {
    /// A request is being answered: the time limits between requests stand still.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    /// Whether some head had both `Content-Length` and `Transfer-Encoding`.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Acquire)
    }

    /// Ends the connection once no request is being answered.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// What ended the connection, if the stream did.
    pub(super) fn closed(&self) -> Option<Closed> {
        let place = usize::from(self.closed.load(Ordering::Acquire)).checked_sub(1)?;
        Closed::ALL.get(place).copied()
    }

    fn set_closed(&self, reason: Closed) {
        let place = Closed::ALL.iter().position(|&known| known == reason);
        let place = place.and_then(|place| u8::try_from(place + 1).ok());
        self.closed.store(place.unwrap_or(0), Ordering::Release);
    }
}

/// A client's connection.
pub(super) struct ClientStream<S> {
    inner: S,
    shared: Arc<Shared>,
    timeouts: Timeouts,
    framing: Framing,
    wait: Option<(Wait, Instant)>,
    read_timer: Timer,
    /// Whether the library holds bytes that it has not yet written.
    is_writing: bool,
    stalled_until: Option<Instant>,
    write_timer: Timer,
    /// An answer that replaces the library's bare one, and how much of it is sent.
    substitute: Option<(Vec<u8>, usize)>,
    /// Called for each answer that no handler made.
    on_answer: Box<dyn Fn(Answer) + Send + Sync>,
    is_shut_down: bool,
    /// From the first attempt to shut down on: when to stop listening to what the client still
    /// sends after its last answer.
    linger_until: Option<Instant>,
}

/// What a read waits for. Another wait starts another deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The end of the head of this number.
    Head(u64),
    /// The first byte of the head of this number.
    Next(u64),
    /// The first byte of a connection whose server is closing.
    LastChance,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientStream<S> {
    pub(super) fn new(
        inner: S,
        shared: Arc<Shared>,
        timeouts: Timeouts,
        on_answer: impl Fn(Answer) + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            shared,
            timeouts,
            framing: Framing::new(),
            wait: None,
            read_timer: Timer::default(),
            is_writing: false,
            stalled_until: None,
            write_timer: Timer::default(),
            substitute: None,
            on_answer: Box::new(on_answer),
            is_shut_down: false,
            linger_until: None,
        }
    }

    /// Ready when a read that found nothing should end the connection, with what ends it.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        // A request is done when the library has its answer, and the answer when it is flushed: an
        // end of the reads before that makes the library drop what it has not written.
        // The library also flushes while it shuts down, which has a deadline of its own.
        let is_ending = self.linger_until.is_some();
        if is_ending || self.is_writing || self.shared.busy.load(Ordering::Acquire) {
            self.wait = None;
            return Poll::Pending;
        }
        let heads = self.framing.heads();
        let closing = self.shared.closing.load(Ordering::Acquire);
        let (wait, limit, reason) = match self.framing.phase() {
            Phase::Between if closing && heads > 0 => return Poll::Ready(Closed::Done),
            Phase::Between if closing => (Wait::LastChance, FIRST_BYTE_GRACE, Closed::Done),
            Phase::Between if heads > 0 => {
                (Wait::Next(heads), self.timeouts.idle, Closed::IdleTimeout)
            }
            // The first head's time runs from the connection's start, its first byte or not.
            _ => (
                Wait::Head(heads),
                self.timeouts.header,
                Closed::HeaderTimeout,
            ),
        };
        self.poll_wait(cx, wait, limit).map(|()| reason)
    }

    /// Ends the connection from the side of the reads.
    fn give_up(&mut self, cx: &mut Context<'_>, reason: Closed) {
        self.shared.set_closed(reason);
        if self.framing.phase() == Phase::Head {
            // Best effort: nothing is on its way out between requests, so a client that reads at
            // all has room for it, and one that does not is not worth another wait.
            let answer = answer::HEADER_TIMEOUT;
            let _ = Pin::new(&mut self.inner).poll_write(cx, &answer.bytes());
            (self.on_answer)(answer);
        }
    }

    /// Ready `limit` after this wait was first polled.
    fn poll_wait(&mut self, cx: &mut Context<'_>, wait: Wait, limit: Duration) -> Poll<()> {
        let deadline = match self.wait {
            Some((current, deadline)) if current == wait => deadline,
            _ => {
                let deadline = Instant::now() + limit;
                self.wait = Some((wait, deadline));
                deadline
            }
        };
        self.read_timer.poll(cx, deadline)
    }

    /// Limits how long a write that found no room may go on so.
    fn limit_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled_until = None;
            return written;
        }
        let until = *self
            .stalled_until
            .get_or_insert_with(|| Instant::now() + self.timeouts.write);
        ready!(self.write_timer.poll(cx, until));
        self.shared.set_closed(Closed::WriteTimeout);
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read its answer",
        )))
    }

    /// Sends what is left of a substitute.
    fn poll_substitute(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, sent)) = &mut self.substitute {
            if *sent == bytes.len() {
                self.substitute = None;
                break;
            }
            let written = Pin::new(&mut self.inner).poll_write(cx, &bytes[*sent..]);
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *sent += count,
                _ => return self.limit_stall(cx, written.map_ok(|_| ())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                this.framing.advance(&buffer.filled()[before..]);
                if this.framing.is_ambiguous() {
                    this.shared.ambiguous.store(true, Ordering::Release);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.shared.set_closed(Closed::Io);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                let reason = ready!(this.poll_patience(cx));
                this.give_up(cx, reason);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.is_writing = true;
        ready!(this.poll_substitute(cx))?;
        if let Some((start, answer)) = answer::replacement(bytes) {
            let mut output = bytes[..start].to_vec();
            output.extend(answer.bytes());
            this.substitute = Some((output, 0));
            (this.on_answer)(answer);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.limit_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = buffers.iter().filter(|buffer| !buffer.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            // The library's bare answers come alone.
            return self.as_mut().poll_write(cx, only);
        }
        let this = self.get_mut();
        this.is_writing = true;
        ready!(this.poll_substitute(cx))?;
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, buffers);
        this.limit_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_substitute(cx))?;
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        ready!(this.limit_stall(cx, flushed))?;
        this.is_writing = false;
        // The library does not ask for the next request again after an answer if it asked during
        // it, so that the wait for it starts here.
        if this.poll_patience(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let linger_until = *this
            .linger_until
            .get_or_insert_with(|| Instant::now() + LINGER);
        if !this.is_shut_down {
            ready!(this.poll_substitute(cx))?;
            let shut_down = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.limit_stall(cx, shut_down))?;
            this.is_shut_down = true;
        }
        // Between requests nothing is on its way in, and the connection can go at once.
        let mut rest = [0; 8192];
        while this.framing.phase() != Phase::Between {
            // Before the read, which a client that never stops would keep busy for ever.
            if this.read_timer.poll(cx, linger_until).is_ready() {
                break;
            }
            let mut rest = ReadBuf::new(&mut rest);
            match Pin::new(&mut this.inner).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if rest.filled().is_empty() => break,
                Poll::Ready(Ok(())) => this.framing.advance(rest.filled()),
                Poll::Ready(Err(_)) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A timer for deadlines that mostly move on before they pass.
///
/// Setting a timer takes a lock. One that is set too early is left to fire and set again then, so
/// that a busy connection sets it once an idle period, not once a request.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests;
