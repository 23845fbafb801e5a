//! One client's connection: HTTP/2, each request to the [`StreamHandler`] (RFC 9113).
//!
//! `h2` has the frames and the flow control; this sets their bounds, and adds timeouts. A connection's
//! requests run concurrently on the connection's thread, each as a task of its own, and end with it.

mod handler;
mod stream;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, RecvStream};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::connections::{ConnectionProtocol, Connections, LINGER};
use super::shutdown_phase::ShutdownPhase;
use super::timer::Timer;
use super::wire::Socket;
use crate::metrics::Closed;

pub use handler::{Http2, StreamHandler, StreamedBody};

/// The most requests of one connection that are answered at one time.
const MAX_STREAMS: u32 = 100;

/// What a client may send of one body before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// What a client may send of all bodies of a connection before they are read: with
/// `grpc.max_connections`, what the windows of all connections can hold.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// The most bytes of one frame.
const MAX_FRAME_BYTES: u32 = 64 << 10;

/// The bytes of an answer that are accepted before its client has made room for them.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Requests that a client gave up before they were looked at: more than a few are an attack
/// ("rapid reset").
const MAX_UNSEEN_RESETS: usize = 20;

/// Streams that were reset because of what their client sent.
const MAX_ERROR_RESETS: usize = 100;

/// Streams that this end has reset and whose late frames it still ignores.
const MAX_REMEMBERED_RESETS: usize = 20;

/// How long a connection with requests may be silent before its client gets a ping, and how long the
/// answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);

impl<H: StreamHandler> ConnectionProtocol for Http2<H> {
    const PROTOCOL: &'static [u8] = b"h2";
    const TOO_MANY_CONNECTIONS: Option<Answer> = None;

    async fn serve(
        server: &Arc<Connections<Self>>,
        socket: impl Socket + 'static,
        start: Instant,
    ) -> Closed {
        let max_header_bytes = u32::try_from(server.head_limits.max_bytes);
        let handshake = Builder::new()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_header_list_size(max_header_bytes.unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
            .max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
            .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
            .handshake(socket);
        match timeout_at(start + server.timeouts.header, handshake).await {
            Ok(Ok(connection)) => run(server, connection).await,
            Ok(Err(error)) => reason_of(&error),
            Err(_) => Closed::HeaderTimeout,
        }
    }
}

/// What a connection does next.
enum Event {
    Request(Box<(Request<RecvStream>, SendResponse<Bytes>)>),
    Over(Closed),
    /// Nothing was received for the time allowed.
    Silence,
}

async fn run<H: StreamHandler>(
    server: &Arc<Connections<Http2<H>>>,
    mut connection: Connection<impl Socket, Bytes>,
) -> Closed {
    let mut requests = JoinSet::new();
    let mut timer = Timer::default();
    let mut pings = connection.ping_pong();
    let mut awaits_pong = false;
    // The last sign of life that is visible here: a request, a request's end, a pong.
    let mut last = Instant::now();
    // Whether an answer has been given to the library to send since the last silence.
    let mut has_answered = false;
    // Why no more requests are taken.
    let mut closing: Option<Closed> = None;
    loop {
        let event = poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = requests.poll_join_next(cx) {
                last = Instant::now();
                has_answered = true;
            }
            if closing.is_none() && server.phases.current() != ShutdownPhase::Serving {
                connection.graceful_shutdown();
                closing = Some(Closed::Done);
                last = Instant::now();
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    return Poll::Ready(Event::Request(Box::new(request)));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Event::Over(closing.unwrap_or(reason_of(&error))));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Event::Over(closing.unwrap_or(Closed::Done)));
                }
                Poll::Pending => {}
            }
            if let Some(pings) = &mut pings
                && awaits_pong
                && pings.poll_pong(cx).is_ready()
            {
                awaits_pong = false;
                last = Instant::now();
            }
            let timeout = match (requests.is_empty(), closing) {
                (true, None) => server.timeouts.idle,
                // The end of an answer may still be on its way.
                (true, Some(_)) if has_answered => server.timeouts.write,
                (true, Some(_)) => LINGER,
                (false, _) => PING_INTERVAL,
            };
            timer.poll(cx, last + timeout).map(|()| Event::Silence)
        })
        .await;
        match event {
            Event::Request(request) => {
                last = Instant::now();
                let (request, respond) = *request;
                requests.spawn(stream::answer(Arc::clone(server), request, respond));
            }
            Event::Over(reason) => return reason,
            Event::Silence if !requests.is_empty() => {
                let sent = pings.as_mut().map(|pings| pings.send_ping(Ping::opaque()));
                if awaits_pong || !matches!(sent, Some(Ok(()))) {
                    return Closed::Io;
                }
                awaits_pong = true;
                last = Instant::now();
            }
            Event::Silence => match closing {
                None => {
                    connection.graceful_shutdown();
                    closing = Some(Closed::IdleTimeout);
                    has_answered = false;
                    last = Instant::now();
                }
                Some(reason) => return reason,
            },
        }
    }
}

/// Why a connection failed.
fn reason_of(error: &h2::Error) -> Closed {
    match error.get_io() {
        // A client that leaves between two frames says only this.
        Some(io) if io.kind() == ErrorKind::InvalidData => Closed::Malformed,
        Some(_) => Closed::Io,
        None if error.is_remote() => Closed::Done,
        None => Closed::Malformed,
    }
}
