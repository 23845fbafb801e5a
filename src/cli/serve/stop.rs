//! What stops the server: signals, and operators.

use tokio::sync::mpsc;

use crate::cli::exit::Exit;
use crate::config::Level;
use crate::http::Controls;
use crate::server::{Signals, Stop};
use crate::telemetry::LogLevel;

/// Waits for the first signal, or for an operator's request to drain. The next signal ends the process
/// at once.
#[expect(
    clippy::disallowed_methods,
    reason = "a second signal asks for no drain, and nothing else stops a running forward pass"
)]
pub(super) async fn first_stop(mut signals: Signals, mut asked: mpsc::Receiver<()>) -> Stop {
    let (stop, by_signal) = tokio::select! {
        stop = signals.next() => (stop, true),
        Some(()) = asked.recv() => (Stop::AfterDelay, false),
    };
    tokio::spawn(async move {
        // An orchestrator that asked for the drain still sends its first signal.
        if !by_signal {
            signals.next().await;
        }
        signals.next().await;
        std::process::exit(Exit::Forced as i32);
    });
    stop
}

/// What operators may do to the process.
pub(super) struct Process {
    pub(super) level: LogLevel,
    pub(super) drain: mpsc::Sender<()>,
}

impl Controls for Process {
    fn log_level(&self) -> &'static str {
        self.level.get().as_str()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        match Level::ALL.iter().find(|known| known.as_str() == level) {
            Some(level) => {
                self.level.set(*level);
                Ok(())
            }
            None => Err(Level::ALL.map(Level::as_str).join(", ")),
        }
    }

    fn drain(&self) {
        // A full channel means that the drain was asked for before.
        let _ = self.drain.try_send(());
    }
}
