//! What all requests together may hold in memory: their bodies, the rows decoded from them, and
//! their answers until they are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::error::{ApiError, ErrorCode};
use super::limits::HttpLimits;

/// What each request may hold without being counted. It is no more than a connection's own buffers
/// take, so that the number of connections bounds it; and small requests, which come by the
/// hundred thousand a second, leave the count alone.
const UNCOUNTED_BYTES: usize = 16 << 10;

/// Counts the bytes that requests hold now.
#[derive(Debug)]
pub(super) struct Budget {
    used_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    /// The most of one request, also where it is alone.
    most_bytes: usize,
    uncounted_bytes: usize,
}

impl Budget {
    /// The budget that these limits give. One request may hold as much as sixteen of the largest
    /// bodies (of 1 MiB at least, so that what a decompressor holds has room) where no other request
    /// holds anything. More is what a few bytes could ask for, as rows that share their values.
    pub(super) fn within(limits: &HttpLimits) -> Self {
        Self {
            most_bytes: limits.max_body_bytes.max(1 << 20).saturating_mul(16),
            ..Self::new(limits.max_inflight_body_bytes)
        }
    }

    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            used_bytes: Arc::default(),
            max_bytes,
            most_bytes: usize::MAX,
            uncounted_bytes: UNCOUNTED_BYTES,
        }
    }

    /// As [`new`](Self::new), and every byte counts.
    #[cfg(test)]
    pub(super) fn of_every_byte(max_bytes: usize) -> Self {
        Self {
            uncounted_bytes: 0,
            ..Self::new(max_bytes)
        }
    }

    /// The share of a request that holds nothing yet.
    pub(super) fn share(&self) -> Share<'_> {
        Share {
            budget: self,
            uncounted_bytes: self.uncounted_bytes,
            counted: 0,
        }
    }

    /// As [`share`](Self::share), and every byte counts: for requests that a connection has many of
    /// at one time.
    #[cfg(feature = "grpc")]
    pub(super) fn whole_share(&self) -> Share<'_> {
        Share {
            budget: self,
            uncounted_bytes: 0,
            counted: 0,
        }
    }

    /// The bytes that are counted now.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> usize {
        self.usage()()
    }

    /// Tells the bytes that are counted, whenever it is asked.
    pub(super) fn usage(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let used_bytes = Arc::clone(&self.used_bytes);
        move || used_bytes.load(Ordering::Relaxed)
    }
}

/// One request's part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    uncounted_bytes: usize,
    counted: usize,
}

impl Share<'_> {
    /// Counts this many bytes from now on, instead of those before.
    ///
    /// # Errors
    /// 503 if that is more than the budget has left. A request that is the only one to hold anything
    /// is not refused for that: else one that needs more than all of the budget could never be served.
    /// 400 for more than any request may hold.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), ApiError> {
        let most_bytes = self.budget.most_bytes;
        if bytes > most_bytes {
            return Err(ApiError::invalid(
                ErrorCode::TooManyValues,
                format!(
                    "the request: its rows, or its answer, take {bytes} bytes of memory; expected at \
                     most {most_bytes}; send fewer rows a request"
                ),
            ));
        }
        let used = self.count(bytes);
        match used <= self.budget.max_bytes || used == self.counted {
            true => Ok(()),
            false => Err(ApiError::BodiesOverBudget),
        }
    }

    /// Counts this many bytes from now on. If that is more than before, returns how many all requests
    /// hold now, else 0.
    fn count(&mut self, bytes: usize) -> usize {
        let counted = bytes.saturating_sub(self.uncounted_bytes);
        let before = std::mem::replace(&mut self.counted, counted);
        let used_bytes = &self.budget.used_bytes;
        if counted > before {
            let more = counted - before;
            return used_bytes.fetch_add(more, Ordering::Relaxed) + more;
        }
        if counted < before {
            used_bytes.fetch_sub(before - counted, Ordering::Relaxed);
        }
        0
    }

    /// An answer, which counts instead of what the request held before, for as long as it is there.
    ///
    /// It is never refused: what it takes was counted before it was computed.
    pub(super) fn of_answer(mut self, mut answer: Vec<u8>) -> Bytes {
        self.count(answer.len());
        if self.counted == 0 {
            return answer.into();
        }
        // It grew by doubling.
        answer.shrink_to_fit();
        let held = self.hand_over();
        Bytes::from_owner(Counted {
            answer,
            _held: held,
        })
    }

    /// What it counts, to go where the memory goes; it counts nothing itself until it is
    /// [given back](Self::take_back).
    pub(super) fn hand_over(&mut self) -> Reservation {
        Reservation {
            used_bytes: Arc::clone(&self.budget.used_bytes),
            counted: std::mem::take(&mut self.counted),
        }
    }

    /// Counts again what was [handed over](Self::hand_over).
    pub(super) fn take_back(&mut self, mut held: Reservation) {
        self.counted += std::mem::take(&mut held.counted);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.count(0);
    }
}

