//! When requests are sent.
//!
//! In a *closed loop* each connection sends its next request when it has the last answer: the load adapts
//! to the server, and a server that stalls gets fewer requests, which flatters it. In an *open loop*
//! requests are due at a steady rate, independent of the server, and each latency counts from when the
//! request was due. The wait for a free connection is included, so that a stall shows in every request
//! that it delayed (no *coordinated omission*).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What ends a run early.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Sends nothing more, and waits for what is in flight.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which connection sends when, for all connections of a step.
pub(super) struct Pace {
    start: Instant,
    end: Instant,
    /// Requests that connections took to send. May exceed `most`.
    taken: AtomicU64,
    most: u64,
    stop: Arc<Stop>,
    arrivals: Option<Arrivals>,
}

/// The requests of an open loop: number `i` is due at `start + i / rate`.
struct Arrivals {
    rate: f64,
    /// A permit for each request that is due and not yet taken by a connection.
    due: Semaphore,
    released: AtomicU64,
    /// The latest time at which late requests may still be sent.
    last_start: Instant,
}

impl Pace {
    /// A closed loop for `length`, of at most `most` requests.
    pub(super) fn closed(start: Instant, length: Duration, most: u64, stop: &Arc<Stop>) -> Self {
        Self {
            start,
            end: start + length,
            taken: AtomicU64::new(0),
            most,
            stop: Arc::clone(stop),
            arrivals: None,
        }
    }

    /// An open loop of `rate` requests a second for `length`, of at most `most` requests. If no connection
    /// was free when one was due, it may start up to `overrun` after the end.
    pub(super) fn open(
        start: Instant,
        length: Duration,
        most: u64,
        stop: &Arc<Stop>,
        rate: f64,
        overrun: Duration,
    ) -> Self {
        let scheduled = (rate * length.as_secs_f64()).ceil() as u64;
        Self {
            most: most.min(scheduled),
            arrivals: Some(Arrivals {
                rate,
                due: Semaphore::new(0),
                released: AtomicU64::new(0),
                last_start: start + length + overrun,
            }),
            ..Self::closed(start, length, most, stop)
        }
    }

    /// Waits until the next request is to be sent, and returns the instant from which its latency counts;
    /// `None` when there are no more.
    pub(super) async fn next(&self) -> Option<Instant> {
        match &self.arrivals {
            None => {
                let now = Instant::now();
                let is_over = now >= self.end || self.stop.is_stopped();
                (!is_over && self.take().is_some()).then_some(now)
            }
            Some(arrivals) => {
                // It is never closed.
                arrivals.due.acquire().await.ok()?.forget();
                let is_over = Instant::now() >= arrivals.last_start || self.stop.is_stopped();
                let number = if is_over { None } else { self.take() }?;
                Some(self.start + arrivals.after_start(number))
            }
        }
    }

    fn take(&self) -> Option<u64> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        (number < self.most).then_some(number)
    }

    /// Releases the requests that are due at `now`, and returns when the next one is due; `None` when all are
    /// released. A closed loop has none.
    pub(super) fn release(&self, now: Instant) -> Option<Instant> {
        let arrivals = self.arrivals.as_ref()?;
        let elapsed = now.saturating_duration_since(self.start);
        let due = self.most.min(arrivals.due_after(elapsed));
        let before = arrivals.released.swap(due, Ordering::Relaxed);
        arrivals.due.add_permits((due - before) as usize);
        (due < self.most).then(|| self.start + arrivals.after_start(due))
    }

    /// Lets connections that wait for a request go: there are no more.
    pub(super) fn finish(&self, connections: usize) {
        if let Some(arrivals) = &self.arrivals {
            arrivals.due.add_permits(connections);
        }
    }

    /// Whether the run was ended early.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// The requests that were due and never sent, since no connection was free for them in time.
    pub(super) fn unsent(&self) -> u64 {
        self.arrivals.as_ref().map_or(0, |arrivals| {
            let taken = self.taken.load(Ordering::Relaxed).min(self.most);
            arrivals
                .released
                .load(Ordering::Relaxed)
                .saturating_sub(taken)
        })
    }
}

