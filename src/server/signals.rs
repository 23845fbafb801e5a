//! Signals of the operating system.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How the server was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// By an orchestrator (SIGTERM): requests are welcome for another `server.drain_delay_ms`, in
    /// which load balancers notice that the server is not ready.
    AfterDelay,
    /// By a person (SIGINT, or SIGHUP as their terminal closes): requests in flight are finished, no new ones taken.
    Now,
}

/// SIGTERM, SIGINT and SIGHUP, caught from the moment this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Catches the signals; from now on they have no other effect, also in process 1 of a container.
    ///
    /// # Errors
    /// If the system refuses.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::AfterDelay,
            _ = self.interrupt.recv() => Stop::Now,
            _ = self.hang_up.recv() => Stop::Now,
        }
    }
}
