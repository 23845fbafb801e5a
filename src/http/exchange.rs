//! One request and its answer: what every route has in common, whatever happens on the way.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Instant;

use axum::extract::Request;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Response;
use super::error::{ApiError, Place, Refusal};
use super::log;
use super::state::App;
use crate::metrics::{Protocol, Route};
use crate::model::repository::Served;

/// Names a request in its answer, its log line and its client's.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// The length of a `traceparent` of version 00: two digits, 32, 16 and two, and dashes between.
const TRACE_PARENT_CHARS: usize = 55;
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-safeserve-model-version");
const MODEL_FINGERPRINT: HeaderName = HeaderName::from_static("x-safeserve-model-fingerprint");

/// By nginx's habit, the status of a request whose client left before the answer.
const CLIENT_LEFT: u16 = 499;

/// A request without its body, and what is known of it so far: its log line and its metrics.
///
/// Handlers add what they find out; the end of the request reads it.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The request's line and headers.
    pub(super) head: Parts,
    /// When the head of the request was read.
    pub(super) started: Instant,
    route: OnceLock<Route>,
    served: OnceLock<(Protocol, Arc<Served>)>,
    /// What the operator calls the client.
    client: OnceLock<Arc<str>>,
}

impl Exchange {
    /// The exchange of a request that was just read.
    pub(super) fn new(head: Parts) -> Self {
        Self {
            head,
            started: Instant::now(),
            route: OnceLock::new(),
            served: OnceLock::new(),
            client: OnceLock::new(),
        }
    }

    /// The exchange of a further request under the same head, which was just read.
    #[cfg(feature = "grpc")]
    pub(super) fn again(&self) -> Self {
        Self {
            client: self.client.clone(),
            ..Self::new(self.head.clone())
        }
    }

    /// The exchange that a request of an axum route belongs to.
    pub(super) fn of(request: &Request) -> &Self {
        let exchange: Option<&Arc<Self>> = request.extensions().get();
        exchange.expect("`Routes` gives it to each")
    }

    /// Sets the sort of path that the request has. The first call counts.
    pub(super) fn set_route(&self, route: Route) {
        let _ = self.route.set(route);
    }

    /// Sets the model version that answers, and in which wire format. The first call counts.
    pub(super) fn set_model(&self, protocol: Protocol, served: &Arc<Served>) {
        let _ = self.served.set((protocol, Arc::clone(served)));
    }

    /// Sets whose key the request came with.
    pub(super) fn set_client(&self, client: &Arc<str>) {
        let _ = self.client.set(Arc::clone(client));
    }

    fn route(&self) -> Route {
        self.route.get().copied().unwrap_or(Route::Other)
    }
}

/// Carries a request to its answer: identifies, times, counts and logs it, and answers 500 if
/// `answer` panics.
pub(super) async fn carry(
    app: &App,
    exchange: &Exchange,
    answer: impl Future<Output = Response>,
) -> Response {
    let headers = &exchange.head.headers;
    let id = request_id(headers);
    let trace = trace_parent(headers);
    let mut ending = Ending {
        app,
        exchange,
        id,
        trace,
        status: CLIENT_LEFT,
        refusal: None,
    };

    let mut answer = pin!(answer);
    let answered = std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    })
    .await;
    let mut response = answered.unwrap_or_else(|| {
        // The panic hook has logged where and why.
        app.metrics.handler_panics_total().inc();
        ApiError::Internal.into_answer()
    });

    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, ending.id.clone());
    if let Some(trace) = &ending.trace {
        headers.insert(TRACE_PARENT, trace.clone());
    }
    if let Some((_, served)) = exchange.served.get() {
        for (name, text) in [
            (MODEL_VERSION, &served.version),
            (MODEL_FINGERPRINT, &served.fingerprint),
        ] {
            let value = HeaderValue::from_maybe_shared(text.clone());
            headers.insert(name, value.expect("digits, decimal or hexadecimal"));
        }
    }
    ending.status = response.status().as_u16();
    ending.refusal = response.extensions().get::<Refusal>().cloned();
    response
}

