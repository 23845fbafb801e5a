//! One client's connection: HTTP/1.1, each request to the [`Handler`] (RFC 9110 and 9112).
//!
//! ```text
//! wait ── head ── handler (may read the body) ── answer ─┬─ wait
//!                                                        └─ shut down
//! ```
//!
//! The loop is our own because libraries have one time limit for a head and the wait for it, silently
//! ignore conflicting lengths, and refuse requests without a body in the answer. Here each wait has its
//! limit, and each refusal its reason.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::body::RequestBody;
use super::connections::{ConnectionProtocol, Connections, LINGER, OnDrop};
use super::handler::Handler;
use super::head::{Head, Heads};
use super::shutdown_phase::ShutdownPhase;
use super::timer::Timer;
use super::wire::{self, SharedWire, Socket, Wire, WriteError};
use crate::metrics::{Closed, Route};

/// How long a connection that has sent nothing yet stays open once the server closes: its client has just
/// connected and is probably sending.
const FIRST_BYTE_GRACE: Duration = Duration::from_millis(500);

/// The bytes of one read while a head is awaited.
const HEAD_READ_BYTES: usize = 8 << 10;

/// A body up to this size is copied after its head and goes out with it.
const SMALL_ANSWER_BYTES: usize = 16 << 10;

impl<H: Handler> ConnectionProtocol for H {
    const PROTOCOL: &'static [u8] = b"http/1.1";
    const TOO_MANY_CONNECTIONS: Option<Answer> = Some(answer::TOO_MANY_CONNECTIONS);

    async fn serve(
        server: &Arc<Connections<Self>>,
        socket: impl Socket + 'static,
        start: Instant,
    ) -> Closed {
        Connection::new(server, socket, start).run().await
    }
}

/// A connection in HTTP/1.1.
struct Connection<'a, H> {
    server: &'a Connections<H>,
    wire: SharedWire,
    heads: Heads,
    timer: Timer,
    /// Heads that were read.
    requests: u64,
    /// When the current wait began: at the connection's start, or the last answer's end.
    waiting_since: Instant,
    /// When this wait first saw the beginning of a head; or, before the first byte of the first head, that
    /// the server closes.
    begun: Option<Instant>,
    /// The last answer's memory.
    out: Vec<u8>,
}

/// How the wait for a head ended without one.
enum NoHead {
    /// The connection is over.
    Over(Closed),
    /// The input gets this answer, and then the connection is over.
    Refused(Answer, Closed),
}

impl<'a, H: Handler> Connection<'a, H> {
    fn new(server: &'a Connections<H>, socket: impl Socket + 'static, start: Instant) -> Self {
        Self {
            server,
            wire: SharedWire::new(Wire::new(socket)),
            heads: Heads::default(),
            timer: Timer::default(),
            requests: 0,
            waiting_since: start,
            begun: None,
            out: Vec::new(),
        }
    }

    /// Answers requests until the connection is over, and says why it is.
    async fn run(mut self) -> Closed {
        loop {
            let head = match self.next_head().await {
                Ok(head) => head,
                Err(NoHead::Over(Closed::Io)) => return Closed::Io,
                Err(NoHead::Over(reason)) => {
                    // TLS has a closing message, without which the end looks like an attack.
                    wire::shut_down(&self.wire, &mut self.timer, LINGER, false).await;
                    return reason;
                }
                Err(NoHead::Refused(answer, reason)) => {
                    return self.refuse(answer, reason).await;
                }
            };
            self.requests += 1;
            let metrics = &self.server.metrics;
            metrics.requests_in_flight().inc();
            let _in_flight = OnDrop(|| metrics.requests_in_flight().dec());

            let version = head.parts.version;
            let is_head = head.parts.method == Method::HEAD;
            let client_keeps_alive = head.keep_alive;
            let Some(response) = self.answer(head).await else {
                return Closed::Io;
            };
            // While the server drains, the client's next request goes to another connection, and
            // by then to another replica. Nothing can follow a body that was not read.
            let body_is_read = self.wire.lock().body_is_read();
            let keep_alive =
                client_keeps_alive && body_is_read && !self.server.lifecycle.is_draining();
            let written = self.write(&response, version, is_head, keep_alive).await;
            if let Err(error) = written {
                return match error {
                    WriteError::Io => Closed::Io,
                    WriteError::Timeout => Closed::WriteTimeout,
                };
            }
            if !keep_alive {
                let linger = !body_is_read || !self.wire.lock().input.is_empty();
                wire::shut_down(&self.wire, &mut self.timer, LINGER, linger).await;
                return Closed::Done;
            }
            self.waiting_since = Instant::now();
        }
    }

