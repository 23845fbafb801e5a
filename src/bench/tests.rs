//! The generator against scripted servers: its counts are compared with what the servers did.

mod scripted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use scripted::{Answer, Scripted};

use super::*;
use crate::bench::body::Body;

/// Rows of each request.
const ROWS: usize = 2;

/// Long enough for an answer on a busy machine; a test whose answer never comes waits this long once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The expected count for a kind of answer.
type Expected = Result<(), &'static str>;

/// One of each kind: the answer, and the class that it belongs to.
const KINDS: [(Answer, Expected); 13] = [
    (Answer::Right, Ok(())),
    (Answer::FewerRows, Err("malformed")),
    (Answer::NoJson, Err("malformed")),
    (Answer::Status(500, ""), Err("status_500")),
    (Answer::Status(401, ""), Err("status_401")),
    (Answer::Status(503, ""), Err("status_503")),
    (
        Answer::Status(503, "Retry-After: 1\r\n"),
        Err("overloaded_503"),
    ),
    (Answer::CloseBefore, Err("closed")),
    (Answer::CloseInHead, Err("closed")),
    (Answer::CloseInBody, Err("closed")),
    (Answer::CloseInChunk, Err("closed")),
    (Answer::NoHttp, Err("malformed")),
    (Answer::WrongChunk, Err("malformed")),
];

fn settings(server: &Scripted) -> Settings {
    Settings {
        model: "m".to_owned(),
        version: None,
        url: server.url(),
        authorities: None,
        metrics_url: None,
        headers: Vec::new(),
        connections: vec![2],
        threads: 2,
        rows: ROWS,
        data: None,
        protocol: Protocol::V2,
        // The number of requests ends the step, never the clock.
        duration: Duration::from_secs(3600),
        warm_up: Duration::ZERO,
        requests: None,
        rate: None,
        timeout: TIMEOUT,
        seed: 0,
        wanted_rows_per_second: None,
        wanted_p99: None,
    }
}

/// Runs one step of as many requests as there are answers.
async fn step(server: &Scripted, requests: usize) -> Step {
    let settings = Settings {
        requests: Some(requests as u64),
        ..settings(server)
    };
    let report = run(&settings, &Arc::default(), |_| {}).await.unwrap();
    assert_eq!(report.unmeasured_requests, 1);
    assert_eq!(report.steps.len(), 1);
    let step = report.steps.into_iter().next().unwrap();
    assert_eq!(step.requests, step.correct + step.errors);
    assert_eq!(step.errors, step.errors_by_kind.values().sum::<u64>());
    assert_eq!(step.requests, requests as u64);
    // The first one is before the step.
    assert_eq!(server.inferences(), 1 + step.requests);
    step
}

/// The answers of a step after the first one, which has to be right for the step to begin.
fn after_the_first(answers: &[Answer]) -> Vec<Answer> {
    [&[Answer::Right], answers].concat()
}

async fn refusal(settings: &Settings) -> BenchError {
    run(settings, &Arc::default(), |_| {}).await.err().unwrap()
}

#[tokio::test]
async fn each_kind_of_answer_is_counted_as_what_it_is() {
    for (answer, expected) in KINDS {
        let server = Scripted::start(after_the_first(&[answer; 7]));
        let step = step(&server, 7).await;
        let errors = match expected {
            Ok(()) => BTreeMap::new(),
            Err(kind) => BTreeMap::from([(kind.to_owned(), 7)]),
        };
        assert_eq!(step.errors_by_kind, errors, "{answer:?}");
        assert_eq!(step.correct, if expected.is_ok() { 7 } else { 0 });
        // Latencies are those of the correct answers.
        assert_eq!(step.latency_ms.is_some(), expected.is_ok(), "{answer:?}");
        assert!(step.first_errors.keys().eq(step.errors_by_kind.keys()));
    }
}

#[tokio::test]
async fn answers_of_all_kinds_on_the_same_connections_are_told_apart() {
    // As many of each kind as its position says, in turn.
    let mut answers = Vec::new();
    for round in 0..KINDS.len() {
        answers.extend(KINDS[round..].iter().map(|(answer, _)| *answer));
    }
    let mut correct = 0;
    let mut errors = BTreeMap::new();
    for ((_, expected), count) in KINDS.iter().zip(1_u64..) {
        match expected {
            Ok(()) => correct += count,
            Err(kind) => *errors.entry((*kind).to_owned()).or_insert(0) += count,
        }
    }
    let server = Scripted::start(after_the_first(&answers));
    let step = step(&server, answers.len()).await;
    assert_eq!(step.requests, 91);
    assert_eq!(step.errors_by_kind, errors);
    assert_eq!(step.correct, correct);
    assert!(!step.is_clean());
}

#[tokio::test]
async fn what_is_never_answered_ends_with_its_time() {
    let server = Scripted::start(after_the_first(&[Answer::Never; 2]));
    let step = step(&server, 2).await;
    assert_eq!(
        step.errors_by_kind,
        BTreeMap::from([("timed_out".to_owned(), 2)])
    );
    assert_eq!(step.first_errors["timed_out"], "no answer within 2000 ms");
    assert!(step.seconds >= TIMEOUT.as_secs_f64());
    assert!(step.latency_ms.is_none());
}

