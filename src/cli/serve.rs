//! `safeserve serve`: loads the models, serves them, drains.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::build::{VERSION, build_info};
use super::console::{print, report};
use super::example::curl;
use super::exit::Exit;
use super::table::{Overview, overview};
use crate::config::{self, Config, Level, Settings, cpu_budget, memory_budget};
use crate::engine::kernels::pages;
use crate::http::{AdminRoutes, Controls, OperationsRoutes};
#[cfg(feature = "grpc")]
use crate::http::{GrpcRoutes, Routes};
use crate::keys::Keys;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Bounds, Metrics, ProcessState, WatchedFile};
use crate::model::repository::{
    ModelRepository, RepositoryError, RepositorySettings, WatchSettings,
};
use crate::scheduler::{Scheduler, SchedulerSettings};
#[cfg(feature = "grpc")]
use crate::server::Http2;
use crate::server::{
    self, BindError, Certificates, Drained, Handler, IoThreads, Listen, SIDE_CONNECTIONS, Server,
    Signals, Stop,
};
use crate::telemetry::{self, LogLevel};
use crate::watched::Watched;

/// How long workers may take to end once no request is left. Longer only if a forward pass whose
/// client was cut off still runs, which nobody waits for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often workers are looked after.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn run(settings: &Settings) -> Exit {
    // Before the first large block is asked for.
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
    // What still runs, a load that a signal overtook or a worker that is stuck, ends with the
    // process.
    runtime.shutdown_background();
    drop(log);
    exit
}

/// What accepts connections and waits for signals; the connections have threads of their own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        // Loads, the end, and the files that are read again block; they take one each.
        .max_blocking_threads(4)
        .enable_all()
        .build()
}

/// As many threads as set, or as the CPU budget has cores.
fn threads(set: usize) -> usize {
    match set {
        0 => cpu_budget(),
        set => set,
    }
}

pub(super) fn scheduler_settings(config: &Config) -> SchedulerSettings {
    let scheduler = &config.scheduler;
    SchedulerSettings {
        workers: threads(scheduler.workers),
        max_batch_rows: scheduler.max_batch_rows,
        max_batch_time: Duration::from_millis(scheduler.max_batch_ms),
        max_scratch_bytes: scheduler.max_scratch_bytes,
        max_batch_delay: Duration::from_micros(scheduler.max_batch_delay_us),
        max_queued_rows: scheduler.max_queued_rows,
        inline_cost: Duration::from_micros(scheduler.inline_cost_us),
    }
}

/// Which models are served and how their directory is followed.
pub(super) fn repository_settings(config: &Config) -> RepositorySettings {
    let models = &config.models;
    let watch = WatchSettings {
        poll_interval: limit(models.poll_interval_ms),
        settle: Duration::from_millis(models.settle_ms),
        incomplete_timeout: Duration::from_millis(models.incomplete_timeout_ms),
    };
    RepositorySettings {
        directory: models.dir.clone(),
        name: models.name.clone(),
        watch: models.watch.then_some(watch),
        versions: models.versions.clone(),
        max_models: models.max_models,
        max_versions: models.max_versions,
        max_weight_bytes: match models.max_weight_bytes {
            // The rest is for bodies, answers and the process itself.
            0 => memory_budget().map_or(u64::MAX, |bytes| bytes / 5 * 4),
            bytes => bytes,
        },
        load_timeout: limit(models.load_timeout_ms),
    }
}

/// What the process may use, as it is in effect.
fn bounds(config: &Config) -> Bounds {
    let memory_bytes = memory_budget();
    let weight_bytes = repository_settings(config).max_weight_bytes;
    Bounds {
        cpu_cores: cpu_budget(),
        workers: threads(config.scheduler.workers),
        memory_bytes,
        weight_bytes: (weight_bytes < u64::MAX).then_some(weight_bytes),
        inflight_body_bytes: config.limits.inflight_bytes(memory_bytes),
        queued_rows: config.scheduler.max_queued_rows,
    }
}

