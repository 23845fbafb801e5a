//! The numbers that the server shows about itself, in Prometheus' text format.
//!
//! Every family is registered when the process starts and every series is on the page from the
//! first scrape (a model's from its load), at zero. Labels come from the closed sets here and from
//! the names of configured models, never from what a client sent. Handles are looked up once:
//! counting is an atomic addition or two.

mod family;
mod forward_passes;
mod labels;
mod model;
mod process;
mod process_state;
mod registration;
mod sharded;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use forward_passes::Total;
pub use labels::{
    Closed, Code, LoadResult, ModelState, Protocol, Refusal, Rejection, Release, Route, WatchedFile,
};
pub use model::{ModelMetrics, Statistics};
pub use process::{cpu_time, max_open_files};
pub use process_state::{Bounds, ProcessState};
pub use sharded::{Counter, Histogram, Unit, UpDown};

use family::Family;
use labels::Label;
use model::Families;
use process_state::{BoundSeries, ProcessStateSeries, StateSeries};
use registration::{counter, counters, gauge, whole};

/// The media type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What was built, for `--version` and the metrics page.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// The version of the crate.
    pub version: &'static str,
    /// `release` or `debug`.
    pub profile: &'static str,
    /// The operating system and architecture, for example `linux-x86_64`.
    pub platform: &'static str,
}

