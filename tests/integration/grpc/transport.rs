//! Limits, keys, TLS, deadlines, clients that leave, and the drain.

use std::time::Duration;

use safeserve::config::Tls;
use safeserve::server::{Drained, Stop, certificates};
use tempfile::TempDir;
use tokio_stream::{iter, pending};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::infer::{numbers, parameters, typed};
use super::server::proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use super::server::proto::inference::infer_parameter::ParameterChoice;
use super::server::proto::inference::{
    ModelInferRequest, ModelStreamInferResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use super::server::{Client, Serving, refused};
use crate::gate::Gate;
use crate::process;
use crate::security::Authority;

const KEY: &str = "0123456789abcdef0123";

fn echo() -> ModelInferRequest {
    typed("echo", &[("x", &[1, 2], &[1.0, 2.0])])
}

fn with_metadata<T>(message: T, key: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(key, value.parse().unwrap());
    request
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_goes_on() {
    let server = Serving::start(&["limits.max_body_bytes=65536"]).await;
    let client = server.client().await;
    let large = typed("echo", &[("x", &[50_000, 2], &[0.0; 100_000])]);
    refused(
        client.infer(large).await,
        Code::ResourceExhausted,
        "larger than the 65536 bytes allowed",
    );
    assert_eq!(numbers(&client.infer(echo()).await.unwrap(), 0), [1.0, 2.0]);
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    let server = Serving::start(&[]).await;
    let client = Client(server.client().await.0);
    let values: Vec<f32> = (0..8192).map(|value| value as f32).collect();
    let answer = client
        .infer(typed("echo", &[("x", &[4096, 2], &values)]))
        .await;
    assert!(answer.is_err() || numbers(&answer.unwrap(), 0) == values);
}

#[tokio::test]
async fn keys_are_asked_for_but_not_by_health() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, format!("me {KEY}\n")).unwrap();
    let setting = format!("server.api_keys={}", file.display());
    let server = Serving::start(&[&setting]).await;
    let client = server.client().await;
    refused(
        client.infer(echo()).await,
        Code::Unauthenticated,
        "this server asks for an API key",
    );
    let wrong = with_metadata(echo(), "x-api-key", "abcdefghijklmnopqrst");
    refused(
        client.infer(wrong).await,
        Code::Unauthenticated,
        "not valid",
    );
    let bearer = with_metadata(echo(), "authorization", &format!("Bearer {KEY}"));
    assert!(client.infer(bearer).await.is_ok());
    assert!(
        client
            .infer(with_metadata(echo(), "x-api-key", KEY))
            .await
            .is_ok()
    );
    let stream: Result<Streaming<ModelStreamInferResponse>, Status> = client
        .stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            iter([echo()]),
        )
        .await;
    assert_eq!(stream.unwrap_err().code(), Code::Unauthenticated);
    let metadata: Result<ServerMetadataResponse, _> = client
        .call(
            "/inference.GRPCInferenceService/ServerMetadata",
            ServerMetadataRequest {},
        )
        .await;
    assert_eq!(metadata.unwrap_err().code(), Code::Unauthenticated);

    let health: HealthCheckResponse = client
        .call(
            "/grpc.health.v1.Health/Check",
            HealthCheckRequest::default(),
        )
        .await
        .unwrap();
    assert_eq!(health.status, 1);
    let ready: ServerReadyResponse = client
        .call(
            "/inference.GRPCInferenceService/ServerReady",
            ServerReadyRequest {},
        )
        .await
        .unwrap();
    assert!(ready.ready);
}

#[tokio::test]
async fn the_same_certificates_serve_here_under_h2() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        Some(file)
    };
    let tls = Tls {
        certificate: file("certificate.pem", &certificate),
        key: file("key.pem", &key),
        client_ca: None,
    };
    let certificates = certificates(&tls, &crate::parts::metrics()).unwrap();
    let server = Serving::start_with(&[], certificates).await;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&authority.pem))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    assert!(Client(channel).infer(echo()).await.is_ok());
}

