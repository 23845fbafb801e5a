//! `safeserve serve`: loads the models, serves them, drains.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::example::curl;
use super::table::{Overview, overview};
use super::{Exit, VERSION, build_info, print, report};
use crate::config::{Config, Settings, cpu_budget, memory_budget};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::model::repository::{
    ModelRepository, RepositoryError, RepositorySettings, WatchSettings,
};
use crate::scheduler::{Scheduler, SchedulerSettings};
use crate::server::{self, Drained, IoThreads, Server, Signals, Stop};
use crate::telemetry;

/// How long workers may take to end once no request is left. Longer only if a forward pass whose
/// client was cut off still runs, which nobody waits for.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(settings: &Settings) -> Exit {
    let config = &settings.config;
    let metrics = Metrics::new(build_info());
    let log = telemetry::install(&config.log, metrics.log_lines_dropped_total().clone());
    let started = log.and_then(|guard| Ok((guard, runtime()?)));
    let (log, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            report(&error);
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(serve(config, metrics));
    // What still runs, a load that a signal overtook or a worker that is stuck, ends with the
    // process.
    runtime.shutdown_background();
    drop(log);
    exit
}

/// What accepts connections and waits for signals; the connections have threads of their own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        // Only the load and the end block; they take one each.
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
        max_batch_delay: Duration::from_micros(scheduler.max_batch_delay_us),
        max_queued_rows: scheduler.max_queued_rows,
        inline_cost: Duration::from_micros(scheduler.inline_cost_us),
    }
}

/// Which models are served and how their directory is followed.
pub(super) fn repository_settings(config: &Config) -> RepositorySettings {
    let models = &config.models;
    let poll_interval = Duration::from_millis(models.poll_interval_ms);
    let watch = WatchSettings {
        poll_interval: (!poll_interval.is_zero()).then_some(poll_interval),
        settle: Duration::from_millis(models.settle_ms),
        patience: Duration::from_millis(models.incomplete_timeout_ms),
    };
    RepositorySettings {
        directory: models.dir.clone(),
        watch: models.watch.then_some(watch),
        versions: models.versions.clone(),
        max_models: models.max_models,
        max_versions: models.max_versions,
        max_weight_bytes: match models.max_weight_bytes {
            // The rest is for bodies, answers and the process itself.
            0 => memory_budget().map_or(u64::MAX, |bytes| bytes / 5 * 4),
            bytes => bytes,
        },
    }
}

async fn serve(config: &Config, metrics: Metrics) -> Exit {
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
        Ok(threads) => threads,
        Err(error) => return failed(&error),
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
    let routes = server::routes(config, &repository, &lifecycle, &metrics);
    let server = match Server::bind(config, routes, lifecycle, metrics).await {
        Ok(server) => server,
        Err(error) => {
            report(&error);
            return Exit::CannotBind;
        }
    };
    greet(server.address(), &repository, &ready, refused.len());
    info!(
        address = %server.address(),
        workers = threads(config.scheduler.workers),
        io_threads = threads(config.server.io_threads),
        version = build_info().version,
        "serving"
    );

    let Drained { cut } = server.run(io_threads, first_stop(signals)).await;
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

/// Tells the person who started the server what it serves and how to try it.
fn greet(address: SocketAddr, repository: &ModelRepository, ready: &str, refused: usize) {
    let refused = match refused {
        0 => String::new(),
        1 => "1 model version was refused: see the log, or `safeserve check`\n".to_owned(),
        count => {
            format!("{count} model versions were refused: see the log, or `safeserve check`\n")
        }
    };
    let mut text = format!(
        "safeserve {}\n\n{ready}{refused}\nlistening on http://{address}\n",
        VERSION.as_str()
    );
    if let Some(curl) = curl(&repository.ready(), address) {
        text.push_str(&format!("\n{curl}\n\n"));
    }
    print(&text);
}

/// Waits for the first signal; the one after it ends the process there and then.
#[expect(
    clippy::disallowed_methods,
    reason = "who signals twice wants no drain, and nothing else stops a forward pass that runs"
)]
async fn first_stop(mut signals: Signals) -> Stop {
    let stop = signals.next().await;
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(Exit::Forced as i32);
    });
    stop
}
