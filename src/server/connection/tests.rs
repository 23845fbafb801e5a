//! Time is tokio's paused clock: it moves only when every task waits, and then to the next timer.

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::lifecycle::Lifecycle;
use crate::metrics::{BuildInfo, Metrics};
use crate::server::connections::Timeouts;
use crate::server::head::HeadLimits;
use crate::server::shutdown_phase::ShutdownPhases;

const TIMEOUTS: Timeouts = Timeouts {
    header: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(20),
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers by the path: `/` at once, `/late` when told, `/body` with the request's body,
/// `/large` with more than a test's connection holds.
#[derive(Default)]
struct Paths {
    late: Notify,
    left: Notify,
}

impl Handler for Paths {
    async fn answer(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let body = match request.uri().path() {
            "/late" => {
                let left = OnDrop(|| self.left.notify_one());
                self.late.notified().await;
                std::mem::forget(left);
                "late".into()
            }
            "/body" => match request.into_body().collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => error.to_string().into(),
            },
            "/large" => vec![b'x'; 64].into(),
            _ => "{}".into(),
        };
        Response::new(body)
    }
}

struct Server {
    connections: Arc<Connections<Paths>>,
    client: DuplexStream,
    serving: JoinHandle<()>,
    start: Instant,
}

impl Server {
    /// A connection that holds this many bytes each way.
    fn start(capacity: usize) -> Self {
        let (client, socket) = duplex(capacity);
        let connections = Arc::new(Connections {
            protocol: Paths::default(),
            lifecycle: Arc::new(Lifecycle::new()),
            metrics: Metrics::new(BuildInfo {
                version: "0",
                profile: "test",
                platform: "test",
            }),
            phases: ShutdownPhases::new(),
            timeouts: TIMEOUTS,
            head_limits: HeadLimits {
                max_headers: 100,
                max_bytes: 16 << 10,
            },
        });
        let serving = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.serve(socket).await }
        });
        Self {
            connections,
            client,
            serving,
            start: Instant::now(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }

    /// Reads one answer; its head and body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        self.client.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads to the connection's end: what came, and the seconds since the start.
    async fn end(&mut self) -> (String, u64) {
        let mut rest = String::new();
        self.client.read_to_string(&mut rest).await.unwrap();
        (&mut self.serving).await.unwrap();
        (rest, self.start.elapsed().as_secs())
    }

    /// Whether the connection was counted once, under this reason.
    fn was_closed(&self, reason: &str) -> bool {
        let page = self.connections.metrics.render().unwrap();
        let closed: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("safeserve_connections_closed_total"))
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        closed
            == [format!(
                "safeserve_connections_closed_total{{reason=\"{reason}\"}} 1"
            )]
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_cut_at_the_header_timeout_without_an_answer() {
    let mut server = Server::start(1024);
    assert_eq!(server.end().await, (String::new(), 10));
    assert!(server.was_closed("header_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_is_cut_at_the_header_timeout_with_a_408() {
    let mut server = Server::start(1024);
    for byte in b"GET / HTTP".chunks(1) {
        server.send(byte).await;
        tokio::time::sleep(Duration::from_millis(990)).await;
    }
    let (answer, seconds) = server.end().await;
    // It took a moment longer for this side to be done.
    assert_eq!(seconds, 11);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"header_timeout\""), "{answer}");
    assert!(server.was_closed("header_timeout"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_the_idle_timeout() {
    let mut server = Server::start(1024);
    server.send(GET).await;
    server.answer().await;
    assert_eq!(server.end().await, (String::new(), 75));
    assert!(server.was_closed("idle_timeout"));
}

#[tokio::test(start_paused = true)]
async fn empty_lines_keep_no_connection_open() {
    let mut server = Server::start(1024);
    server.send(GET).await;
    server.answer().await;
    for _ in 0..7 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        server.send(b"\r\n").await;
    }
    assert_eq!(server.end().await, (String::new(), 75));
}

#[tokio::test(start_paused = true)]
async fn the_header_timeout_of_a_later_request_starts_with_its_first_byte() {
    let mut server = Server::start(1024);
    server.send(GET).await;
    server.answer().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    server.send(b"P").await;
    let (answer, seconds) = server.end().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // With the second in which the client may have been reading.
    assert_eq!(seconds, 71);
}

#[tokio::test(start_paused = true)]
async fn no_time_runs_between_requests_while_one_is_answered() {
    let mut server = Server::start(1024);
    server.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    server.connections.protocol.late.notify_one();
    assert_eq!(server.answer().await.1, "late");
    assert_eq!(server.end().await, (String::new(), 675));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_its_request() {
    let mut server = Server::start(1024);
    server.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (client, _) = duplex(1);
    drop(std::mem::replace(&mut server.client, client));
    server.connections.protocol.left.notified().await;
    (&mut server.serving).await.unwrap();
    assert!(server.was_closed("io"));
    assert_eq!(server.connections.metrics.requests_in_flight().get(), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_may_be_sent_before_the_answer_to_the_one_before() {
    let mut server = Server::start(1024);
    server.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server
        .send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.connections.protocol.late.notify_one();
    assert_eq!(server.answer().await.1, "late");
    assert_eq!(server.answer().await.1, "abc");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_an_idle_connection_at_once_but_serves_what_it_sent_before() {
    let mut server = Server::start(1024);
    server.send(GET).await;
    server.answer().await;
    server.send(GET).await;
    server.connections.phases.set(ShutdownPhase::Closing);
    let (answer, seconds) = server.end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(seconds, 0);
    assert!(server.was_closed("done"));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_a_new_connection_a_moment_for_its_first_byte() {
    let mut server = Server::start(1024);
    tokio::task::yield_now().await;
    server.connections.phases.set(ShutdownPhase::Closing);
    server.end().await;
    assert_eq!(server.start.elapsed(), FIRST_BYTE_GRACE);
    assert!(server.was_closed("done"));
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_every_activity() {
    let mut server = Server::start(1024);
    server.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::task::yield_now().await;
    server.connections.phases.set(ShutdownPhase::Cut);
    assert_eq!(server.end().await, (String::new(), 0));
    assert!(server.was_closed("drain"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_at_the_write_timeout() {
    let mut server = Server::start(64);
    server.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    (&mut server.serving).await.unwrap();
    assert_eq!(server.start.elapsed().as_secs(), 20);
    assert!(server.was_closed("write_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_cut() {
    let mut server = Server::start(64);
    server
        .send(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let mut read = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        match server.client.read(&mut [0; 16]).await.unwrap() {
            0 => break,
            count => read += count,
        }
    }
    assert!(read > 64 + 64, "{read}");
    (&mut server.serving).await.unwrap();
    assert!(server.was_closed("done"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_next_to_nothing_is_cut() {
    let mut server = Server::start(64);
    server.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while !server.serving.is_finished() {
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.client.read_u8().await.unwrap();
    }
    // The loop looks every 5 s.
    assert!(server.start.elapsed().as_secs() <= 25);
    assert!(server.was_closed("write_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_body_may_come_late_and_in_pieces() {
    let mut server = Server::start(16);
    let chunked = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
    let long = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n";
    for (request, body) in [
        (chunked.to_owned(), "abcde"),
        (format!("{long}{}", "x".repeat(30)), &*"x".repeat(30)),
    ] {
        for byte in request.as_bytes().chunks(3) {
            server.send(byte).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (head, answer) = server.answer().await;
        assert!(!head.contains("connection:"), "{head}");
        assert_eq!(answer, body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_ends_its_connection() {
    for (rest, error) in [
        ("zz\r\n", "the body is incomplete: its chunks are malformed"),
        ("3\r\nab", "the body is incomplete: the client left"),
    ] {
        let mut server = Server::start(1024);
        let head = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        server.send(format!("{head}{rest}").as_bytes()).await;
        server.client.shutdown().await.unwrap();
        let (head, body) = server.answer().await;
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert_eq!(body, error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_a_word_before_its_body_gets_it_once_the_body_is_wanted() {
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut server = Server::start(1024);
    server.send(head("/body").as_bytes()).await;
    assert_eq!(server.answer().await.0, "HTTP/1.1 100 Continue\r\n\r\n");
    server.send(b"abc").await;
    assert_eq!(server.answer().await.1, "abc");
    // A client that does not wait gets no `100 Continue`.
    server
        .send(format!("{}abc", head("/body")).as_bytes())
        .await;
    assert_eq!(server.answer().await.1, "abc");
    // Nor does one whose body is not wanted.
    server.send(head("/").as_bytes()).await;
    let (answer, body) = server.answer().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(body, "{}");
}

#[tokio::test(start_paused = true)]
async fn an_unwanted_body_is_read_until_its_client_is_done() {
    let mut server = Server::start(64);
    server
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    // Nothing has to read this for the answer, and still it must not break the connection.
    let (mut reader, mut writer) =
        tokio::io::split(std::mem::replace(&mut server.client, duplex(1).0));
    let mut answer = String::new();
    let (sent, read) = tokio::join!(
        writer.write_all(&[b'0'; 100_000]),
        reader.read_to_string(&mut answer)
    );
    sent.unwrap();
    read.unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    drop((reader, writer));
    (&mut server.serving).await.unwrap();
    assert_eq!(server.start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_in_an_unwanted_body_is_not_waited_for_long() {
    let mut server = Server::start(1024);
    server
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    (&mut server.serving).await.unwrap();
    assert_eq!(server.start.elapsed(), LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_head_request_gets_the_length_and_no_body() {
    let mut server = Server::start(1024);
    server
        .send(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let (answer, _) = server.end().await;
    assert!(answer.contains("\r\ncontent-length: 2\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_http_1_0_client_keeps_its_connection_if_it_asks_to() {
    let mut server = Server::start(1024);
    server
        .send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let (head, _) = server.answer().await;
    assert!(head.contains("\r\nconnection: keep-alive\r\n"), "{head}");
    server.send(b"GET / HTTP/1.0\r\n\r\n").await;
    let (answer, _) = server.end().await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}
