//! Which model answers a request whose path names none.

use super::error::{ApiError, ErrorCode};
use super::state::{App, Server};

/// The name of the default model, else of the only one; `None` if there is neither.
pub(super) fn name(app: &App) -> Option<String> {
    choose(app).ok()
}

/// The name, or those among which none was chosen.
fn choose(app: &App) -> Result<String, Vec<String>> {
    if let Some(name) = &app.naming.default_model {
        return Ok(name.clone());
    }
    let ready = app.repository.ready().into_iter();
    let mut names: Vec<String> = ready.map(|served| served.model.name.clone()).collect();
    names.dedup();
    if names.is_empty() {
        let index = app.repository.index().into_iter();
        names = index.map(|entry| entry.name).collect();
        names.dedup();
    }
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) => Err(names),
    }
}

/// The name of the default model, else of the only one.
///
/// # Errors
/// 400 if there are several and none is the default.
pub(super) fn model(server: &Server) -> Result<String, ApiError> {
    let names = match choose(&server.app) {
        Ok(name) => return Ok(name),
        Err(names) => names,
    };
    /// This many names tell what there is.
    const SHOWN: usize = 10;
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(ApiError::invalid(
        ErrorCode::ModelNotNamed,
        format!(
            "this path names no model and the server has {}{more}; set models.default_model to one of \
             them, or ask POST /v1/models/{{model}}:predict",
            shown.join(", ")
        ),
    ))
}
