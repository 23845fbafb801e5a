//! Connections to a server in this process, over real sockets: limits, refusals, the drain.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use http::{Request, Response};
use http_body_util::BodyExt;
use safeserve::config::{Config, Overrides, Settings};
use safeserve::lifecycle::Lifecycle;
use safeserve::metrics::{BuildInfo, Metrics};
use safeserve::server::{Drained, Handler, IoThreads, Listen, RequestBody, Server, Stop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// A body larger than any socket buffer.
const LARGE_BYTES: usize = 16 << 20;

/// Routes of the test's own.
struct Routed(Router);

impl Handler for Routed {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let request = request.map(Body::new);
        let Ok(response) = self.0.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }
}

struct Running {
    address: SocketAddr,
    lifecycle: Arc<Lifecycle>,
    metrics: Metrics,
    stop: Option<oneshot::Sender<Stop>>,
    running: JoinHandle<Drained>,
    /// Requests to `/slow` that have begun.
    begun: Arc<Semaphore>,
    /// Requests to `/slow` that may end.
    released: Arc<Semaphore>,
}

impl Running {
    async fn start(settings: &[&str]) -> Self {
        let config = config(settings);
        let lifecycle = Arc::new(Lifecycle::new());
        let metrics = Metrics::new(BuildInfo {
            version: "0",
            profile: "test",
            platform: "test",
        });
        let begun = Arc::new(Semaphore::new(0));
        let released = Arc::new(Semaphore::new(0));
        let slow = {
            let (begun, released) = (Arc::clone(&begun), Arc::clone(&released));
            move || async move {
                begun.add_permits(1);
                released.acquire().await.unwrap().forget();
                "slow"
            }
        };
        let router = Router::new()
            .route("/", get(|| async { "{}" }))
            .route("/slow", get(slow))
            .route("/large", get(|| async { vec![b'x'; LARGE_BYTES] }))
            .route("/echo", post(|body: Bytes| async { body }))
            .route(
                "/number/{n}",
                get(|axum::extract::Path(n): axum::extract::Path<String>| async { n }),
            );
        let server = Server::bind(
            Listen::for_clients(&config, None),
            &config,
            Routed(router),
            Arc::clone(&lifecycle),
            metrics.clone(),
        )
        .await
        .unwrap();
        let address = server.address();
        let threads = Arc::new(IoThreads::start(2).unwrap());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(threads, async { stopped.await.unwrap() }));
        Self {
            address,
            lifecycle,
            metrics,
            stop: Some(stop),
            running,
            begun,
            released,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        client
    }

    /// Sends and reads to the end of the connection.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut client = self.send(bytes).await;
        read_to_end(&mut client).await
    }

    fn stop(&mut self, stop: Stop) {
        self.stop.take().unwrap().send(stop).unwrap();
    }

    /// Waits until the server drains.
    async fn draining(&self) {
        while !self.lifecycle.is_draining() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a count is reached: clients see a connection end before it is counted.
    async fn reaches(&self, series: &str, count: f64) {
        while self.value(series) < count {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.value(series), count, "{series}");
    }

    fn value(&self, series: &str) -> f64 {
        let page = self.metrics.render().unwrap();
        let line = page.lines().find(|line| line.starts_with(series));
        let value = line.unwrap().rsplit_once(' ').unwrap().1;
        value.parse().unwrap()
    }
}

