//! `safeserve serve`: loads the models, serves them, drains.

mod announce;
mod listeners;
mod settings;
mod stop;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info, warn};

use self::listeners::SideListeners;
#[cfg(feature = "grpc")]
use self::listeners::run_both;
use self::settings::{bounds, limit, threads};
pub(super) use self::settings::{repository_settings, scheduler_settings};
use self::stop::{Process, first_stop};
use super::build::build_info;
use super::console::report;
use super::exit::Exit;
use super::table::{Overview, overview};
use crate::config::{self, Config, Settings};
use crate::engine::kernels::pages;
#[cfg(feature = "grpc")]
use crate::http::GrpcRoutes;
use crate::http::{AdminRoutes, OperationsRoutes};
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, ProcessState, WatchedFile};
use crate::model::repository::{ModelRepository, RepositoryError};
use crate::scheduler::Scheduler;
#[cfg(feature = "grpc")]
use crate::server::Http2;
use crate::server::{
    self, Certificates, Drained, IoThreads, Listen, SIDE_CONNECTIONS, Server, Signals,
};
use crate::telemetry::{self, LogLevel};
use crate::watched::Watched;

/// How long workers and side listeners may take to end once no request is left. Workers take longer
/// only if a forward pass still runs whose client was cut off, and no one waits for that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often workers are checked.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn run(settings: &Settings) -> Exit {
    // Before the first large block is allocated.
    pages::return_freed();
    let config = &settings.config;
    let metrics = Metrics::new(build_info());
    let log = telemetry::install(&config.log, metrics.log_lines_dropped_total().clone());
    let started = log.and_then(|(guard, level)| Ok((guard, level, runtime()?)));
    let (log, level, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            report(&error);
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(serve(config, level, metrics));
    // What still runs, a load that a signal interrupted or a stuck worker, ends with the process.
    runtime.shutdown_background();
    drop(log);
    exit
}

/// The runtime that accepts connections and waits for signals; connections have threads of their own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        // Loads, the shutdown and files that are read again block; they take a thread each.
        .max_blocking_threads(4)
        .enable_all()
        .build()
}

async fn serve(config: &Config, level: LogLevel, metrics: Metrics) -> Exit {
    let failed = |error: &dyn Error| {
        report(error);
        Exit::Failed
    };
    // From here on a signal does not kill. Process 1 of a container has no default action for it.
    let mut signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let scheduler = match Scheduler::start(scheduler_settings(config)) {
        Ok(scheduler) => scheduler,
        Err(error) => return failed(&error),
    };
    let io_threads = match IoThreads::start(threads(config.server.io_threads)) {
        Ok(threads) => Arc::new(threads),
        Err(error) => return failed(&error),
    };
    let files = match Files::read(config, &metrics) {
        Ok(files) => files,
        Err(reason) => {
            report(&BadFile(reason));
            return Exit::BadSettings;
        }
    };
    let loaded = tokio::select! {
        loaded = load(config, &scheduler, &metrics) => loaded,
        _ = signals.next() => {
            info!("stopped by a signal while loading");
            return Exit::Done;
        }
    };
    let repository = match loaded {
        Ok(Ok(repository)) => Arc::new(repository),
        Ok(Err(error)) => {
            report(&error);
            return Exit::BadRepository;
        }
        Err(error) => return failed(&error),
    };
    let Overview { ready, refused } = overview(&repository);
    announce::log_problems(&repository, &refused);
    if ready.is_empty() || (config.models.strict && !refused.is_empty()) {
        let reason = match ready.is_empty() {
            true => "no model can be served; the reasons are above, and in `safeserve check`",
            false => "models.strict refuses to start with a model that cannot be served",
        };
        error!("{reason}");
        return Exit::BadRepository;
    }

    let lifecycle = Arc::new(Lifecycle::new());
    let api_keys = files.api_keys.clone();
    let routes = server::routes(config, &repository, &lifecycle, &metrics, api_keys);
    metrics.show_bounds(&bounds(config));
    metrics.follow({
        let lifecycle = Arc::clone(&lifecycle);
        let inflight_body_bytes = routes.inflight_body_bytes();
        move || ProcessState {
            is_ready: lifecycle.is_ready(),
            is_live: lifecycle.is_live(),
            inflight_body_bytes: inflight_body_bytes(),
        }
    });
    let (drain, drained) = mpsc::channel(1);
    let controls = Arc::new(Process { level, drain });
    let mut side_listeners = SideListeners::default();
    if let Some(address) = config.operations.bind {
        let listen = Listen {
            setting: "operations.bind",
            address,
            certificates: None,
            max_connections: SIDE_CONNECTIONS,
        };
        let routes = OperationsRoutes::new(Arc::clone(routes.app()));
        if let Err(error) = side_listeners
            .start(listen, config, routes, &io_threads, &metrics)
            .await
        {
            report(&error);
            return Exit::CannotBind;
        }
    }
    if let (Some(address), Some(keys)) = (config.admin.bind, &files.admin_keys) {
        let listen = Listen {
            setting: "admin.bind",
            address,
            certificates: files.certificates.clone(),
            max_connections: SIDE_CONNECTIONS,
        };
        let routes = AdminRoutes::new(&routes, Arc::clone(keys), controls);
        if let Err(error) = side_listeners
            .start(listen, config, routes, &io_threads, &metrics)
            .await
        {
            report(&error);
            return Exit::CannotBind;
        }
    }
    #[cfg(feature = "grpc")]
    let grpc = match Listen::for_grpc(config, files.certificates.clone()) {
        None => None,
        Some(listen) => {
            let protocol = Http2(GrpcRoutes::new(&routes));
            let lifecycle = Arc::clone(&lifecycle);
            match Server::bind(listen, config, protocol, lifecycle, metrics.clone()).await {
                Ok(server) => {
                    info!(setting = "grpc.bind", address = %server.address(), "listening");
                    Some(server)
                }
                Err(error) => {
                    report(&error);
                    return Exit::CannotBind;
                }
            }
        }
    };
    let listen = Listen::for_clients(config, files.certificates.clone());
    let server = match Server::bind(
        listen,
        config,
        routes,
        Arc::clone(&lifecycle),
        metrics.clone(),
    )
    .await
    {
        Ok(server) => server,
        Err(error) => {
            report(&error);
            return Exit::CannotBind;
        }
    };
    files.follow();
    tokio::spawn(supervise(
        config.scheduler.clone(),
        Arc::clone(&scheduler),
        Arc::clone(&io_threads),
        Arc::clone(&lifecycle),
        metrics.clone(),
    ));
    let scheme = match files.certificates {
        Some(_) => "https",
        None => "http",
    };
    announce::greet(scheme, server.address(), &repository, &ready, refused.len());
    info!(
        address = %server.address(),
        workers = threads(config.scheduler.workers),
        io_threads = threads(config.server.io_threads),
        version = build_info().version,
        "serving"
    );

    let stop = first_stop(signals, drained);
    #[cfg(feature = "grpc")]
    let Drained { cut } = match grpc {
        None => server.run(io_threads, stop).await,
        Some(grpc) => run_both(server, grpc, io_threads, stop).await,
    };
    #[cfg(not(feature = "grpc"))]
    let Drained { cut } = server.run(io_threads, stop).await;
    // Scrapers and operators see the drain to its end.
    side_listeners.stop(CLOSE_TIMEOUT).await;
    let closing = spawn_blocking(move || scheduler.close());
    if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
        warn!("a forward pass still runs; ending without it");
    }
    info!(cut_connections = cut, "stopped");
    Exit::Done
}

