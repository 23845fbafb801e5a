//! The model configuration extension: what a model is, in the words of Triton's `ModelConfig`.
//!
//! Only what is so here and has a word there. Clients read `max_batch_size`, the inputs and the way
//! of batching.
//!
//! Sources: `protocol/extension_model_configuration.md` and `model_config.proto` of Triton.

use super::metadata::PLATFORM;
use crate::http::answer::{self, Response};
use crate::http::error::ApiError;
use crate::http::state::Server;
use crate::json::Writer;
use crate::tensor::{DataType, TensorSpec};

/// Describes the version that would answer a request for `name` and `version`.
pub(super) fn model(
    server: &Server,
    name: &str,
    version: Option<&str>,
) -> Result<Response, ApiError> {
    let served = server.app.repository.find(name, version)?;
    let signature = &served.model.signature;
    let scheduling = served.lane.scheduling();
    let limits = &server.app.limits;
    Ok(answer::object(|body| {
        body.key("name").string(&served.model.name);
        body.key("platform").string(PLATFORM);
        body.key("backend").string(env!("CARGO_PKG_NAME"));
        // A client sends no more in one request; how many rows are computed together is no
        // concern of its.
        body.key("max_batch_size").integer(limits.max_request_rows);
        body.key("input").array(|body| {
            for spec in &signature.inputs {
                tensor(body, spec, |body| body.key("optional").bool(false));
            }
        });
        body.key("output").array(|body| {
            let specs = signature.outputs.iter().map(|output| &output.spec);
            specs.for_each(|spec| tensor(body, spec, |_| {}));
        });
        body.key("instance_group").array(|body| {
            body.object(|body| {
                body.key("name").string(&served.model.name);
                body.key("kind").string("KIND_CPU");
                body.key("count").integer(scheduling.workers);
            });
        });
        body.key("dynamic_batching").object(|body| {
            body.key("preferred_batch_size").array(|_| {});
            body.key("max_queue_delay_microseconds")
                .integer(scheduling.max_batch_delay.as_micros());
            body.key("preserve_ordering").bool(false);
            body.key("priority_levels").integer(0);
            body.key("default_priority_level").integer(0);
            body.key("default_queue_policy").object(|body| {
                body.key("timeout_action").string("REJECT");
                // 0 is none.
                let timeout = limits.default_deadline.unwrap_or_default();
                body.key("default_timeout_microseconds")
                    .integer(timeout.as_micros());
                body.key("allow_timeout_override").bool(true);
            });
        });
    }))
}

/// A tensor without the axis of rows, which is `max_batch_size`.
fn tensor(body: &mut Writer, spec: &TensorSpec, more: impl FnOnce(&mut Writer)) {
    body.object(|body| {
        body.key("name").string(&spec.name);
        body.key("data_type").string(data_type(spec.datatype));
        body.key("dims").array(|body| {
            let extents = spec.shape.extents.iter();
            extents.for_each(|&extent| body.integer(extent));
        });
        body.key("is_shape_tensor").bool(false);
        more(body);
    });
}

/// Triton's name of a datatype in configurations.
fn data_type(datatype: DataType) -> &'static str {
    match datatype {
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Bf16 => "TYPE_BF16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}