/// All the series of the process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Arc<Families>,
    models: Mutex<HashMap<(String, u64), ModelMetrics>>,
    http_requests: Box<[Box<[Counter]>]>,
    requests_in_flight: UpDown,
    bounds: BoundSeries,
    process_state: ProcessStateSeries,
    model_states: StateSeries,
    models_by_state: Box<[IntGauge]>,
    model_loads: Box<[IntCounter]>,
    handler_panics: IntCounter,
    connections_open: IntGauge,
    connections_limit: IntGauge,
    connections_accepted: IntCounter,
    connections_refused: Box<[IntCounter]>,
    connections_closed: Box<[IntCounter]>,
    accept_errors: IntCounter,
    log_lines_dropped: IntCounter,
    workers_replaced: IntCounter,
    file_reads: Box<[[IntCounter; 2]]>,
    file_stale: Box<[IntGauge]>,
    requests_by_key: Family<Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every family.
    #[must_use]
    pub fn new(build: BuildInfo) -> Self {
        // Registering fails on a malformed or doubled name only, and every name is written here.
        let inner = Inner::register(build).expect("metric names are well-formed and distinct");
        Self(Arc::new(inner))
    }

    /// The page in Prometheus' text format 0.0.4 ([`CONTENT_TYPE`]).
    ///
    /// # Errors
    /// If the encoder refuses a family.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }

    /// The series of a model version; all of them are on the page from now on.
    #[must_use]
    pub fn model(&self, name: &str, version: u64) -> ModelMetrics {
        self.models()
            .entry((name.to_owned(), version))
            .or_insert_with(|| self.0.families.model(name, &version.to_string()))
            .clone()
    }

    /// Whether the page has the series of a model version.
    #[must_use]
    pub fn knows(&self, name: &str, version: u64) -> bool {
        self.models().contains_key(&(name.to_owned(), version))
    }

    /// Removes the series of a model version from the page.
    pub fn forget(&self, name: &str, version: u64) {
        // The lock is held so that a load of the same version at this moment starts afresh.
        let mut models = self.models();
        if let Some(metrics) = models.remove(&(name.to_owned(), version)) {
            metrics.remove();
        }
    }

    fn models(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u64), ModelMetrics>> {
        self.0.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what the process may use.
    pub fn show_bounds(&self, bounds: &Bounds) {
        self.0.bounds.show(bounds);
    }

    /// Has each scrape ask for the state of the process. The first one is asked.
    pub fn follow(&self, ask: impl Fn() -> ProcessState + Send + Sync + 'static) {
        self.0.process_state.follow(Box::new(ask));
    }

    /// Shows the state of all model versions.
    pub fn show_states<'a>(
        &self,
        states: impl Iterator<Item = (&'a str, u64, ModelState)> + Clone,
    ) {
        for &kind in ModelState::ALL {
            let count = states.clone().filter(|&(.., state)| state == kind).count();
            self.0.models_by_state[kind.index()].set(whole(count));
        }
        self.0.model_states.show(states);
    }

    /// Counts one try to load a model version by how it ended.
    pub fn model_load(&self, result: LoadResult) {
        self.0.model_loads[result.index()].inc();
    }

    /// Counts one answered HTTP request, predict requests included.
    pub fn http_request(&self, route: Route, code: u16) {
        self.0.http_requests[route.index()][Code::from_status(code).index()].inc();
    }

    /// HTTP requests whose answer is not yet handed to the connection.
    #[must_use]
    pub fn requests_in_flight(&self) -> &UpDown {
        &self.0.requests_in_flight
    }

    /// Handlers that panicked.
    #[must_use]
    pub fn handler_panics_total(&self) -> &IntCounter {
        &self.0.handler_panics
    }

    /// Open connections.
    #[must_use]
    pub fn connections_open(&self) -> &IntGauge {
        &self.0.connections_open
    }

    /// The most connections open at once; each listener adds its own.
    #[must_use]
    pub fn connections_limit(&self) -> &IntGauge {
        &self.0.connections_limit
    }

    /// Connections accepted, those refused at once included.
    #[must_use]
    pub fn connections_accepted_total(&self) -> &IntCounter {
        &self.0.connections_accepted
    }

    /// Counts a connection that was refused before its first request was read.
    pub fn connection_refused(&self, reason: Refusal) {
        self.0.connections_refused[reason.index()].inc();
    }

    /// Counts a connection's end.
    pub fn connection_closed(&self, reason: Closed) {
        self.0.connections_closed[reason.index()].inc();
    }

    /// Connections that the operating system failed to hand over, for example for want of
    /// file descriptors.
    #[must_use]
    pub fn accept_errors_total(&self) -> &IntCounter {
        &self.0.accept_errors
    }

    /// Workers that died, or were given up because their forward pass did not end.
    #[must_use]
    pub fn workers_replaced_total(&self) -> &IntCounter {
        &self.0.workers_replaced
    }

    /// Reports that a file changed and was read again, and whether what it holds is used.
    pub fn file_read(&self, file: WatchedFile, is_used: bool) {
        self.0.file_reads[file.index()][usize::from(is_used)].inc();
        self.0.file_stale[file.index()].set((!is_used).into());
    }

    /// HTTP requests that came with the key of this name, which the operator gave it.
    #[must_use]
    pub fn requests_by_key(&self, name: &str) -> Counter {
        self.0.requests_by_key.with(&[name])
    }

    /// Log lines dropped because the log's reader is too slow or gone.
    #[must_use]
    pub fn log_lines_dropped_total(&self) -> &IntCounter {
        &self.0.log_lines_dropped
    }
}

