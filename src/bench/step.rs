//! One step: a number of connections under load for a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use super::answer::Checker;
use super::client::Client;
use super::pace::{Pace, Stop};
use super::requests::Requests;
use super::tally::{Failed, Failure, Tally};

/// How long a connection waits after a failed connect. Without the wait a server that is gone would get
/// a hundred thousand connects a second.
const AFTER_NO_CONNECTION: Duration = Duration::from_millis(20);

/// How often the observer is told.
const TICK: Duration = Duration::from_millis(100);

/// The load of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) length: Duration,
    /// The most requests.
    pub(super) most: u64,
    /// Requests a second of an open loop.
    pub(super) rate: Option<f64>,
    pub(super) timeout: Duration,
}

/// What a step did.
pub(super) struct Measured {
    pub(super) tally: Tally,
    /// From the start to the last answer.
    pub(super) elapsed: Duration,
    /// Requests of an open loop that were due and not sent.
    pub(super) unsent: u64,
    /// Connections that had to be made again.
    pub(super) reconnects: u64,
}

/// The progress of a running step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Whether it is the warm-up, which does not count.
    pub is_warm_up: bool,
    /// The step's connections.
    pub connections: usize,
    /// The time since the step's start, and how long it is to take.
    pub elapsed: Duration,
    /// How long the step is to take.
    pub length: Duration,
    /// Correct answers so far.
    pub correct: u64,
    /// Requests that failed so far.
    pub failed: u64,
}

/// One thread's counts for the observer.
#[derive(Default)]
struct Live {
    correct: AtomicU64,
    failed: AtomicU64,
}

/// What a connection does for a request; a scripted one in tests.
trait Exchange {
    async fn exchange(&mut self) -> Result<usize, Failed>;
}

