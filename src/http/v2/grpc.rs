//! The Open Inference Protocol over gRPC, with Triton's extensions of it.
//!
//! Sources: `open_inference_grpc.proto` of the open-inference-protocol, `grpc_service.proto` of
//! Triton.

mod decode;
mod encode;
mod infer;
mod models;
mod target;

pub(in crate::http) use infer::stream;

use crate::http::answer::Response;
use crate::http::body::RequestBody;
use crate::http::error::ApiError;
use crate::http::grpc::{Call, Messages, inference, message};
use crate::metrics::{ModelState, Route};
use target::version;

pub(in crate::http) const SERVICE: &str = "inference.GRPCInferenceService";

/// Answers a method that has one answer.
pub(in crate::http) async fn answer(
    call: &Call<'_>,
    method: &str,
    mut messages: Messages<impl RequestBody>,
) -> Result<Response, ApiError> {
    let server = call.server;
    let limits = &server.app.limits;
    let mut share = server.budget.whole_share();
    /// Reads the request of a method that only asks.
    macro_rules! read {
        ($request:ident) => {{
            call.set_route(Route::GrpcModels);
            let request: inference::$request = messages.small(limits, &mut share).await?;
            request
        }};
    }
    match method {
        "ModelInfer" => {
            call.set_route(Route::GrpcInfer);
            infer::answer(call, messages).await
        }
        "ServerLive" => {
            read!(ServerLiveRequest);
            let live = server.app.lifecycle.is_live();
            Ok(message(&inference::ServerLiveResponse { live }))
        }
        "ServerReady" => {
            read!(ServerReadyRequest);
            let ready = server.app.lifecycle.is_ready();
            Ok(message(&inference::ServerReadyResponse { ready }))
        }
        "ModelReady" => {
            let request = read!(ModelReadyRequest);
            models::ready(server, &request.name, version(&request.version))
        }
        "ServerMetadata" => {
            read!(ServerMetadataRequest);
            Ok(models::server())
        }
        "ModelMetadata" => {
            let request = read!(ModelMetadataRequest);
            models::metadata(server, &request.name, version(&request.version))
        }
        "ModelConfig" => {
            let request = read!(ModelConfigRequest);
            models::config(server, &request.name, version(&request.version))
        }
        "ModelStatistics" => {
            let request = read!(ModelStatisticsRequest);
            models::statistics(server, &request.name, version(&request.version))
        }
        "RepositoryIndex" => {
            let request = read!(RepositoryIndexRequest);
            let mut entries = server.app.repository.index();
            entries.retain(|entry| !request.ready || entry.state == ModelState::Ready);
            Ok(models::index(entries))
        }
        "RepositoryModelLoad" | "RepositoryModelUnload" => {
            call.set_route(Route::GrpcModels);
            Err(ApiError::OperatorsOnly)
        }
        _ => Err(call.unknown_method()),
    }
}
