//! What all answers have in common.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::json::Writer;

/// An answer. It is whole before the first byte of it goes out, so that no answer breaks off.
pub(super) type Response = http::Response<Bytes>;

/// An answer whose body is this JSON document.
pub(super) fn json<B>(status: StatusCode, document: impl Into<B>) -> http::Response<B> {
    let mut response = http::Response::new(document.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A 200 whose body is an object with the members that are written.
pub(super) fn object(members: impl FnOnce(&mut Writer)) -> Response {
    let mut document = Writer::default();
    document.object(members);
    json(StatusCode::OK, document)
}
