//! What the process may use, and its state: what the counts are compared with.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, Metric, MetricFamily, MetricType};
use prometheus::{IntGauge, Registry};

use super::family::{gathered, labels};
use super::labels::{Label, ModelState};
use super::registration::{gauge, whole};

/// What the process may use, as it is in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Whole cores, by affinity and the cgroup's quota.
    pub cpu_cores: usize,
    /// Threads that compute.
    pub workers: usize,
    /// Bytes of memory; `None` where the system does not say.
    pub memory_bytes: Option<u64>,
    /// Bytes of weights; `None` for any number.
    pub weight_bytes: Option<u64>,
    /// Bytes of bodies, rows and answers at one time.
    pub inflight_body_bytes: usize,
    /// Rows that may wait, of each model version.
    pub queued_rows: usize,
}

/// The series of [`Bounds`], by family.
pub(super) struct BoundSeries {
    cpu_cores: IntGauge,
    workers: IntGauge,
    memory_bytes: IntGauge,
    weight_bytes: IntGauge,
    inflight_body_bytes: IntGauge,
    queued_rows: IntGauge,
}

impl BoundSeries {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| gauge(registry, name, help);
        Ok(Self {
            cpu_cores: gauge(
                "safeserve_cpu_budget_cores",
                "Whole cores that the process may use, by its affinity and its cgroup's quota.",
            )?,
            workers: gauge("safeserve_workers", "Threads that compute.")?,
            memory_bytes: gauge(
                "safeserve_memory_limit_bytes",
                "Memory that the process may use, by its cgroup's limit or the machine's memory; -1 if \
                 unknown.",
            )?,
            weight_bytes: gauge(
                "safeserve_weight_limit_bytes",
                "The most weights in memory, by the sizes of their files (models.max_weight_bytes); -1 \
                 for any number.",
            )?,
            inflight_body_bytes: gauge(
                "safeserve_inflight_body_limit_bytes",
                "The most bytes of bodies, rows and answers at one time \
                 (limits.max_inflight_body_bytes).",
            )?,
            queued_rows: gauge(
                "safeserve_queue_limit_rows",
                "The most rows that may wait for one model version (scheduler.max_queued_rows).",
            )?,
        })
    }

    pub(super) fn show(&self, bounds: &Bounds) {
        let unless_none = |bytes: Option<u64>| bytes.map_or(-1, whole);
        self.cpu_cores.set(whole(bounds.cpu_cores));
        self.workers.set(whole(bounds.workers));
        self.memory_bytes.set(unless_none(bounds.memory_bytes));
        self.weight_bytes.set(unless_none(bounds.weight_bytes));
        self.inflight_body_bytes
            .set(whole(bounds.inflight_body_bytes));
        self.queued_rows.set(whole(bounds.queued_rows));
    }
}

/// The state of the process at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// Whether new requests are welcome.
    pub is_ready: bool,
    /// Whether it makes progress.
    pub is_live: bool,
    /// Bytes of bodies, rows and answers that are held.
    pub inflight_body_bytes: usize,
}

/// Gives the state of the process.
type Ask = Box<dyn Fn() -> ProcessState + Send + Sync>;

/// The series of [`ProcessState`], asked for at each scrape. Clones share them.
#[derive(Clone)]
pub(super) struct ProcessStateSeries(Arc<ProcessStateInner>);

struct ProcessStateInner {
    ask: OnceLock<Ask>,
    is_ready: IntGauge,
    is_live: IntGauge,
    inflight_body_bytes: IntGauge,
}

impl fmt::Debug for ProcessStateSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessStateSeries").finish_non_exhaustive()
    }
}

impl ProcessStateSeries {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let series = Self(Arc::new(ProcessStateInner {
            ask: OnceLock::new(),
            is_ready: IntGauge::new(
                "safeserve_ready",
                "1 while new requests are welcome; 0 before the start is done, and while it drains.",
            )?,
            is_live: IntGauge::new(
                "safeserve_live",
                "1 while work that waits is done; 0 if the process is best started again.",
            )?,
            inflight_body_bytes: IntGauge::new(
                "safeserve_inflight_body_bytes",
                "Bytes of bodies, rows and answers that are held now; the first 16 KiB of a request \
                 do not count.",
            )?,
        }));
        registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    /// Has each scrape ask this. The first one stays.
    pub(super) fn follow(&self, ask: Ask) {
        let _ = self.0.ask.set(ask);
    }

    fn gauges(&self) -> [&IntGauge; 3] {
        let inner = &*self.0;
        [&inner.is_ready, &inner.is_live, &inner.inflight_body_bytes]
    }
}

impl Collector for ProcessStateSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A process that is not asked about yet is starting.
        let state = self.0.ask.get().map_or(
            ProcessState {
                is_live: true,
                ..ProcessState::default()
            },
            |ask| ask(),
        );
        let [is_ready, is_live, inflight_body_bytes] = self.gauges();
        is_ready.set(state.is_ready.into());
        is_live.set(state.is_live.into());
        inflight_body_bytes.set(whole(state.inflight_body_bytes));
        self.gauges()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// The most model versions that are shown besides those that serve. Entries of a directory that are not
/// models must not fill the page.
const MOST_NOT_READY: usize = 1000;

/// The state of each model version: one series a version, whose label is its state. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct StateSeries(Arc<StateInner>);

#[derive(Debug)]
struct StateInner {
    desc: Desc,
    /// Model, version and state, as labels.
    states: Mutex<Vec<[String; 3]>>,
}

impl StateSeries {
    const LABELS: [&str; 3] = ["model", "version", "state"];

    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let series = Self(Arc::new(StateInner {
            desc: Desc::new(
                "safeserve_model_state".to_owned(),
                "1 for each model version known, of those that do not serve 1,000 at most; the label \
                 is its state."
                    .to_owned(),
                Self::LABELS.map(str::to_owned).to_vec(),
                <_>::default(),
            )?,
            states: Mutex::default(),
        }));
        registry.register(Box::new(series.clone()))?;
        Ok(series)
    }

    /// Shows these instead of those before.
    pub(super) fn show<'a>(&self, states: impl Iterator<Item = (&'a str, u64, ModelState)>) {
        let mut left = MOST_NOT_READY;
        let mut is_shown = |state| {
            let is_ready = state == ModelState::Ready;
            let is_shown = is_ready || left > 0;
            left -= usize::from(is_shown && !is_ready);
            is_shown
        };
        *self.states() = states
            .filter(|&(.., state)| is_shown(state))
            .map(|(model, version, state)| {
                [
                    model.to_owned(),
                    version.to_string(),
                    state.text().to_owned(),
                ]
            })
            .collect();
    }

    fn states(&self) -> MutexGuard<'_, Vec<[String; 3]>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for StateSeries {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let states = self.states();
        let metrics = states.iter().map(|values| {
            let mut one = Gauge::default();
            one.set_value(1.0);
            let mut metric = Metric::from_gauge(one);
            metric.set_label(labels(&Self::LABELS, values));
            metric
        });
        gathered(&self.0.desc, MetricType::GAUGE, metrics.collect())
    }
}
