//! The queue's code under thousands of thread schedules.
//!
//! `dispatch.rs`, `lanes.rs`, `call.rs`, `queue.rs` and `batch.rs` are compiled here once more, word for
//! word, over a lock, a condition variable and a clock whose every step [shuttle] orders at
//! random: `sound` is what the product should do, with spurious wake-ups and timeouts thrown in.
//! `mute` is the same over a condition variable that now and then wakes no one, so that a test
//! shows what the check does when the queue forgets a waiting worker. `scenarios.rs` holds what
//! both run; its workers can be told to misbehave, which shows that the check notices lost,
//! doubled and misdelivered rows.
//!
//! [shuttle]: https://github.com/awslabs/shuttle

mod mute;
mod sound;

/// A lock, a condition variable and a clock in the hands of shuttle's scheduler.
mod threads {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::Ordering;
    use std::sync::{LazyLock, LockResult};
    use std::time::{Duration, Instant};

    use shuttle::rand::Rng;
    use shuttle::sync::atomic::AtomicU64;

    shuttle::lazy_static! {
        /// Ticks since the schedule began.
        static ref TICKS: AtomicU64 = AtomicU64::new(0);
    }

    /// When every schedule begins.
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// The unit of the model's time.
    pub(super) const TICK: Duration = Duration::from_millis(1);

    /// The time, which moves only in [`tick`].
    pub(super) fn now() -> Instant {
        let ticks = TICKS.load(Ordering::SeqCst);
        *EPOCH + TICK * u32::try_from(ticks).expect("schedules are short")
    }

    /// Lets time pass.
    pub(super) fn tick() {
        TICKS.fetch_add(1, Ordering::SeqCst);
    }

    #[derive(Debug)]
    pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[derive(Debug)]
    pub(super) struct MutexGuard<'a, T> {
        guard: shuttle::sync::MutexGuard<'a, T>,
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let guard = self.0.lock().expect("a panic ends the schedule");
            Ok(MutexGuard { guard, mutex: self })
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// Loses one wake-up in `1 / LOST` on average; none if `LOST` is 0.
    #[derive(Debug)]
    pub(super) struct Condvar<const LOST: u32>(shuttle::sync::Condvar);

    impl<const LOST: u32> Condvar<LOST> {
        pub(super) fn new() -> Self {
            Self(shuttle::sync::Condvar::new())
        }

        pub(super) fn notify_one(&self) {
            if LOST == 0 || !shuttle::rand::thread_rng().gen_ratio(1, LOST) {
                self.0.notify_one();
            }
        }

        /// Returns one time in eight without having been notified, as real ones may.
        pub(super) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let MutexGuard { guard, mutex } = guard;
            if shuttle::rand::thread_rng().gen_ratio(1, 8) {
                drop(guard);
                return mutex.lock();
            }
            let guard = self.0.wait(guard).expect("a panic ends the schedule");
            Ok(MutexGuard { guard, mutex })
        }

        /// Lets a tick pass, and anyone who wants the lock take it.
        pub(super) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _timeout: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, ())> {
            let mutex = guard.mutex;
            drop(guard);
            tick();
            shuttle::thread::yield_now();
            mutex
                .lock()
                .map(|guard| (guard, ()))
                .map_err(|_| unreachable!("a panic ends the schedule"))
        }
    }
}
