//! The thread that changes what is served.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::error;

use super::message::{Message, Order};
use super::reconciler::{Cause, Reconciler};
use super::watch::Watch;

/// How long after the first sign of a change the directory is scanned: a change is seldom alone.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// The share of the time that scans may take, however often something changes: one in this many.
const SCAN_SHARE: u32 = 10;

/// The channel to the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Loader {
    messages: Sender<Message>,
    is_over: Arc<AtomicBool>,
}

impl Loader {
    pub(super) fn start(reconciler: Reconciler) -> io::Result<Self> {
        let (messages, inbox) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let work = Work {
            reconciler,
            inbox,
            is_over: Arc::clone(&is_over),
            next_look: None,
        };
        let hints = messages.clone();
        thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || work.run(hints))?;
        Ok(Self { messages, is_over })
    }

    /// Has an order carried out and returns when it is done.
    pub(super) fn order(&self, order: Order) {
        let (done, wait) = sync_channel(0);
        match self.messages.send(Message::Order(order, done)) {
            // Nothing is ever sent: the other end is dropped.
            Ok(()) => drop(wait.recv()),
            Err(_) => error!("the thread that loads models is gone: nothing is loaded any more"),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // A load that runs is finished; the drop does not wait for it, as it may take long.
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.messages.send(Message::Stop);
    }
}

/// The thread's state.
struct Work {
    reconciler: Reconciler,
    inbox: Receiver<Message>,
    is_over: Arc<AtomicBool>,
    next_look: Option<Instant>,
}

impl Work {
    fn run(mut self, hints: Sender<Message>) {
        let watches = self.reconciler.settings().watch;
        let mut watch = watches.map(|settings| Watch::new(hints, settings));
        // Changes between the first scan and the first watch gave no sign.
        if watch.is_some() {
            self.reconciler.have_followed(&mut watch);
            self.next_look = Some(Instant::now());
        }
        loop {
            let Ok(messages) = self.receive() else {
                return;
            };
            let mut waiting = Vec::new();
            let mut rescan = false;
            for message in messages {
                match message {
                    Message::Stop => return,
                    Message::Changed => {
                        if let Some(watch) = &watch {
                            watch.acknowledge();
                        }
                        let pause = DEBOUNCE.max(SCAN_SHARE * self.reconciler.scan_took());
                        let at = Instant::now() + pause;
                        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
                    }
                    // One scan serves all requests for one that came before it began.
                    Message::Order(Order::Rescan, done) => {
                        waiting.push(done);
                        rescan = true;
                    }
                    Message::Order(Order::Load(name), done) => {
                        self.reconciler.load(&name);
                        drop(done);
                    }
                    Message::Order(Order::Unload(name), done) => {
                        self.reconciler.unload(&name);
                        drop(done);
                    }
                }
            }
            let now = Instant::now();
            let is_due = self.next_look.is_some_and(|next| next <= now);
            if rescan || is_due {
                let cause = match rescan {
                    true => Cause::Request,
                    false => Cause::Change,
                };
                let is_over = || self.is_over.load(Ordering::Relaxed);
                self.reconciler.look(cause, &is_over);
                self.next_look = None;
                if self.reconciler.have_followed(&mut watch) {
                    self.next_look = Some(Instant::now() + DEBOUNCE);
                }
            } else {
                let is_over = || self.is_over.load(Ordering::Relaxed);
                self.reconciler.reap(&is_over);
            }
            drop(waiting);
            if let Some(settings) = watches {
                let next = [settings.poll_interval, self.reconciler.look_after()];
                let next = next
                    .into_iter()
                    .flatten()
                    .map(|after| Instant::now() + after);
                self.next_look = next.chain(self.next_look).min();
            }
        }
    }

    /// Waits for messages, or until something is due; then there may be none.
    ///
    /// # Errors
    /// If the senders are gone.
    fn receive(&self) -> Result<Vec<Message>, RecvTimeoutError> {
        let look = self
            .next_look
            .map(|next| next.saturating_duration_since(Instant::now()));
        let first = match [look, self.reconciler.reap_after()]
            .into_iter()
            .flatten()
            .min()
        {
            None => self.inbox.recv().map_err(RecvTimeoutError::from).map(Some),
            Some(wait) => match self.inbox.recv_timeout(wait) {
                Ok(message) => Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(error) => Err(error),
            },
        }?;
        Ok(first.into_iter().chain(self.inbox.try_iter()).collect())
    }
}
