//! What replaces `coding.rs` without the feature `compression`: there is no coding.

use bytes::Bytes;
use http::HeaderMap;

use super::answer::Response;
use super::budget::{Budget, Share};
use super::error::ApiError;

/// A way of compressing a body. There is none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coding {}

impl Coding {
    /// The codings of requests, for messages.
    pub(super) const NAMES: &str = "not compressed";

    /// The coding of this name.
    pub(super) fn named(_: &[u8]) -> Option<Self> {
        None
    }

    /// Inflates a body.
    pub(super) async fn inflate(
        self,
        _: Bytes,
        _: usize,
        _: &mut Share<'_>,
    ) -> Result<Bytes, ApiError> {
        match self {}
    }
}

/// The answer as it is.
pub(super) async fn compressed(_: &HeaderMap, answer: Response, _: &Budget) -> Response {
    answer
}
