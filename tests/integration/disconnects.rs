//! Clients that leave while their rows wait, over real sockets: the rows leave the queue and are
//! never computed.
//!
//! The server has one worker, and the test holds it inside a forward pass of another model. So what
//! a client sends stays queued for as long as the test wants.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use safeserve::config::{Overrides, Settings};
use safeserve::lifecycle::Lifecycle;
use safeserve::metrics::Metrics;
use safeserve::model::repository::Served;
use safeserve::server::{IoThreads, Listen, Server, Stop, routes};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::gate::Gate;
use crate::parts;

/// The model `y = x` of one feature; it has no weights.
const ECHO: &str = r#"{"model_type":"sequential","inputs":[{"name":"x","shape":[1]}],
    "layers":[{"type":"activation","function":"linear"}]}"#;

/// A server whose only worker waits at the gate.
struct HeldServer {
    address: SocketAddr,
    metrics: Metrics,
    served: Arc<Served>,
    /// Dropping it would stop the server.
    _stop: oneshot::Sender<Stop>,
    _models: TempDir,
    gate: Gate,
}

impl HeldServer {
    async fn start() -> Self {
        let (metrics, scheduler) = (parts::metrics(), parts::scheduler());
        let models = TempDir::new().unwrap();
        write_model(&models, "echo", ECHO);
        let repository = parts::repository(models.path(), &scheduler, &metrics);

        let gate = Gate::hold(&scheduler, &metrics);

        let config = Settings::load(Overrides {
            assignments: vec!["server.bind=127.0.0.1:0".into()],
            ..Overrides::default()
        })
        .unwrap()
        .config;
        let lifecycle = Arc::new(Lifecycle::new());
        let handler = routes(&config, &repository, &lifecycle, &metrics, None);
        let listen = Listen::for_clients(&config, None);
        let server = Server::bind(listen, &config, handler, lifecycle, metrics.clone())
            .await
            .unwrap();
        let address = server.address();
        let threads = Arc::new(IoThreads::start(1).unwrap());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(threads, async { stopped.await.unwrap_or(Stop::Now) }));
        Self {
            address,
            metrics,
            served: repository.find("echo", None).unwrap(),
            _stop: stop,
            _models: models,
            gate,
        }
    }

    /// A client that has sent rows and has no answer yet.
    async fn send_rows(&self, rows: usize) -> TcpStream {
        let before = self.queued_rows();
        let instances = vec!["[7]"; rows].join(",");
        let body = format!(r#"{{"instances":[{instances}]}}"#);
        let request = format!(
            "POST /v1/models/echo:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        self.until("the rows wait", || self.queued_rows() == before + rows)
            .await;
        client
    }

    fn queued_rows(&self) -> usize {
        self.served.lane.queued_rows()
    }

    /// The value of a series on the metrics page, named as there.
    fn metric(&self, series: &str) -> f64 {
        let page = self.metrics.render().unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series} in\n{page}"))
            .parse()
            .unwrap()
    }

    fn cancelled(&self) -> f64 {
        self.metric(r#"safeserve_rejections_total{model="echo",reason="cancelled",version="1"}"#)
    }

    /// Waits for a state that the server's threads reach by themselves. The timeout only ends a test that
    /// fails.
    async fn until(&self, state: &str, reached: impl Fn() -> bool) {
        let wait = async {
            while !reached() {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .is_err()
        {
            let page = self.metrics.render().unwrap();
            panic!("not reached: {state}\n{page}");
        }
    }
}

fn write_model(models: &TempDir, name: &str, config: &str) {
    let directory = models.path().join(name);
    let no_tensors: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("config.json"), config).unwrap();
    fs::write(
        directory.join("model.safetensors"),
        safetensors::serialize(no_tensors, None).unwrap(),
    )
    .unwrap();
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn rows_of_a_client_that_left_are_taken_out_of_the_queue_and_never_computed() {
    let server = HeldServer::start().await;
    let closing = server.send_rows(3).await;
    let resetting = server.send_rows(2).await;
    let mut staying = server.send_rows(1).await;
    assert_eq!(server.cancelled(), 0.0);

    drop(closing);
    server
        .until("the rows of a closed connection are gone", || {
            server.queued_rows() == 3 && server.cancelled() == 1.0
        })
        .await;
    resetting.set_zero_linger().unwrap();
    drop(resetting);
    server
        .until("the rows of a connection reset are gone", || {
            server.queued_rows() == 1 && server.cancelled() == 2.0
        })
        .await;

    // The worker continues with what is left, which proves that it has skipped the others.
    server.gate.open();
    let answer = read_to_end(&mut staying).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"predictions":[[7.0]]}"#), "{answer}");
    let rows = server.metric(r#"safeserve_rows_total{model="echo",version="1"}"#);
    assert_eq!(rows, 1.0, "only the row of the client that stayed");
    assert_eq!(server.cancelled(), 2.0);
    server
        .until("both connections have ended", || {
            let left = r#"safeserve_http_requests_total{code="499",route="v1_predict"}"#;
            server.metric("safeserve_http_requests_in_flight") == 0.0 && server.metric(left) == 2.0
        })
        .await;
}
