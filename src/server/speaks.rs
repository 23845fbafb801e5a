//! What is spoken on a listener's connections.

use std::sync::Arc;

use tokio::time::Instant;

use super::answer::Answer;
use super::connection::Connections;
use super::wire::Socket;
use crate::metrics::Closed;

/// A protocol with what answers in it. Every [`Handler`](super::Handler) is one, in HTTP/1.1.
pub trait Speaks: Sized + Send + Sync + 'static {
    /// What a TLS handshake agrees on.
    const PROTOCOL: &'static [u8];

    /// What clients are told that are one too many, if they would understand it.
    const TOO_MANY_CONNECTIONS: Option<Answer>;

    /// Serves a connection to its end, and says why it is over. `start` is when it came.
    fn speak(
        server: &Arc<Connections<Self>>,
        socket: impl Socket + 'static,
        start: Instant,
    ) -> impl Future<Output = Closed> + Send;
}
