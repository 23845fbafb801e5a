//! What clients send is theirs: whatever is wrong with it, nothing of it is in the log.
//!
//! Every token of good requests of every protocol gives way to a secret, one at a time, and so do the
//! segments of paths, methods, headers and the fields of gRPC's messages.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use safeserve::http::{GrpcRoutes, Naming, Routes};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;

use super::server::{TestServer, request};

/// A word, and a number that no answer has.
const WORD: &str = "Zq8secretWord";
const NUMBER: &str = "735190246813";

/// What this thread logs at any level, for as long as it lives.
struct Log {
    lines: Receiver<Vec<u8>>,
    _guard: DefaultGuard,
}

struct Pipe(Sender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Self {
        let (pipe, lines) = channel();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || Pipe(pipe.clone()))
            .finish();
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// What was logged since the last look.
    fn take(&self) -> String {
        let lines: Vec<u8> = self.lines.try_iter().flatten().collect();
        String::from_utf8(lines).unwrap()
    }

    /// Checks that a request was logged, and nothing of a secret.
    fn expect_no_secret(&self, sent: &str) {
        let log = self.take();
        assert!(log.contains("\"message\":\"request\""), "{sent}: no line");
        assert!(!has_secret(&log), "{sent}\n{log}");
    }
}

fn has_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains(&WORD.to_lowercase()) || text.contains(NUMBER)
}

/// JSON with a secret in the place of each token, as a value of each type and as what is none; before
/// each bracket and comma; and as a key that comes twice.
fn spoiled(json: &str) -> Vec<String> {
    let text = format!("\"{WORD}\"");
    let secrets = [
        text.clone(),
        WORD.to_owned(),
        NUMBER.to_owned(),
        format!("-{NUMBER}e999"),
        format!("[{text},{NUMBER}]"),
        format!("{{{text}:{NUMBER}}}"),
    ];
    let mut spoiled = Vec::new();
    let mut rest = 0;
    while let Some(start) = json[rest..].find(|c: char| !c.is_whitespace()) {
        let start = rest + start;
        let token = &json[start..];
        let length = match token.as_bytes()[0] {
            b'"' => token[1..].find('"').unwrap() + 2,
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 1,
            _ => token.find([',', ']', '}']).unwrap_or(token.len()),
        };
        let (before, after) = (&json[..start], &json[start + length..]);
        match token.as_bytes()[0] {
            b'{' => {
                spoiled.push(format!("{before}{{{text}:1,{text}:2,{after}"));
                spoiled.push(format!("{before}{WORD}{{{after}"));
            }
            b'}' | b'[' | b']' | b':' | b',' => {
                spoiled.push(format!("{before}{WORD}{token}"));
            }
            _ => spoiled.extend(secrets.iter().map(|new| format!("{before}{new}{after}"))),
        }
        rest = start + length;
    }
    spoiled.extend(
        (1..json.len())
            .step_by(7)
            .map(|at| format!("{}{text}", &json[..at])),
    );
    spoiled
}

