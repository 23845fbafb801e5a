//! Answers: messages with their prefix, and after them how it went.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use prost::Message;
use tokio::sync::mpsc;

use super::status::Code;
use crate::http::answer::Response;
use crate::http::error::Refusal;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a client may try again, in milliseconds: what gRPC's own retries read.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The codings of requests; no answer is compressed.
const ACCEPTED: &str = if cfg!(feature = "compression") {
    "identity,gzip,deflate"
} else {
    "identity"
};

/// The flag of a message that is not compressed, and room for its length.
const PREFIX: [u8; 5] = [0; 5];

/// The bytes of a message with its prefix.
pub(in crate::http) fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = prefixed(message.encoded_len());
    message
        .encode(&mut bytes)
        .expect("a vector takes what there is memory for");
    bytes
}

/// The prefix of a message of this many bytes, with room for them.
///
/// # Panics
/// If they are 4 GiB or more. A message holds the answer to one request, whose rows are bounded.
pub(in crate::http) fn prefixed(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).expect("an answer of less than 4 GiB");
    let mut out = Vec::with_capacity(PREFIX.len() + bytes);
    out.push(PREFIX[0]);
    out.extend(length.to_be_bytes());
    out
}

/// An answer of one message.
pub(in crate::http) fn message(message: &impl Message) -> Response {
    Response::new(framed(message).into())
}

/// The body of an answer over gRPC.
pub struct GrpcBody(Parts);

enum Parts {
    /// One message, if any is left, and the trailers after it.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// Messages as they come of something that is polled for them, until it says how it went.
    Stream(Option<Box<Stream>>),
}

struct Stream {
    work: Pin<Box<dyn Future<Output = Result<(), Response>> + Send>>,
    messages: mpsc::Receiver<Bytes>,
    /// How it went, once that is known.
    ended: Option<HeaderMap>,
    ready: VecDeque<Bytes>,
}

impl fmt::Debug for GrpcBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcBody").finish_non_exhaustive()
    }
}

/// Where a stream's messages go, one at a time.
#[derive(Clone, Debug)]
pub(in crate::http) struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// Sends a message with its prefix, as soon as the client has taken the one before.
    pub(in crate::http) async fn send(&self, message: Bytes) {
        // It fails only if the client has left, and then the sender is dropped too.
        let _ = self.0.send(message).await;
    }
}

/// The answer that a request was carried to, as gRPC writes it: the status after the message, or in
/// place of it.
pub(super) fn unary(answer: Response) -> http::Response<GrpcBody> {
    let (mut head, message) = answer.into_parts();
    head.status = StatusCode::OK;
    let refusal = head.extensions.remove::<Refusal>();
    let retry_after = head.headers.remove(RETRY_AFTER);
    describe(&mut head.headers);
    let parts = match refusal {
        None => Parts::Whole(Some(message), Some(ok())),
        Some(refusal) => {
            head.headers.extend(status(&refusal, retry_after.as_ref()));
            Parts::Whole(None, None)
        }
    };
    http::Response::from_parts(head, GrpcBody(parts))
}

/// The answer of what is no request of gRPC.
pub(super) fn not_grpc() -> http::Response<GrpcBody> {
    let mut response = http::Response::new(GrpcBody(Parts::Whole(None, None)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// An answer of messages that `work` sends, until it ends; in a refusal if something is wrong. It is dropped when the client leaves.
pub(super) fn stream<W>(work: impl FnOnce(Sender) -> W) -> http::Response<GrpcBody>
where
    W: Future<Output = Result<(), Response>> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(1);
    let stream = Stream {
        work: Box::pin(work(Sender(sender))),
        messages,
        ended: None,
        ready: VecDeque::new(),
    };
    let mut response = http::Response::new(GrpcBody(Parts::Stream(Some(Box::new(stream)))));
    describe(response.headers_mut());
    response
}

fn describe(headers: &mut HeaderMap) {
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/grpc+proto"),
    );
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from(Code::Ok as u16))])
}

/// How a request went that was refused.
fn status(refusal: &Refusal, retry_after: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(STATUS, HeaderValue::from(Code::from(refusal.code) as u16));
    let message = HeaderValue::from_str(&percent_encoded(refusal.client_message()));
    headers.insert(MESSAGE, message.expect("printable ASCII"));
    let seconds = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        headers.insert(PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
    }
    headers
}

/// A message as headers carry it: all but printable ASCII, and `%` itself, as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("text takes any text"),
        }
    }
    encoded
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Some(Frame::data(message)));
            }
            if let Some(trailers) = self.ended.take() {
                return Poll::Ready(Some(Frame::trailers(trailers)));
            }
            let ended = self.work.as_mut().poll(cx);
            while let Ok(message) = self.messages.try_recv() {
                self.ready.push_back(message);
            }
            match ended {
                Poll::Ready(Ok(())) => self.ended = Some(ok()),
                Poll::Ready(Err(answer)) => {
                    let refusal = answer.extensions().get::<Refusal>();
                    let retry_after = answer.headers().get(RETRY_AFTER);
                    self.ended = refusal.map(|refusal| status(refusal, retry_after));
                }
                Poll::Pending if self.ready.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl http_body::Body for GrpcBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.0 {
            Parts::Whole(message, trailers) => {
                let message = message.take().map(Frame::data);
                Poll::Ready(message.or_else(|| trailers.take().map(Frame::trailers)))
            }
            Parts::Stream(None) => Poll::Ready(None),
            Parts::Stream(Some(stream)) => {
                let frame = stream.poll(cx);
                // Nothing comes after the trailers.
                if let Poll::Ready(Some(frame)) = &frame
                    && frame.is_trailers()
                {
                    self.0 = Parts::Stream(None);
                }
                frame
            }
        };
        frame.map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Parts::Whole(None, None) | Parts::Stream(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_encoded_for_headers() {
        assert_eq!(percent_encoded("50% of \"é\"\n"), "50%25 of \"%C3%A9\"%0A");
    }
}
