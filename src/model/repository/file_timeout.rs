//! Waiting for a file system, which may never answer: a network file system whose server is gone, for
//! example.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most threads that are left waiting: after this many hangs the next one would hang too.
const MAX_OVERDUE: usize = 16;

/// How long work on files may take. `K` tells one piece of work from another.
#[derive(Debug)]
pub(super) struct FileTimeout<K> {
    limit: Option<Duration>,
    overdue: Arc<Overdue<K>>,
}

/// The work that was given up and has not ended.
#[derive(Debug)]
struct Overdue<K>(Mutex<BTreeSet<K>>);

impl<K> Overdue<K> {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Send + 'static> FileTimeout<K> {
    /// The time that work may take; `None` for no limit.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            overdue: Arc::new(Overdue(Mutex::default())),
        }
    }

    /// Whether this was given up and still has not ended.
    pub(super) fn is_overdue(&self, key: &K) -> bool {
        self.overdue.lock().contains(key)
    }

    /// How long to wait after this many timeouts before the next try.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let limit = self.limit.unwrap_or_default();
        limit.saturating_mul(1 << tries.saturating_sub(1).min(10))
    }

    /// Does work on a thread of its own and returns its result. Work that takes too long is abandoned, and
    /// its result is dropped.
    ///
    /// # Errors
    /// If it took too long or panicked, or if it was not begun: because an earlier try still hangs, too much
    /// other work does, or there is no thread for it.
    pub(super) fn wait_for<T: Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let Some(limit) = self.limit else {
            return Ok(work());
        };
        {
            let overdue = self.overdue.lock();
            if overdue.contains(&key) || overdue.len() >= MAX_OVERDUE {
                return Err(format!(
                    "the file system does not answer: {} reads of the model repository have not \
                     ended; look at its mount",
                    overdue.len()
                ));
            }
        }
        // Without capacity, so that the sender learns if the result is not taken.
        let (done, result) = sync_channel(0);
        let (overdue, own) = (Arc::clone(&self.overdue), key.clone());
        let begun = thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(work));
                if done.send(result).is_err() {
                    overdue.lock().remove(&own);
                }
            });
        if let Err(error) = begun {
            return Err(format!("no thread to read files with: {error}"));
        }
        match result.recv_timeout(limit) {
            Ok(Ok(result)) => Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                // Before the drop of `result` tells the other end.
                self.overdue.lock().insert(key);
                Err(format!(
                    "reading the files took longer than the {} s of models.load_timeout_ms; they \
                     are read again some time after that read ends",
                    limit.as_secs_f64()
                ))
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                Err("a fault of this server: reading the files panicked".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Work that does not end before its gate is dropped.
    fn held() -> (Sender<()>, impl FnOnce() + Send) {
        let (gate, closed) = channel::<()>();
        let waits = move || {
            let _ = closed.recv();
        };
        (gate, waits)
    }

    fn wait_until_none_is_overdue(timeout: &FileTimeout<usize>) {
        while !timeout.overdue.lock().is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn what_ends_gives_what_came_of_it_and_what_panics_says_so() {
        for limit in [None, Some(Duration::from_secs(3600))] {
            assert_eq!(FileTimeout::new(limit).wait_for(1, || 7), Ok(7));
        }
        let timeout = FileTimeout::new(Some(Duration::from_secs(3600)));
        let panicked = timeout.wait_for(1, || panic!("a bug")).unwrap_err();
        assert!(panicked.contains("panicked"), "{panicked}");
        assert!(!timeout.is_overdue(&1));
    }

    #[test]
    fn what_does_not_end_is_left_alone_until_it_does_and_keeps_up_nothing_else() {
        let timeout = FileTimeout::new(Some(Duration::ZERO));
        let (gate, waits) = held();
        let late = timeout.wait_for(1, waits).unwrap_err();
        assert!(late.contains("models.load_timeout_ms"), "{late}");
        assert!(timeout.is_overdue(&1) && !timeout.is_overdue(&2));
        let again = timeout.wait_for(1, || unreachable!("it is not begun"));
        assert!(again.is_err_and(|reason| reason.contains("1 reads")));
        let (other_gate, waits) = held();
        let other = timeout.wait_for(2, waits).unwrap_err();
        assert!(
            other.contains("models.load_timeout_ms"),
            "it was begun: {other}"
        );
        drop((gate, other_gate));
        wait_until_none_is_overdue(&timeout);
    }

    #[test]
    fn the_threads_that_are_left_waiting_are_bounded() {
        let timeout = FileTimeout::new(Some(Duration::ZERO));
        let gates: Vec<_> = (0..MAX_OVERDUE)
            .map(|key| {
                let (gate, waits) = held();
                assert!(timeout.wait_for(key, waits).is_err());
                gate
            })
            .collect();
        let refused = timeout.wait_for(MAX_OVERDUE, || unreachable!("it is not begun"));
        assert!(refused.is_err_and(|reason| reason.contains("16 reads")));
        drop(gates);
        wait_until_none_is_overdue(&timeout);
    }

    #[test]
    fn what_panics_after_its_timeout_ends_too() {
        let timeout = FileTimeout::new(Some(Duration::ZERO));
        let (gate, waits) = held();
        let late = timeout.wait_for(1, move || {
            waits();
            panic!("a bug");
        });
        assert!(late.map(|(): ()| ()).is_err());
        drop(gate);
        wait_until_none_is_overdue(&timeout);
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let timeout = FileTimeout::<usize>::new(Some(Duration::from_secs(600)));
        let minutes = |tries| timeout.pause(tries).as_secs() / 60;
        assert_eq!([1, 2, 3, 99].map(minutes), [10, 20, 40, 10_240]);
    }
}
