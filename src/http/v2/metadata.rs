//! What the server and its models say about themselves.

use crate::http::answer::{self, Response};
use crate::http::error::ApiError;
use crate::http::health::ready_status;
use crate::http::state::Server;
use crate::json::Writer;
use crate::metrics::ModelState;
use crate::model::repository::LookupError;
use crate::tensor::TensorSpec;

/// The extensions of the protocol that are served: only these are listed.
pub(super) const EXTENSIONS: [&str; 5] = [
    "classification",
    // The index. Models are loaded and unloaded at the operators' listener.
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "statistics",
];

/// What clients are told that models are made for.
pub(super) const PLATFORM: &str = "safetensors";

pub(super) fn server() -> Response {
    answer::object(|body| {
        body.key("name").string(env!("CARGO_PKG_NAME"));
        body.key("version").string(env!("CARGO_PKG_VERSION"));
        body.key("extensions")
            .array(|body| EXTENSIONS.iter().for_each(|name| body.string(name)));
    })
}

/// Describes the version that would answer a request for `name` and `version`.
pub(super) fn model(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let repository = &server.app.repository;
    let served = repository.find(name, version)?;
    let signature = &served.model.signature;
    Ok(answer::object(|body| {
        body.key("name").string(&served.model.name);
        body.key("versions").array(|body| {
            for entry in repository.versions(name).unwrap_or_default() {
                if entry.state == ModelState::Ready {
                    body.string(&entry.version.to_string());
                }
            }
        });
        body.key("platform").string(PLATFORM);
        body.key("inputs")
            .array(|body| signature.inputs.iter().for_each(|spec| tensor(body, spec)));
        body.key("outputs").array(|body| {
            let specs = signature.outputs.iter().map(|output| &output.spec);
            specs.for_each(|spec| tensor(body, spec));
        });
    }))
}

fn tensor(body: &mut Writer, spec: &TensorSpec) {
    body.object(|body| {
        body.key("name").string(&spec.name);
        body.key("datatype").string(spec.datatype.as_str());
        body.key("shape")
            .array(|body| spec.wire_shape().for_each(|extent| body.integer(extent)));
    });
}

pub(super) fn model_ready(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let is_ready = match server.app.repository.find(name, version) {
        Ok(_) => true,
        Err(LookupError::NotReady { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let mut body = Writer::default();
    body.object(|body| {
        body.key("name").string(name);
        body.key("ready").bool(is_ready);
    });
    Ok(answer::json(ready_status(is_ready), body))
}
