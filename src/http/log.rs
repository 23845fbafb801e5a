//! What the log may say of a request. Nothing that a client wrote is in it, but for the words that it
//! has in common with the protocols and with the models' configurations, and for the ids that it
//! sends to be found by (`x-request-id`, `traceparent`).

use http::Method;

use crate::http::error::Place;
use crate::http::state::App;
use crate::model::Signature;
use crate::model::repository::LookupError;

/// The segments of the paths that there are, and the verbs after a model's name.
const PATH_WORDS: &[&str] = &[
    "admin",
    "classify",
    "config",
    "docs",
    "drain",
    "explain",
    "health",
    "index",
    "infer",
    "invocations",
    "labels",
    "live",
    "load",
    "log-level",
    "metadata",
    "metrics",
    "models",
    "openapi.json",
    "ping",
    "predict",
    "ready",
    "regress",
    "repository",
    "stats",
    "unload",
    "v1",
    "v2",
    "version",
    "versions",
    // gRPC's services and their methods.
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
    "Check",
    "Classify",
    "GetModelMetadata",
    "GetModelStatus",
    "ModelConfig",
    "ModelInfer",
    "ModelMetadata",
    "ModelReady",
    "ModelStatistics",
    "ModelStreamInfer",
    "Predict",
    "Regress",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "ServerReflectionInfo",
    "Watch",
];

/// The keys of bodies that the protocols have.
const BODY_WORDS: &[&str] = &[
    "binary_data",
    "binary_data_output",
    "binary_data_size",
    "classification",
    "columns",
    "context",
    "data",
    "dataframe_records",
    "dataframe_split",
    "datatype",
    "examples",
    "id",
    "index",
    "inputs",
    "instances",
    "name",
    "outputs",
    "parameters",
    "ready",
    "sequence_id",
    "shape",
    "shared_memory_region",
    "signature_name",
    "timeout",
];

/// What a word that is not known is shown as.
const MASK: &str = "*";

/// No path of a route has more segments.
const MAX_SEGMENTS: usize = 8;

/// A method of HTTP.
pub(super) fn method(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::HEAD
        | Method::OPTIONS
        | Method::CONNECT
        | Method::PATCH
        | Method::TRACE => method.as_str(),
        _ => MASK,
    }
}

/// A path with `*` in place of what is neither a word of a route nor the name of a model.
/// `version` is the one that answers, if one does.
pub(super) fn path(path: &str, app: &App, version: Option<u64>) -> String {
    let vertex = &app.naming.vertex;
    if [&vertex.health, &vertex.predict].contains(&&Some(path.to_owned())) {
        return path.to_owned();
    }
    let is_known = |word: &str| {
        PATH_WORDS.contains(&word)
            || version.is_some_and(|version| version.to_string() == word)
            || !matches!(
                app.repository.find(word, None),
                Err(LookupError::UnknownModel { .. })
            )
    };
    let mut shown = String::new();
    for (count, segment) in path.split('/').enumerate() {
        if count > MAX_SEGMENTS {
            shown.push('…');
            break;
        }
        if count > 0 {
            shown.push('/');
        }
        for (index, word) in segment.splitn(2, ':').enumerate() {
            if index > 0 {
                shown.push(':');
            }
            let is_shown = word.is_empty() || is_known(word);
            shown.push_str(if is_shown { word } else { MASK });
        }
    }
    shown
}

/// Where something is wrong, with `*` in place of keys that neither a protocol has nor the model.
pub(super) fn place(place: &Place, signature: Option<&Signature>) -> String {
    place.masked(|key| {
        BODY_WORDS.contains(&key)
            || signature.is_some_and(|signature| {
                let inputs = signature.inputs.iter().map(|spec| &spec.name);
                let outputs = signature.outputs.iter().map(|output| &output.spec.name);
                let mut names = inputs.chain(outputs).chain(&signature.feature_names);
                names.any(|name| name == key)
            })
    })
}
