//! What every route has in common: ids, headers, limits, counts.

use http::Method;

use super::server::{MAX_BODY_BYTES, TestServer, request};

const ECHO: &str = "/v1/models/echo:predict";
const GOOD: &str = r#"{"instances":[[1,2]]}"#;

#[tokio::test]
async fn an_answer_names_the_request_and_the_weights() {
    let server = TestServer::start();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("x-request-id", "order 7"), ("traceparent", trace)];
    let answer = server
        .send(request(Method::POST, ECHO, &headers, GOOD))
        .await;
    assert_eq!(answer.header("x-request-id"), Some("order 7"));
    assert_eq!(answer.header("traceparent"), Some(trace));
    assert_eq!(answer.header("x-safeserve-model-version"), Some("3"));
    let fingerprint = answer.header("x-safeserve-model-fingerprint").unwrap();
    assert_eq!(fingerprint.len(), 64);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn refusals_name_the_request_too() {
    let server = TestServer::start();
    let first = server.get("/nowhere").await;
    let second = server.get("/nowhere").await;
    let id = first.header("x-request-id").unwrap();
    assert!(!id.is_empty());
    assert_ne!(second.header("x-request-id"), Some(id));

    let refused = server.post(ECHO, "{").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("x-safeserve-model-version"), Some("3"));
}

#[tokio::test]
async fn the_length_is_said_by_the_connection_alone() {
    let server = TestServer::start();
    for path in ["/", "/metrics", "/nowhere", "/v2", "/v2/health/live"] {
        let get = server.get(path).await;
        let head = server.send(request(Method::HEAD, path, &[], "")).await;
        for answer in [&get, &head] {
            assert_eq!(answer.header("content-length"), None, "{path}");
        }
        // It drops the body to HEAD, and says how long it was.
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.body.is_empty(), get.body.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn requests_count_by_model_protocol_and_code() {
    let server = TestServer::start();
    server.post(ECHO, GOOD).await;
    server.post(ECHO, GOOD).await;
    server.post(ECHO, "{").await;
    server
        .post("/v1/models/echo/versions/2:predict", GOOD)
        .await;
    server.post("/v2/models/echo/infer", "{}").await;
    server.post("/v2/models/unheard-of/infer", "{}").await;
    server.get("/v2/models/\u{a0}unheard-of".trim()).await;
    server.get("/favicon.ico").await;
    let page = server.get("/metrics").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let count = |series: &str| {
        let line = page.body.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("{series} is on the page"))
            .trim()
            .to_owned()
    };
    let model = |version: u64, protocol: &str, code: u16| {
        count(&format!(
            "safeserve_requests_total{{code=\"{code}\",model=\"echo\",protocol=\"{protocol}\",\
             version=\"{version}\"}}"
        ))
    };
    assert_eq!(model(3, "v1", 200), "2");
    assert_eq!(model(3, "v1", 400), "1");
    assert_eq!(model(2, "v1", 200), "1");
    assert_eq!(model(3, "v2", 400), "1");
    let route = |route: &str, code: u16| {
        count(&format!(
            "safeserve_http_requests_total{{code=\"{code}\",route=\"{route}\"}}"
        ))
    };
    assert_eq!(route("v1_predict", 200), "3");
    assert_eq!(route("v2_infer", 404), "1");
    assert_eq!(route("other", 404), "1");
    assert!(!page.body.contains("unheard-of"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = TestServer::start();
    let answer = server.post(ECHO, " ".repeat(MAX_BODY_BYTES + 1)).await;
    assert_eq!(answer.status, 413);

    let padded = format!("{GOOD}{}", " ".repeat(MAX_BODY_BYTES - GOOD.len()));
    assert_eq!(server.post(ECHO, padded).await.status, 200);
}

#[tokio::test]
async fn a_server_that_drains_answers_as_before() {
    let server = TestServer::start();
    server.app.lifecycle.drain();
    let answer = server.post(ECHO, GOOD).await;
    assert_eq!(answer.status, 200);
    // Whether the connection ends is the connection's to say.
    assert_eq!(answer.header("connection"), None);
}

#[tokio::test]
async fn a_closed_scheduler_sends_clients_elsewhere() {
    let server = TestServer::start();
    server.close_scheduler();
    let answer = server.post(ECHO, GOOD).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["code"], "shutting_down");
}

#[tokio::test]
async fn an_unready_model_says_when_to_ask_again() {
    let server = TestServer::start();
    let answer = server.post("/v1/models/broken:predict", GOOD).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.json()["code"], "model_not_ready");
}

#[tokio::test]
async fn the_root_is_alive() {
    let server = TestServer::start();
    let answer = server.get("/").await;
    assert_eq!(answer.body, r#"{"status":"alive"}"#);
}

#[tokio::test]
async fn any_reasonable_media_type_is_json() {
    let server = TestServer::start();
    for media_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ] {
        let headers = [
            ("content-type", media_type),
            ("content-encoding", "identity"),
        ];
        let request = request(Method::POST, ECHO, &headers, GOOD);
        assert_eq!(server.send(request).await.status, 200, "{media_type}");
    }
}