/// What is left of a broken exchange must not be taken for the next one's answer.
#[tokio::test]
async fn a_connection_that_failed_is_not_used_again() {
    let answers = [Answer::NoHttp, Answer::CloseInBody, Answer::Right];
    let server = Scripted::start(after_the_first(&answers));
    let settings = Settings {
        connections: vec![1],
        threads: 1,
        requests: Some(3),
        ..settings(&server)
    };
    let report = run(&settings, &Arc::default(), |_| {}).await.unwrap();
    let step = &report.steps[0];
    assert_eq!((step.correct, step.errors, step.reconnects), (1, 2, 2));
    assert_eq!(step.errors_by_kind["malformed"], 1);
    assert_eq!(step.errors_by_kind["closed"], 1);
}

#[tokio::test]
async fn where_nothing_listens_any_more_each_request_is_refused() {
    // Bound and not listening: no one else gets the port, and connections to it are refused.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let target = Target::find(&url, None).await.unwrap();
    let body = Body {
        bytes: Bytes::from_static(b"{}"),
        json_bytes: None,
        rows: 1,
    };
    let requests = Arc::new(Requests {
        target: Arc::new(target),
        path: uri("/"),
        headers: HeaderMap::new(),
        protocol: Protocol::V1,
        bodies: vec![body].into(),
    });
    let load = Load {
        connections: 2,
        threads: 1,
        length: Duration::from_secs(3600),
        most: 5,
        rate: None,
        timeout: TIMEOUT,
    };
    let measured = step::run(&requests, load, &Arc::default(), |_| {}).await;
    let tally = measured.tally;
    assert!(tally.adds_up());
    assert_eq!((tally.requests(), tally.correct()), (5, 0));
    assert_eq!(tally.failures()[&Failure::Refused].count, 5);
    assert_eq!(tally.failures().len(), 1);
}

#[tokio::test]
async fn a_first_request_that_is_answered_wrongly_ends_the_run() {
    for (answer, message) in [
        (
            Answer::FewerRows,
            "the first request failed, so nothing was measured: malformed: expected predictions for 2 rows, got 1",
        ),
        (
            Answer::Status(400, ""),
            "the first request failed, so nothing was measured: status_400: said so",
        ),
        (
            Answer::Status(401, ""),
            "the server asks for a key: said so; give one that it knows with --api-key-file FILE or --header",
        ),
    ] {
        let server = Scripted::start(vec![answer]);
        let refusal = refusal(&settings(&server)).await;
        assert_eq!(refusal.to_string(), message);
        assert_eq!(server.inferences(), 1);
    }
    let server = Scripted::start(vec![Answer::CloseBefore]);
    let refusal = refusal(&settings(&server)).await;
    assert!(matches!(refusal, BenchError::NoAnswer { .. }), "{refusal}");
}

#[tokio::test]
async fn a_server_of_something_else_is_told_from_one_without_the_model() {
    let page = "<!doctype html><title>It works!</title>";
    let server = Scripted::start(Vec::new()).with_metadata(200, page);
    let message = refusal(&settings(&server)).await.to_string();
    assert_eq!(
        message,
        format!(
            "{} is no server of the Open Inference Protocol: /v2/models/m answers 200 without a model's metadata: \
             expected value at line 1 column 1; say with --url where safeserve is, or send bodies of your own with \
             --data FILE",
            server.url()
        )
    );
    let server = Scripted::start(Vec::new()).with_metadata(404, page);
    let refused = refusal(&settings(&server)).await;
    assert!(matches!(refused, BenchError::NoServer { .. }), "{refused}");
    let server = Scripted::start(Vec::new())
        .with_metadata(404, r#"{"error":"there is no model \"m\""}"#)
        .with_root(r#"{"name":"safeserve"}"#);
    let message = refusal(&settings(&server)).await.to_string();
    assert_eq!(
        message,
        r#"model "m" cannot be loaded with requests: there is no model "m""#
    );
    assert_eq!(server.inferences(), 0);
}

#[tokio::test]
async fn a_key_is_sent_with_each_question() {
    let server =
        Scripted::start(after_the_first(&[Answer::Right; 4])).with_key("Bearer 0123456789abcdef");
    let without = settings(&server);
    let refused = refusal(&without).await;
    assert_eq!(
        refused.to_string(),
        "the server asks for a key: no key; give one that it knows with --api-key-file FILE or --header"
    );
    assert_eq!(server.inferences(), 0);
    let with = Settings {
        headers: vec![(
            AUTHORIZATION,
            HeaderValue::from_static("Bearer 0123456789abcdef"),
        )],
        requests: Some(4),
        ..without
    };
    let report = run(&with, &Arc::default(), |_| {}).await.unwrap();
    assert!(report.is_clean());
    assert_eq!(report.steps[0].correct, 4);
}

#[tokio::test]
async fn an_input_that_cannot_be_made_up_is_named() {
    let metadata = r#"{"inputs":[{"name":"text","datatype":"BYTES","shape":[-1,1]}]}"#;
    let server = Scripted::start(Vec::new()).with_metadata(200, metadata);
    let message = refusal(&settings(&server)).await.to_string();
    assert_eq!(
        message,
        "input \"text\": BYTES cannot be made up, only FP32 can; send bodies of your own with --data FILE"
    );
    assert_eq!(server.inferences(), 0);
}
