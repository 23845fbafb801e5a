//! How far the stop of the server has come, for its connections.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How far the server's stop has come, for its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownPhase {
    /// Nothing is asked.
    Serving,
    /// To end as soon as no request is being answered.
    Closing,
    /// To end now.
    Cut,
}

/// The server's phase, which anyone may watch.
///
/// Reading it costs a load of memory that is hardly ever written. A watcher registers once, for its whole
/// life: registering for each request would be the most contended lock of the connection threads.
#[derive(Debug)]
pub(super) struct ShutdownPhases {
    phase: AtomicU8,
    watchers: Mutex<Watchers>,
}

/// Who is woken by a change.
#[derive(Debug, Default)]
struct Watchers {
    wakers: HashMap<u64, Waker>,
    last: u64,
}

impl ShutdownPhases {
    pub(super) fn new() -> Self {
        Self {
            phase: AtomicU8::new(ShutdownPhase::Serving as u8),
            watchers: Mutex::default(),
        }
    }

    pub(super) fn current(&self) -> ShutdownPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => ShutdownPhase::Serving,
            1 => ShutdownPhase::Closing,
            _ => ShutdownPhase::Cut,
        }
    }

    pub(super) fn set(&self, phase: ShutdownPhase) {
        self.phase.store(phase as u8, Ordering::Release);
        // A watcher listed after this has seen the new phase; one listed before is woken.
        for waker in self.watchers().wakers.values() {
            waker.wake_by_ref();
        }
    }

    /// Ready once the phase is not `seen` any more.
    pub(super) async fn left(&self, seen: ShutdownPhase) {
        let mut watch = Watch::new(self);
        poll_fn(|cx| {
            watch.listen(cx);
            if self.current() == seen {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Does what a connection does until it ends, or the phase is [`ShutdownPhase::Cut`]: then `None`.
    ///
    /// It is polled again whenever the phase changes, and may ask for it.
    pub(super) async fn until_cut<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut watch = Watch::new(self);
        poll_fn(|cx| {
            watch.listen(cx);
            if self.current() == ShutdownPhase::Cut {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        // Nothing in it can be half done.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watcher's place in the list.
struct Watch<'a> {
    phases: &'a ShutdownPhases,
    listed: Option<(u64, Waker)>,
}

impl<'a> Watch<'a> {
    fn new(phases: &'a ShutdownPhases) -> Self {
        Self {
            phases,
            listed: None,
        }
    }

    /// Sees to it that changes from here on wake the task. A task's waker is mostly the same for
    /// life, and then this does nothing.
    fn listen(&mut self, cx: &mut Context<'_>) {
        let waker = cx.waker();
        if let Some((_, listed)) = &self.listed
            && listed.will_wake(waker)
        {
            return;
        }
        let mut watchers = self.phases.watchers();
        let number = self.listed.take().map_or_else(
            || {
                watchers.last += 1;
                watchers.last
            },
            |(number, _)| number,
        );
        watchers.wakers.insert(number, waker.clone());
        self.listed = Some((number, waker.clone()));
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some((number, _)) = &self.listed {
            self.phases.watchers().wakers.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn work_sees_a_change_and_is_cut() {
        let phases = Arc::new(ShutdownPhases::new());
        let (seen, mut order) = tokio::sync::mpsc::unbounded_channel();
        let connection = tokio::spawn({
            let phases = Arc::clone(&phases);
            async move {
                let work = poll_fn(|_| -> Poll<()> {
                    let _ = seen.send(phases.current());
                    Poll::Pending
                });
                phases.until_cut(work).await
            }
        });
        assert_eq!(order.recv().await, Some(ShutdownPhase::Serving));
        phases.set(ShutdownPhase::Closing);
        while order.recv().await != Some(ShutdownPhase::Closing) {}
        phases.left(ShutdownPhase::Serving).await;
        phases.set(ShutdownPhase::Cut);
        assert_eq!(connection.await.unwrap(), None);
        assert!(phases.watchers().wakers.is_empty());
    }

    #[tokio::test]
    async fn work_that_ends_is_not_cut() {
        let phases = ShutdownPhases::new();
        assert_eq!(phases.until_cut(async { 7 }).await, Some(7));
    }
}