/// Bytes that count while it lives, whatever becomes of their request.
#[derive(Debug)]
pub(super) struct Reservation {
    used_bytes: Arc<AtomicUsize>,
    counted: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used_bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// An answer that counts while it lives.
struct Counted {
    answer: Vec<u8>,
    _held: Reservation,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_until_they_are_set_or_dropped() {
        let budget = Budget::of_every_byte(100);
        let mut share = budget.share();
        assert!(share.set(90).is_ok());
        let mut other = budget.share();
        assert!(other.set(10).is_ok());
        assert!(other.set(11).is_err());
        drop(other);
        assert!(share.set(20).is_ok());
        assert_eq!(budget.used_bytes(), 20);
        assert!(budget.share().set(80).is_ok());
        assert!(budget.share().set(81).is_err());
        assert!(share.set(101).is_ok(), "alone");
        assert!(budget.share().set(1).is_err());
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn an_answer_counts_until_it_is_dropped_and_is_never_refused() {
        let budget = Budget::of_every_byte(100);
        let mut share = budget.share();
        share.set(60).unwrap();
        let answer = share.of_answer(vec![b'x'; 120]);
        assert_eq!((answer.len(), budget.used_bytes()), (120, 120));
        assert!(budget.share().set(1).is_err());
        let copy = answer.clone();
        drop(answer);
        assert_eq!(budget.used_bytes(), 120);
        drop(copy);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_is_handed_over_counts_though_its_request_has_ended() {
        let budget = Budget::of_every_byte(100);
        let mut share = budget.share();
        share.set(60).unwrap();
        let held = share.hand_over();
        drop(share);
        assert_eq!(budget.used_bytes(), 60);
        let mut share = budget.share();
        share.take_back(held);
        assert_eq!(budget.used_bytes(), 60);
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn no_request_holds_more_than_the_most_even_alone() {
        let budget = Budget {
            most_bytes: 200,
            ..Budget::of_every_byte(100)
        };
        let mut share = budget.share();
        assert!(share.set(200).is_ok());
        let refused = share.set(201);
        assert!(matches!(
            refused,
            Err(ApiError::Invalid {
                code: ErrorCode::TooManyValues,
                ..
            })
        ));
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn small_requests_are_not_counted() {
        let budget = Budget::new(100);
        let mut small = budget.share();
        assert!(small.set(UNCOUNTED_BYTES).is_ok());
        assert_eq!(
            small.of_answer(vec![0; UNCOUNTED_BYTES]).len(),
            UNCOUNTED_BYTES
        );
        assert_eq!(budget.used_bytes(), 0);
        let mut large = budget.share();
        assert!(large.set(UNCOUNTED_BYTES + 100).is_ok());
        assert_eq!(budget.used_bytes(), 100);
        assert!(budget.share().set(UNCOUNTED_BYTES).is_ok());
        assert!(budget.share().set(UNCOUNTED_BYTES + 1).is_err());
    }
}
