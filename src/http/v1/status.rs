//! What models there are, how they are, and what they take.

use std::time::UNIX_EPOCH;

use crate::http::answer::{self, Response};
use crate::http::error::ApiError;
use crate::http::health::ready_status;
use crate::http::state::Server;
use crate::json::Writer;
use crate::metrics::ModelState;
use crate::model::repository::{IndexEntry, LookupError};
use crate::tensor::{DataType, TensorSpec};

/// Lists the models for KServe's clients (`models`) and OpenAI's (`object`, `data`).
pub(super) fn models(server: &Server) -> Response {
    let repository = &server.app.repository;
    let mut names: Vec<String> = repository
        .index()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.dedup();
    answer::object(|body| {
        body.key("models")
            .array(|body| names.iter().for_each(|name| body.string(name)));
        body.key("object").string("list");
        body.key("data").array(|body| {
            for name in &names {
                let loaded = repository.find(name, None).map(|served| served.loaded.at);
                let since_epoch = loaded.unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
                body.object(|body| {
                    body.key("id").string(name);
                    body.key("object").string("model");
                    body.key("created")
                        .integer(since_epoch.unwrap_or_default().as_secs());
                    body.key("owned_by").string(env!("CARGO_PKG_NAME"));
                });
            }
        });
    })
}

/// The states of a model's versions for TensorFlow Serving's clients (`model_version_status`), and
/// whether it is ready for KServe's (`name`, `ready`, and 503 if it is not).
pub(super) fn status(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let repository = &server.app.repository;
    let found = match repository.find(name, version) {
        Ok(served) => Some(served.model.version),
        Err(LookupError::NotReady { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut entries = repository.versions(name).unwrap_or_default();
    if let Some(version) = version {
        entries.retain(|entry| entry.version.to_string() == version);
    }
    let mut body = Writer::default();
    body.object(|body| {
        body.key("name").string(name);
        body.key("ready").bool(found.is_some());
        body.key("model_version_status")
            .array(|body| entries.iter().for_each(|entry| version_status(body, entry)));
    });
    Ok(answer::json(ready_status(found.is_some()), body))
}

fn version_status(body: &mut Writer, entry: &IndexEntry) {
    let (state, code) = match entry.state {
        ModelState::Loading => ("LOADING", "OK"),
        ModelState::Ready => ("AVAILABLE", "OK"),
        ModelState::Unloading => ("UNLOADING", "OK"),
        ModelState::Unavailable => ("END", "FAILED_PRECONDITION"),
    };
    body.object(|body| {
        body.key("version").string(&entry.version.to_string());
        body.key("state").string(state);
        body.key("status").object(|body| {
            body.key("error_code").string(code);
            body.key("error_message").string(&entry.reason);
        });
    });
}

/// The signature in the form of TensorFlow's `SignatureDef`.
pub(super) fn metadata(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let served = server.app.repository.find(name, version)?;
    let model = &served.model;
    let outputs = model.signature.engine_outputs();
    Ok(answer::object(|body| {
        body.key("model_spec").object(|body| {
            body.key("name").string(&model.name);
            body.key("signature_name").string("");
            body.key("version").string(&model.version.to_string());
        });
        body.key("metadata").object(|body| {
            body.key("signature_def").object(|body| {
                body.key("signature_def").object(|body| {
                    body.key("serving_default").object(|body| {
                        body.key("inputs").object(|body| {
                            let inputs = model.signature.inputs.iter();
                            inputs.for_each(|spec| tensor(body, spec));
                        });
                        body.key("outputs")
                            .object(|body| outputs.for_each(|output| tensor(body, &output.spec)));
                        body.key("method_name").string("tensorflow/serving/predict");
                    });
                });
            });
        });
    }))
}

fn tensor(body: &mut Writer, spec: &TensorSpec) {
    body.key(&spec.name).object(|body| {
        body.key("dtype").string(match spec.datatype {
            DataType::Bool => "DT_BOOL",
            DataType::Uint8 => "DT_UINT8",
            DataType::Uint16 => "DT_UINT16",
            DataType::Uint32 => "DT_UINT32",
            DataType::Uint64 => "DT_UINT64",
            DataType::Int8 => "DT_INT8",
            DataType::Int16 => "DT_INT16",
            DataType::Int32 => "DT_INT32",
            DataType::Int64 => "DT_INT64",
            DataType::Fp16 => "DT_HALF",
            DataType::Bf16 => "DT_BFLOAT16",
            DataType::Fp32 => "DT_FLOAT",
            DataType::Fp64 => "DT_DOUBLE",
            DataType::Bytes => "DT_STRING",
        });
        body.key("tensor_shape").object(|body| {
            body.key("dim").array(|body| {
                for extent in spec.wire_shape() {
                    body.object(|body| {
                        body.key("size").string(&extent.to_string());
                        body.key("name").string("");
                    });
                }
            });
            body.key("unknown_rank").bool(false);
        });
        body.key("name").string(&format!("{}:0", spec.name));
    });
}
