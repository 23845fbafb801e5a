//! What is sent.

use std::sync::Arc;

use http::{HeaderMap, Uri};

use super::body::Body;
use super::settings::Protocol;
use super::target::Target;

/// All that is sent, and where to.
pub(super) struct Requests {
    pub(super) target: Arc<Target>,
    pub(super) path: Uri,
    pub(super) headers: HeaderMap,
    pub(super) protocol: Protocol,
    pub(super) bodies: Arc<[Body]>,
}
