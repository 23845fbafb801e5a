//! The threads that serve connections.
//!
//! Each has a runtime of its own, and a connection stays on one thread from its first byte to its
//! last. One runtime over all threads would move tasks between them, for which it wakes a sleeping
//! thread nearly every request: that costs more than reading a small request does.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads that run connections. They end when this is dropped, and with them what still runs.
#[derive(Debug)]
pub struct IoThreads {
    threads: Vec<IoThread>,
}

#[derive(Debug)]
struct IoThread {
    runtime: Handle,
    /// How many connections it has.
    connections: Arc<AtomicUsize>,
    /// When it was asked for a sign of life; `None` once it has given one.
    asked_at: Arc<Mutex<Option<Instant>>>,
    /// Dropped to end it.
    _running: oneshot::Sender<()>,
}

impl IoThreads {
    /// Starts `count` threads, at least 1.
    ///
    /// # Errors
    /// If the operating system refuses a thread, or what its runtime needs.
    pub fn start(count: usize) -> io::Result<Self> {
        let threads = (0..count.max(1)).map(IoThread::start);
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
        })
    }

    /// How long the busiest thread has not returned to its other tasks, as far as calls of this function
    /// show: each call asks for a sign of life.
    pub fn silent_for(&self, now: Instant) -> Duration {
        let silent = self.threads.iter().map(|thread| thread.silent_for(now));
        silent.max().unwrap_or_default()
    }

    /// Runs a connection to its end on the thread that has the fewest.
    pub(super) fn spawn<F>(&self, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let thread = self
            .threads
            .iter()
            .min_by_key(|thread| thread.connections.load(Ordering::Relaxed))
            .expect("there is at least one thread");
        let counted = Counted::new(&thread.connections);
        thread.runtime.spawn(async move {
            let _counted = counted;
            connection.await;
        });
    }
}

fn lock(asked_at: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    asked_at.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IoThread {
    /// How long it has owed a sign of life; if it owes none, it is asked for one.
    fn silent_for(&self, now: Instant) -> Duration {
        let asked_at = *lock(&self.asked_at).get_or_insert(now);
        if asked_at == now {
            let owed = Arc::clone(&self.asked_at);
            self.runtime.spawn(async move { *lock(&owed) = None });
        }
        now.saturating_duration_since(asked_at)
    }

    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Bodies so large that decoding them would keep others waiting; few at a time.
            .max_blocking_threads(1)
            .build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("io-{index}"))
            .spawn(move || {
                // It carries nothing: its sender is dropped.
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            asked_at: Arc::default(),
            _running: running,
        })
    }
}

/// One connection of a thread's count, while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_does_not_come_back_is_noticed_until_it_does() {
        let threads = IoThreads::start(2).unwrap();
        let (gate, closed) = channel::<()>();
        let (at_gate, waits) = channel::<()>();
        threads.spawn(async move {
            drop(at_gate);
            let _ = closed.recv();
        });
        let _ = waits.recv();

        let begin = Instant::now();
        let later = |seconds| begin + Duration::from_secs(seconds);
        threads.silent_for(begin);
        assert_eq!(threads.silent_for(later(10)), Duration::from_secs(10));
        assert_eq!(threads.silent_for(later(20)), Duration::from_secs(20));

        drop(gate);
        let mut after = 20;
        while threads.silent_for(later(after)) > Duration::ZERO {
            // It was asked then, if not before.
            after += 1;
            thread::yield_now();
        }
    }
}
