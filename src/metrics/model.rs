//! The series of one model version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::family::{Family, Series as Counted};
use super::forward_passes::{ForwardPasses, Total, nanoseconds};
use super::labels::{Code, Label, Protocol, Rejection, Release};
use super::registration::whole;
use super::sharded::{Counter, Histogram, Latest, Unit};

/// Bounds of the duration histograms, in seconds: three a decade from 10 µs, below which even
/// the cheapest model's request does not come, to 10 s, the longest a body may take to arrive.
static DURATION_BUCKETS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Bounds of the batch histogram, in rows: powers of two, the steps in which a batch pays.
static ROW_BUCKETS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// The families whose series carry `model` and `version`.
#[derive(Debug)]
pub(super) struct Families {
    requests: Family<Counter>,
    request_seconds: Family<Histogram>,
    queue_seconds: Family<Histogram>,
    compute_seconds: Family<Histogram>,
    batch_rows: Family<Histogram>,
    queued_rows: IntGaugeVec,
    rows: Family<Counter>,
    batches: Family<Counter>,
    rejections: Family<Counter>,
    panics: Family<Counter>,
    load_seconds: GaugeVec,
    loaded_at: IntGaugeVec,
    weight_bytes: IntGaugeVec,
    batch_limit_rows: IntGaugeVec,
    info: IntGaugeVec,
}

impl Families {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name, help, labels: &[&'static str]| {
            family(registry, name, help, labels, Counter::default)
        };
        let gauges = |name, help, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let histograms =
            |name, help, labels: &[&'static str], make| family(registry, name, help, labels, make);
        let durations = || Histogram::new(&DURATION_BUCKETS, Unit::Seconds);
        let rows = || Histogram::new(&ROW_BUCKETS, Unit::Count);
        let load_seconds = GaugeVec::new(
            Opts::new(
                "safeserve_model_load_duration_seconds",
                "Time that the last load took: reading, checking and preparing.",
            ),
            &["model", "version"],
        )?;
        registry.register(Box::new(load_seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "safeserve_requests_total",
                "Predict requests answered, by wire format and HTTP status code.",
                &["model", "version", "protocol", "code"],
            )?,
            request_seconds: histograms(
                "safeserve_request_duration_seconds",
                "Time from a predict request's head until its answer was ready to be sent.",
                &["model", "version", "protocol"],
                durations,
            )?,
            queue_seconds: histograms(
                "safeserve_queue_duration_seconds",
                "Time that a request waited for a worker; 0 if it ran where it was decoded.",
                &["model", "version"],
                durations,
            )?,
            compute_seconds: histograms(
                "safeserve_compute_duration_seconds",
                "Time of one batch's forward pass.",
                &["model", "version"],
                durations,
            )?,
            batch_rows: histograms(
                "safeserve_batch_rows",
                "Rows computed together in one forward pass.",
                &["model", "version"],
                rows,
            )?,
            queued_rows: gauges(
                "safeserve_queued_rows",
                "Rows that wait for a worker now.",
                &["model", "version"],
            )?,
            rows: counters(
                "safeserve_rows_total",
                "Rows computed.",
                &["model", "version"],
            )?,
            batches: counters(
                "safeserve_batches_total",
                "Batches computed, by what made a worker take them.",
                &["model", "version", "release"],
            )?,
            rejections: counters(
                "safeserve_rejections_total",
                "Well-formed predict requests that got no answer from their model, by reason.",
                &["model", "version", "reason"],
            )?,
            panics: counters(
                "safeserve_panics_total",
                "Forward passes that panicked, and times that preparing rows did.",
                &["model", "version"],
            )?,
            load_seconds,
            loaded_at: gauges(
                "safeserve_model_load_timestamp_seconds",
                "When the version's last load ended, in seconds since the Unix epoch.",
                &["model", "version"],
            )?,
            weight_bytes: gauges(
                "safeserve_model_weight_bytes",
                "Memory that the prepared weights take, in bytes.",
                &["model", "version"],
            )?,
            batch_limit_rows: gauges(
                "safeserve_model_batch_limit_rows",
                "The most rows of one forward pass now, by what they cost and the settings.",
                &["model", "version"],
            )?,
            info: gauges(
                "safeserve_model_info",
                "1 for each version loaded; the fingerprint is the SHA-256 of its configuration \
                 and weights.",
                &["model", "version", "fingerprint"],
            )?,
        })
    }

    pub(super) fn model(self: &Arc<Self>, name: &str, version: &str) -> ModelMetrics {
        let key = [name, version];
        let requests = by_label(|protocol: Protocol| Answers {
            seconds: self
                .request_seconds
                .with(&[name, version, protocol.as_str()]),
            by_code: by_label(|code: Code| {
                self.requests
                    .with(&[name, version, protocol.as_str(), code.as_str()])
            }),
        });
        ModelMetrics(Arc::new(Series {
            queue_seconds: self.queue_seconds.with(&key),
            compute_seconds: self.compute_seconds.with(&key),
            batch_rows: self.batch_rows.with(&key),
            queued_rows: self.queued_rows.with_label_values(&key),
            rows: self.rows.with(&key),
            panics: self.panics.with(&key),
            failed_ns: Counter::default(),
            request_compute_ns: Counter::default(),
            forward_passes: ForwardPasses::default(),
            last_request: Latest::default(),
            load_seconds: self.load_seconds.with_label_values(&key),
            loaded_at: self.loaded_at.with_label_values(&key),
            weight_bytes: self.weight_bytes.with_label_values(&key),
            batch_limit_rows: self.batch_limit_rows.with_label_values(&key),
            requests,
            batches: by_label(|release: Release| {
                self.batches.with(&[name, version, release.as_str()])
            }),
            rejections: by_label(|reason: Rejection| {
                self.rejections.with(&[name, version, reason.as_str()])
            }),
            name: name.to_owned(),
            version: version.to_owned(),
            fingerprint: Mutex::new(None),
            families: Arc::clone(self),
        }))
    }
}

