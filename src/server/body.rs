//! The body of a request, for its handler.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::wire::{BodyBroken, SharedWire};

/// A request's body. It is read only as far as the handler asks.
#[derive(Debug)]
pub struct RequestBody(Source);

#[derive(Debug)]
enum Source {
    /// It came with its head. Empty once it was taken.
    Whole(Bytes),
    /// What is on the wire while this request is answered.
    Wire { wire: SharedWire, request: u64 },
}

/// A body ended before its end: the client left, or its chunks are malformed.
#[derive(Debug)]
pub struct IncompleteBody {
    cause: &'static str,
}

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body is incomplete: {}", self.cause)
    }
}

impl std::error::Error for IncompleteBody {}

impl RequestBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(bytes))
    }

    /// The rest of the body that `wire` is at.
    pub(super) fn on_the_wire(wire: SharedWire, request: u64) -> Self {
        Self(Source::Wire { wire, request })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = IncompleteBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompleteBody>>> {
        let cause = match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Source::Wire { wire, request } => {
                let mut wire = wire.lock();
                if wire.is_at(*request) {
                    match std::task::ready!(wire.poll_body(cx)) {
                        None => return Poll::Ready(None),
                        Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                        Some(Err(BodyBroken::Ended)) => "the client left",
                        Some(Err(BodyBroken::Malformed)) => "its chunks are malformed",
                    }
                } else {
                    "its request has been answered"
                }
            }
        };
        Poll::Ready(Some(Err(IncompleteBody { cause })))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Wire { wire, request } => {
                let wire = wire.lock();
                wire.is_at(*request) && wire.body_is_read()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Wire { wire, .. } => {
                let mut hint = SizeHint::new();
                hint.set_lower(wire.lock().body_bytes_left());
                hint
            }
        }
    }
}