fn config(settings: &[&str]) -> Config {
    let mut assignments = vec!["server.bind=127.0.0.1:0".to_owned()];
    assignments.extend(settings.iter().map(ToString::to_string));
    Settings::load(Overrides {
        assignments,
        ..Overrides::default()
    })
    .unwrap()
    .config
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads one answer with a `content-length` and leaves the connection open.
async fn read_answer(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(answer.clone()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    answer.extend(body);
    String::from_utf8(answer).unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_that_sends_no_head_is_closed_at_the_header_timeout() {
    let server = Running::start(&["limits.header_timeout_ms=50"]).await;
    for part in [
        "",
        "P",
        "PRI * HT",
        "POST /e HTT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
    ] {
        let mut client = server.connect().await;
        // On a slow machine the time is over before the first byte; then both of these fail.
        let _ = client.write_all(part.as_bytes()).await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    server
        .reaches(
            "safeserve_connections_closed_total{reason=\"header_timeout\"}",
            5.0,
        )
        .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_the_idle_timeout_not_the_header_timeout() {
    let server = Running::start(&[
        "limits.idle_timeout_ms=50",
        "limits.header_timeout_ms=3600000",
    ])
    .await;
    let answer = server.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    server
        .reaches(
            "safeserve_connections_closed_total{reason=\"idle_timeout\"}",
            1.0,
        )
        .await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_so_and_the_others_are_served() {
    let server = Running::start(&["limits.max_connections=1"]).await;
    let mut first = server.send(GET).await;
    read_answer(&mut first).await;
    let refused = server.exchange(GET).await;
    assert!(
        refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{refused}"
    );
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(
        refused.contains("\"code\":\"too_many_connections\""),
        "{refused}"
    );
    first.write_all(GET).await.unwrap();
    assert!(
        read_answer(&mut first)
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert_eq!(
        server.value("safeserve_connections_refused_total{reason=\"limit\"}"),
        1.0
    );
    assert_eq!(server.value("safeserve_connections_accepted_total"), 2.0);
    assert_eq!(server.value("safeserve_connections_open"), 1.0);
}

#[tokio::test]
async fn bad_framing_gets_a_json_error_and_a_closed_connection() {
    let server = Running::start(&["limits.max_headers=20"]).await;
    let headers =
        |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    let table = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned(),
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned(),
            400,
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(), 400),
        ("Content-Length: +5\r\n".to_owned(), 400),
        ("Content-Length: -1\r\n".to_owned(), 400),
        ("Transfer-Encoding: gzip\r\n".to_owned(), 400),
        ("Transfer-Encoding: gzip, chunked\r\n".to_owned(), 400),
        ("X: a\r\n b\r\n".to_owned(), 400),
        ("X : a\r\n".to_owned(), 400),
        ("X\r\n".to_owned(), 400),
        ("X: \0\r\n".to_owned(), 400),
        ("Host: b\r\n".to_owned(), 400),
        (headers(20), 431),
        (format!("X: {}\r\n", "y".repeat(70_000)), 431),
    ];
    for (headers, status) in table {
        let shown = &headers[..headers.len().min(60)];
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let answer = server.exchange(request.as_bytes()).await;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{shown}"));
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown}: {head}"
        );
        assert!(
            head.contains("content-type: application/json"),
            "{shown}: {head}"
        );
        assert!(head.contains("connection: close"), "{shown}: {head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(
            body["error"].is_string() && body["code"].is_string(),
            "{shown}: {body}"
        );
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{1}\u{2}\r\n\r\n",
    ] {
        let answer = server.exchange(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{request:?}: {answer}"
        );
        assert!(answer.contains("{\"error\":"), "{request:?}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(65_535));
    let answer = server.exchange(long.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 4") && answer.contains("{\"error\":"),
        "{answer}"
    );
    // No one else is affected.
    let mut client = server.send(GET).await;
    assert!(
        read_answer(&mut client)
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
}

#[tokio::test]
async fn only_a_single_transfer_coding_chunked_is_served() {
    let server = Running::start(&[]).await;
    let post = |codings: &[&str]| {
        let headers: String = codings
            .iter()
            .map(|coding| format!("Transfer-Encoding: {coding}\r\n"))
            .collect();
        // The body is well-formed for a parser that reads only `chunked`.
        format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n\
             3\r\nabc\r\n0\r\n\r\n"
        )
    };
    for codings in [
        ["chunked", "gzip, chunked"],
        ["chunked", "chunked"],
        ["gzip", "chunked"],
        ["", "chunked"],
        ["chunked", "gzip"],
        ["chunked", ""],
    ] {
        let answer = server.exchange(post(&codings).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{codings:?}: {answer}");
        let code = "\"code\":\"unknown_transfer_coding\"";
        assert!(answer.contains(code), "{codings:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    let answer = server.exchange(post(&["Chunked"]).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
}

#[tokio::test]
async fn an_http2_preface_is_refused() {
    let server = Running::start(&[]).await;
    let answer = server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn chunked_bodies_and_lengths_alone_are_served() {
    let server = Running::start(&[]).await;
    let mut client = server
        .send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert!(read_answer(&mut client).await.ends_with("\r\n\r\nabc"));
    client
        .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nde")
        .await
        .unwrap();
    assert!(read_answer(&mut client).await.ends_with("\r\n\r\nde"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(&[]).await;
    let requests: String = (0..40)
        .map(|n| format!("GET /number/{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    let mut client = server.send(requests.as_bytes()).await;
    for n in 0..40 {
        let answer = read_answer(&mut client).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{n}")), "{n}: {answer}");
    }
}

#[tokio::test]
async fn a_request_after_an_ambiguous_one_is_never_answered() {
    let server = Running::start(&[]).await;
    let answer = server
        .exchange(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
              0\r\n\r\nGET /number/7 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\"code\":\"ambiguous_length\""), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn during_the_drain_delay_new_connections_are_answered_and_closed() {
    let mut server = Running::start(&["server.drain_delay_ms=3600000"]).await;
    let mut before = server.send(GET).await;
    let answer = read_answer(&mut before).await;
    assert!(!answer.contains("connection: close"), "{answer}");
    assert!(server.lifecycle.is_ready());

    server.stop(Stop::AfterDelay);
    server.draining().await;
    assert!(!server.lifecycle.is_ready());
    before.write_all(GET).await.unwrap();
    for answer in [read_to_end(&mut before).await, server.exchange(GET).await] {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    server.running.abort();
}

#[tokio::test]
async fn a_request_in_flight_at_the_stop_is_answered() {
    let mut server = Running::start(&["server.drain_timeout_ms=3600000"]).await;
    let mut client = server.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.begun.acquire().await.unwrap().forget();
    let mut idle = server.send(GET).await;
    read_answer(&mut idle).await;

    server.stop(Stop::Now);
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(!server.running.is_finished());
    server.released.add_permits(1);
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!((&mut server.running).await.unwrap(), Drained { cut: 0 });
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.value("safeserve_connections_open"), 0.0);
    assert_eq!(server.value("safeserve_http_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn the_last_answer_of_a_connection_arrives_whole() {
    let server = Running::start(&[]).await;
    let answer = server
        .exchange(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), LARGE_BYTES);
}

#[tokio::test]
async fn an_answer_that_is_being_sent_at_the_stop_arrives_whole() {
    let mut server = Running::start(&["server.drain_timeout_ms=3600000"]).await;
    let mut client = server.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.read_u8().await.unwrap(), b'H');
    server.stop(Stop::Now);
    server.draining().await;
    let answer = read_to_end(&mut client).await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), LARGE_BYTES);
    assert_eq!((&mut server.running).await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn stalled_clients_do_not_keep_the_server_from_stopping() {
    let mut server = Running::start(&["server.drain_timeout_ms=100"]).await;
    let mut stalled = Vec::new();
    for part in [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        stalled.push(server.send(part.as_bytes()).await);
    }
    let mut slow = server.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.begun.acquire().await.unwrap().forget();
    server.stop(Stop::Now);
    let Drained { cut } = (&mut server.running).await.unwrap();
    assert!(cut >= 1, "the slow request at least is cut off");
    assert_eq!(read_to_end(&mut slow).await, "");
    assert_eq!(server.value("safeserve_connections_open"), 0.0);
    drop(stalled);
}

/// An answer that comes before the body: the server has nothing to wait for but the client's end,
/// which may never come.
#[tokio::test]
async fn a_client_that_never_leaves_after_an_early_answer_holds_nothing() {
    let mut server = Running::start(&["server.drain_timeout_ms=3600000"]).await;
    let mut client = server
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        .await;
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    server.stop(Stop::Now);
    assert_eq!((&mut server.running).await.unwrap(), Drained { cut: 0 });
    assert_eq!(server.value("safeserve_connections_open"), 0.0);
}

#[tokio::test]
async fn a_taken_port_is_refused_with_its_address_and_a_hint() {
    let server = Running::start(&[]).await;
    let config = config(&[&format!("server.bind={}", server.address)]);
    let lifecycle = Arc::new(Lifecycle::new());
    let metrics = server.metrics.clone();
    let Err(error) = Server::bind(
        Listen::for_clients(&config, None),
        &config,
        Routed(Router::new()),
        lifecycle,
        metrics,
    )
    .await
    else {
        panic!("two servers on one port");
    };
    assert_eq!(
        error.to_string(),
        format!(
            "server.bind: cannot listen on {}; stop what listens there, or choose another port \
             (--bind ADDR:PORT)",
            server.address
        )
    );
}
