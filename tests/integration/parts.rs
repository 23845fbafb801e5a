//! The parts of a server, as the tests put them together.

#![allow(dead_code, reason = "not every test needs every part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use safeserve::http::{App, HttpLimits, Naming};
use safeserve::lifecycle::Lifecycle;
use safeserve::metrics::{BuildInfo, Metrics};
use safeserve::model::repository::{ModelRepository, RepositorySettings};
use safeserve::scheduler::{Scheduler, SchedulerSettings};

/// A metrics page of its own.
pub(super) fn metrics() -> Metrics {
    Metrics::new(BuildInfo {
        version: "0",
        profile: "test",
        platform: "test",
    })
}

/// A scheduler of one worker. Every request is queued, so that each passes from one thread to another
/// and back.
pub(super) fn scheduler() -> Arc<Scheduler> {
    Scheduler::start(SchedulerSettings {
        workers: 1,
        max_batch_rows: 4,
        max_batch_time: Duration::from_secs(3600),
        max_scratch_bytes: 64 << 20,
        max_batch_delay: Duration::ZERO,
        max_queued_rows: 64,
        inline_cost: Duration::ZERO,
    })
    .unwrap()
}

/// The models of a directory, which is looked at when a test asks for it.
pub(super) fn repository(
    directory: &Path,
    scheduler: &Arc<Scheduler>,
    metrics: &Metrics,
) -> Arc<ModelRepository> {
    let settings = RepositorySettings::all_of(directory);
    Arc::new(ModelRepository::open(settings, scheduler, metrics).unwrap())
}

/// Bounds for bodies of at most `max_body_bytes`; no time limit that a test could reach.
pub(super) fn limits(max_body_bytes: usize) -> HttpLimits {
    HttpLimits {
        max_body_bytes,
        body_timeout: Duration::from_secs(600),
        max_inflight_body_bytes: 2 * max_body_bytes,
        max_request_rows: 8,
        max_deadline: Duration::from_secs(600),
        default_deadline: None,
    }
}

/// An application that is ready.
pub(super) fn app(
    repository: &Arc<ModelRepository>,
    metrics: &Metrics,
    limits: HttpLimits,
) -> Arc<App> {
    let lifecycle = Lifecycle::new();
    lifecycle.ready();
    Arc::new(App {
        repository: Arc::clone(repository),
        metrics: metrics.clone(),
        lifecycle: Arc::new(lifecycle),
        limits,
        keys: None,
        naming: Naming::default(),
        has_metrics_page: true,
    })
}
