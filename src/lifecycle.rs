//! The state of the process between its start and its end, as health checks report it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::Notify;

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;
const CLOSING: u8 = 3;

/// Where the process is. It only moves forward: starting, ready, draining, closing; and on any of
/// these it may have stalled.
#[derive(Debug, Default)]
pub struct Lifecycle {
    stage: AtomicU8,
    has_stalled: AtomicBool,
    changes: Notify,
}

impl Lifecycle {
    /// A process that is starting: live, not ready.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stage: AtomicU8::new(STARTING),
            has_stalled: AtomicBool::new(false),
            changes: Notify::const_new(),
        }
    }

    /// Reports the start as done. A process that drains already stays so.
    pub fn ready(&self) {
        // A failed exchange means ready already, or a stop signal during the start: both are kept.
        let _ = self
            .stage
            .compare_exchange(STARTING, READY, Ordering::AcqRel, Ordering::Acquire);
        self.changes.notify_waiters();
    }

    /// Stops reporting ready, for good.
    pub fn drain(&self) {
        self.stage.fetch_max(DRAINING, Ordering::AcqRel);
        self.changes.notify_waiters();
    }

    /// From now on only requests in flight are finished; streams without an end are closed.
    pub fn close(&self) {
        self.stage.store(CLOSING, Ordering::Release);
        self.changes.notify_waiters();
    }

    /// Whether new requests are welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stage.load(Ordering::Acquire) == READY
    }

    /// Sets whether work waits that no one does.
    pub fn set_stalled(&self, has_stalled: bool) {
        if self.has_stalled.swap(has_stalled, Ordering::AcqRel) != has_stalled {
            self.changes.notify_waiters();
        }
    }

    /// Whether the process makes progress, however much work it has. One that does not should be
    /// restarted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.has_stalled.load(Ordering::Acquire)
    }

    /// Whether the process is ending: answers close their connections.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stage.load(Ordering::Acquire) >= DRAINING
    }

    /// Whether nothing new is begun.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.stage.load(Ordering::Acquire) == CLOSING
    }

    /// Waits until `seen` returns a value for the process' state.
    pub async fn until<T>(&self, mut seen: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changes.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(found) = seen(self) {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_goes_from_starting_to_ready_to_draining() {
        let lifecycle = Lifecycle::new();
        assert!(!lifecycle.is_ready() && !lifecycle.is_draining());
        lifecycle.ready();
        assert!(lifecycle.is_ready() && !lifecycle.is_draining());
        lifecycle.drain();
        assert!(!lifecycle.is_ready() && lifecycle.is_draining());
    }

    #[test]
    fn a_drain_during_the_start_is_not_undone_by_its_end() {
        let lifecycle = Lifecycle::new();
        lifecycle.drain();
        lifecycle.ready();
        assert!(!lifecycle.is_ready() && lifecycle.is_draining());
    }
}
