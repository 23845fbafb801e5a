//! Logging to stderr, as text for people or JSON for collectors, without blocking the server.
//!
//! A write to stderr blocks while its reader is slow and fails when it is gone. So messages go through a
//! bounded queue to a thread of their own; if the queue is full, a message is dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, panic, thread};

use prometheus::IntCounter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::config::{Format, Level, Log};

/// The most messages that wait to be written: enough for a burst of one for each of thousands of
/// requests, about 2 MB at 300 bytes a message.
const QUEUED_LINES: usize = 8192;

/// The longest message. Text from clients is cut where it is logged, so only a fault of this server makes
/// a longer message; it is dropped and counted.
const MAX_LINE_BYTES: usize = 64 << 10;

/// How long the process waits at its end until the last messages are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps the log being written; waits for the last messages when dropped, a second at most.
#[derive(Debug)]
pub struct LogGuard {
    lines: SyncSender<Message>,
}

/// The level of the log while the process runs.
#[derive(Debug)]
pub struct LogLevel {
    level: Mutex<Level>,
    levels: reload::Handle<Targets, Registry>,
}

impl LogLevel {
    /// The least severe messages that are logged.
    #[must_use]
    pub fn get(&self) -> Level {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs messages from this level on from now on.
    pub fn set(&self, level: Level) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only when the log is gone, with the process.
        if self.levels.reload(targets(level)).is_ok() {
            *current = level;
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, is_done) = channel();
        // If the queue is full its reader is stuck, and waiting for it could take forever.
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Sets up logging and panic messages for the whole process. Messages that are dropped count in
/// `dropped`.
///
/// # Errors
/// If the log's thread cannot be started.
///
/// # Panics
/// If logging was set up before.
pub fn install(log: &Log, dropped: IntCounter) -> io::Result<(LogGuard, LogLevel)> {
    let is_terminal = io::stderr().is_terminal();
    let is_text = match log.format {
        Format::Auto => is_terminal,
        Format::Text => true,
        Format::Json => false,
    };
    // https://no-color.org: any value but the empty one.
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (queue, guard) = Queue::start(io::stderr(), dropped)?;

    let (levels, handle) = reload::Layer::new(targets(log.level));
    let layer = tracing_subscriber::fmt::layer().with_writer(queue);
    let layer = if is_text {
        layer
            .with_ansi(is_terminal && !is_plain)
            .with_target(false)
            .boxed()
    } else {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(levels))
        .init();
    panic::set_hook(Box::new(log_panic));
    let level = LogLevel {
        level: Mutex::new(log.level),
        levels: handle,
    };
    Ok((guard, level))
}

/// What is logged at a level.
fn targets(level: Level) -> Targets {
    let ours = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Library messages below a warning are about their internals.
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target(env!("CARGO_PKG_NAME"), ours)
}

/// Logs a panic as one message. The standard hook writes to stderr itself, and may wait there.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    tracing::error!(
        reason = text.unwrap_or("(not text)"),
        place,
        thread = thread.name().unwrap_or("(unnamed)"),
        "panic"
    );
}

enum Message {
    Line(Vec<u8>),
    Flush(std::sync::mpsc::Sender<()>),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(bytes) => write!(f, "Line({} bytes)", bytes.len()),
            Self::Flush(_) => f.write_str("Flush"),
        }
    }
}

/// The channel to the log's thread.
struct Queue {
    lines: SyncSender<Message>,
    dropped: IntCounter,
}

impl Queue {
    fn start(
        output: impl Write + Send + 'static,
        dropped: IntCounter,
    ) -> io::Result<(Self, LogGuard)> {
        let (lines, queued) = sync_channel(QUEUED_LINES);
        let lost = dropped.clone();
        thread::Builder::new()
            .name("safeserve-log".into())
            .spawn(move || write_out(&queued, output, &lost))?;
        let guard = LogGuard {
            lines: lines.clone(),
        };
        Ok((Self { lines, dropped }, guard))
    }
}

fn write_out(queued: &Receiver<Message>, mut output: impl Write, lost: &IntCounter) {
    for message in queued {
        match message {
            Message::Line(line) => {
                if output.write_all(&line).is_err() {
                    lost.inc();
                }
            }
            Message::Flush(done) => {
                // Neither a failed flush nor a guard that has gone leaves anything to do.
                let _ = output.flush();
                let _ = done.send(());
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            text: Vec::new(),
            queue: self,
        }
    }
}

/// One message while it is formatted; queued when dropped.
struct Line<'a> {
    text: Vec<u8>,
    queue: &'a Queue,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        let is_queued = text.len() <= MAX_LINE_BYTES
            && self
                .queue
                .lines
                .try_send(Message::Line(one_line(text)))
                .is_ok();
        if !is_queued {
            self.queue.dropped.inc();
        }
    }
}

/// Keeps a message on one line: a line break inside it, possibly a client's, would forge another message.
fn one_line(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    if text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        let escaped = String::from_utf8_lossy(&text)
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        text = escaped.into_bytes();
    }
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes to a channel, one message a write; blocks while it is full.
    struct Output(SyncSender<String>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(String::from_utf8(bytes.to_vec()).unwrap())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn dropped() -> IntCounter {
        IntCounter::new("dropped", "Dropped.").unwrap()
    }

    fn log(queue: &Queue, text: &str) {
        queue.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn messages_are_written_in_order_before_the_guard_is_gone() {
        let (output, written) = sync_channel(16);
        let (queue, guard) = Queue::start(Output(output), dropped()).unwrap();
        log(&queue, "first\n");
        log(&queue, "second\n");
        drop(guard);
        assert_eq!(
            written.try_iter().collect::<Vec<_>>(),
            ["first\n", "second\n"]
        );
        assert_eq!(queue.dropped.get(), 0);
    }

    #[test]
    fn a_reader_that_is_stuck_costs_messages_and_no_time() {
        // A channel without room: the log's thread is stuck on its first message.
        let (output, written) = sync_channel(0);
        let (queue, guard) = Queue::start(Output(output), dropped()).unwrap();
        for _ in 0..QUEUED_LINES + 100 {
            log(&queue, "x\n");
        }
        // The thread may already have taken one message off the queue.
        let dropped = queue.dropped.get();
        assert!((99..=100).contains(&dropped), "{dropped}");
        drop(written);
        drop(guard);
    }

    #[test]
    fn a_message_without_end_is_dropped() {
        let (output, written) = sync_channel(2);
        let (queue, guard) = Queue::start(Output(output), dropped()).unwrap();
        log(&queue, &"x".repeat(MAX_LINE_BYTES + 1));
        log(&queue, "short\n");
        drop(guard);
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["short\n"]);
        assert_eq!(queue.dropped.get(), 1);
    }

    #[test]
    fn a_reader_that_is_gone_costs_messages_and_nothing_else() {
        let (output, written) = sync_channel(0);
        drop(written);
        let (queue, guard) = Queue::start(Output(output), dropped()).unwrap();
        for _ in 0..10 {
            log(&queue, "x\n");
        }
        drop(guard);
        assert_eq!(queue.dropped.get(), 10);
    }

    #[test]
    fn a_line_break_within_a_message_does_not_start_another() {
        let (output, written) = mpsc::sync_channel(1);
        let (queue, guard) = Queue::start(Output(output), dropped()).unwrap();
        log(&queue, "id=a\nERROR forged\r\n");
        drop(guard);
        assert_eq!(written.recv().unwrap(), "id=a\\nERROR forged\\r\n");
    }
}
