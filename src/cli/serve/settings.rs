//! What the settings mean for the parts of the server.

use std::time::Duration;

use crate::config::{Config, cpu_budget, memory_budget};
use crate::metrics::Bounds;
use crate::model::repository::{RepositorySettings, WatchSettings};
use crate::scheduler::SchedulerSettings;

/// The number of threads that is set; 0 is one a core of the CPU budget.
pub(super) fn threads(set: usize) -> usize {
    match set {
        0 => cpu_budget(),
        set => set,
    }
}

pub(in crate::cli) fn scheduler_settings(config: &Config) -> SchedulerSettings {
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
pub(in crate::cli) fn repository_settings(config: &Config) -> RepositorySettings {
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

/// What the process may use, with defaults filled in.
pub(super) fn bounds(config: &Config) -> Bounds {
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

/// A time limit in milliseconds; 0 is none.
pub(super) fn limit(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}
