//! The listening server: binds, accepts, drains, stops.
//!
//! The accept loop and the connections are our own because what the HTTP stack offers limits
//! neither slow heads nor idle connections apart from each other, and waits for stalled clients for
//! ever when it drains.

mod accept;
mod answer;
mod body;
mod chunks;
mod connection;
mod head;
#[cfg(feature = "grpc")]
mod http2;
mod routes;
mod signals;
mod speaks;
mod stage;
mod threads;
mod timer;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, max_open_files};
use accept::accept;
use connection::{Connections, Timeouts};
use head::HeadLimits;
use speaks::Speaks;
use stage::{Stage, Stages};

pub use body::{IncompleteBody, RequestBody};
#[cfg(feature = "grpc")]
pub use http2::{Http2, StreamHandler, StreamedBody};
pub use routes::{keys, routes};
pub use signals::{Signals, Stop};
pub use threads::IoThreads;
pub use tls::{Certificates, certificates};

/// The most connections of a listener that is not for clients.
pub const SIDE_CONNECTIONS: usize = 64;

/// File descriptors that are not for clients: standard streams, the listeners, the runtime's own,
/// the files of models that are being loaded, and the connections of the other two listeners.
const RESERVED_FILES: usize = 64 + 2 * SIDE_CONNECTIONS;

/// Connections that the system holds until they are accepted; it cuts this to a bound of its own
/// (`net.core.somaxconn`). Of a burst that does not fit, clients try again a second later: with the
/// 128 that libraries ask for, 46 of 1,000 that came at once did.
const BACKLOG: u32 = 4096;

/// How long connections that were cut may take to let go of what they hold. Nothing they wait for
/// is slow: their tasks end at the next step.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The setting that says where, for messages.
    pub setting: &'static str,
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What connections are encrypted with, if they are.
    pub certificates: Option<Arc<Certificates>>,
    /// The most connections open at once.
    pub max_connections: usize,
}

impl Listen {
    /// Where clients are answered: on `server.bind`.
    #[must_use]
    pub fn for_clients(config: &Config, certificates: Option<Arc<Certificates>>) -> Self {
        Self {
            setting: "server.bind",
            address: config.server.bind,
            certificates,
            max_connections: within_open_files(
                config.limits.max_connections,
                max_open_files().map(|files| files - files_of_grpc(config, files)),
            ),
        }
    }

    /// Where clients are answered over gRPC, if they are: on `grpc.bind`.
    #[must_use]
    pub fn for_grpc(config: &Config, certificates: Option<Arc<Certificates>>) -> Option<Self> {
        let files = max_open_files();
        Some(Self {
            setting: "grpc.bind",
            address: config.grpc.bind?,
            certificates,
            max_connections: match files {
                Some(files) => files_of_grpc(config, files),
                None => config.grpc.max_connections,
            },
        })
    }
}

/// The file descriptors that gRPC's connections may take: a quarter of all, at most.
fn files_of_grpc(config: &Config, files: usize) -> usize {
    match config.grpc.bind {
        Some(_) => config.grpc.max_connections.min(files / 4),
        None => 0,
    }
}

/// The address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mend = match self.source.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another port",
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0",
            _ => "choose another address",
        };
        write!(
            f,
            "{}: cannot listen on {}; {mend} (--{} ADDR:PORT)",
            self.setting,
            self.address,
            match self.setting {
                "server.bind" => "bind",
                "admin.bind" => "admin-bind",
                "grpc.bind" => "grpc-bind",
                _ => "operations-bind",
            }
        )
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What answers the requests of all connections.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. The headers `content-length`, `date` and `connection` are not its
    /// business: the connection adds them.
    fn answer(&self, request: Request<RequestBody>)
    -> impl Future<Output = Response<Bytes>> + Send;
}

/// A server that has its port and answers nobody yet.
pub struct Server<S> {
    listener: TcpListener,
    address: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    connections: Arc<Connections<S>>,
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

impl<S: Speaks> Server<S> {
    /// Listens. Clients can connect from now on and are answered once [`Server::run`] runs.
    ///
    /// # Errors
    /// [`BindError`] if the address cannot be listened on.
    pub async fn bind(
        listen: Listen,
        config: &Config,
        speaker: S,
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
                speaker,
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
                stages: Stages::new(),
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

    /// Answers requests until `stop`, then drains: not ready any more, requests welcome for the
    /// drain delay, then no new connections, then those that are left have the drain timeout.
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
            // It only ends when it is told to, so it panicked: nobody can connect any more, and an
            // orchestrator that sees the process end starts another.
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
        connections.stages.set(Stage::Closing);
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
        connections.stages.set(Stage::Cut);
        // Past that they are beyond help, and the process ends without them.
        let _ = timeout(CUT_GRACE, permits.acquire_many(all)).await;
        Drained { cut }
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Else a restart would have to wait until the system has forgotten the last connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// As many connections as wanted and as the process may have files open.
fn within_open_files(wanted: usize, max_open_files: Option<usize>) -> usize {
    let Some(files) = max_open_files else {
        return wanted;
    };
    let possible = files.saturating_sub(RESERVED_FILES).max(1);
    if wanted > possible {
        warn!(
            wanted,
            possible,
            max_open_files = files,
            "limits.max_connections is lowered: the process may not open more files; \
             raise its limit (ulimit -n)"
        );
    }
    wanted.min(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(within_open_files(4096, None), 4096);
        assert_eq!(within_open_files(4096, Some(1_048_576)), 4096);
        assert_eq!(within_open_files(4096, Some(1024)), 832);
        assert_eq!(within_open_files(4096, Some(10)), 1);
    }
}
