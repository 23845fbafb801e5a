//! Requests without a connection: bodies of both protocols, and paths with their headers.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use safeserve::http::{App, Naming, Routes};
use safeserve::metrics::WatchedFile;
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};

use super::answer::{JSON_LENGTH, check};
use super::choose;
use super::server::TestServer;

/// The key of the server that asks for one.
const KEY: &str = "0123456789abcdef";

/// The model whose configuration allows inputs and answers that are not finite.
const MAY_BE_INFINITE: &str = "matrix";

thread_local! {
    pub(super) static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().unwrap();
    /// The models, whose files are removed when the thread ends.
    static SERVER: TestServer = TestServer::start();
    pub(super) static ROUTES: Routes = Routes::new(app());
    /// The same for those who have the key, and the file that it is in.
    static WITH_KEYS: (Routes, NamedTempFile) = with_keys();
}

/// What is served.
pub(super) fn app() -> Arc<App> {
    SERVER.with(|server| Arc::clone(&server.app))
}

fn with_keys() -> (Routes, NamedTempFile) {
    let app = app();
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, format!("fuzz {KEY}\n")).unwrap();
    let keys = safeserve::server::keys(WatchedFile::ApiKeys, "keys", file.path(), &app.metrics);
    let routes = Routes::new(Arc::new(App {
        repository: Arc::clone(&app.repository),
        metrics: app.metrics.clone(),
        lifecycle: Arc::clone(&app.lifecycle),
        limits: app.limits,
        naming: app.naming.clone(),
        keys: Some(keys.unwrap()),
        has_metrics_page: true,
    }));
    (routes, file)
}

/// The body of an inference request of the Open Inference Protocol. After a capital letter a line
/// holds the header with the length of its JSON: binary data follows.
pub fn infer(data: &[u8]) {
    const MODELS: &[&str] = &["echo", "pair", "matrix", "fruit", "coin", "steep"];
    let Some(byte) = data.first() else { return };
    let lower = [&[byte.to_ascii_lowercase()], &data[1..]].concat();
    let Some((model, rest)) = choose(&lower, MODELS) else {
        return;
    };
    let path = format!("/v2/models/{model}/infer");
    if !byte.is_ascii_uppercase() {
        return post(&path, None, rest, false);
    }
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let length = HeaderValue::from_bytes(lines.next().unwrap_or_default());
    if let Ok(length) = length {
        post(&path, Some(length), lines.next().unwrap_or_default(), false);
    }
}

/// The body of a request to predict, classify or regress.
pub fn predict(data: &[u8]) {
    const CALLS: &[&str] = &[
        "echo:predict",
        "pair:predict",
        "matrix:predict",
        "fruit:predict",
        "steep:predict",
        "fruit:classify",
        "coin:classify",
        "half_plus_two:regress",
    ];
    if let Some((call, body)) = choose(data, CALLS) {
        let may_be_infinite = call.starts_with(MAY_BE_INFINITE);
        post(&format!("/v1/models/{call}"), None, body, may_be_infinite);
    }
}

/// A body of rows: CSV, JSON lines, or what MLflow's clients send. After a capital letter the answer
/// is asked for as CSV.
pub fn tables(data: &[u8]) {
    const CALLS: &[(&str, &str)] = &[
        ("/v1/models/fruit:predict", "text/csv"),
        ("/v1/models/echo:predict", "text/csv"),
        ("/v1/models/matrix:predict", "text/csv; header=absent"),
        ("/v1/models/fruit:predict", "text/csv; header=present"),
        ("/v1/models/fruit:predict", "application/x-ndjson"),
        ("/v1/models/pair:predict", "application/x-ndjson"),
        ("fruit", "application/json"),
        ("echo", "application/json"),
        ("pair", "application/json"),
        ("fruit", "text/csv"),
    ];
    let Some(byte) = data.first() else { return };
    let lower = [&[byte.to_ascii_lowercase()], &data[1..]].concat();
    let Some(((place, media_type), body)) = choose(&lower, CALLS) else {
        return;
    };
    let path = match place.starts_with('/') {
        true => *place,
        false => "/invocations",
    };
    let mut request = Request::post(path)
        .header("content-type", *media_type)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    if byte.is_ascii_uppercase() {
        let csv = HeaderValue::from_static("text/csv");
        request.headers_mut().insert("accept", csv);
    }
    let may_be_infinite = place.contains(MAY_BE_INFINITE);
    if place.starts_with('/') {
        ROUTES.with(|routes| answer(routes, request, may_be_infinite));
        return;
    }
    let app = app();
    let routes = Routes::new(Arc::new(App {
        repository: Arc::clone(&app.repository),
        metrics: app.metrics.clone(),
        lifecycle: Arc::clone(&app.lifecycle),
        limits: app.limits,
        keys: None,
        naming: Naming {
            default_model: Some((*place).to_owned()),
            ..Naming::default()
        },
        has_metrics_page: true,
    }));
    answer(&routes, request, may_be_infinite);
}

fn post(path: &str, json_length: Option<HeaderValue>, body: &[u8], may_be_infinite: bool) {
    let mut request = Request::post(path)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    if let Some(length) = json_length {
        request.headers_mut().insert(JSON_LENGTH, length);
    }
    ROUTES.with(|routes| answer(routes, request, may_be_infinite));
}

/// A request as on the wire, after the byte that says its method: the target on the first line,
/// headers, an empty line, the body. A capital letter asks the server that wants a key.
pub fn paths(data: &[u8]) {
    let Some(byte) = data.first() else { return };
    const METHODS: &[Method] = &[
        Method::GET,
        Method::POST,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::TRACE,
        Method::CONNECT,
    ];
    let has_keys = byte.is_ascii_uppercase();
    let lower = [&[byte.to_ascii_lowercase()], &data[1..]].concat();
    let Some((method, rest)) = choose(&lower, METHODS) else {
        return;
    };
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let Ok(uri) = Uri::from_maybe_shared(Bytes::copy_from_slice(target)) else {
        return;
    };
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    let may_be_infinite = uri.path().contains(MAY_BE_INFINITE) || uri.path().contains('%');
    let is_open = ["", "/"].contains(&uri.path()) || uri.path().contains("health");
    *request.uri_mut() = uri;
    let mut body = lines.next().unwrap_or_default();
    while let Some(end) = body.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&body[..end], &body[end + 1..]);
        body = rest;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    let is_keyless = !request.headers().values().any(|value| {
        let value = value.as_bytes();
        value.windows(KEY.len()).any(|part| part == KEY.as_bytes())
    });
    let request = request.map(|()| Full::new(Bytes::copy_from_slice(body)));
    let status = match has_keys {
        true => WITH_KEYS.with(|(routes, _)| answer(routes, request, may_be_infinite)),
        false => ROUTES.with(|routes| answer(routes, request, may_be_infinite)),
    };
    if has_keys && is_keyless && !is_open {
        assert_eq!(status, 401, "without a key");
    }
}

/// Sends a request, checks the answer, and returns its status.
fn answer(routes: &Routes, request: Request<Full<Bytes>>, may_be_infinite: bool) -> u16 {
    let (head, body) = RUNTIME
        .with(|runtime| runtime.block_on(routes.answer(request)))
        .into_parts();
    if let Err(broken) = check(head.status, &head.headers, &body, may_be_infinite) {
        panic!("{broken}");
    }
    head.status.as_u16()
}