/// A registered family.
fn family<S: Counted>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&'static str],
    make: fn() -> S,
) -> prometheus::Result<Family<S>> {
    let family = Family::new(name, help, labels, make)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

/// One handle for each value of a label, at the value's index.
fn by_label<L: Label, T>(handle: impl Fn(L) -> T) -> Box<[T]> {
    L::ALL.iter().map(|&value| handle(value)).collect()
}

/// The series of one model version, looked up once. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct ModelMetrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    requests: Box<[Answers]>,
    queue_seconds: Histogram,
    compute_seconds: Histogram,
    batch_rows: Histogram,
    queued_rows: IntGauge,
    rows: Counter,
    batches: Box<[Counter]>,
    rejections: Box<[Counter]>,
    panics: Counter,
    /// Of requests that were answered with anything but 200, the times in nanoseconds.
    failed_ns: Counter,
    /// Of each answered request, the passes that held its rows, in nanoseconds.
    request_compute_ns: Counter,
    forward_passes: ForwardPasses,
    last_request: Latest,
    load_seconds: Gauge,
    loaded_at: IntGauge,
    weight_bytes: IntGauge,
    batch_limit_rows: IntGauge,
    name: String,
    version: String,
    /// The fingerprint that `info` shows now.
    fingerprint: Mutex<Option<String>>,
    families: Arc<Families>,
}

/// What a model version has done since its series were added to the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// How long ago the last request came that was answered with 200.
    pub last_request_age: Option<Duration>,
    /// Rows computed.
    pub rows: u64,
    /// Forward passes.
    pub forward_passes: u64,
    /// Requests that were answered with 200, from their head to their answer.
    pub succeeded: Total,
    /// All others.
    pub failed: Total,
    /// Waiting of the requests that the model answered.
    pub queue: Total,
    /// The forward passes of these requests: one that several share counts for each.
    pub compute: Total,
    /// The forward passes of each number of rows.
    pub forward_passes_by_rows: Vec<(usize, Total)>,
    /// Memory that the prepared weights take.
    pub weight_bytes: u64,
}

/// The answers of one wire format.
#[derive(Debug)]
struct Answers {
    seconds: Histogram,
    by_code: Box<[Counter]>,
}

impl ModelMetrics {
    /// Counts one predict request: its wire format, status code, start, and time from end to end.
    pub fn request(&self, protocol: Protocol, code: u16, started: Instant, took: Duration) {
        let answers = &self.0.requests[protocol.index()];
        let code = Code::from_status(code);
        answers.by_code[code.index()].inc();
        answers.seconds.observe(took.as_secs_f64());
        match code {
            Code::Ok => self.0.last_request.report(started),
            _ => self.0.failed_ns.inc_by(nanoseconds(took)),
        }
    }

    /// Counts one forward pass.
    pub fn computed(&self, rows: usize, took: Duration) {
        let series = &*self.0;
        series.compute_seconds.observe(took.as_secs_f64());
        series.batch_rows.observe(rows as f64);
        series.rows.inc_by(rows as u64);
        series.forward_passes.observe(rows, took);
    }