/// Sends requests until there are no more.
async fn drive(sender: &mut impl Exchange, pace: &Pace, tally: &RefCell<Tally>, live: &Live) {
    while let Some(from) = pace.next().await {
        tally.borrow_mut().begin();
        let outcome = sender.exchange().await;
        let latency = from.elapsed();
        let has_connection = match &outcome {
            Ok(_) => {
                live.correct.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(failed) => {
                live.failed.fetch_add(1, Ordering::Relaxed);
                !matches!(failed.failure, Failure::Refused | Failure::Unreachable)
            }
        };
        tally.borrow_mut().end(outcome, latency);
        if !has_connection {
            tokio::time::sleep(AFTER_NO_CONNECTION).await;
        }
    }
}

/// A connection and the bodies that it sends in turns.
struct Sender {
    client: Client,
    requests: Arc<Requests>,
    next: usize,
    checker: Rc<RefCell<Checker>>,
}

impl Exchange for Sender {
    async fn exchange(&mut self) -> Result<usize, Failed> {
        let number = self.next;
        self.next = (number + 1) % self.requests.bodies.len();
        let reply = self.client.ask(self.requests.request(number)).await?;
        let body = &self.requests.bodies[number];
        self.checker.borrow_mut().check(number, body, &reply)
    }
}

impl Requests {
    /// Request `number`, head and body.
    pub(super) fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let body = &self.bodies[number];
        let mut request = Request::new(Full::new(body.bytes.clone()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(length) = body.json_bytes {
            request
                .headers_mut()
                .insert(super::answer::JSON_LENGTH, length.into());
        }
        request
    }
}

/// What the threads of a step share.
struct Shared {
    requests: Arc<Requests>,
    load: Load,
    live: Vec<Live>,
}

/// What a thread returns.
struct Part {
    tally: Tally,
    end: Instant,
    reconnects: u64,
}

/// Runs a step. Its connections are made before the clock starts; those that fail are tried again by
/// their first request, where it counts.
pub(super) async fn run(
    requests: &Arc<Requests>,
    load: Load,
    stop: &Arc<Stop>,
    mut watcher: impl FnMut(Progress),
) -> Measured {
    let shared = Arc::new(Shared {
        requests: Arc::clone(requests),
        load,
        live: (0..load.threads).map(|_| Live::default()).collect(),
    });
    let (start, started) = watch::channel(None);
    let (ready, mut are_ready) = mpsc::channel(load.threads);
    let (done, mut are_done) = mpsc::channel(load.threads);
    for index in 0..load.threads {
        let (shared, started) = (Arc::clone(&shared), started.clone());
        let (ready, done) = (ready.clone(), done.clone());
        thread::spawn(move || {
            let part = part(&shared, index, started, ready);
            // A receiver that no longer waits does not need it.
            let _ = done.blocking_send(part);
        });
    }
    drop((ready, done));
    while are_ready.recv().await.is_some() {}
    let now = Instant::now();
    let pace = Arc::new(match load.rate {
        None => Pace::closed(now, load.length, load.most, stop),
        Some(rate) => Pace::open(now, load.length, load.most, stop, rate, load.timeout),
    });
    // The releasing thread ends when this end of the channel does, or all is released.
    let (_running, is_over) = std::sync::mpsc::channel();
    if load.rate.is_some() {
        let pace = Arc::clone(&pace);
        thread::spawn(move || release(&pace, load.connections, &is_over));
    }
    // The threads hold receivers until they have it.
    let _ = start.send(Some(Arc::clone(&pace)));
    let mut tick = tokio::time::interval(TICK);
    let mut parts = 0;
    let mut measured = Measured {
        tally: Tally::default(),
        elapsed: Duration::ZERO,
        unsent: 0,
        reconnects: 0,
    };
    loop {
        tokio::select! {
            part = are_done.recv() => match part {
                Some(part) => {
                    parts += 1;
                    measured.tally.add(part.tally);
                    measured.reconnects += part.reconnects;
                    measured.elapsed = measured.elapsed.max(part.end - now);
                }
                None => break,
            },
            _ = tick.tick() => {
                let sum = |count: fn(&Live) -> &AtomicU64| -> u64 {
                    shared.live.iter().map(|live| count(live).load(Ordering::Relaxed)).sum()
                };
                watcher(Progress {
                    is_warm_up: false,
                    connections: load.connections,
                    elapsed: now.elapsed(),
                    length: load.length,
                    correct: sum(|live| &live.correct),
                    failed: sum(|live| &live.failed),
                });
            }
        }
    }
    assert_eq!(
        parts, load.threads,
        "a thread of the generator ended with its counts"
    );
    measured.unsent = pace.unsent();
    measured
}

/// Releases the requests of an open loop when they are due. A thread of its own, since timers of the
/// runtime are a millisecond late.
fn release(pace: &Pace, connections: usize, is_over: &std::sync::mpsc::Receiver<()>) {
    while let Some(next) = pace.release(Instant::now()) {
        let wait = next.saturating_duration_since(Instant::now()).min(TICK);
        let waited = is_over.recv_timeout(wait);
        if waited != Err(RecvTimeoutError::Timeout) || pace.is_stopped() {
            break;
        }
    }
    pace.finish(connections);
}

/// Connects and drives one thread's connections: every `threads`-th from `index` on. `ready` is dropped
/// when they are connected.
fn part(
    shared: &Arc<Shared>,
    index: usize,
    mut started: watch::Receiver<Option<Arc<Pace>>>,
    ready: mpsc::Sender<()>,
) -> Part {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has what one more runtime needs");
    LocalSet::new().block_on(&runtime, async {
        let senders = connected(shared, index).await;
        drop(ready);
        let pace = started.wait_for(Option::is_some).await;
        let pace = pace.ok().and_then(|pace| pace.clone());
        let pace = pace.expect("a step starts those that it waited for");
        let tally = Rc::new(RefCell::new(Tally::default()));
        let mut running = JoinSet::new();
        for mut sender in senders {
            let (tally, shared, pace) = (Rc::clone(&tally), Arc::clone(shared), Arc::clone(&pace));
            running.spawn_local(async move {
                drive(&mut sender, &pace, &tally, &shared.live[index]).await;
                sender.client.connects.saturating_sub(1)
            });
        }
        let reconnects = running.join_all().await.into_iter().sum();
        Part {
            tally: tally.take(),
            end: Instant::now(),
            reconnects,
        }
    })
}

/// The connections of one thread. Those that cannot be made are tried again by their first request.
async fn connected(shared: &Shared, index: usize) -> Vec<Sender> {
    let Shared { requests, load, .. } = shared;
    let checker = Checker::new(requests.protocol, &requests.bodies);
    let checker = Rc::new(RefCell::new(checker));
    let mut opening = JoinSet::new();
    for number in (index..load.connections).step_by(load.threads) {
        let mut sender = Sender {
            client: Client::new(Arc::clone(&requests.target), load.timeout),
            requests: Arc::clone(requests),
            next: number % requests.bodies.len(),
            checker: Rc::clone(&checker),
        };
        opening.spawn_local(async move {
            let _ = sender.client.connect().await;
            sender
        });
    }
    opening.join_all().await
}