    /// Reads the next head.
    async fn next_head(&mut self) -> Result<Head, NoHead> {
        let Self {
            server,
            ref wire,
            ref mut heads,
            ref mut timer,
            requests,
            waiting_since,
            ref mut begun,
            ..
        } = *self;
        *begun = None;
        poll_fn(|cx| {
            let mut wire = wire.lock();
            let (deadline, reason) = loop {
                match heads.next(&mut wire.input, server.head_limits) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(answer) => {
                        return Poll::Ready(Err(NoHead::Refused(answer, Closed::Malformed)));
                    }
                }
                match wire.poll_read(cx, HEAD_READ_BYTES) {
                    Poll::Ready(Ok(1..)) => continue,
                    Poll::Ready(Ok(0)) if wire.input.is_empty() => {
                        return Poll::Ready(Err(NoHead::Over(Closed::Done)));
                    }
                    Poll::Ready(_) => return Poll::Ready(Err(NoHead::Over(Closed::Io))),
                    Poll::Pending => {}
                }
                let limits = server.timeouts;
                if !wire.input.is_empty() {
                    // The first head's time runs from the connection's start.
                    let since = match requests {
                        0 => waiting_since,
                        _ => *begun.get_or_insert_with(Instant::now),
                    };
                    break (since + limits.header, Closed::HeaderTimeout);
                }
                let closing = server.phases.current() != ShutdownPhase::Serving;
                break match (requests, closing) {
                    (0, false) => (waiting_since + limits.header, Closed::HeaderTimeout),
                    (0, true) => {
                        let since = *begun.get_or_insert_with(Instant::now);
                        (since + FIRST_BYTE_GRACE, Closed::Done)
                    }
                    (_, false) => (waiting_since + limits.idle, Closed::IdleTimeout),
                    (_, true) => return Poll::Ready(Err(NoHead::Over(Closed::Done))),
                };
            };
            ready!(timer.poll(cx, deadline));
            Poll::Ready(Err(match reason {
                Closed::HeaderTimeout if !wire.input.is_empty() => {
                    NoHead::Refused(answer::HEADER_TIMEOUT, reason)
                }
                reason => NoHead::Over(reason),
            }))
        })
        .await
    }

    /// The handler's answer; `None` if the client left before.
    async fn answer(&self, head: Head) -> Option<Response<Bytes>> {
        let body = {
            let mut wire = self.wire.lock();
            let request = wire.begin_body(head.length, head.expects_continue);
            match wire.take_whole_body() {
                Some(bytes) => RequestBody::whole(bytes),
                None => RequestBody::on_the_wire(self.wire.clone(), request),
            }
        };
        let request = Request::from_parts(head.parts, body);
        // In memory of its own, which an idle connection does not need.
        let mut answer = Box::pin(self.server.protocol.answer(request));
        poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            let most = self.server.head_limits.max_bytes;
            self.wire.lock().poll_gone(cx, most).map(|()| None)
        })
        .await
    }

    async fn write(
        &mut self,
        response: &Response<Bytes>,
        version: Version,
        is_head: bool,
        keep_alive: bool,
    ) -> Result<(), WriteError> {
        self.out.clear();
        answer::write_head(&mut self.out, response, version, keep_alive);
        let mut body = &response.body()[..];
        if is_head {
            body = &[];
        } else if body.len() <= SMALL_ANSWER_BYTES {
            self.out.extend_from_slice(body);
            body = &[];
        }
        let timeout = self.server.timeouts.write;
        wire::write(&self.wire, &mut self.timer, timeout, &self.out, body).await
    }

    /// Answers input that is not a request.
    async fn refuse(&mut self, answer: Answer, reason: Closed) -> Closed {
        let metrics = &self.server.metrics;
        metrics.http_request(Route::Other, answer.status.as_u16());
        let timeout = self.server.timeouts.write.min(LINGER);
        let bytes = answer.bytes();
        let written = wire::write(&self.wire, &mut self.timer, timeout, &bytes, &[]).await;
        if written.is_ok() {
            wire::shut_down(&self.wire, &mut self.timer, LINGER, true).await;
        }
        reason
    }
}

#[cfg(test)]
mod tests;
