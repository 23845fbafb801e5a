//! The connections of one listener: what they share, and the protocol that serves them.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::answer::Answer;
use super::head::HeadLimits;
use super::shutdown_phase::ShutdownPhases;
use super::wire::Socket;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Closed, Metrics};

/// How long a client may keep sending data that is not read, after its answer.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A protocol, with what answers its requests. Every [`Handler`](super::Handler) is one: HTTP/1.1.
pub trait ConnectionProtocol: Sized + Send + Sync + 'static {
    /// What a TLS handshake agrees on.
    const PROTOCOL: &'static [u8];

    /// The answer to a connection beyond the limit, if its client would understand it.
    const TOO_MANY_CONNECTIONS: Option<Answer>;

    /// Serves a connection to its end, and returns why it ended. `start` is when it was accepted.
    fn serve(
        server: &Arc<Connections<Self>>,
        socket: impl Socket + 'static,
        start: Instant,
    ) -> impl Future<Output = Closed> + Send;
}

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the connection's start, or a later head's first byte, to the head's end.
    pub(super) header: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// While the client takes no byte of an answer.
    pub(super) write: Duration,
}

/// What all connections share.
pub struct Connections<P> {
    /// What answers, in its protocol.
    pub(super) protocol: P,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) metrics: Metrics,
    pub(super) phases: ShutdownPhases,
    pub(super) timeouts: Timeouts,
    pub(super) head_limits: HeadLimits,
}

impl<P: ConnectionProtocol> Connections<P> {
    /// Serves one connection to its end.
    pub(super) async fn serve(self: Arc<Self>, socket: impl Socket + 'static) {
        let start = Instant::now();
        self.until_closed(P::serve(&self, socket, start)).await;
    }

    /// The same after a handshake, whose time counts as the first head's.
    pub(super) async fn serve_tls(self: Arc<Self>, socket: TcpStream, config: Arc<ServerConfig>) {
        let start = Instant::now();
        self.until_closed(async {
            let handshake = TlsAcceptor::from(config).accept(socket);
            match timeout(self.timeouts.header, handshake).await {
                Ok(Ok(socket)) => P::serve(&self, socket, start).await,
                Ok(Err(_)) => Closed::TlsHandshake,
                Err(_) => Closed::HeaderTimeout,
            }
        })
        .await;
    }

    /// Counts a connection as open until `work` returns why it is closed.
    async fn until_closed(&self, work: impl Future<Output = Closed>) {
        self.metrics.connections_open().inc();
        let _open = OnDrop(|| self.metrics.connections_open().dec());
        let ended = self.phases.until_cut(work).await;
        self.metrics
            .connection_closed(ended.unwrap_or(Closed::Drain));
    }
}

/// Runs a closure when dropped.
pub(super) struct OnDrop<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