#[tokio::test]
async fn a_deadline_ends_the_wait_whoever_says_it() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let _gate = Gate::hold(&server.scheduler, &server.metrics);
    let mut with_parameter = echo();
    with_parameter.parameters = parameters("timeout", ParameterChoice::Int64Param(20_000));
    refused(
        client.infer(with_parameter).await,
        Code::DeadlineExceeded,
        "deadline of 20 ms",
    );
    // Not as grpc-timeout, by which tonic's client ends the call itself.
    refused(
        client
            .infer(with_metadata(echo(), "x-request-timeout-ms", "30"))
            .await,
        Code::DeadlineExceeded,
        "deadline of 30 ms",
    );
    refused(
        client
            .infer(with_metadata(echo(), "grpc-timeout", "30"))
            .await,
        Code::InvalidArgument,
        "grpc-timeout: expected up to 8 digits",
    );
    assert_eq!(server.queued_rows("echo"), 0);
}

#[tokio::test]
async fn rows_of_a_call_that_is_given_up_leave_the_queue() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let gate = Gate::hold(&server.scheduler, &server.metrics);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.infer(echo()).await }
    });
    server
        .until("the row waits", || server.queued_rows("echo") == 1)
        .await;
    waiting.abort();
    server
        .until("the row is gone", || server.queued_rows("echo") == 0)
        .await;
    server
        .until("the call is counted", || {
            server.shows(r#"safeserve_http_requests_total{code="499",route="grpc_infer"} 1"#)
        })
        .await;
    gate.open();
    assert!(client.infer(echo()).await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn a_full_queue_is_unavailable_and_says_when_to_try_again() {
    let server = Serving::start(&[]).await;
    let client = server.client().await;
    let gate = Gate::hold(&server.scheduler, &server.metrics);
    let rows = |rows: usize| typed("echo", &[("x", &[rows as i64, 2], &vec![1.0; 2 * rows])]);
    let waiting = tokio::spawn({
        let (client, rows) = (client.clone(), rows(64));
        async move { client.infer(rows).await }
    });
    server
        .until("the rows wait", || server.queued_rows("echo") == 64)
        .await;
    let status = client.infer(echo()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("try again in"), "{status}");
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    gate.open();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_drain_is_seen_by_watchers_and_finishes_what_is_in_flight() {
    let mut server = Serving::start(&["server.drain_delay_ms=0"]).await;
    let client = server.client().await;
    let mut health: Streaming<HealthCheckResponse> = client
        .stream(
            "/grpc.health.v1.Health/Watch",
            iter([HealthCheckRequest::default()]),
        )
        .await
        .unwrap();
    assert_eq!(health.message().await.unwrap().unwrap().status, 1);
    let mut idle: Streaming<ModelStreamInferResponse> = client
        .stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            pending::<ModelInferRequest>(),
        )
        .await
        .unwrap();
    let gate = Gate::hold(&server.scheduler, &server.metrics);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.infer(echo()).await }
    });
    server
        .until("the row waits", || server.queued_rows("echo") == 1)
        .await;

    server.stop(Stop::AfterDelay);
    assert_eq!(health.message().await.unwrap().unwrap().status, 2);
    assert_eq!(
        health.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(idle.message().await.unwrap_err().code(), Code::Unavailable);
    gate.open();
    assert_eq!(numbers(&waiting.await.unwrap().unwrap(), 0), [1.0, 2.0]);
    let stopped = tokio::time::timeout(Duration::from_secs(60), server.stopped()).await;
    assert_eq!(stopped.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn the_program_serves_both_listeners_and_one_signal_drains_both() {
    let arguments = [
        "--bind",
        "127.0.0.1:0",
        "--grpc-bind",
        "127.0.0.1:0",
        "--set",
        "server.drain_delay_ms=0",
    ];
    let mut program = process::Serving::start_with(&arguments);
    let address = program.listener("grpc.bind");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = Client(endpoint.connect().await.unwrap());
    let flower = typed("iris", &[("features", &[1, 4], &[5.1, 3.5, 1.4, 0.2])]);
    let answer = client.infer(flower).await.unwrap();
    assert_eq!(answer.outputs.len(), 3);
    assert_eq!(answer.outputs[2].name, "label");
    assert!(program.get("/v2/health/ready").starts_with("HTTP/1.1 200"));
    program.signal("TERM");
    assert_eq!(program.exit_code(), Some(0));
}
