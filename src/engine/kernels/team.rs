//! Several threads on one kernel, for the layers of a lone request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, MAX_IDLE_SPINS, Ordering, pause};

/// A forward pass that other threads may help with.
///
/// The thread that runs the pass [opens](Team::open) the team, shares one kernel after the other,
/// and [closes](Team::close) it; threads with nothing else to do [help](Team::help) meanwhile.
/// Helpers are optional: the thread itself computes what no helper has claimed, and it waits only for
/// what helpers are computing. The team starts no thread and never sleeps.
///
/// Shares are claimed one by one, so that a helper that is preempted delays one share, not half of
/// the kernel.
#[derive(Debug)]
pub struct Team {
    is_open: AtomicBool,
    /// A [`Claims`], as one number.
    claims: AtomicU64,
    /// The shares of the current job that are done.
    done: AtomicUsize,
    /// Whether one of them panicked.
    panicked: AtomicBool,
    /// The current job. Dereferenced only by who holds a claim on it.
    job: AtomicPtr<Job<'static>>,
}

/// What computes a share, given its number.
#[derive(Clone, Copy)]
struct Job<'a>(&'a (dyn Fn(usize) + Sync));

/// How far the current job's shares are claimed.
#[derive(Clone, Copy)]
struct Claims {
    /// Tells one job from those before it, so that a claim that comes late fails.
    generation: u32,
    claimed: u16,
    shares: u16,
}

impl Claims {
    fn unpack(word: u64) -> Self {
        Self {
            generation: (word >> 32) as u32,
            claimed: (word >> 16) as u16,
            shares: word as u16,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.claimed) << 16 | u64::from(self.shares)
    }
}

impl Default for Team {
    fn default() -> Self {
        Self::new()
    }
}

impl Team {
    /// A team without a pass.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_open: AtomicBool::new(false),
            claims: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            job: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Says that a pass begins: helpers stay until it is closed.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// Says that the pass is over.
    pub fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    /// Calls `run` once for each number below `shares`, on this thread and on helpers', in any
    /// order, and returns when all calls have.
    ///
    /// Only the thread that runs the pass calls this, one call at a time.
    ///
    /// # Panics
    /// If a share panics, here or on a helper's thread, once all of them have ended.
    pub(super) fn share(&self, shares: u16, run: &(dyn Fn(usize) + Sync)) {
        let job = Job(run);
        let before = Claims::unpack(self.claims.load(Ordering::Relaxed));
        debug_assert_eq!(before.claimed, before.shares, "one job at a time");
        self.done.store(0, Ordering::Relaxed);
        self.job
            .store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        let begun = Claims {
            generation: before.generation.wrapping_add(1),
            claimed: 0,
            shares,
        };
        // Publishes the two above to those that claim.
        self.claims.store(begun.pack(), Ordering::Release);
        while self.run_one() {}
        while self.done.load(Ordering::Acquire) < usize::from(shares) {
            pause();
        }
        if self.panicked.swap(false, Ordering::Relaxed) {
            panic!("a share of a kernel panicked");
        }
    }

    /// Computes shares until the pass is over, or none comes for a while, or `stay` says that
    /// something else is to be done. Returns whether a share may still come.
    pub fn help(&self, stay: impl Fn() -> bool) -> bool {
        let mut spins_left = MAX_IDLE_SPINS;
        while self.is_open.load(Ordering::Acquire) && stay() {
            if self.run_one() {
                spins_left = MAX_IDLE_SPINS;
            } else if spins_left == 0 {
                return true;
            } else {
                spins_left -= 1;
                pause();
            }
        }
        false
    }

    /// Claims and computes one share, if one is left.
    fn run_one(&self) -> bool {
        let mut word = self.claims.load(Ordering::Acquire);
        loop {
            let claims = Claims::unpack(word);
            if claims.claimed == claims.shares {
                return false;
            }
            let job = self.job.load(Ordering::Relaxed);
            let claimed = Claims {
                claimed: claims.claimed + 1,
                ..claims
            };
            let exchange = self.claims.compare_exchange(
                word,
                claimed.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if let Err(now) = exchange {
                word = now;
                continue;
            }
            // SAFETY: the exchange succeeded, so the job of this generation still had a share that
            // no one had claimed; `share` does not return before that share is counted below, and
            // what it borrows lives until then. The pointer is that job's: it was written before
            // the generation was published, which the load of `word` saw, and is written again
            // only after all shares of the generation are done.
            let Job(run) = unsafe { *job };
            // No one may leave before the job ends that it borrows from, nor take a helper with it.
            let share = usize::from(claims.claimed);
            if catch_unwind(AssertUnwindSafe(|| run(share))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            // Publishes what `run` wrote to the thread that waits in `share`.
            self.done.fetch_add(1, Ordering::Release);
            return true;
        }
    }
}