/// Loads all models on a thread that may block.
async fn load(
    config: &Config,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Result<Result<ModelRepository, RepositoryError>, JoinError> {
    let settings = repository_settings(config);
    let (scheduler, metrics) = (Arc::clone(scheduler), metrics.clone());
    spawn_blocking(move || ModelRepository::open(settings, &scheduler, &metrics)).await
}

/// Replaces workers that hang, and reports work that makes no progress. A connection thread cannot be
/// replaced: what it holds is lost when the process restarts.
async fn supervise(
    settings: config::Scheduler,
    scheduler: Arc<Scheduler>,
    io_threads: Arc<IoThreads>,
    lifecycle: Arc<Lifecycle>,
    metrics: Metrics,
) {
    loop {
        tokio::time::sleep(SUPERVISION_INTERVAL).await;
        let replaced = scheduler.replace_workers(limit(settings.hang_timeout_ms));
        if replaced > 0 {
            error!(
                replaced,
                "a worker died, or its forward pass does not end: it is replaced"
            );
            metrics.workers_replaced_total().inc_by(replaced as u64);
        }
        if let Some(limit) = limit(settings.stall_timeout_ms) {
            let silent = io_threads.silent_for(Instant::now()) > limit;
            let has_stalled = scheduler.is_stalled(limit) || silent;
            if has_stalled && lifecycle.is_live() {
                error!(
                    "not live: {}",
                    match silent {
                        true => "a thread of connections does not come back from what it does",
                        false => "rows wait and no forward pass ends",
                    }
                );
            }
            lifecycle.set_stalled(has_stalled);
        }
    }
}

/// A file of keys or certificates that cannot be used.
#[derive(Debug)]
struct BadFile(String);

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for BadFile {}

/// The files that are read again when they change.
struct Files {
    api_keys: Option<Arc<Watched<Keys>>>,
    admin_keys: Option<Arc<Watched<Keys>>>,
    certificates: Option<Arc<Certificates>>,
}

impl Files {
    fn read(config: &Config, metrics: &Metrics) -> Result<Self, String> {
        let keys = |label, setting, file: &Option<PathBuf>| {
            let file = file.as_deref();
            file.map(|file| server::keys(label, setting, file, metrics))
                .transpose()
        };
        Ok(Self {
            api_keys: keys(
                WatchedFile::ApiKeys,
                "server.api_keys",
                &config.server.api_keys,
            )?,
            admin_keys: keys(WatchedFile::AdminKeys, "admin.keys", &config.admin.keys)?,
            certificates: server::certificates(&config.tls, metrics)?,
        })
    }

    /// Watches them for changes from now on.
    fn follow(&self) {
        for keys in [&self.api_keys, &self.admin_keys].into_iter().flatten() {
            tokio::spawn(Arc::clone(keys).follow());
        }
        if let Some(certificates) = &self.certificates {
            tokio::spawn(Arc::clone(certificates).follow());
        }
    }
}
