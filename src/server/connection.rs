//! One client's connection: HTTP/1.1 over a [`ClientStream`], each request to the [`Handler`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Handler;
use super::answer::{self, Answer};
use super::stream::{ClientStream, Shared, Timeouts};
use crate::http::{REQUEST_ID, new_request_id};
use crate::lifecycle::Lifecycle;
use crate::metrics::{Closed, Metrics, Route};

/// What is asked of open connections while the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing.
    Serving,
    /// To end as soon as no request is being answered.
    Closing,
    /// To end now.
    Cut,
}

/// What all connections share.
pub(super) struct Connections<H> {
    pub(super) handler: H,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) metrics: Metrics,
    pub(super) timeouts: Timeouts,
    pub(super) max_headers: usize,
    pub(super) max_header_bytes: usize,
}

impl<H: Handler> Connections<H> {
    /// Serves one connection to its end.
    pub(super) async fn serve<S>(self: Arc<Self>, socket: S, mut stage: watch::Receiver<Stage>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared::default());
        let metrics = self.metrics.clone();
        let on_answer = move |answer: Answer| {
            metrics.http_request(Route::Other, answer.status.as_u16());
        };
        let stream = ClientStream::new(socket, Arc::clone(&shared), self.timeouts, on_answer);
        let client = Client(Arc::new(Peer {
            connections: Arc::clone(&self),
            shared: Arc::clone(&shared),
        }));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                // The date header's clock; the stream has the time limits.
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_headers(self.max_headers)
                .max_header_size(self.max_header_bytes)
                // Also what a connection may read ahead of its handler.
                .max_buf_size(self.max_header_bytes)
                .serve_connection(TokioIo::new(stream), client)
        );

        let metrics = &self.metrics;
        metrics.connections_open().inc();
        let _open = Leave(|| metrics.connections_open().dec());
        let ended = loop {
            match *stage.borrow_and_update() {
                Stage::Serving => {}
                Stage::Closing => shared.close(),
                Stage::Cut => break None,
            }
            tokio::select! {
                ended = &mut connection => break Some(ended),
                changed = stage.changed() => {
                    if changed.is_err() {
                        break None;
                    }
                }
            }
        };
        let reason = match (shared.closed(), ended) {
            (_, None) => Closed::Drain,
            (Some(reason), _) => reason,
            (None, Some(Ok(()))) if shared.is_ambiguous() => Closed::Malformed,
            (None, Some(Ok(()))) => Closed::Done,
            (None, Some(Err(error))) if error.is_parse() => Closed::Malformed,
            // The client left in the middle of something.
            (None, Some(Err(_))) => Closed::Io,
        };
        metrics.connection_closed(reason);
    }
}

/// Runs a closure when dropped.
struct Leave<F: FnMut()>(F);

impl<F: FnMut()> Drop for Leave<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// The requests of one connection.
struct Client<H>(Arc<Peer<H>>);

/// What a connection's requests need. Counted once a connection, so that no request writes to the
/// count that all connections share.
struct Peer<H> {
    connections: Arc<Connections<H>>,
    shared: Arc<Shared>,
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Client<H> {
    type Response = Response<Tracked<H>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::new(Arc::clone(&self.0));
        let refusal = self.0.refusal(&request);
        Box::pin(async move {
            let connections = &in_flight.0.connections;
            let mut response = match refusal {
                Some(answer) => {
                    let code = answer.status.as_u16();
                    connections.metrics.http_request(Route::Other, code);
                    refuse(answer)
                }
                None => connections.handler.answer(request.map(Body::new)).await,
            };
            if connections.lifecycle.is_draining() {
                // The client's next request goes to another connection, and by then to another
                // replica.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Tracked {
                body,
                _request: in_flight,
            }))
        })
    }
}

impl<H> Peer<H> {
    /// Why a request is not for the handler: what makes its framing or its target ambiguous.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Answer> {
        let headers = request.headers();
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            if self.shared.is_ambiguous() {
                return Some(answer::AMBIGUOUS_LENGTH);
            }
            // Several such headers are one list (RFC 9110, section 5.3). Of a list the library
            // looks at the last coding only, and would take a compressed body for a plain one.
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !is_chunked || codings.next().is_some() {
                return Some(answer::UNKNOWN_TRANSFER_CODING);
            }
        }
        // RFC 9112, section 3.2.
        let hosts = headers.get_all(HOST).iter().count();
        let is_allowed = match request.version() {
            Version::HTTP_11 => hosts == 1,
            _ => hosts <= 1,
        };
        (!is_allowed).then_some(answer::BAD_HOST)
    }
}

fn refuse(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(REQUEST_ID, new_request_id());
    response
}

/// A request from its head until its answer is handed over whole, or given up.
struct InFlight<H>(Arc<Peer<H>>);

impl<H> InFlight<H> {
    fn new(peer: Arc<Peer<H>>) -> Self {
        peer.connections.metrics.requests_in_flight().inc();
        peer.shared.set_busy(true);
        Self(peer)
    }
}

impl<H> Drop for InFlight<H> {
    fn drop(&mut self) {
        self.0.connections.metrics.requests_in_flight().dec();
        self.0.shared.set_busy(false);
    }
}

/// An answer's body that keeps its request in flight.
pub(super) struct Tracked<H> {
    body: Body,
    _request: InFlight<H>,
}

impl<H> hyper::body::Body for Tracked<H> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
