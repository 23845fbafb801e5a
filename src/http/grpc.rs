//! gRPC: the same models, limits, keys and failures, on a listener of its own.
//!
//! A request's path names a service and a method. Framing is here, and the services that are
//! gRPC's own; what a protocol's methods mean is the protocol's: [`v2`](super::v2) has the Open
//! Inference Protocol, [`v1`](super::v1) TensorFlow Serving's services. A failure is an
//! [`ApiError`] as everywhere, and becomes a code and a message in [`answer`] alone.
//!
//! No framework for servers is used. Those that there are read a message whole, into memory that its
//! client asked for, before anybody can look at its model, its key or the budget; what they would
//! save is the prefix of five bytes.
//!
//! Source: `PROTOCOL-HTTP2.md` of gRPC.

mod answer;
mod fields;
mod health;
mod messages;
mod proto;
mod reflection;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};

use super::body::RequestBody;
use super::budget::Share;
use super::error::ApiError;
use super::exchange::{self, Exchange};
use super::predict::Admitted;
use super::{Routes, Server, access, v1, v2};
use crate::metrics::Route;
use crate::spelling::excerpt;

pub(super) use answer::{Sender, framed, message, prefixed};
pub(super) use fields::{Fields, Floats, Malformed, Value};
pub(super) use messages::{Messages, in_time};
pub(super) use proto::{inference, tensorflow};
pub(super) use status::Code;

pub use answer::GrpcBody;

const TIMEOUT: &str = "grpc-timeout";

/// What every method gets.
pub(super) struct Call<'a> {
    pub(super) server: &'a Server,
    pub(super) exchange: &'a Exchange,
    /// How long the client waits, if it says so.
    pub(super) asked: Option<Duration>,
}

/// The gRPC services.
#[derive(Clone, Debug)]
pub struct GrpcRoutes {
    server: Arc<Server>,
}

/// What streams of answers are made of.
#[derive(Clone)]
pub(super) struct Streaming {
    pub(super) server: Arc<Server>,
    pub(super) exchange: Arc<Exchange>,
    asked: Option<Duration>,
}

impl Streaming {
    /// How long the client still waits, if it says so.
    pub(super) fn asked(&self) -> Option<Duration> {
        let waited = self.exchange.started.elapsed();
        self.asked.map(|asked| asked.saturating_sub(waited))
    }

    /// The exchange of one of the stream's messages.
    pub(super) fn next_exchange(&self) -> Exchange {
        self.exchange.again()
    }
}

impl GrpcRoutes {
    /// The services over what `routes` serve, within the same limits.
    #[must_use]
    pub fn new(routes: &Routes) -> Self {
        Self {
            server: Arc::clone(&routes.server),
        }
    }

    /// Answers one request. Of its body no more is read than its method wants.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> http::Response<GrpcBody> {
        let (head, body) = request.into_parts();
        let media_type = head.headers.get(CONTENT_TYPE);
        let is_grpc =
            media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc || head.method != Method::POST {
            return answer::not_grpc();
        }
        let messages = Messages::of(&head.headers, body);
        let exchange = Arc::new(Exchange::new(head));
        let metrics = &self.server.app.metrics;
        let path = exchange.head.uri.path();
        let (service, method) = path
            .strip_prefix('/')
            .and_then(|path| path.rsplit_once('/'))
            .unwrap_or_default();
        let streams = matches!(
            (service, method),
            (v2::SERVICE, "ModelStreamInfer")
                | (health::SERVICE, "Watch")
                | (reflection::SERVICE | reflection::OLD_SERVICE, _)
        );
        if streams && let Ok(asked) = self.admit(&exchange, service, method) {
            let streaming = Streaming {
                server: Arc::clone(&self.server),
                exchange: Arc::clone(&exchange),
                asked,
            };
            return match service {
                v2::SERVICE => {
                    answer::stream(|sender| v2::grpc_stream(streaming, messages, sender))
                }
                health::SERVICE => {
                    answer::stream(|sender| health::watch(streaming, messages, sender))
                }
                _ => answer::stream(|sender| reflection::answer(streaming, messages, sender)),
            };
        }
        let answered = async {
            let answer = self.unary(&exchange, service, method, messages).await;
            answer.unwrap_or_else(ApiError::into_answer)
        };
        answer::unary(exchange::carry(metrics, &exchange, answered).await)
    }

    /// Checks a request's key and its timeout.
    fn admit(
        &self,
        exchange: &Exchange,
        service: &str,
        method: &str,
    ) -> Result<Option<Duration>, ApiError> {
        let is_health = service == health::SERVICE
            || service == v2::SERVICE && matches!(method, "ServerLive" | "ServerReady");
        if let Some(keys) = &self.server.app.keys
            && !is_health
        {
            access::check(&keys.get(), exchange)?;
        }
        asked_by(&exchange.head.headers)
    }

    async fn unary(
        &self,
        exchange: &Exchange,
        service: &str,
        method: &str,
        messages: Messages<impl RequestBody>,
    ) -> Result<super::answer::Response, ApiError> {
        let call = Call {
            server: &self.server,
            exchange,
            asked: self.admit(exchange, service, method)?,
        };
        match (service, method) {
            (v2::SERVICE, _) => v2::grpc(&call, method, messages).await,
            (v1::PREDICTION_SERVICE | v1::MODEL_SERVICE, _) => {
                v1::grpc(&call, service, method, messages).await
            }
            (health::SERVICE, "Check") => health::check(&call, messages).await,
            _ => Err(call.unknown_method()),
        }
    }
}

