//! The server's description of itself, for tools and people: an OpenAPI 3.1 document, and Swagger UI
//! over it.
//!
//! It is made anew for each request, of the models that are served then: the bodies that a model
//! takes and gives are those of its signature, so that a tool can check them and a person can try
//! them. What JSON Schema cannot say (that a tensor has as many values as its shape asks for) is
//! said in words.
//!
//! Source: OpenAPI Specification 3.1.0.

mod schemas;
#[cfg(feature = "swagger-ui")]
mod swagger_ui;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::any;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer;
use super::error::ApiError;
use super::exchange::Exchange;
use super::health::expect_get;
use super::state::{App, Server};
use super::unnamed;
use crate::metrics::Route;
use crate::model::repository::Served;
use schemas::{object, reference};

/// The most models whose calls are described one by one; of the others, only the names.
const MAX_DESCRIBED: usize = 50;

pub(super) fn routes() -> Router<Arc<Server>> {
    let routes = Router::new().route("/openapi.json", any(document));
    #[cfg(feature = "swagger-ui")]
    let routes = routes
        .route("/docs", any(swagger_ui::redirect))
        .route("/docs/", any(swagger_ui::page))
        .route("/docs/{*file}", any(swagger_ui::page));
    routes
}

async fn document(
    State(server): State<Arc<Server>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    Exchange::of(&request).set_route(Route::Docs);
    expect_get(request.method())?;
    let text = describe(&server.app).to_string();
    let answer: answer::Response = answer::json(StatusCode::OK, text);
    Ok(answer.map(Body::from))
}

/// The document.
fn describe(app: &App) -> Value {
    let models = Models::of(app);
    let mut paths = Map::new();
    server_paths(app, &mut paths);
    model_paths(&models, &mut paths);
    for served in models.newest.iter().take(MAX_DESCRIBED) {
        predict_paths(app, served, &mut paths);
    }
    if let Some(served) = models.unnamed(app) {
        invocations(app, served, &mut paths);
    }
    tell_apart(&mut paths);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas::shared()},
    });
    if app.keys.is_some() {
        document["components"]["securitySchemes"] = json!({
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        });
        document["security"] = json!([{"bearer": []}, {"header": []}]);
    }
    document
}

/// The models that are ready.
struct Models {
    /// The version of each that answers where none is asked for.
    newest: Vec<Arc<Served>>,
    /// The versions of all of them.
    versions: Vec<String>,
}

impl Models {
    fn of(app: &App) -> Self {
        let ready = app.repository.ready();
        let mut versions: Vec<u64> = ready.iter().map(|served| served.model.version).collect();
        versions.sort_unstable();
        versions.dedup();
        let mut newest: Vec<Arc<Served>> = Vec::new();
        // They come by name and version.
        for served in ready {
            match newest.last_mut() {
                Some(last) if last.model.name == served.model.name => *last = served,
                _ => newest.push(served),
            }
        }
        Self {
            newest,
            versions: versions.iter().map(u64::to_string).collect(),
        }
    }

    /// The one that answers where a path names none.
    fn unnamed(&self, app: &App) -> Option<&Served> {
        let name = unnamed::name(app)?;
        let mut newest = self.newest.iter();
        newest
            .find(|served| served.model.name == name)
            .map(|served| &**served)
    }

    fn names(&self) -> Vec<&str> {
        let names = self.newest.iter().map(|served| &*served.model.name);
        names.collect()
    }
}

/// One call of a path: what it is, and what it answers.
struct Operation {
    tag: &'static str,
    summary: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

impl Operation {
    /// A call that answers 200 with this schema, and anything else with an error.
    fn new(tag: &'static str, summary: impl Into<String>, answer: Value) -> Self {
        let error = |what: &str| {
            json!({
                "description": what,
                "content": {"application/json": {"schema": reference("Error")}},
            })
        };
        let responses = [
            ("200", content("As asked.", "application/json", answer)),
            (
                "4XX",
                error("The request is to be fixed; `error` says how."),
            ),
            (
                "5XX",
                error("The server has no answer now; 503 says in `Retry-After` when to come back."),
            ),
        ];
        let responses = responses.map(|(status, response)| (status.to_owned(), response));
        Self {
            tag,
            summary: summary.into(),
            parameters: Vec::new(),
            body: None,
            responses: responses.into_iter().collect(),
        }
    }

    fn with_parameters(mut self, parameters: &[Value]) -> Self {
        self.parameters.extend_from_slice(parameters);
        self
    }

