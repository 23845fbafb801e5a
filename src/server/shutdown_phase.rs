//! What is asked of open connections while the server stops.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How far the server's stop has come, for its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is asked.
    Serving,
    /// To end as soon as no request is being answered.
    Closing,
    /// To end now.
    Cut,
}

/// The server's stage, which everybody may watch.
///
/// Asking for it costs a read of memory that nobody writes to. A watcher is listed once and stays
/// so to its end: a list that were entered anew for each request would be what the threads of
/// connections meet at most.
#[derive(Debug)]
pub(super) struct Stages {
    stage: AtomicU8,
    watchers: Mutex<Watchers>,
}

/// Who is woken by a change.
#[derive(Debug, Default)]
struct Watchers {
    wakers: HashMap<u64, Waker>,
    last: u64,
}

impl Stages {
    pub(super) fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Serving as u8),
            watchers: Mutex::default(),
        }
    }

    pub(super) fn current(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Closing,
            _ => Stage::Cut,
        }
    }

    pub(super) fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        // Whoever is listed after this has seen the new stage; whoever was before is woken.
        for waker in self.watchers().wakers.values() {
            waker.wake_by_ref();
        }
    }

    /// Ready once the stage is not `seen` any more.
    pub(super) async fn left(&self, seen: Stage) {
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

    /// Does what a connection does until it ends, or the stage is [`Stage::Cut`]: then `None`.
    ///
    /// It is polled again whenever the stage changes, and may ask for it.
    pub(super) async fn until_cut<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut watch = Watch::new(self);
        poll_fn(|cx| {
            watch.listen(cx);
            if self.current() == Stage::Cut {
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
    stages: &'a Stages,
    listed: Option<(u64, Waker)>,
}

impl<'a> Watch<'a> {
    fn new(stages: &'a Stages) -> Self {
        Self {
            stages,
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
        let mut watchers = self.stages.watchers();
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
            self.stages.watchers().wakers.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn work_sees_a_change_and_is_cut() {
        let stages = Arc::new(Stages::new());
        let (seen, mut order) = tokio::sync::mpsc::unbounded_channel();
        let connection = tokio::spawn({
            let stages = Arc::clone(&stages);
            async move {
                let work = poll_fn(|_| -> Poll<()> {
                    let _ = seen.send(stages.current());
                    Poll::Pending
                });
                stages.until_cut(work).await
            }
        });
        assert_eq!(order.recv().await, Some(Stage::Serving));
        stages.set(Stage::Closing);
        while order.recv().await != Some(Stage::Closing) {}
        stages.left(Stage::Serving).await;
        stages.set(Stage::Cut);
        assert_eq!(connection.await.unwrap(), None);
        assert!(stages.watchers().wakers.is_empty());
    }

    #[tokio::test]
    async fn work_that_ends_is_not_cut() {
        let stages = Stages::new();
        assert_eq!(stages.until_cut(async { 7 }).await, Some(7));
    }
}
