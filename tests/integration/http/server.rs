//! A server without a socket, over small models made for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use safeserve::http::{App, HttpLimits, Naming, Routes};
use safeserve::scheduler::Scheduler;
use tempfile::TempDir;

#[path = "../parts.rs"]
mod parts;

/// Models whose answers can be told in the head; none has weights.
pub(crate) const MODELS: &[(&str, &str)] = &[
    // y = x
    (
        "echo/3",
        r#"{"model_type":"sequential","inputs":[{"name":"x","shape":[2],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}],
            "outputs":[{"name":"y","layer":"0"}]}"#,
    ),
    // y = 2x
    (
        "echo/2",
        r#"{"model_type":"sequential","inputs":[{"name":"x","shape":[2],"datatype":"FP32"}],
            "layers":[{"type":"rescaling","scale":2,"offset":0}],
            "outputs":[{"name":"y","layer":"0"}]}"#,
    ),
    // y = x, for matrices and for what is not finite
    (
        "matrix/1",
        r#"{"model_type":"sequential","allow_non_finite":true,
            "inputs":[{"name":"x","shape":[2,3],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}],
            "outputs":[{"name":"y","layer":"0"}]}"#,
    ),
    // sum = a + b, joined = [a, b]
    (
        "pair/1",
        r#"{"model_type":"sequential",
            "inputs":[{"name":"a","shape":[2],"datatype":"FP32"},
                      {"name":"b","shape":[2],"datatype":"FP32"}],
            "layers":[{"type":"add","name":"add","inputs":["a","b"]},
                      {"type":"concatenate","name":"join","inputs":["a","b"]}],
            "outputs":[{"name":"sum","layer":"add"},{"name":"joined","layer":"join"}]}"#,
    ),
    // TensorFlow Serving's first example: x / 2 + 2
    (
        "half_plus_two/1",
        r#"{"model_type":"sequential","task":"regression",
            "inputs":[{"name":"x","shape":[1],"datatype":"FP32"}],
            "layers":[{"type":"rescaling","scale":0.5,"offset":2}]}"#,
    ),
    // The probability of the second class is x
    (
        "coin/1",
        r#"{"model_type":"sequential","task":"binary-classification","labels":["tails","heads"],
            "inputs":[{"name":"x","shape":[1],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}]}"#,
    ),
    // The scores are the features
    (
        "fruit/1",
        r#"{"model_type":"sequential","task":"multiclass-classification",
            "labels":["apple","pear","fig \"sweet\""],"feature_names":["red","green","blue"],
            "inputs":[{"name":"colour","shape":[3],"datatype":"FP32"}],
            "layers":[{"type":"activation","function":"linear"}]}"#,
    ),
    // Overflows from 10 on
    (
        "steep/1",
        r#"{"model_type":"sequential","inputs":[{"name":"x","shape":[1],"datatype":"FP32"}],
            "layers":[{"type":"rescaling","scale":1e38,"offset":0}]}"#,
    ),
    ("broken/1", "{}"),
];

pub(super) const MAX_ROWS: usize = 8;
pub(super) const MAX_BODY_BYTES: usize = 4096;

pub(super) struct TestServer {
    routes: Routes,
    pub(super) app: Arc<App>,
    scheduler: Arc<Scheduler>,
    _models: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
    /// The same as text, as far as it is text.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Writes a model that has no weights.
pub(crate) fn add_model(directory: &Path, config: &str) {
    let no_tensors: Vec<(String, safetensors::tensor::TensorView<'_>)> = Vec::new();
    let weights = safetensors::serialize(no_tensors, None).unwrap();
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config).unwrap();
    fs::write(directory.join("model.safetensors"), weights).unwrap();
}

impl TestServer {
    pub(super) fn start() -> Self {
        Self::start_naming(Naming::default())
    }

    /// A server of the models in a directory.
    pub(super) fn serving(directory: TempDir) -> Self {
        Self::naming(directory, Naming::default())
    }

    /// The small models, with a default model and labels.
    pub(super) fn start_naming(naming: Naming) -> Self {
        let directory = TempDir::new().unwrap();
        for (path, config) in MODELS {
            add_model(&directory.path().join(path), config);
        }
        Self::naming(directory, naming)
    }

    /// A server of the models in a directory, with a default model and labels.
    pub(super) fn naming(directory: TempDir, naming: Naming) -> Self {
        let (metrics, scheduler) = (parts::metrics(), parts::scheduler());
        let repository = parts::repository(directory.path(), &scheduler, &metrics);
        let limits = HttpLimits {
            max_request_rows: MAX_ROWS,
            ..parts::limits(MAX_BODY_BYTES)
        };
        let mut app = parts::app(&repository, &metrics, limits);
        Arc::get_mut(&mut app).unwrap().naming = naming;
        Self {
            routes: Routes::new(Arc::clone(&app)),
            app,
            scheduler,
            _models: directory,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.routes.answer(request).await.into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            bytes: body,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(Method::POST, path, &[], body)).await
    }

    /// The JSON of an answer that is expected to be good.
    pub(super) async fn ask(&self, path: &str, body: &str) -> serde_json::Value {
        let answer = self.post(path, body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    pub(super) fn close_scheduler(&self) {
        self.scheduler.close();
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}
