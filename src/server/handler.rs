//! What answers requests.

use bytes::Bytes;
use http::{Request, Response};

use super::body::RequestBody;

/// What answers the requests of all connections.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The connection adds the headers `content-length`, `date` and `connection`.
    fn answer(&self, request: Request<RequestBody>)
    -> impl Future<Output = Response<Bytes>> + Send;
}
