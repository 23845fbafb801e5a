//! Waiting for a file system, which may never answer, as one over a network whose server is gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// The most threads that are left waiting: what hangs four times hangs a fifth time.
const MAX_OVERDUE: usize = 4;

/// How long work on files may take.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    overdue: Arc<AtomicUsize>,
}

impl Patience {
    /// Work may take so long; `None` waits for ever.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            overdue: Arc::default(),
        }
    }

    /// Whether work that was given up still has not ended.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) > 0
    }

    /// How long what took too long is left alone before it is tried again, after so many tries.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let limit = self.limit.unwrap_or_default();
        limit.saturating_mul(1 << tries.saturating_sub(1).min(10))
    }

    /// Does work on a thread of its own and gives back what comes of it. What takes too long is left
    /// alone, and what comes of it is dropped.
    ///
    /// # Errors
    /// That it took too long, or was not begun because too much else does, or that it panicked.
    pub(super) fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let Some(limit) = self.limit else {
            return Ok(work());
        };
        let overdue = self.overdue.load(Ordering::Relaxed);
        if overdue >= MAX_OVERDUE {
            return Err(format!(
                "the file system does not answer: {overdue} reads of the model repository have not \
                 ended; look at its mount"
            ));
        }
        // Of no room, so that a result that is not taken is known not to be.
        let (done, result) = sync_channel(0);
        let count = Arc::clone(&self.overdue);
        let begun = thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(work));
                if done.send(result).is_err() {
                    count.fetch_sub(1, Ordering::Relaxed);
                }
            });
        if let Err(error) = begun {
            return Err(format!("no thread to read files with: {error}"));
        }
        match result.recv_timeout(limit) {
            Ok(Ok(result)) => Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                // Before the other end learns of it, when `result` is dropped.
                self.overdue.fetch_add(1, Ordering::Relaxed);
                Err(format!(
                    "reading the files took longer than the {} s of models.load_timeout_ms; they \
                     are read again after a while, each time a longer one",
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
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_ends_gives_what_came_of_it_and_what_panics_says_so() {
        for limit in [None, Some(Duration::from_secs(3600))] {
            assert_eq!(Patience::new(limit).wait_for(|| 7), Ok(7));
        }
        let patience = Patience::new(Some(Duration::from_secs(3600)));
        let panicked = patience.wait_for(|| panic!("a bug")).unwrap_err();
        assert!(panicked.contains("panicked"), "{panicked}");
        assert_eq!(patience.overdue.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_does_not_end_is_left_alone_until_it_does() {
        let patience = Patience::new(Some(Duration::ZERO));
        let gates: Vec<_> = (0..MAX_OVERDUE)
            .map(|_| {
                let (gate, closed) = channel::<()>();
                let waits = move || {
                    let _ = closed.recv();
                };
                let late = patience.wait_for(waits).unwrap_err();
                assert!(late.contains("models.load_timeout_ms"), "{late}");
                gate
            })
            .collect();
        assert_eq!(patience.overdue.load(Ordering::Relaxed), MAX_OVERDUE);
        let refused = patience.wait_for(|| unreachable!("it is not begun"));
        let refused = refused.unwrap_err();
        assert!(refused.contains("4 reads"), "{refused}");
        drop(gates);
        while patience.overdue.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn what_panics_when_nobody_waits_any_more_ends_too() {
        let patience = Patience::new(Some(Duration::ZERO));
        let (gate, closed) = channel::<()>();
        let late = patience.wait_for(move || {
            let _ = closed.recv();
            panic!("a bug");
        });
        assert!(late.map(|(): ()| ()).is_err());
        drop(gate);
        while patience.overdue.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let patience = Patience::new(Some(Duration::from_secs(600)));
        let minutes = |tries| patience.pause(tries).as_secs() / 60;
        assert_eq!([1, 2, 3, 99].map(minutes), [10, 20, 40, 10_240]);
    }
}
