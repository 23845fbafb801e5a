//! The listeners that run together, and when each ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::info;

use crate::config::Config;
#[cfg(feature = "grpc")]
use crate::http::{GrpcRoutes, Routes};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
#[cfg(feature = "grpc")]
use crate::server::Http2;
use crate::server::{BindError, Drained, Handler, IoThreads, Listen, Server, Stop};

/// The listeners for operations and operators. They keep answering while those for clients drain.
#[derive(Default)]
pub(super) struct SideListeners {
    running: Vec<(oneshot::Sender<Stop>, JoinHandle<Drained>)>,
}

impl SideListeners {
    /// Binds a listener and runs it until [`SideListeners::stop`].
    pub(super) async fn start<H: Handler>(
        &mut self,
        listen: Listen,
        config: &Config,
        routes: H,
        threads: &Arc<IoThreads>,
        metrics: &Metrics,
    ) -> Result<(), BindError> {
        let setting = listen.setting;
        // Its connections stay open while the listeners for clients drain.
        let lifecycle = Arc::new(Lifecycle::new());
        let server = Server::bind(listen, config, routes, lifecycle, metrics.clone()).await?;
        info!(setting, address = %server.address(), "listening");
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(Stop::Now) };
        let running = tokio::spawn(server.run(Arc::clone(threads), stopped));
        self.running.push((stop, running));
        Ok(())
    }

    /// Ends them all and waits for that, `limit` at most: the time for the drain is over.
    pub(super) async fn stop(self, limit: Duration) {
        let (stops, running): (Vec<_>, Vec<_>) = self.running.into_iter().unzip();
        for stop in stops {
            // It fails only if the listener has already ended.
            let _ = stop.send(Stop::Now);
        }
        let all = async {
            for listener in running {
                let _ = listener.await;
            }
        };
        let _ = timeout(limit, all).await;
    }
}

/// Runs both listeners for clients until `stop`, or until one of them fails. They drain together.
#[cfg(feature = "grpc")]
pub(super) async fn run_both(
    server: Server<Routes>,
    grpc: Server<Http2<GrpcRoutes>>,
    threads: Arc<IoThreads>,
    stop: impl Future<Output = Stop>,
) -> Drained {
    let (tell, told) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel::<()>();
    let stop = async {
        let stop = tokio::select! {
            stop = stop => stop,
            _ = has_ended => Stop::Now,
        };
        // It fails only if that listener has already ended.
        let _ = tell.send(stop);
        stop
    };
    let grpc = async {
        // If no one tells, the other listener failed.
        let told = async { told.await.unwrap_or(Stop::Now) };
        let drained = grpc.run(Arc::clone(&threads), told).await;
        drop(ended);
        drained
    };
    let (server, grpc) = tokio::join!(server.run(Arc::clone(&threads), stop), grpc);
    Drained {
        cut: server.cut + grpc.cut,
    }
}