impl Inner {
    fn register(build: BuildInfo) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(process::Process::new()?))?;

        let info = IntGaugeVec::new(
            Opts::new("safeserve_build_info", "1; the labels say what was built."),
            &["version", "profile", "platform"],
        )?;
        registry.register(Box::new(info.clone()))?;
        info.with_label_values(&[build.version, build.profile, build.platform])
            .set(1);

        let http_requests = Family::new(
            "safeserve_http_requests_total",
            "HTTP requests answered, predict requests included, by route and status code.",
            &["route", "code"],
            Counter::default,
        )?;
        registry.register(Box::new(http_requests.clone()))?;
        let http_requests = Route::ALL
            .iter()
            .map(|route| {
                Code::ALL
                    .iter()
                    .map(|code| http_requests.with(&[route.as_str(), code.as_str()]))
                    .collect()
            })
            .collect();

        let models_by_state = IntGaugeVec::new(
            Opts::new("safeserve_models", "Model versions known, by state."),
            &["state"],
        )?;
        registry.register(Box::new(models_by_state.clone()))?;
        let models_by_state = ModelState::ALL
            .iter()
            .map(|state| models_by_state.with_label_values(&[state.as_str()]))
            .collect();

        let model_states = StateSeries::register(&registry)?;

        let file_reads = IntCounterVec::new(
            Opts::new(
                "safeserve_file_reads_total",
                "Times that a file of keys or certificates changed and was read again.",
            ),
            &["file", "result"],
        )?;
        registry.register(Box::new(file_reads.clone()))?;
        let file_stale = IntGaugeVec::new(
            Opts::new(
                "safeserve_file_stale",
                "1 while a changed file of keys or certificates is refused and the version \
                 before it goes on.",
            ),
            &["file"],
        )?;
        registry.register(Box::new(file_stale.clone()))?;
        let requests_by_key = Family::new(
            "safeserve_api_key_requests_total",
            "HTTP requests that came with a valid API key, by the key's name.",
            &["key"],
            Counter::default,
        )?;
        registry.register(Box::new(requests_by_key.clone()))?;

        Ok(Self {
            file_reads: WatchedFile::ALL
                .iter()
                .map(|file| {
                    ["failed", "ok"]
                        .map(|result| file_reads.with_label_values(&[file.as_str(), result]))
                })
                .collect(),
            file_stale: WatchedFile::ALL
                .iter()
                .map(|file| file_stale.with_label_values(&[file.as_str()]))
                .collect(),
            requests_by_key,
            families: Arc::new(Families::register(&registry)?),
            models: Mutex::new(HashMap::new()),
            http_requests,
            bounds: BoundSeries::register(&registry)?,
            process_state: ProcessStateSeries::register(&registry)?,
            model_states,
            models_by_state,
            model_loads: counters::<LoadResult>(
                &registry,
                "safeserve_model_loads_total",
                "Times that a model version's files were loaded or refused, by result.",
                "result",
            )?,
            requests_in_flight: {
                let family = Family::new(
                    "safeserve_http_requests_in_flight",
                    "HTTP requests read whose answer is not yet handed to the connection.",
                    &[],
                    UpDown::default,
                )?;
                registry.register(Box::new(family.clone()))?;
                family.with(&[])
            },
            handler_panics: counter(
                &registry,
                "safeserve_handler_panics_total",
                "HTTP handlers that panicked; each was answered with 500.",
            )?,
            connections_open: gauge(
                &registry,
                "safeserve_connections_open",
                "Connections open now, of all listeners together.",
            )?,
            connections_limit: gauge(
                &registry,
                "safeserve_connections_limit",
                "The most connections open at once, of all listeners together.",
            )?,
            connections_accepted: counter(
                &registry,
                "safeserve_connections_accepted_total",
                "Client connections accepted, those refused at once included.",
            )?,
            connections_refused: counters::<Refusal>(
                &registry,
                "safeserve_connections_refused_total",
                "Client connections answered with 503 and closed before a request, by reason.",
                "reason",
            )?,
            connections_closed: counters::<Closed>(
                &registry,
                "safeserve_connections_closed_total",
                "Client connections ended, by what ended them.",
                "reason",
            )?,
            accept_errors: counter(
                &registry,
                "safeserve_accept_errors_total",
                "Times that the operating system failed to hand over a client connection.",
            )?,
            workers_replaced: counter(
                &registry,
                "safeserve_workers_replaced_total",
                "Worker threads that died or whose forward pass did not end, and were replaced.",
            )?,
            log_lines_dropped: counter(
                &registry,
                "safeserve_log_lines_dropped_total",
                "Log lines dropped because the log's reader is too slow or gone.",
            )?,
            registry,
        })
    }
}

#[cfg(test)]
mod tests;