impl Call<'_> {
    /// Says what sort of method this is.
    pub(super) fn is_for(&self, route: Route) {
        self.exchange.is_for(route);
    }

    pub(super) fn unknown_method(&self) -> ApiError {
        ApiError::UnknownMethod {
            path: excerpt(self.exchange.head.uri.path(), 80),
        }
    }
}

/// How long a request's head says that its client waits: at most eight digits and a unit.
///
/// # Errors
/// 400 if the header is no such time. A time of 0 has passed, and is refused as one.
fn asked_by(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else {
        return super::deadline::asked_by(headers);
    };
    let parse = |text: &str| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let number: u64 = is_number.then(|| digits.parse().ok())??;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    match value.to_str().ok().and_then(parse) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(ApiError::invalid(
            "invalid_timeout",
            format!(
                "metadata {TIMEOUT}: expected up to 8 digits and one of H, M, S, m, u, n, got {}",
                excerpt(&String::from_utf8_lossy(value.as_bytes()), 40)
            ),
        )),
    }
}

/// Reads the message of a predict request, and finds its model: `find` is asked what the start of the
/// message says, and what all of it does. A large message for a model that is not there, or that has
/// no room, is not read. Fields may come in any order, and the last of a kind counts: `agree` says
/// whether a start and all of the message name the same model.
///
/// # Errors
/// What is wrong with the message or its model.
pub(super) async fn receive<'s>(
    call: &Call<'s>,
    mut messages: Messages<impl RequestBody>,
    find: impl Fn(&[u8], Part) -> Result<Option<Admitted<'s>>, ApiError>,
    agree: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<(Admitted<'s>, Bytes, Share<'s>), ApiError> {
    let server = call.server;
    let limits = &server.app.limits;
    let begun = in_time(limits, messages.begin(limits)).await?;
    let begun = begun.ok_or(ApiError::BodyBroken)?;
    let start = in_time(limits, messages.start(begun)).await?;
    let start_bytes = start.len();
    let mut admitted = find(start, Part::Start)?;
    if let Some(admitted) = &mut admitted {
        admitted.refuse_unread(begun.bytes as u64)?;
    }
    let mut share = server.budget.whole_share();
    let message = messages.finish(begun, limits, &mut share).await;
    let message = match &admitted {
        Some(admitted) => admitted.counted(message),
        None => message,
    }?;
    let start = &message[..start_bytes.min(message.len())];
    let admitted = match admitted {
        Some(admitted) if agree(start, &message) => Some(admitted),
        _ => find(&message, Part::All)?,
    };
    let mut admitted = admitted.expect("all of a message says which model it is for, or none");
    admitted.refuse()?;
    Ok((admitted, message, share))
}

/// How much of a message there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Perhaps not all.
    Start,
    All,
}

/// When the message of a stream that is awaited is not awaited any more, because the server closes.
pub(super) async fn until_closing<T>(server: &Server, next: impl Future<Output = T>) -> Option<T> {
    let lifecycle = &server.app.lifecycle;
    tokio::select! {
        biased;
        next = next => Some(next),
        () = lifecycle.until(|lifecycle| lifecycle.is_closing().then_some(())) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let asked = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            asked_by(&HeaderMap::from_iter([(
                http::HeaderName::from_static(TIMEOUT),
                value,
            )]))
            .ok()?
        };
        assert_eq!(asked("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(asked("2M"), Some(Duration::from_secs(120)));
        assert_eq!(asked("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(asked("250m"), Some(Duration::from_millis(250)));
        assert_eq!(asked("250u"), Some(Duration::from_micros(250)));
        assert_eq!(asked("7n"), Some(Duration::from_nanos(7)));
        for odd in [
            "",
            "1",
            "S",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789S",
            "1 S",
        ] {
            assert_eq!(asked(odd), None, "{odd}");
        }
    }
}
