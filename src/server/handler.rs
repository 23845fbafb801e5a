//! What answers requests.

use bytes::Bytes;
use http::{Request, Response};

use super::body::RequestBody;

/// What answers the requests of all connections.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The headers `content-length`, `date` and `connection` are not its
    /// business: the connection adds them.
    fn answer(&self, request: Request<RequestBody>)
    -> impl Future<Output = Response<Bytes>> + Send;
}
