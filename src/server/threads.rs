//! The threads that serve connections.
//!
//! Each has a runtime of its own, and a connection stays on one thread from its first byte to its
//! last. One runtime over all threads would move tasks between them, for which it wakes a sleeping
//! thread nearly every request: that costs more than reading a small request does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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

impl IoThread {
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