    fn with_body(mut self, content: Value, is_required: bool) -> Self {
        self.body = Some(json!({"content": content, "required": is_required}));
        self
    }

    /// A status that has the form of a good answer.
    fn with_status(mut self, status: &str, description: &str, answer: Value) -> Self {
        let response = content(description, "application/json", answer);
        self.responses.insert(status.to_owned(), response);
        self
    }

    fn with_text(mut self, description: &str) -> Self {
        let text = content(description, "text/plain", json!({"type": "string"}));
        self.responses.insert("200".to_owned(), text);
        self
    }

    /// Adds it to a document's paths.
    fn at(self, paths: &mut Map<String, Value>, method: &str, path: &str) {
        let mut operation = json!({
            "tags": [self.tag],
            "summary": self.summary,
            "operationId": identifier(method, path),
            "responses": self.responses,
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = Value::Array(self.parameters);
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        let path = paths.entry(path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
}

fn content(description: &str, media_type: &str, schema: Value) -> Value {
    json!({"description": description, "content": {media_type: {"schema": schema}}})
}

/// Numbers operations of the same name: those of models `a-b` and `a_b`.
fn tell_apart(paths: &mut Map<String, Value>) {
    let mut taken = HashMap::new();
    for operation in paths.values_mut().flat_map(|path| {
        let methods = path.as_object_mut().expect("they are objects");
        methods.values_mut()
    }) {
        let name = operation["operationId"].as_str().unwrap_or_default();
        let count = taken.entry(name.to_owned()).or_insert(0);
        *count += 1;
        if *count > 1 {
            operation["operationId"] = json!(format!("{name}_{count}"));
        }
    }
}

/// A name for an operation that programs can use for a function.
fn identifier(method: &str, path: &str) -> String {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    [method]
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

const SERVER: &str = "Server";
const MODELS: &str = "Models";

/// What is about no model.
fn server_paths(app: &App, paths: &mut Map<String, Value>) {
    let text = || json!({"type": "string"});
    let flag = |name: &str| object(&[(name, json!({"type": "boolean"}))]);
    Operation::new(
        SERVER,
        "Sign of life (KServe V1)",
        object(&[("status", text())]),
    )
    .at(paths, "get", "/");
    for (check, summary) in [
        ("live", "Whether the process does its work"),
        ("ready", "Whether new requests are welcome"),
    ] {
        Operation::new(SERVER, summary, flag(check))
            .with_status("503", "It is not.", flag(check))
            .at(paths, "get", &format!("/v2/health/{check}"));
    }
    let extensions = json!({"type": "array", "items": text()});
    for path in ["/ping", "/health"] {
        let nothing = |description: &str| json!({"description": description});
        let mut check = Operation::new(SERVER, "Whether new requests are welcome", text());
        let states = [
            ("200", nothing("They are.")),
            ("503", nothing("They are not.")),
        ];
        for (status, response) in states {
            check.responses.insert(status.to_owned(), response);
        }
        check.at(paths, "get", path);
    }
    Operation::new(SERVER, "The server's version (MLflow)", text())
        .with_text("The version alone.")
        .at(paths, "get", "/version");
    let server = [
        ("name", text()),
        ("version", text()),
        ("extensions", extensions),
    ];
    Operation::new(SERVER, "What the server is (V2)", object(&server)).at(paths, "get", "/v2");
    if app.has_metrics_page {
        Operation::new(SERVER, "Every series, for Prometheus", text())
            .with_text("Prometheus' text format.")
            .at(paths, "get", "/metrics");
    }
    Operation::new(SERVER, "This document", json!({"type": "object"})).at(
        paths,
        "get",
        "/openapi.json",
    );
    Operation::new(
        MODELS,
        "The models (KServe V1, OpenAI)",
        reference("ModelList"),
    )
    .at(paths, "get", "/v1/models");
    let ready = json!({"application/json": {"schema": {
        "type": "object",
        "properties": {"ready": {"type": "boolean"}},
    }}});
    let index = || {
        let entries = json!({"type": "array", "items": reference("IndexEntry")});
        Operation::new(
            MODELS,
            "Every version of every model, with its state (V2)",
            entries,
        )
    };
    index().at(paths, "get", "/v2/repository/index");
    let index = index().with_body(ready, false);
    index.at(paths, "post", "/v2/repository/index");
    Operation::new(
        MODELS,
        "What all models have done so far (V2)",
        reference("Statistics"),
    )
    .at(paths, "get", "/v2/models/stats");
}

/// What is about any model, by its name.
fn model_paths(models: &Models, paths: &mut Map<String, Value>) {
    let path = |name: &str, values: Value| {
        let schema = json!({"type": "string", "enum": values});
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    };
    let name = path("model_name", json!(models.names()));
    let version = path("model_version", json!(models.versions));
    let tensors = || reference("ModelMetadata");
    for (prefix, parameters) in [
        ("/v2/models/{model_name}", vec![name.clone()]),
        (
            "/v2/models/{model_name}/versions/{model_version}",
            vec![name.clone(), version.clone()],
        ),
    ] {
        let at = |operation: Operation, rest: &str, paths: &mut Map<String, Value>| {
            let operation = operation.with_parameters(&parameters);
            operation.at(paths, "get", &format!("{prefix}{rest}"));
        };
        at(
            Operation::new(MODELS, "Inputs and outputs (V2)", tensors()),
            "",
            paths,
        );
        let ready = Operation::new(MODELS, "Whether it answers (V2)", reference("ModelReady"));
        let ready = ready.with_status("503", "It does not.", reference("ModelReady"));
        at(ready, "/ready", paths);
        let config = json!({"type": "object", "required": ["name", "max_batch_size"]});
        at(
            Operation::new(MODELS, "Triton's ModelConfig of it (V2)", config),
            "/config",
            paths,
        );
        let statistics = reference("Statistics");
        at(
            Operation::new(MODELS, "What it has done so far (V2)", statistics),
            "/stats",
            paths,
        );
    }
    for (prefix, parameters) in [
        ("/v1/models/{model_name}", vec![name.clone()]),
        (
            "/v1/models/{model_name}/versions/{model_version}",
            vec![name, version],
        ),
    ] {
        Operation::new(
            MODELS,
            "The states of its versions (V1)",
            reference("ModelStatus"),
        )
        .with_status("503", "None of them answers.", reference("ModelStatus"))
        .with_parameters(&parameters)
        .at(paths, "get", prefix);
        let metadata = json!({"type": "object", "required": ["model_spec", "metadata"]});
        Operation::new(
            MODELS,
            "Inputs and outputs as TensorFlow's SignatureDef (V1)",
            metadata,
        )
        .with_parameters(&parameters)
        .at(paths, "get", &format!("{prefix}/metadata"));
    }
}

/// The calls that one model computes.
fn predict_paths(app: &App, served: &Served, paths: &mut Map<String, Value>) {
    const PREDICT: &str = "Predict";
    let (model, limits) = (&served.model, &app.limits);
    let described = schemas::Predict::of(&model.signature, limits);
    let name = &model.name;
    let summary = |call: &str| match &*model.signature.description {
        "" => format!("{name}: {call}"),
        description => format!("{name}: {call}. {description}"),
    };
    let json = |schema: Value| json!({"application/json": {"schema": schema}});
    let v1 = summary("predict (V1); also rows as text/csv or application/x-ndjson");
    Operation::new(PREDICT, v1, described.v1_answer())
        .with_body(json(described.v1_request()), true)
        .at(paths, "post", &format!("/v1/models/{name}:predict"));
    if model.signature.task.is_classification() {
        let either = json!({"type": ["string", "number"]});
        let pair = json!({"type": "array", "items": either, "minItems": 2, "maxItems": 2});
        let row = json!({"type": "array", "items": pair});
        let results = object(&[("results", json!({"type": "array", "items": row}))]);
        Operation::new(PREDICT, summary("classify (V1)"), results)
            .with_body(json(described.examples()), true)
            .at(paths, "post", &format!("/v1/models/{name}:classify"));
    }
    Operation::new(PREDICT, summary("infer (V2)"), described.v2_answer())
        .with_body(json(described.v2_request()), true)
        .at(paths, "post", &format!("/v2/models/{name}/infer"));
}

/// The call of MLflow and SageMaker.
fn invocations(app: &App, served: &Served, paths: &mut Map<String, Value>) {
    let described = schemas::Predict::of(&served.model.signature, &app.limits);
    let summary = format!(
        "{}: predict (MLflow, SageMaker); also rows as text/csv or application/jsonlines",
        served.model.name
    );
    let body = json!({"application/json": {"schema": described.invocation()}});
    Operation::new("Predict", summary, object(&[("predictions", json!({}))]))
        .with_body(body, true)
        .at(paths, "post", "/invocations");
}