#[tokio::test]
async fn nothing_of_a_json_body_is_in_the_log() {
    let server = TestServer::start_naming(Naming {
        default_model: Some("fruit".into()),
        ..Naming::default()
    });
    let log = Log::start();
    for (path, body) in [
        (
            "/v2/models/echo/infer",
            r#"{"id":"1","parameters":{"timeout":9000000,"binary_data_output":false,"sequence_id":0},
                "inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1,2]],"parameters":{}}],
                "outputs":[{"name":"y","parameters":{"binary_data":false,"classification":1}}]}"#,
        ),
        (
            "/v2/models/pair/infer",
            r#"{"inputs":[{"data":[1,2],"name":"a","datatype":"FP32","shape":[1,2]},
                          {"name":"b","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
        ),
        ("/v2/repository/index", r#"{"ready":true}"#),
        (
            "/v1/models/echo:predict",
            r#"{"signature_name":"serving_default","instances":[{"x":[1,2]},{"x":[3,4]}]}"#,
        ),
        ("/v1/models/echo:predict", r#"{"inputs":{"x":[[1,2]]}}"#),
        (
            "/v1/models/pair:predict",
            r#"{"inputs":{"a":[[1,2]],"b":[[1,2]]}}"#,
        ),
        (
            "/v1/models/fruit:classify",
            r#"{"signature_name":"","context":{"red":1},"examples":[{"green":1,"blue":[2]}]}"#,
        ),
        (
            "/v1/models/half_plus_two:regress",
            r#"{"examples":[{"x":[1]}]}"#,
        ),
        (
            "/invocations",
            r#"{"dataframe_split":{"index":[0],"columns":["red","green","blue"],"data":[[1,2,3]]}}"#,
        ),
        (
            "/invocations",
            r#"{"dataframe_records":[{"red":1,"green":2,"blue":3}],"params":null}"#,
        ),
        (
            "/invocations",
            r#"{"inputs":{"red":[1],"green":[2],"blue":[3]}}"#,
        ),
        ("/invocations", r#"{"instances":[[1,2,3]]}"#),
    ] {
        assert_eq!(server.post(path, body).await.status, 200, "{body}");
        let mut quoted = 0;
        for body in spoiled(body) {
            let answer = server.post(path, body.clone()).await;
            log.expect_no_secret(&format!("{path} {body}"));
            quoted += usize::from(answer.status >= 400 && has_secret(&answer.body));
        }
        assert!(quoted > 3, "{path}: the client is told of {quoted}");
    }
}

#[tokio::test]
async fn nothing_of_rows_as_csv_and_json_lines_is_in_the_log() {
    let server = TestServer::start();
    let log = Log::start();
    let path = "/v1/models/fruit:predict";
    let csv = "red,green,blue\n1,2,3\n4,5,6\n";
    let lines = "{\"red\":1,\"green\":2,\"blue\":3}\n[1,2,3]\n";
    let cells = csv.match_indices(|c: char| c.is_alphanumeric());
    let csv = cells.flat_map(|(at, cell)| {
        [
            WORD,
            NUMBER,
            "-735190246813e999",
            "\"Zq8secretWord",
            "Zq8secretWord\n",
        ]
        .map(|new| format!("{}{new}{}", &csv[..at], &csv[at + cell.len()..]))
    });
    let lines = lines.lines().flat_map(spoiled);
    let bodies = csv
        .map(|body| ("text/csv", body))
        .chain(lines.map(|body| ("application/x-ndjson", body)));
    let mut quoted = [0, 0];
    for (media_type, body) in bodies {
        for more in ["", "; header=present", "; header=absent"] {
            let media_type = format!("{media_type}{more}");
            let headers = [("content-type", &*media_type)];
            let sent = request(Method::POST, path, &headers, body.clone());
            let answer = server.send(sent).await;
            log.expect_no_secret(&body);
            let is_csv = usize::from(media_type.starts_with("text/csv"));
            quoted[is_csv] += usize::from(has_secret(&answer.body));
        }
    }
    assert!(quoted.iter().all(|count| *count > 10), "{quoted:?}");
}

#[tokio::test]
async fn no_path_method_query_or_header_of_a_client_is_in_the_log() {
    let server = TestServer::start();
    let log = Log::start();
    for path in [
        "/v2/models/echo/infer",
        "/v2/models/echo/versions/3/infer",
        "/v2/models/echo/versions/3/config",
        "/v2/models/echo/ready",
        "/v2/repository/main/index",
        "/v2/health/ready",
        "/v1/models/echo:predict",
        "/v1/models/echo/versions/3:classify",
        "/v1/models/echo/labels/stable/metadata",
        "/docs/index.html",
        "/metrics",
        "/invocations",
    ] {
        let parts: Vec<&str> = path.split_inclusive(['/', ':']).collect();
        for (index, part) in parts.iter().enumerate() {
            for secret in [WORD.to_owned(), NUMBER.to_owned(), format!("%20{WORD}%0a")] {
                let end = part.trim_start_matches(|c| c != '/' && c != ':');
                let mut parts = parts.clone();
                let spoiled = format!("{secret}{end}");
                parts[index] = &spoiled;
                let path = format!("/{}", parts.concat().trim_start_matches('/'));
                for method in [Method::GET, Method::POST] {
                    server.send(request(method, &path, &[], "{}")).await;
                    log.expect_no_secret(&path);
                }
            }
        }
        let path = format!("{path}?{WORD}={NUMBER}");
        server.get(&path).await;
        log.expect_no_secret(&path);
    }
    let method = Method::from_bytes(WORD.as_bytes()).unwrap();
    let sent = request(method, "/v2/models/echo/infer", &[], "{}");
    assert!(has_secret(&server.send(sent).await.body));
    log.expect_no_secret("a method");
    for name in [
        "accept",
        "accept-encoding",
        "authorization",
        "content-encoding",
        "content-type",
        "cookie",
        "host",
        "inference-header-content-length",
        "traceparent",
        "user-agent",
        "x-api-key",
        "x-request-timeout-ms",
    ] {
        for path in [
            "/v2/models/echo/infer",
            "/v1/models/echo:predict",
            "/nowhere",
        ] {
            for value in [
                WORD,
                NUMBER,
                "multipart/Zq8secretWord",
                "text/csv; Zq8secretWord",
            ] {
                let sent = request(Method::POST, path, &[(name, value)], "{}");
                server.send(sent).await;
                log.expect_no_secret(&format!("{path} {name}: {value}"));
            }
        }
    }
}

/// What is logged of a refusal: its code, the place, and the byte at which it is.
#[tokio::test]
async fn the_log_says_where_a_request_is_wrong() {
    let server = TestServer::start();
    let log = Log::start();
    let line = async |path: &str, media_type: &str, body: &str| {
        let headers = [("content-type", media_type)];
        let sent = request(Method::POST, path, &headers, body.to_owned());
        server.send(sent).await;
        let line: serde_json::Value = serde_json::from_str(&log.take()).unwrap();
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        (
            text("path"),
            text("code"),
            text("place"),
            line["offset"].as_u64(),
        )
    };
    let told = |path: &str, code: &str, place: &str, offset: Option<u64>| {
        (path.to_owned(), code.to_owned(), place.to_owned(), offset)
    };
    let (v1, json) = ("/v1/models/fruit:predict", "application/json");
    assert_eq!(
        line(v1, json, r#"{"instances":[[1,2,"3"]]}"#).await,
        told(v1, "wrong_type", "instances[0][2]", Some(19))
    );
    assert_eq!(
        line(v1, json, r#"{"instances":[{"red":1,"green":"2"}]}"#).await,
        told(v1, "wrong_type", "instances[0].green", Some(31))
    );
    assert_eq!(
        line(v1, json, r#"{"instances":[{"red":1,"grue":2,"blue":3}]}"#).await,
        told(v1, "unknown_input", "instances[0]", Some(14))
    );
    assert_eq!(
        line(v1, json, r#"{"private":{"x":"\q"}}"#).await,
        told(v1, "malformed_json", "*.*", Some(16))
    );
    assert_eq!(
        line(v1, "text/csv", "red,green,blue\n1,2,3\n1,two,3\n").await,
        told(v1, "wrong_type", "line 3, column 2", None)
    );
    assert_eq!(
        line(v1, "application/x-ndjson", "[1,2,3]\n{\"red\":true}\n").await,
        told(v1, "wrong_type", "line 2, red", Some(7))
    );
    let v2 = "/v2/models/echo/infer";
    let body = r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":[1,2]}]}"#;
    assert_eq!(
        line(v2, json, body).await,
        told(v2, "datatype_mismatch", "inputs[0]", Some(11))
    );
    assert_eq!(
        line("/v2/models/mine/infer", json, "{}").await,
        told("/v2/models/*/infer", "unknown_model", "", None)
    );
}

/// A field of a message of gRPC, by its number.
#[derive(Clone)]
enum Field {
    Text(u8, &'static str),
    Whole(u8, u8),
    Message(u8, Vec<Field>),
}

use Field::{Message, Text, Whole};

fn encoded(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128, "one byte has the length");
        bytes.extend([number << 3 | 2, length]);
        bytes.extend(content);
    };
    let mut wholes = Vec::new();
    for field in fields {
        match field {
            Text(number, text) => add(*number, text.as_bytes()),
            Message(number, fields) => add(*number, &encoded(fields)),
            Whole(number, value) => wholes.extend([number << 3, *value]),
        }
    }
    bytes.extend(wholes);
    bytes
}

/// The message with a secret in the place of each text.
fn spoiled_message(fields: &[Field]) -> Vec<Vec<Field>> {
    let mut spoiled = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let new: Vec<Field> = match field {
            Text(number, _) => vec![Text(*number, WORD), Text(*number, NUMBER)],
            Whole(..) => Vec::new(),
            Message(number, fields) => spoiled_message(fields)
                .into_iter()
                .map(|fields| Message(*number, fields))
                .collect(),
        };
        for new in new {
            let mut fields = fields.to_vec();
            fields[index] = new;
            spoiled.push(fields);
        }
    }
    spoiled
}

async fn call(routes: &GrpcRoutes, path: &str, headers: &[(&str, &str)], message: &[u8]) -> String {
    let mut request = Request::post(path).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let response = routes.answer(request.body(Body::from(body)).unwrap()).await;
    let message = response.headers().get("grpc-message").cloned();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().and_then(|all| all.get("grpc-message"));
    let message = message.or_else(|| trailers.cloned());
    let message = message.map(|message| message.to_str().unwrap().to_owned());
    message.unwrap_or_default() + &String::from_utf8_lossy(&body.to_bytes())
}

#[tokio::test]
async fn nothing_of_a_grpc_call_is_in_the_log() {
    let server = TestServer::start();
    let routes = GrpcRoutes::new(&Routes::new(server.app.clone()));
    let log = Log::start();
    let infer = vec![
        Text(1, "echo"),
        Text(2, "3"),
        Text(3, "an id"),
        Message(4, vec![Text(1, "key"), Message(2, vec![Text(3, "value")])]),
        Message(
            4,
            vec![Text(1, "timeout"), Message(2, vec![Text(3, "value")])],
        ),
        Message(
            5,
            vec![
                Text(1, "x"),
                Text(2, "FP32"),
                Message(4, vec![Text(1, "key"), Message(2, vec![])]),
            ],
        ),
        Message(6, vec![Text(1, "y")]),
        Text(7, "12345678"),
    ];
    let spec = Message(1, vec![Text(1, "fruit"), Text(3, "serving_default")]);
    let label = Message(1, vec![Text(1, "fruit"), Text(4, "stable")]);
    let predict = vec![
        spec.clone(),
        Message(
            2,
            vec![
                Text(1, "colour"),
                Message(2, vec![Whole(1, 1), Text(4, "1234")]),
            ],
        ),
        Text(3, "output"),
    ];
    let feature = Message(
        1,
        vec![
            Text(1, "red"),
            Message(2, vec![Message(1, vec![Text(1, "a")])]),
        ],
    );
    let examples = Message(
        2,
        vec![Message(
            1,
            vec![Message(1, vec![Message(1, vec![feature])])],
        )],
    );
    let oip = "inference.GRPCInferenceService";
    let prediction = "tensorflow.serving.PredictionService";
    let model = vec![Text(1, "echo"), Text(2, "3")];
    let mut quoted = 0;
    for (service, method, fields) in [
        (oip, "ModelInfer", infer.clone()),
        (oip, "ModelStreamInfer", infer),
        (oip, "ModelReady", model.clone()),
        (oip, "ModelMetadata", model.clone()),
        (oip, "ModelConfig", model.clone()),
        (oip, "ModelStatistics", model.clone()),
        (oip, "RepositoryIndex", vec![Text(1, "repository")]),
        (oip, "RepositoryModelLoad", model),
        (prediction, "Predict", predict),
        (prediction, "Predict", vec![label.clone()]),
        (prediction, "Classify", vec![spec.clone(), examples.clone()]),
        (prediction, "Regress", vec![spec.clone(), examples]),
        (
            prediction,
            "GetModelMetadata",
            vec![spec.clone(), Text(2, "signature_def")],
        ),
        (
            "tensorflow.serving.ModelService",
            "GetModelStatus",
            vec![label],
        ),
        ("grpc.health.v1.Health", "Check", vec![Text(1, "service")]),
    ] {
        let path = format!("/{service}/{method}");
        for message in spoiled_message(&fields) {
            let answer = call(&routes, &path, &[], &encoded(&message)).await;
            quoted += usize::from(has_secret(&answer));
            log.expect_no_secret(&path);
        }
        let message = encoded(&fields);
        for (name, value) in [
            ("grpc-timeout", WORD),
            ("grpc-timeout", "Zq8S"),
            ("grpc-encoding", WORD),
            ("x-request-timeout-ms", WORD),
            ("authorization", WORD),
            ("x-api-key", WORD),
        ] {
            call(&routes, &path, &[(name, value)], &message).await;
            log.expect_no_secret(&format!("{path} {name}"));
        }
        for path in [format!("/{WORD}/{method}"), format!("/{service}/{WORD}")] {
            let answer = call(&routes, &path, &[], &message).await;
            quoted += usize::from(has_secret(&answer));
            log.expect_no_secret(&path);
        }
    }
    assert!(quoted > 20, "clients are told of {quoted}");
}
