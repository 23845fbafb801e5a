//! The page on which people read and try the calls: Swagger UI, whose files `build.rs` unpacks.

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::{IntoResponse, Redirect};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::http::answer::Response;
use crate::http::error::ApiError;
use crate::http::exchange::Exchange;
use crate::http::health::expect_get;
use crate::metrics::Route;

/// Each file of the page: its name and what it holds.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/swagger_ui.rs"));

pub(super) async fn redirect(request: Request) -> Result<impl IntoResponse, ApiError> {
    Exchange::of(&request).set_route(Route::Docs);
    expect_get(request.method())?;
    Ok(Redirect::permanent("/docs/"))
}

pub(super) async fn page(
    file: Option<Path<String>>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    Exchange::of(&request).set_route(Route::Docs);
    expect_get(request.method())?;
    let file = file.map_or("index.html".to_owned(), |Path(file)| file);
    let found = FILES.iter().find(|(name, _)| *name == file);
    let (name, bytes) = found.ok_or_else(|| ApiError::unknown_path(request.uri()))?;
    // In the program itself: no request copies it.
    let mut response = Response::new(Bytes::from_static(bytes));
    let media_type = HeaderValue::from_static(media_type(name));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    Ok(response.map(Body::from))
}

/// The media type of a file of the page.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html",
        Some((_, "css")) => "text/css",
        Some((_, "js")) => "text/javascript",
        Some((_, "png")) => "image/png",
        _ => "application/octet-stream",
    }
}
