//! What answers the requests of HTTP/2 connections.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::{Request, Response};
use http_body::{Body, Frame};

/// What answers the requests of HTTP/2 connections, whose answers may come in parts.
pub trait StreamHandler: Send + Sync + 'static {
    /// The body of an answer. It is dropped when its client leaves.
    type Body: http_body::Body<Data = Bytes, Error: Send> + Send + 'static;

    /// Answers one request.
    fn answer(
        &self,
        request: Request<StreamedBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// The protocol HTTP/2, with what answers its requests.
#[derive(Debug)]
pub struct Http2<H>(pub H);

/// The body of a request of an HTTP/2 connection. A client may send at most its window ahead of what is
/// read.
#[derive(Debug)]
pub struct StreamedBody(pub(super) RecvStream);

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.0;
        stream.poll_data(cx).map(|piece| {
            let piece = piece?;
            Some(piece.and_then(|piece| {
                // The reader counts what it holds.
                stream.flow_control().release_capacity(piece.len())?;
                Ok(Frame::data(piece))
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