/// A time limit of so many milliseconds; 0 is none.
fn limit(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

async fn serve(config: &Config, level: LogLevel, metrics: Metrics) -> Exit {
    let failed = |error: &dyn Error| {
        report(error);
        Exit::Failed
    };
    // From here on a signal does not kill: as process 1 of a container nothing else would act.
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
    for entry in &refused {
        error!(
            model = entry.name,
            version = entry.version,
            reason = entry.reason,
            "model refused"
        );
    }
    for served in repository.ready() {
        if let Some(warning) = &served.loaded.warning {
            let model = &served.model;
            warn!(
                model = model.name,
                version = model.version,
                reason = warning,
                "model may refuse requests"
            );
        }
    }
    for reason in repository.ignored().iter() {
        warn!(reason, "directory ignored");
    }
    if ready.is_empty() || (config.models.strict && !refused.is_empty()) {
        let mend = match ready.is_empty() {
            true => "no model can be served; the reasons are above, and in `safeserve check`",
            false => "models.strict refuses to start with a model that cannot be served",
        };
        error!("{mend}");
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
    let mut beside = Beside::default();
    if let Some(address) = config.operations.bind {
        let listen = Listen {
            setting: "operations.bind",
            address,
            certificates: None,
            max_connections: SIDE_CONNECTIONS,
        };
        let routes = OperationsRoutes::new(Arc::clone(routes.app()));
        if let Err(error) = beside
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
        if let Err(error) = beside
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
    greet(scheme, server.address(), &repository, &ready, refused.len());
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
    beside.stop().await;
    let closing = spawn_blocking(move || scheduler.close());
    if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
        warn!("a forward pass still runs; ending without it");
    }
    info!(cut_connections = cut, "stopped");
    Exit::Done
}

/// Runs both listeners of clients until `stop`, or until one of them fails; they drain at one time.
#[cfg(feature = "grpc")]
async fn run_both(
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
        // It fails only if that listener has ended.
        let _ = tell.send(stop);
        stop
    };
    let grpc = async {
        // If nobody tells, the other listener failed.
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

/// Tells the person who started the server what it serves and how to try it.
fn greet(
    scheme: &str,
    address: SocketAddr,
    repository: &ModelRepository,
    ready: &str,
    refused: usize,
) {
    let refused = match refused {
        0 => String::new(),
        1 => "1 model version was refused: see the log, or `safeserve check`\n".to_owned(),
        count => {
            format!("{count} model versions were refused: see the log, or `safeserve check`\n")
        }
    };
    let mut text = format!(
        "safeserve {}\n\n{ready}{refused}\nlistening on {scheme}://{address}\n",
        VERSION.as_str()
    );
    if let Some(curl) = curl(&repository.ready(), address) {
        text.push_str(&format!("\n{curl}\n\n"));
    }
    print(&text);
}

/// Waits for the first signal, or for an operator who asks for the same; the signal after it ends
/// the process there and then.
#[expect(
    clippy::disallowed_methods,
    reason = "who signals twice wants no drain, and nothing else stops a forward pass that runs"
)]
async fn first_stop(mut signals: Signals, mut asked: mpsc::Receiver<()>) -> Stop {
    let (stop, by_signal) = tokio::select! {
        stop = signals.next() => (stop, true),
        Some(()) = asked.recv() => (Stop::AfterDelay, false),
    };
    tokio::spawn(async move {
        // An orchestrator that asked for the drain first sends its signal all the same.
        if !by_signal {
            signals.next().await;
        }
        signals.next().await;
        std::process::exit(Exit::Forced as i32);
    });
    stop
}

/// Replaces workers that hang, and says when work waits that nobody does. A thread of connections
/// cannot be replaced: what it holds is lost when the process is started again.
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

/// What operators may do.
struct Process {
    level: LogLevel,
    drain: mpsc::Sender<()>,
}

impl Controls for Process {
    fn log_level(&self) -> &'static str {
        self.level.get().as_str()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        match Level::ALL.iter().find(|known| known.as_str() == level) {
            Some(level) => {
                self.level.set(*level);
                Ok(())
            }
            None => Err(Level::ALL.map(Level::as_str).join(", ")),
        }
    }

    fn drain(&self) {
        // Full means that somebody asked before.
        let _ = self.drain.try_send(());
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

    /// Looks for changes from now on.
    fn follow(&self) {
        for keys in [&self.api_keys, &self.admin_keys].into_iter().flatten() {
            tokio::spawn(Arc::clone(keys).follow());
        }
        if let Some(certificates) = &self.certificates {
            tokio::spawn(Arc::clone(certificates).follow());
        }
    }
}

/// The listeners beside the one for clients. They go on while that one drains.
#[derive(Default)]
struct Beside {
    running: Vec<(oneshot::Sender<Stop>, JoinHandle<Drained>)>,
}

impl Beside {
    async fn start<H: Handler>(
        &mut self,
        listen: Listen,
        config: &Config,
        routes: H,
        threads: &Arc<IoThreads>,
        metrics: &Metrics,
    ) -> Result<(), BindError> {
        let setting = listen.setting;
        // Its answers never close connections for a drain that is not its own.
        let lifecycle = Arc::new(Lifecycle::new());
        let server = Server::bind(listen, config, routes, lifecycle, metrics.clone()).await?;
        info!(setting, address = %server.address(), "listening");
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(Stop::Now) };
        let running = tokio::spawn(server.run(Arc::clone(threads), stopped));
        self.running.push((stop, running));
        Ok(())
    }

    /// Ends them all, within a moment: the time for the drain is over.
    async fn stop(self) {
        let (stops, running): (Vec<_>, Vec<_>) = self.running.into_iter().unzip();
        for stop in stops {
            // It fails only if the listener has ended, which is what is wanted.
            let _ = stop.send(Stop::Now);
        }
        let all = async {
            for listener in running {
                let _ = listener.await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, all).await;
    }
}