/// Counts and logs a request when it ends, in whatever way: dropped before it was answered, its
/// client has left.
struct Ending<'a> {
    app: &'a App,
    exchange: &'a Exchange,
    id: HeaderValue,
    trace: Option<HeaderValue>,
    status: u16,
    /// Why the answer is none, if it says why.
    refusal: Option<Refusal>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Self {
            app,
            exchange,
            ref id,
            ref trace,
            status,
            ref refusal,
        } = *self;
        let took = exchange.started.elapsed();
        let seconds = took.as_secs_f64();
        app.metrics.http_request(exchange.route(), status);
        let served = exchange.served.get();
        if let Some((protocol, served)) = served {
            served
                .metrics
                .request(*protocol, status, exchange.started, took);
        }

        let model = served.map(|(_, served)| served.model.name.as_str());
        let version = served.map(|(_, served)| served.model.version);
        let signature = served.map(|(_, served)| &served.model.signature);
        let place = refusal.as_ref().and_then(|refusal| refusal.place.as_ref());
        // What later versions add after these fields has no bound.
        let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
        let trace = trace.and_then(|trace| trace.get(..TRACE_PARENT_CHARS));
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    request_id = id.to_str().unwrap_or_default(),
                    traceparent = trace,
                    method = log::method(&exchange.head.method),
                    path = log::path(exchange.head.uri.path(), app, version),
                    status,
                    seconds,
                    model,
                    version,
                    client = exchange.client.get().map(|name| &**name),
                    code = refusal.as_ref().map(|refusal| refusal.code.as_str()),
                    place = place.map(|place| log::place(place, signature)),
                    offset = place.and_then(Place::offset),
                    "request"
                )
            };
        }
        // Overload is reported by its metrics: a line a refusal would add to the load. What is
        // wrong with a model, not with its client, would come with every request.
        match status {
            500 => log!(error),
            422 => log!(debug),
            400..=499 => log!(info),
            _ => log!(debug),
        }
    }
}

/// The client's own id if it is 1 to 128 printable ASCII characters, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(REQUEST_ID)
        && (1..=128).contains(&id.len())
        && id.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'))
    {
        return id.clone();
    }
    new_request_id()
}

/// An id that no other request has: the thread's own number and a count, both hexadecimal.
pub(crate) fn new_request_id() -> HeaderValue {
    thread_local! {
        /// Differs from thread to thread and from process to process; after it the count.
        static LAST: Cell<(u64, u64)> =
            Cell::new((RandomState::new().build_hasher().finish(), 0));
    }
    let (thread, count) = LAST.get();
    LAST.set((thread, count + 1));
    let mut id = [b'-'; 33];
    let mut end = 0;
    for (number, digits) in [(thread, 16), (count, hexadecimal_digits(count))] {
        for place in (0..digits).rev() {
            id[end] = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
            end += 1;
        }
        end += 1;
    }
    HeaderValue::from_bytes(&id[..end - 1])
        .expect("hexadecimal digits and a dash are valid in a header")
}

fn hexadecimal_digits(number: u64) -> u32 {
    number.max(1).ilog2() / 4 + 1
}

/// The client's `traceparent` if it is one by W3C Trace Context.
///
/// A version above 00 is read as 00, and may have more fields after a dash. It comes back as it
/// came: who wrote it knows the rest (section "Versioning of traceparent").
fn trace_parent(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(TRACE_PARENT)?;
    let mut parts = value.to_str().ok()?.split('-');
    let mut part = |digits: usize| {
        parts.next().filter(|part| {
            part.len() == digits
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let may_end_so = match version {
        "00" => parts.next().is_none(),
        version => version != "ff",
    };
    let is_valid = may_end_so && !is_zero(trace) && !is_zero(parent);
    is_valid.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn a_printable_request_id_is_kept_and_any_other_replaced() {
        let id = |value: &[u8]| request_id(&headers(REQUEST_ID, value));
        assert_eq!(id(b"order 66/\"x\""), "order 66/\"x\"");
        assert_eq!(id(&[b'x'; 128]).len(), 128);
        for odd in [&b""[..], &[b'x'; 129], b"a\tb", b"caf\xe9"] {
            assert_ne!(id(odd).as_bytes(), odd);
            assert!((18..=33).contains(&id(odd).len()));
        }
    }

    #[test]
    fn no_two_requests_get_the_same_id() {
        let none = HeaderMap::new();
        let [first, second] = [(); 2].map(|()| request_id(&none));
        let other_thread = std::thread::spawn(|| request_id(&HeaderMap::new()));
        let third = other_thread.join().unwrap();
        assert_eq!(second.len(), 18, "{second:?}");
        assert!(first != second && second != third && third != first);
    }

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn kept(value: &str) -> Option<HeaderValue> {
        trace_parent(&headers(TRACE_PARENT, value.as_bytes()))
    }

    #[test]
    fn only_a_valid_traceparent_is_kept() {
        assert_eq!(kept(VALID).unwrap(), VALID);
        for odd in [
            "",
            "00",
            &VALID[1..],
            &VALID[..54],
            &VALID.replace("00-", "ff-"),
            &VALID.replace("00-", "0x-"),
            &VALID.replace("0af", "0AF"),
            &VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            &format!("{VALID}-00"),
            &format!("{VALID}-"),
        ] {
            assert_eq!(kept(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_traceparent_of_a_later_version_is_kept_as_it_came() {
        let later = VALID.replace("00-", "01-");
        let last = VALID.replace("00-", "fe-");
        for valid in [
            &later,
            &last,
            &format!("{later}-what-comes"),
            &format!("{later}-"),
        ] {
            assert_eq!(kept(valid).unwrap(), valid);
        }
        for odd in [
            format!("{later}.what-comes"),
            format!("{later}00"),
            later.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert_eq!(kept(&odd), None, "{odd}");
        }
    }
}
