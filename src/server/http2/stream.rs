//! One request of an HTTP/2 connection and its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::handler::{Http2, StreamHandler, StreamedBody};
use crate::server::connections::{Connections, OnDrop};
use crate::server::wire::at_slowest;

/// Why an answer was not written to its end. The stream is reset when it is dropped.
struct Broken;

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

/// Answers a request, unless its client gives it up before.
pub(super) async fn answer<H: StreamHandler>(
    server: Arc<Connections<Http2<H>>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let metrics = &server.metrics;
    metrics.requests_in_flight().inc();
    let _in_flight = OnDrop(|| metrics.requests_in_flight().dec());
    let response = {
        let request = request.map(StreamedBody);
        let mut answer = pin!(server.protocol.0.answer(request));
        poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            respond.poll_reset(cx).map(|_| None)
        })
        .await
    };
    // A client that gave up a request gets no answer to it.
    if let Some(response) = response {
        let _ = write(response, respond, server.timeouts.write).await;
    }
}

/// Writes an answer as fast as its client takes it.
async fn write(
    response: Response<impl Body<Data = Bytes>>,
    mut respond: SendResponse<Bytes>,
    timeout: Duration,
) -> Result<(), Broken> {
    let (head, body) = response.into_parts();
    let is_all = body.is_end_stream();
    let mut stream = respond.send_response(Response::from_parts(head, ()), is_all)?;
    if is_all {
        return Ok(());
    }
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => stream.poll_reset(cx).map(|_| None),
        });
        match frame.await.ok_or(Broken)? {
            None => {
                stream.send_data(Bytes::new(), true)?;
                return Ok(());
            }
            Some(Err(_)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(Broken);
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => send(&mut stream, data, timeout).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        stream.send_trailers(trailers)?;
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// Sends data, each part as soon as the client has made room for it. As over HTTP/1.1, a client that takes
/// little at a time must still reach the lowest rate that is allowed.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    timeout: Duration,
) -> Result<(), Broken> {
    let latest = Instant::now() + timeout + at_slowest(data.len() as u64);
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let until = latest.min(Instant::now() + timeout);
        let capacity = timeout_at(until, poll_fn(|cx| stream.poll_capacity(cx))).await;
        let Ok(capacity) = capacity else {
            stream.send_reset(Reason::CANCEL);
            return Err(Broken);
        };
        let capacity = capacity.ok_or(Broken)??;
        stream.send_data(data.split_to(capacity.min(data.len())), false)?;
    }
    Ok(())
}
