//! The rows that wait, for the metrics page and for readers that cannot wait for the queue's lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::ModelMetrics;

/// The rows that wait in one queue. Several count into one series: while a version replaces another,
/// and where rows wait to be prepared and then to be computed.
#[derive(Debug)]
pub(super) struct QueueGauge {
    rows: AtomicUsize,
    metrics: ModelMetrics,
}

impl QueueGauge {
    pub(super) fn new(metrics: ModelMetrics) -> Self {
        Self {
            rows: AtomicUsize::new(0),
            metrics,
        }
    }

    /// The rows that wait now.
    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Sets how many wait from now on; calls follow one another.
    pub(super) fn set(&self, rows: usize) {
        let before = self.rows.swap(rows, Ordering::Relaxed);
        let count = |rows| i64::try_from(rows).unwrap_or(i64::MAX);
        self.metrics.queued_rows().add(count(rows) - count(before));
    }
}
