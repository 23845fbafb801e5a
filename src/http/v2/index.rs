//! The index of the model repository: every version, its state and the reason.
//!
//! Source: `protocol/extension_model_repository.md` of Triton. Clients ask with POST; what changes
//! nothing can be asked for with GET as well.

use axum::body::Body;
use axum::response::Response;
use http::{Method, StatusCode};

use super::super::Server;
use super::super::answer;
use super::super::body::expect_json;
use super::super::error::ApiError;
use super::super::exchange::Exchange;
use super::super::json::{Reader, Writer};
use crate::metrics::ModelState;

pub(super) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: Body,
) -> Result<Response, ApiError> {
    let head = &exchange.head;
    let ready_only = match head.method {
        Method::GET | Method::HEAD => false,
        Method::POST => {
            expect_json(&head.headers)?;
            let (body, _share) = server.bodies.read(body, &server.app.limits).await?;
            exchange.has_read_body();
            ready_only(&body)?
        }
        _ => return Err(ApiError::method("GET, HEAD, POST", &head.method)),
    };
    let mut entries = server.app.repository.index();
    entries.retain(|entry| !ready_only || entry.state == ModelState::Ready);
    let mut document = Writer::default();
    document.array(|document| {
        for entry in &entries {
            document.object(|document| {
                document.key("name").string(&entry.name);
                document.key("version").string(&entry.version.to_string());
                document.key("state").string(match entry.state {
                    ModelState::Loading => "LOADING",
                    ModelState::Ready => "READY",
                    ModelState::Unloading => "UNLOADING",
                    ModelState::Unavailable => "UNAVAILABLE",
                });
                document.key("reason").string(&entry.reason);
            });
        }
    });
    Ok(answer::json(StatusCode::OK, document))
}

/// Reads `{"ready": true}`; no body is as good as an empty object.
fn ready_only(body: &[u8]) -> Result<bool, ApiError> {
    if body.is_empty() {
        return Ok(false);
    }
    let mut reader = Reader::new(body)?;
    let mut ready_only = false;
    reader.object(|reader, key| match key {
        "ready" => {
            ready_only = reader.bool()?;
            Ok(())
        }
        _ => reader.skip(),
    })?;
    reader.end()?;
    Ok(ready_only)
}
