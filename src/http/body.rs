//! Request bodies: read whole, within every bound, before anything is decoded.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::BoxError;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt;

use super::budget::Share;
use super::coding::Coding;
use super::error::ApiError;
use super::limits::HttpLimits;
use crate::messages::excerpt;

/// The most small pieces of one body: one-byte chunks cost far more than they carry.
const MAX_PIECES: usize = 65_536;

/// What a read of a long body is never smaller than, unless its client sends it so.
const SMALL_PIECE_BYTES: usize = 1024;

/// The body of a request, from wherever it comes.
pub trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> RequestBody for B {}

/// Reads a body whole and inflates it; its bytes count in its share of the budget.
///
/// A declared length over the limit is refused before a byte is read. The budget is charged as
/// bytes come: a client that only declares a body takes nothing from the others.
///
/// # Errors
/// 413 for too many bytes, 408 for too slow, 503 when other bodies take all the memory, 400
/// for too many pieces, a broken transfer or a broken stream. Both what comes and what it inflates
/// to are held to the limit.
pub(super) async fn read(
    body: impl RequestBody,
    coding: Option<Coding>,
    limits: &HttpLimits,
    share: &mut Share<'_>,
) -> Result<Bytes, ApiError> {
    let max_body_bytes = limits.max_body_bytes;
    let declared = usize::try_from(body.size_hint().lower());
    if declared.map_or(true, |declared| declared > max_body_bytes) {
        return Err(ApiError::BodyTooLarge { max_body_bytes });
    }
    let bytes = {
        let mut collected = pin!(collect(body, max_body_bytes, share));
        // Most bodies came with their head and need no clock.
        let at_once = poll_fn(|cx| Poll::Ready(collected.as_mut().poll(cx))).await;
        match at_once {
            Poll::Ready(bytes) => bytes?,
            Poll::Pending => tokio::time::timeout(limits.body_timeout, collected)
                .await
                .unwrap_or(Err(ApiError::BodyTimeout {
                    limit: limits.body_timeout,
                }))?,
        }
    };
    match coding {
        None => Ok(bytes),
        Some(coding) => coding.inflate(bytes, max_body_bytes, share).await,
    }
}

/// Joins a body's pieces. A body that comes in one piece, as most do, is not copied.
async fn collect(
    mut body: impl RequestBody,
    max_body_bytes: usize,
    share: &mut Share<'_>,
) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    let mut small_pieces = 0;
    while small_pieces < MAX_PIECES {
        let Some(frame) = body.frame().await else {
            return Ok(whole.freeze());
        };
        let Ok(piece) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
        small_pieces += usize::from(piece.len() < SMALL_PIECE_BYTES);
        let length = whole.len() + piece.len();
        if length > max_body_bytes {
            return Err(ApiError::BodyTooLarge { max_body_bytes });
        }
        share.set(length)?;
        if whole.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        whole.extend_from_slice(&piece);
    }
    Err(ApiError::BodyInTooManyPieces)
}

/// Refuses bodies that say that they are something else than JSON; says how they are compressed.
///
/// Real clients name the media type freely: tritonclient sends JSON under none at all, and `curl
/// -d`, which TensorFlow Serving's documentation uses, as a form. So only types that cannot be
/// JSON are refused; the body itself decides the rest.
///
/// # Errors
/// 415.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    refuse_others(headers, &["text/csv"], "application/json")
}

/// As [`expect_json`], of calls that take rows as CSV too.
///
/// # Errors
/// 415.
pub(super) fn expect_rows(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let hint = "application/json, text/csv or application/x-ndjson";
    refuse_others(headers, &[], hint)
}

fn refuse_others(
    headers: &HeaderMap,
    more: &[&str],
    hint: &str,
) -> Result<Option<Coding>, ApiError> {
    /// Media types, or starts of them, whose bodies are nothing that any call takes.
    const OTHERS: [&str; 8] = [
        "multipart/",
        "text/html",
        "text/xml",
        "application/xml",
        "image/",
        "audio/",
        "video/",
        "application/x-protobuf",
    ];
    let coding = coding(headers)?;
    if let Some(media_type) = headers.get(CONTENT_TYPE).map(|value| value.as_bytes())
        && OTHERS.iter().chain(more).any(|other| {
            media_type
                .get(..other.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(other.as_bytes()))
        })
    {
        return Err(ApiError::MediaType {
            message: format!(
                "Content-Type {} is not supported; send {hint}",
                shown(media_type)
            )
            .into(),
        });
    }
    Ok(coding)
}

/// How a body is compressed.
///
/// Several codings, each over the one before, are refused: no client needs them, and each would
/// multiply what a few bytes inflate to.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(None);
    };
    let name = coding.as_bytes();
    if codings.next().is_none() {
        if name.eq_ignore_ascii_case(b"identity") {
            return Ok(None);
        }
        if let Some(coding) = Coding::named(name) {
            return Ok(Some(coding));
        }
    }
    Err(ApiError::MediaType {
        message: format!(
            "Content-Encoding {} is not supported; send the body once encoded: {}",
            shown(name),
            Coding::NAMES
        )
        .into(),
    })
}