impl Arrivals {
    /// When request `number` is due.
    fn after_start(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many requests are due, the first one at once.
    fn due_after(&self, elapsed: Duration) -> u64 {
        let mut due = (elapsed.as_secs_f64() * self.rate) as u64 + 1;
        // The schedule itself settles the rounding of the product.
        while due > 1 && self.after_start(due - 1) > elapsed {
            due -= 1;
        }
        while self.after_start(due) <= elapsed {
            due += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_sends_when_the_answer_is_there() {
        let stop = Arc::new(Stop::default());
        let pace = Pace::closed(Instant::now(), SECOND, u64::MAX, &stop);
        let mut sent = 0;
        while let Some(from) = pace.next().await {
            assert_eq!(from, Instant::now());
            sent += 1;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        // At 0, 30, .. 990 ms.
        assert_eq!((sent, pace.unsent()), (34, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_sent_than_asked_for() {
        let stop = Arc::new(Stop::default());
        let pace = Pace::closed(Instant::now(), SECOND, 3, &stop);
        for _ in 0..3 {
            assert!(pace.next().await.is_some());
        }
        assert_eq!(pace.next().await, None);
        assert_eq!(pace.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_both_loops() {
        let stop = Arc::new(Stop::default());
        let closed = Pace::closed(Instant::now(), SECOND, u64::MAX, &stop);
        let open = Pace::open(Instant::now(), SECOND, u64::MAX, &stop, 10.0, SECOND);
        open.release(Instant::now());
        stop.stop();
        assert_eq!(closed.next().await, None);
        assert_eq!(open.next().await, None);
        // One of the due requests was not sent.
        assert_eq!(open.unsent(), 1);
    }

    /// Runs a loop of 100 requests a second on one connection whose server takes 1 ms, but stalls for
    /// half a second from request 20 on; gives the latencies in ms.
    async fn through_a_stall(pace: &Pace) -> Vec<u64> {
        let release = async {
            while let Some(next) = pace.release(Instant::now()) {
                tokio::time::sleep_until(next).await;
            }
            pace.finish(1);
        };
        let send = async {
            let mut latencies = Vec::new();
            while let Some(from) = pace.next().await {
                let takes = if latencies.len() == 20 { 500 } else { 1 };
                tokio::time::sleep(Duration::from_millis(takes)).await;
                latencies.push(from.elapsed().as_millis() as u64);
            }
            latencies
        };
        tokio::join!(release, send).1
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_open_loop_a_stall_is_in_each_request_that_it_held_up() {
        let stop = Arc::new(Stop::default());
        let start = Instant::now();
        let pace = Pace::open(start, 2 * SECOND, u64::MAX, &stop, 100.0, SECOND);
        let latencies = through_a_stall(&pace).await;
        assert_eq!(latencies.len(), 200);
        assert_eq!(latencies[..20], [1; 20]);
        assert_eq!(latencies[20], 500);
        // The next was due 10 ms later, and waited for 490 ms before its own; each further one 9 ms less.
        assert_eq!(latencies[21..24], [491, 482, 473]);
        let held_up = latencies.iter().filter(|latency| **latency > 1).count();
        assert_eq!(held_up, 56);
        assert_eq!(pace.unsent(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_got_a_connection_is_counted() {
        let stop = Arc::new(Stop::default());
        let pace = Pace::open(Instant::now(), SECOND, u64::MAX, &stop, 100.0, SECOND / 2);
        while let Some(next) = pace.release(Instant::now()) {
            tokio::time::sleep_until(next).await;
        }
        pace.finish(1);
        let mut sent = 0;
        while pace.next().await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sent += 1;
        }
        // The last was released at 990 ms; the sixth starts at 1490 ms, the seventh would at 1590 ms.
        assert_eq!((sent, pace.unsent()), (6, 94));
    }

    #[test]
    fn a_rate_is_kept_exactly() {
        for rate in [0.3, 1.0, 3.0, 7.0, 333.3, 1e5] {
            let arrivals = Arrivals {
                rate,
                due: Semaphore::new(0),
                released: AtomicU64::new(0),
                last_start: Instant::now(),
            };
            for number in (0..1000).chain([123_456_789]) {
                let at = arrivals.after_start(number);
                assert_eq!(arrivals.due_after(at), number + 1, "{number} at {rate}/s");
                if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                    assert_eq!(arrivals.due_after(before), number, "{number} at {rate}/s");
                }
            }
        }
    }
}
