//! The numbers that the server shows about itself, in Prometheus' text format.
//!
//! Every family is registered when the process starts and every series is on the page from the
//! first scrape (a model's from its load), at zero. Labels come from the closed sets here and from
//! the names of configured models, never from what a client sent. Handles are looked up once:
//! counting is an atomic addition or two.

mod family;
mod labels;
mod model;
mod passes;
mod process;
mod sharded;
mod standing;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use labels::{
    Closed, Code, LoadResult, ModelState, Protocol, Refusal, Rejection, Release, Route, WatchedFile,
};
pub use model::{ModelMetrics, Statistics};
pub use passes::Total;
pub use process::{cpu_time, max_open_files};
pub use sharded::{Counter, Histogram, Unit, UpDown};
pub use standing::{Bounds, Standing};

use family::Family;
use labels::Label;
use model::Families;
use standing::{BoundSeries, StandingSeries, StateSeries};

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
    standing: StandingSeries,
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

    /// Takes the series of a model version off the page.
    pub fn forget(&self, name: &str, version: u64) {
        // The lock is held so that a load of the same version that comes now starts afresh.
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

    /// Has each scrape ask how the process stands. Who came first is asked.
    pub fn follow(&self, ask: impl Fn() -> Standing + Send + Sync + 'static) {
        self.0.standing.follow(Box::new(ask));
    }

    /// Shows where all model versions stand.
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
            standing: StandingSeries::register(&registry)?,
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

/// A gauge's value for a number of things.
fn whole<T: TryInto<i64>>(count: T) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// One counter for each value of a label.
fn counters<L: Label>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> prometheus::Result<Box<[IntCounter]>> {
    let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(family.clone()))?;
    Ok(L::ALL
        .iter()
        .map(|value| family.with_label_values(&[value.text()]))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo {
            version: "1.2.3",
            profile: "debug",
            platform: "linux-x86_64",
        })
    }

    /// The page's line for a series, its name and labels as the page writes them.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let page = metrics.render().unwrap();
        let (_, value) = page
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| *name == series)?;
        Some(value.parse().unwrap())
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let metrics = metrics();
        let _model = metrics.model("iris", 1);
        let page = metrics.render().unwrap();
        for &protocol in Protocol::ALL {
            for &code in Code::ALL {
                let series = format!(
                    "safeserve_requests_total{{code=\"{}\",model=\"iris\",protocol=\"{}\",version=\"1\"}} 0\n",
                    code.as_str(),
                    protocol.as_str()
                );
                assert!(page.contains(&series), "{series} is missing");
            }
        }
        for family in [
            "safeserve_queue_duration_seconds",
            "safeserve_compute_duration_seconds",
            "safeserve_batch_rows",
        ] {
            let series = format!("{family}_count{{model=\"iris\",version=\"1\"}} 0\n");
            assert!(page.contains(&series), "{series} is missing");
        }
        for family in [
            "safeserve_queued_rows",
            "safeserve_rows_total",
            "safeserve_panics_total",
            "safeserve_model_load_duration_seconds",
            "safeserve_model_weight_bytes",
        ] {
            let series = format!("{family}{{model=\"iris\",version=\"1\"}} 0\n");
            assert!(page.contains(&series), "{series} is missing");
        }
        for &release in Release::ALL {
            let labels = format!(
                "model=\"iris\",release=\"{}\",version=\"1\"",
                release.as_str()
            );
            assert!(page.contains(&format!("safeserve_batches_total{{{labels}}} 0\n")));
        }
        for &reason in Rejection::ALL {
            let labels = format!(
                "model=\"iris\",reason=\"{}\",version=\"1\"",
                reason.as_str()
            );
            assert!(page.contains(&format!("safeserve_rejections_total{{{labels}}} 0\n")));
        }
        for &route in Route::ALL {
            for &code in Code::ALL {
                let labels = format!("code=\"{}\",route=\"{}\"", code.as_str(), route.as_str());
                assert!(page.contains(&format!("safeserve_http_requests_total{{{labels}}} 0\n")));
            }
        }
        for &state in ModelState::ALL {
            let series = format!("safeserve_models{{state=\"{}\"}} 0\n", state.as_str());
            assert!(page.contains(&series), "{series} is missing");
        }
        for &reason in Closed::ALL {
            let labels = format!("reason=\"{}\"", reason.as_str());
            assert!(page.contains(&format!(
                "safeserve_connections_closed_total{{{labels}}} 0\n"
            )));
        }
        for series in [
            "safeserve_connections_open 0",
            "safeserve_connections_limit 0",
            "safeserve_ready 0",
            "safeserve_live 1",
            "safeserve_inflight_body_bytes 0",
            "safeserve_connections_accepted_total 0",
            "safeserve_connections_refused_total{reason=\"limit\"} 0",
            "safeserve_accept_errors_total 0",
            "safeserve_http_requests_in_flight 0",
            "safeserve_handler_panics_total 0",
            "safeserve_log_lines_dropped_total 0",
            "safeserve_build_info{platform=\"linux-x86_64\",profile=\"debug\",version=\"1.2.3\"} 1",
        ] {
            assert!(
                page.contains(&format!("\n{series}\n")),
                "{series} is missing"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_shows_its_memory_descriptors_threads_and_start() {
        let metrics = metrics();
        assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 1e5);
        assert!(value(&metrics, "process_virtual_memory_bytes").unwrap() > 1e5);
        assert!(value(&metrics, "process_open_fds").unwrap() >= 1.0);
        assert!(value(&metrics, "process_max_fds").unwrap().abs() >= 1.0);
        assert!(value(&metrics, "process_threads").unwrap() >= 1.0);
        assert!(value(&metrics, "process_cpu_seconds_total").unwrap() >= 0.0);
        // After 2020 by any clock that a test machine has.
        assert!(value(&metrics, "process_start_time_seconds").unwrap() > 1.577e9);
    }

    #[test]
    fn what_was_counted_is_shown_exactly() {
        let metrics = metrics();
        let model = metrics.model("digits", 2);
        let (started, took) = (Instant::now(), Duration::from_micros);
        for _ in 0..3 {
            model.request(Protocol::V2, 200, started, took(20));
        }
        model.request(Protocol::V1, 503, started, took(20_000_000));
        model.request(Protocol::V1, 418, started, took(100_000));
        model.rejected(Rejection::QueueFull);
        model.batch_released(Release::Inline);
        model.batch_rows().observe(32.0);
        model.queued_rows().add(7);
        metrics.http_request(Route::Other, 404);

        let labels = |rest: &str| format!("{{{rest},version=\"2\"}}");
        let shown = |name: &str, rest: &str| value(&metrics, &format!("{name}{}", labels(rest)));
        let requests = "safeserve_requests_total";
        assert_eq!(
            shown(requests, "code=\"200\",model=\"digits\",protocol=\"v2\""),
            Some(3.0)
        );
        assert_eq!(
            shown(requests, "code=\"503\",model=\"digits\",protocol=\"v1\""),
            Some(1.0)
        );
        assert_eq!(
            shown(requests, "code=\"other\",model=\"digits\",protocol=\"v1\""),
            Some(1.0)
        );
        assert_eq!(
            shown(
                "safeserve_rejections_total",
                "model=\"digits\",reason=\"queue_full\""
            ),
            Some(1.0)
        );
        assert_eq!(
            shown(
                "safeserve_batches_total",
                "model=\"digits\",release=\"inline\""
            ),
            Some(1.0)
        );
        assert_eq!(
            shown("safeserve_queued_rows", "model=\"digits\""),
            Some(7.0)
        );
        let bucket = |name: &str, rest: &str, le: &str| {
            value(
                &metrics,
                &format!("{name}_bucket{{{rest},version=\"2\",le=\"{le}\"}}"),
            )
        };
        let v2 = "model=\"digits\",protocol=\"v2\"";
        let seconds = "safeserve_request_duration_seconds";
        assert_eq!(bucket(seconds, v2, "0.00001"), Some(0.0));
        assert_eq!(bucket(seconds, v2, "0.000025"), Some(3.0));
        let v1 = "model=\"digits\",protocol=\"v1\"";
        assert_eq!(bucket(seconds, v1, "10"), Some(1.0));
        assert_eq!(bucket(seconds, v1, "+Inf"), Some(2.0));
        let rows = "safeserve_batch_rows";
        assert_eq!(bucket(rows, "model=\"digits\"", "16"), Some(0.0));
        assert_eq!(bucket(rows, "model=\"digits\"", "32"), Some(1.0));
        assert_eq!(
            value(
                &metrics,
                "safeserve_http_requests_total{code=\"404\",route=\"other\"}"
            ),
            Some(1.0)
        );
    }

    #[test]
    fn bounds_states_and_standing_are_shown_as_they_are_now() {
        let metrics = metrics();
        metrics.show_bounds(&Bounds {
            cpu_cores: 3,
            workers: 2,
            memory_bytes: Some(1 << 40),
            weight_bytes: None,
            inflight_body_bytes: 5,
            queued_rows: 6,
        });
        for (series, shown) in [
            ("safeserve_cpu_budget_cores", 3.0),
            ("safeserve_workers", 2.0),
            ("safeserve_memory_limit_bytes", 1_099_511_627_776.0),
            ("safeserve_weight_limit_bytes", -1.0),
            ("safeserve_inflight_body_limit_bytes", 5.0),
            ("safeserve_queue_limit_rows", 6.0),
        ] {
            assert_eq!(value(&metrics, series), Some(shown), "{series}");
        }

        let is_ready = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = Arc::clone(&is_ready);
        metrics.follow(move || Standing {
            is_ready: asked.load(std::sync::atomic::Ordering::Relaxed),
            is_live: false,
            inflight_body_bytes: 8,
        });
        assert_eq!(value(&metrics, "safeserve_ready"), Some(1.0));
        assert_eq!(value(&metrics, "safeserve_live"), Some(0.0));
        assert_eq!(value(&metrics, "safeserve_inflight_body_bytes"), Some(8.0));
        is_ready.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(value(&metrics, "safeserve_ready"), Some(0.0));

        let state = |state: &str| {
            value(
                &metrics,
                &format!("safeserve_model_state{{model=\"m\",state=\"{state}\",version=\"1\"}}"),
            )
        };
        metrics.show_states([("m", 1, ModelState::Loading)].into_iter());
        assert_eq!((state("loading"), state("ready")), (Some(1.0), None));
        metrics.show_states([("m", 1, ModelState::Ready)].into_iter());
        assert_eq!((state("loading"), state("ready")), (None, Some(1.0)));
        let junk = (1..=2000).map(|version| ("junk", version, ModelState::Unavailable));
        metrics.show_states(junk.chain([("m", 1, ModelState::Ready)]));
        let page = metrics.render().unwrap();
        let lines = page.lines();
        let junk = lines.filter(|line| line.starts_with("safeserve_model_state{model=\"junk\""));
        assert_eq!(junk.count(), 1000);
        assert_eq!(state("ready"), Some(1.0));
        let counted =
            |state: &str| value(&metrics, &format!("safeserve_models{{state=\"{state}\"}}"));
        assert_eq!(
            (counted("loading"), counted("ready")),
            (Some(0.0), Some(1.0))
        );
        assert_eq!(counted("unavailable"), Some(2000.0));
    }

    #[test]
    fn asking_twice_for_a_model_gives_the_same_series() {
        let metrics = metrics();
        metrics.model("iris", 1).rows_total().inc_by(2);
        metrics.model("iris", 1).rows_total().inc_by(3);
        assert_eq!(metrics.model("iris", 1).rows_total().get(), 5);
        assert_eq!(metrics.model("iris", 2).rows_total().get(), 0);
    }

    #[test]
    fn a_reload_replaces_the_fingerprint() {
        let metrics = metrics();
        metrics.model("iris", 1).loaded("aa", 0.5, 1024);
        metrics.model("iris", 1).loaded("bb", 0.25, 2048);
        let info = |fingerprint: &str| {
            value(
                &metrics,
                &format!(
                    "safeserve_model_info{{fingerprint=\"{fingerprint}\",model=\"iris\",version=\"1\"}}"
                ),
            )
        };
        assert_eq!(info("aa"), None);
        assert_eq!(info("bb"), Some(1.0));
        let of_model =
            |name: &str| value(&metrics, &format!("{name}{{model=\"iris\",version=\"1\"}}"));
        assert_eq!(
            of_model("safeserve_model_load_duration_seconds"),
            Some(0.25)
        );
        assert_eq!(of_model("safeserve_model_weight_bytes"), Some(2048.0));
    }

    #[test]
    fn a_forgotten_model_leaves_no_series_behind() {
        let metrics = metrics();
        let kept = metrics.model("kept", 1);
        kept.loaded("cc", 0.5, 1);
        let before = metrics.render().unwrap().lines().count();
        let gone = metrics.model("gone", 7);
        gone.loaded("dd", 0.5, 1);
        assert!(metrics.render().unwrap().contains("model=\"gone\""));
        metrics.forget("gone", 7);
        let page = metrics.render().unwrap();
        assert!(!page.contains("model=\"gone\""), "{page}");
        assert_eq!(page.lines().count(), before);
        // A request that outlived its model still counts, unseen, and does no harm.
        gone.request(
            Protocol::V2,
            200,
            Instant::now(),
            Duration::from_millis(100),
        );
        assert!(!metrics.render().unwrap().contains("model=\"gone\""));
        assert_eq!(metrics.model("gone", 7).rows_total().get(), 0);
    }

    #[test]
    fn histogram_buckets_are_cumulative() {
        let metrics = metrics();
        let model = metrics.model("m", 1);
        for rows in [1.0, 3.0, 64.0, 5000.0] {
            model.batch_rows().observe(rows);
        }
        let page = metrics.render().unwrap();
        let counts: Vec<u64> = page
            .lines()
            .filter(|line| line.starts_with("safeserve_batch_rows_bucket"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(counts.is_sorted());
        assert_eq!(counts.first(), Some(&1));
        assert_eq!(counts.last(), Some(&4));
    }
}