fn shown(value: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(value), 40)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;
    use std::time::Duration;

    use axum::body::Body;
    use http::HeaderValue;
    use http_body::Frame;

    use super::*;
    use crate::http::budget::Budget;

    /// A budget of 100 bytes in which every byte counts.
    fn budget() -> Budget {
        Budget::of_every_byte(100)
    }

    fn limits(max_body_bytes: usize) -> HttpLimits {
        HttpLimits {
            max_body_bytes,
            body_timeout: Duration::from_secs(10),
            max_inflight_body_bytes: 100,
            max_request_rows: 1,
            max_deadline: Duration::from_secs(60),
            default_deadline: None,
        }
    }

    async fn read(budget: &Budget, body: Body) -> Result<Vec<u8>, &'static str> {
        match super::read(body, None, &limits(60), &mut budget.share()).await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(ApiError::BodyTooLarge { .. }) => Err("too large"),
            Err(ApiError::BodiesOverBudget) => Err("over budget"),
            Err(ApiError::BodyTimeout { .. }) => Err("timeout"),
            Err(_) => Err("other"),
        }
    }

    /// A body of no declared length: this many pieces, then its end, or nothing forever.
    struct Pieces {
        left: usize,
        bytes: usize,
        ends: bool,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.left == 0 {
                return if self.ends {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            }
            self.left -= 1;
            let piece = Bytes::from(vec![b'x'; self.bytes]);
            Poll::Ready(Some(Ok(Frame::data(piece))))
        }
    }

    fn pieces(left: usize, bytes: usize) -> Body {
        Body::new(Pieces {
            left,
            bytes,
            ends: true,
        })
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_its_limit() {
        let budget = budget();
        assert_eq!(read(&budget, Body::from("abc")).await, Ok(b"abc".to_vec()));
        assert_eq!(read(&budget, Body::empty()).await, Ok(Vec::new()));
        assert_eq!(read(&budget, pieces(6, 10)).await, Ok(vec![b'x'; 60]));
        assert_eq!(read(&budget, pieces(7, 10)).await, Err("too large"));
        assert_eq!(
            read(&budget, Body::from(vec![0; 61])).await,
            Err("too large")
        );
        assert_eq!(budget.used_bytes(), 0, "all is given back");
    }

    #[tokio::test]
    async fn empty_pieces_do_not_go_on_for_ever() {
        let budget = budget();
        assert_eq!(read(&budget, pieces(usize::MAX, 0)).await, Err("other"));
    }

    #[tokio::test]
    async fn bodies_share_a_budget_while_they_are_held() {
        let budget = budget();
        let mut share = budget.share();
        let body = Body::from(vec![0; 60]);
        let held = super::read(body, None, &limits(60), &mut share).await;
        assert_eq!(
            read(&budget, Body::from(vec![0; 41])).await,
            Err("over budget")
        );
        assert_eq!(read(&budget, pieces(5, 10)).await, Err("over budget"));
        assert_eq!(
            read(&budget, Body::from(vec![0; 40])).await,
            Ok(vec![0; 40])
        );
        assert!(held.is_ok());
        drop(share);
        assert_eq!(
            read(&budget, Body::from(vec![0; 41])).await,
            Ok(vec![0; 41])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_cut_at_its_deadline() {
        let budget = budget();
        let body = Body::new(Pieces {
            left: 1,
            bytes: 10,
            ends: false,
        });
        assert_eq!(read(&budget, body).await, Err("timeout"));
    }

    #[test]
    fn only_what_cannot_be_json_is_refused() {
        let allowed = |name, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            expect_json(&headers).is_ok()
        };
        assert!(expect_json(&HeaderMap::new()).is_ok());
        for media_type in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "text/plain",
            "",
        ] {
            assert!(allowed(CONTENT_TYPE, media_type), "{media_type}");
        }
        for media_type in [
            "multipart/form-data; boundary=x",
            "TEXT/CSV",
            "application/xml",
        ] {
            assert!(!allowed(CONTENT_TYPE, media_type), "{media_type}");
        }
        assert!(allowed(CONTENT_ENCODING, "identity"));
        for encoding in [
            "br",
            "compress",
            "gzip, identity",
            "gzip, gzip",
            "gzip;q=1",
            "",
        ] {
            assert!(!allowed(CONTENT_ENCODING, encoding), "{encoding}");
        }
        let gzip = HeaderValue::from_static("gzip");
        let twice = HeaderMap::from_iter([(CONTENT_ENCODING, gzip.clone())]);
        assert_eq!(expect_json(&twice).is_ok(), cfg!(feature = "compression"));
        let mut twice = twice;
        twice.append(CONTENT_ENCODING, gzip);
        assert!(expect_json(&twice).is_err());
    }
}