    /// Counts one request that its model answered: how long its rows waited, and how long the
    /// passes took that held them.
    pub fn answered(&self, queue: Duration, compute: Duration) {
        self.0.queue_seconds.observe(queue.as_secs_f64());
        self.0.request_compute_ns.inc_by(nanoseconds(compute));
    }

    /// Everything that was counted so far. While requests go on, one part may be ahead of another
    /// by those that are being counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let series = &*self.0;
        let sum = |of: fn(&Answers) -> u64| series.requests.iter().map(of).sum::<u64>();
        let ok = sum(|answers| answers.by_code[Code::Ok.index()].get());
        let all_ns = sum(|answers| answers.seconds.whole_sum());
        let failed_ns = series.failed_ns.get();
        let answered = series.queue_seconds.count();
        Statistics {
            last_request_age: series.last_request.age(),
            rows: series.rows.get(),
            forward_passes: series.compute_seconds.count(),
            succeeded: Total {
                count: ok,
                ns: all_ns.saturating_sub(failed_ns),
            },
            failed: Total {
                count: sum(|answers| answers.seconds.count()).saturating_sub(ok),
                ns: failed_ns,
            },
            queue: Total {
                count: answered,
                ns: series.queue_seconds.whole_sum(),
            },
            compute: Total {
                count: answered,
                ns: series.request_compute_ns.get(),
            },
            forward_passes_by_rows: series.forward_passes.totals(),
            weight_bytes: u64::try_from(series.weight_bytes.get()).unwrap_or(0),
        }
    }

    /// How long requests waited for a worker, in seconds.
    #[must_use]
    pub fn queue_seconds(&self) -> &Histogram {
        &self.0.queue_seconds
    }

    /// How long forward passes took, in seconds.
    #[must_use]
    pub fn compute_seconds(&self) -> &Histogram {
        &self.0.compute_seconds
    }

    /// How many rows were computed together.
    #[must_use]
    pub fn batch_rows(&self) -> &Histogram {
        &self.0.batch_rows
    }

    /// Rows that wait now.
    #[must_use]
    pub fn queued_rows(&self) -> &IntGauge {
        &self.0.queued_rows
    }

    /// Rows computed.
    #[must_use]
    pub fn rows_total(&self) -> &Counter {
        &self.0.rows
    }

    /// Forward passes that panicked, and times that preparing rows did.
    #[must_use]
    pub fn panics_total(&self) -> &Counter {
        &self.0.panics
    }

    /// Reports the most rows that a forward pass may compute from now on.
    pub fn batch_limited(&self, rows: usize) {
        self.0.batch_limit_rows.set(whole(rows));
    }

    /// Counts one batch by what made a worker take it.
    pub fn batch_released(&self, release: Release) {
        self.0.batches[release.index()].inc();
    }

    /// Counts one request that gets no answer from the model.
    pub fn rejected(&self, reason: Rejection) {
        self.0.rejections[reason.index()].inc();
    }

    /// Reports a finished load. Another fingerprint replaces the one before.
    pub fn loaded(&self, fingerprint: &str, seconds: f64, weight_bytes: usize) {
        let series = &*self.0;
        series.load_seconds.set(seconds);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        series
            .loaded_at
            .set(now.map_or(0, |now| whole(now.as_secs())));
        series.weight_bytes.set(whole(weight_bytes));
        let info = &series.families.info;
        let mut shown = series
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = shown.replace(fingerprint.to_owned()) {
            // It is absent only if it was never shown, which is fine.
            let _ = info.remove_label_values(&[&series.name, &series.version, &before]);
        }
        info.with_label_values(&[series.name.as_str(), &series.version, fingerprint])
            .set(1);
    }

    /// Removes every series of the version from the page. Handles that live on count unseen.
    pub(super) fn remove(&self) {
        let series = &*self.0;
        let families = &*series.families;
        let (name, version) = (series.name.as_str(), series.version.as_str());
        let key = [name, version];
        for family in [
            &families.requests,
            &families.rows,
            &families.batches,
            &families.rejections,
            &families.panics,
        ] {
            family.remove(&key);
        }
        for family in [
            &families.request_seconds,
            &families.queue_seconds,
            &families.compute_seconds,
            &families.batch_rows,
        ] {
            family.remove(&key);
        }
        // Removing an absent series fails, and absent is what is wanted.
        for family in [
            &families.queued_rows,
            &families.loaded_at,
            &families.weight_bytes,
            &families.batch_limit_rows,
        ] {
            let _ = family.remove_label_values(&key);
        }
        let _ = families.load_seconds.remove_label_values(&key);
        let shown = series
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(fingerprint) = shown {
            let _ = families
                .info
                .remove_label_values(&[name, version, &fingerprint]);
        }
    }
}
