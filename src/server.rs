//! The listening server: binds, accepts, drains, stops.
//!
//! The accept loop and the connections are our own because the HTTP stack has one limit for slow heads and
//! idle connections, and waits forever for stalled clients when it drains.

mod accept;
mod answer;
mod body;
mod chunks;
mod connection;
mod connections;
mod handler;
mod head;
#[cfg(feature = "grpc")]
mod http2;
mod listen;
mod routes;
mod shutdown_phase;
mod signals;
mod threads;
mod timer;
mod tls;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use accept::accept;
use connections::{ConnectionProtocol, Connections, Timeouts};
use head::HeadLimits;
use shutdown_phase::{ShutdownPhase, ShutdownPhases};

pub use body::{IncompleteBody, RequestBody};
pub use handler::Handler;
#[cfg(feature = "grpc")]
pub use http2::{Http2, StreamHandler, StreamedBody};
pub use listen::{BindError, Listen, SIDE_CONNECTIONS};
pub use routes::{keys, routes};
pub use signals::{Signals, Stop};
pub use threads::IoThreads;
pub use tls::{Certificates, certificates};

/// Connections that the system holds until they are accepted; it cuts this to a bound of its own
/// (`net.core.somaxconn`). Of a burst that does not fit, clients try again a second later: with the
/// 128 that libraries ask for, 46 of 1,000 that came at once did.
const BACKLOG: u32 = 4096;

/// How long connections that were cut may take to release what they hold. They wait for nothing slow:
/// their tasks end at the next step.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// A server that has its port and does not answer yet.
pub struct Server<P> {
    listener: TcpListener,
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    connections: Arc<Connections<P>>,
    max_connections: usize,
    drain_delay: Duration,
    drain_timeout: Duration,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the drain ran out of time.
    pub cut: usize,
}

impl<P: ConnectionProtocol> Server<P> {
    /// Listens. Clients can connect from now on and are answered once [`Server::run`] runs.
    ///
    /// # Errors
    /// [`BindError`] if the address cannot be listened on.
    pub async fn bind(
        listen: Listen,
        config: &Config,
        protocol: P,
        lifecycle: Arc<Lifecycle>,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError {
            setting: listen.setting,
            address: listen.address,
            source,
        };
        let listener = listen_on(listen.address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let limits = &config.limits;
        metrics
            .connections_limit()
            .add(i64::try_from(listen.max_connections).unwrap_or(i64::MAX));
        Ok(Self {
            listener,
            address,
            certificates: listen.certificates,
            max_connections: listen.max_connections,
            connections: Arc::new(Connections {
                protocol,
                lifecycle,
                metrics,
                timeouts: Timeouts {
                    header: Duration::from_millis(limits.header_timeout_ms),
                    idle: Duration::from_millis(limits.idle_timeout_ms),
                    write: Duration::from_millis(limits.write_timeout_ms),
                },
                head_limits: HeadLimits {
                    max_headers: limits.max_headers,
                    max_bytes: limits.max_header_bytes,
                },
                phases: ShutdownPhases::new(),
            }),
            drain_delay: Duration::from_millis(config.server.drain_delay_ms),
            drain_timeout: Duration::from_millis(config.server.drain_timeout_ms),
        })
    }

    /// The address that is listened on, its port the real one if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop`, then drains. It reports not ready but still answers for the drain
    /// delay, then accepts no new connections and gives the open ones the drain timeout.
    ///
    /// Connections are served by `threads`; this only accepts and waits.
    pub async fn run(self, threads: Arc<IoThreads>, stop: impl Future<Output = Stop>) -> Drained {
        let Self {
            listener,
            certificates,
            connections,
            max_connections,
            ..
        } = self;
        let lifecycle = Arc::clone(&connections.lifecycle);
        // A connection holds a permit from its start to its end.
        let permits = Arc::new(Semaphore::new(max_connections));
        let mut accepting = tokio::spawn(accept(
            listener,
            certificates,
            Arc::clone(&threads),
            Arc::clone(&connections),
            Arc::clone(&permits),
        ));
        lifecycle.ready();

        let stop = tokio::select! {
            stop = stop => stop,
            // It ends only when told to, so it panicked: no one can connect any more, and an orchestrator
            // that sees the process end starts another.
            _ = &mut accepting => {
                error!("the accept loop failed: draining");
                Stop::Now
            }
        };
        lifecycle.drain();
        let delay = match stop {
            Stop::AfterDelay => self.drain_delay,
            Stop::Now => Duration::ZERO,
        };
        info!(
            delay_ms = delay.as_millis() as u64,
            "draining: answering, not ready"
        );
        sleep(delay).await;

        lifecycle.close();
        connections.phases.set(ShutdownPhase::Closing);
        if !accepting.is_finished() {
            // Its failure while it stops changes nothing.
            let _ = accepting.await;
        }
        let open = || max_connections - permits.available_permits();
        info!(
            connections = open(),
            timeout_ms = self.drain_timeout.as_millis() as u64,
            "closed to new connections: finishing requests"
        );
        let all = u32::try_from(max_connections).expect("limits.max_connections is at most 10^6");
        if timeout(self.drain_timeout, permits.acquire_many(all))
            .await
            .is_ok()
        {
            return Drained { cut: 0 };
        }
        let cut = open();
        warn!(connections = cut, "the drain ran out of time: cutting off");
        connections.phases.set(ShutdownPhase::Cut);
        // After that they are stuck, and the process ends without them.
        let _ = timeout(CUT_GRACE, permits.acquire_many(all)).await;
        Drained { cut }
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Otherwise a restart would have to wait until the system has dropped the last connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
