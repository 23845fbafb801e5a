//! The index of the model repository: every version, its state and the reason.
//!
//! Source: `protocol/extension_model_repository.md` of Triton. Clients ask with POST; what changes
//! nothing can be asked for with GET as well.

use http::{Method, StatusCode};

use crate::http::answer::{self, Response};
use crate::http::body::{self, RequestBody, expect_json};
use crate::http::error::ApiError;
use crate::http::exchange::Exchange;
use crate::http::state::Server;
use crate::json::{Reader, Writer};
use crate::metrics::ModelState;
use crate::model::repository::IndexEntry;

pub(in crate::http) async fn answer(
    server: &Server,
    exchange: &Exchange,
    body: impl RequestBody,
) -> Result<Response, ApiError> {
    let head = &exchange.head;
    let ready_only = match head.method {
        Method::GET | Method::HEAD => false,
        Method::POST => {
            let coding = expect_json(&head.headers)?;
            let mut share = server.budget.share();
            let limits = &server.app.limits;
            ready_only(&body::read(body, coding, limits, &mut share).await?)?
        }
        _ => return Err(ApiError::method("GET, HEAD, POST", &head.method)),
    };
    let mut entries = server.app.repository.index();
    entries.retain(|entry| !ready_only || entry.state == ModelState::Ready);
    Ok(answer_with(&entries))
}

/// The answer that lists these versions.
pub(in crate::http) fn answer_with(entries: &[IndexEntry]) -> Response {
    let mut document = Writer::default();
    document.array(|document| {
        for entry in entries {
            document.object(|document| {
                document.key("name").string(&entry.name);
                document.key("version").string(&entry.version.to_string());
                document.key("state").string(state(entry.state));
                document.key("reason").string(&entry.reason);
            });
        }
    });
    answer::json(StatusCode::OK, document)
}

/// The protocol's word for a state.
pub(super) fn state(state: ModelState) -> &'static str {
    match state {
        ModelState::Loading => "LOADING",
        ModelState::Ready => "READY",
        ModelState::Unloading => "UNLOADING",
        ModelState::Unavailable => "UNAVAILABLE",
    }
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
