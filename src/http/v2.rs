//! The Open Inference Protocol, version 2, over REST, with Triton's extensions of it.
//!
//! Sources: `specification/protocol/inference_rest.md` of the open-inference-protocol, and
//! `protocol/extension_*.md` of Triton.

mod binary;
mod classes;
mod config;
#[cfg(feature = "grpc")]
mod grpc;
mod index;
mod infer;
mod inputs;
mod metadata;
mod outputs;
mod stats;

#[cfg(feature = "grpc")]
pub(super) use grpc::{SERVICE, answer as grpc, stream as grpc_stream};
pub(super) use index::{answer as index, answer_with as index_of};

use super::answer::Response;
use super::body::RequestBody;
use super::error::ApiError;
use super::exchange::Exchange;
use super::health::{self, expect_get};
use super::predict::predict;
use super::state::Server;
use crate::metrics::Route;

/// Answers what is below `/v2`.
pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
    segments: &[&str],
) -> Result<Response, ApiError> {
    let method = &exchange.head.method;
    let (name, version, rest) = match segments[1..] {
        [] => {
            exchange.set_route(Route::V2Server);
            expect_get(method)?;
            return Ok(metadata::server());
        }
        ["health", check] => {
            let answer = health::check(&server.app, exchange, check);
            return answer.unwrap_or_else(|| Err(ApiError::unknown_path(&exchange.head.uri)));
        }
        // Triton's repositories may have names; here there is one, by whatever name.
        ["repository", "index"] | ["repository", _, "index"] => {
            exchange.set_route(Route::V2Index);
            return index::answer(server, exchange, body).await;
        }
        ["models", "stats"] => {
            exchange.set_route(Route::V2Stats);
            expect_get(method)?;
            return Ok(stats::all(server));
        }
        ["models", name, "versions", version, ref rest @ ..] => (name, Some(version), rest),
        ["models", name, ref rest @ ..] => (name, None, rest),
        _ => return Err(ApiError::unknown_path(&exchange.head.uri)),
    };
    match rest {
        [] => {
            exchange.set_route(Route::V2Model);
            expect_get(method)?;
            metadata::model(server, name, version)
        }
        ["ready"] => {
            exchange.set_route(Route::V2ModelReady);
            expect_get(method)?;
            metadata::model_ready(server, name, version)
        }
        ["config"] => {
            exchange.set_route(Route::V2Config);
            expect_get(method)?;
            config::model(server, name, version)
        }
        ["stats"] => {
            exchange.set_route(Route::V2Stats);
            expect_get(method)?;
            stats::model(server, name, version)
        }
        ["infer"] => {
            exchange.set_route(Route::V2Infer);
            predict::<infer::Infer>(server, exchange, body, name, version).await
        }
        _ => Err(ApiError::unknown_path(&exchange.head.uri)),
    }
}
