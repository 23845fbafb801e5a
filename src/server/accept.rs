//! Takes connections from the operating system, within their bound.

use std::io;
use std::net::TcpStream as Accepted;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::answer::Answer;
use super::connections::{ConnectionProtocol, Connections, LINGER};
use super::listen::RESERVED_FILES;
use super::shutdown_phase::ShutdownPhase;
use super::threads::IoThreads;
use super::tls::{Certificates, agreeing_on};
use crate::metrics::Refusal;

/// How long to wait before the next try when the system has no descriptor or memory left: long enough not
/// to spin, short compared with the wait for other connections to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(25);

/// The most connections beyond the bound that get an answer at one time; more are closed without one.
/// They use the reserved descriptors, so this is a quarter of those.
const MAX_REFUSALS: usize = RESERVED_FILES / 4;

/// Accepts connections until the phase leaves [`ShutdownPhase::Serving`], then takes those that the
/// system had accepted already, whose clients may have sent requests.
///
/// Each connection holds a permit of `permits` and is served by one of `threads`, whose runtime its
/// socket joins.
pub(super) async fn accept<P: ConnectionProtocol>(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    threads: Arc<IoThreads>,
    connections: Arc<Connections<P>>,
    permits: Arc<Semaphore>,
) {
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let phases = &connections.phases;
    let take = |socket: Accepted| {
        let metrics = &connections.metrics;
        metrics.connections_accepted_total().inc();
        // Answers are written whole; waiting to fill packets would only delay them. A failure means that
        // the client is gone, which the first read reports too.
        let _ = socket.set_nodelay(true);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            let connections = Arc::clone(&connections);
            // The current certificates: a new one applies to later connections.
            let certificates = certificates
                .as_ref()
                .map(|files| agreeing_on(Guard::into_inner(files.get()), P::PROTOCOL));
            threads.spawn(async move {
                // The client of a socket that no thread can take sees it close.
                if let Ok(socket) = into_tokio(socket) {
                    match certificates {
                        None => connections.serve(socket).await,
                        // Boxed, so that plain connections have no room for a handshake.
                        Some(certificates) => {
                            Box::pin(connections.serve_tls(socket, certificates)).await;
                        }
                    }
                }
                drop(permit);
            });
        } else {
            metrics.connection_refused(Refusal::Limit);
            // A client that expects a handshake understands no answer.
            if certificates.is_none()
                && let Some(answer) = P::TOO_MANY_CONNECTIONS
                && let Ok(permit) = Arc::clone(&refusals).try_acquire_owned()
                && let Ok(socket) = into_tokio(socket)
            {
                tokio::spawn(refuse(socket, answer, permit));
            }
        }
    };

    let mut exhausted = false;
    while phases.current() == ShutdownPhase::Serving {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = phases.left(ShutdownPhase::Serving) => continue,
        };
        match accepted {
            Ok((socket, _)) => {
                exhausted = false;
                // A failure means that it is already gone.
                if let Ok(socket) = socket.into_std() {
                    take(socket);
                }
            }
            Err(error) => {
                connections.metrics.accept_errors_total().inc();
                if is_of_one_connection(&error) {
                    continue;
                }
                if !exhausted {
                    warn!(%error, "cannot accept connections; trying again until it works");
                    exhausted = true;
                }
                tokio::select! {
                    () = sleep(EXHAUSTED_PAUSE) => {}
                    () = phases.left(ShutdownPhase::Serving) => {}
                }
            }
        }
    }

    // Asks the system itself: tokio would answer from its last event.
    match listener.into_std() {
        Ok(listener) => loop {
            match listener.accept() {
                Ok((socket, _)) => take(socket),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        },
        Err(error) => error!(%error, "cannot take the connections that wait at the stop"),
    }
}

/// Hands a socket to the runtime of the current thread.
fn into_tokio(socket: Accepted) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Whether an error is about the connection that would have been accepted: the next may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Tells a client that there are too many connections, and waits a moment until it has read that.
async fn refuse(mut socket: TcpStream, answer: Answer, _permit: OwnedSemaphorePermit) {
    let tell = async {
        socket.write_all(&answer.bytes()).await?;
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it read that or not, the connection ends here.
    let _ = timeout(LINGER, tell).await;
}
