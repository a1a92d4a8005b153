//! Waiting until what a lock guards is as one needs it.
//!
//! Use it where threads or tasks wait for a change of guarded data that is more than "one more item" (a
//! [`Queue`](crate::Queue)) or "it happened" (an [`Event`](crate::Event)): an answer to one's own request, a sum that is large
//! enough.
//!
//! ```
//! use std::collections::HashMap;
//! use std::thread;
//! use tricorne_sync::{Condition, Lock};
//!
//! let (answers, answered) = (Lock::new(HashMap::new()), Condition::new());
//! thread::scope(|scope| {
//!     for request in 0..3 {
//!         let (answers, answered) = (&answers, &answered);
//!         scope.spawn(move || {
//!             answers.lock().insert(request, request * 10);
//!             answered.notify_all();
//!         });
//!     }
//!     let guard = answered.wait_while(answers.lock(), |answers| !answers.contains_key(&2));
//!     assert_eq!(guard[&2], 20);
//! });
//! ```

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::block::block_on;
use crate::lock::{Lock, LockGuard};
use crate::raw::{Owner, WaitSet};
use crate::rlock::{RLock, RLockGuard, RLockOwnerGuard};
use crate::wait::{WaitStats, deadline_after};

/// Wakes those who wait for a change of what a lock guards.
///
/// Waiting releases the lock and takes a place in line in one step, so a notification by whoever holds the lock next is not
/// lost; when the wait is over, the lock is held again. It goes with a [`Lock`] or, with all its levels, an [`RLock`] (a task
/// with the only guard of its owner; the value must be `Sync`). One condition may serve several locks.
///
/// # Fairness
///
/// A notification wakes those who came first, as many as it names and nobody else: there are no spurious wake-ups. They then
/// get the lock as others do, so somebody may change the data before: wait with
/// [`wait_while`](Self::wait_while).
///
/// # Cancel safety
///
/// A wait that times out leaves the line. A future that is dropped does too, and the lock stays unlocked; if it had been
/// notified, the notification goes to the next of those who were in line when it came.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tricorne_sync::{Condition, Lock};
///
/// let (ready, changed) = (Lock::new(false), Condition::new());
/// let (guard, in_time) = changed.wait_timeout(ready.lock(), Duration::from_millis(1));
/// assert!(!in_time && !*guard);
/// ```
///
/// A task with a re-entrant lock:
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tricorne_sync::{Condition, Owner, RLock, block_on};
///
/// let (answer, arrived) = (RLock::new(AtomicU32::new(0)), Condition::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         answer.lock().store(42, Ordering::Relaxed);
///         arrived.notify_all();
///     });
///     block_on(async {
///         let guard = answer.lock_async(Owner::unique()).await;
///         let guard = arrived.wait_while_async(guard, |answer| answer.load(Ordering::Relaxed) == 0).await;
///         assert_eq!(guard.load(Ordering::Relaxed), 42);
///     });
/// });
/// ```
#[derive(Default)]
pub struct Condition {
    set: WaitSet,
}

/// A guard that a [`Condition`] can release and take back. Sealed: the guards of [`Lock`] and [`RLock`] are ones.
///
/// Those of an `RLock` give all levels back, while other guards of the same owner may live: another owner then uses the value at
/// the same time as they could, so the value must be `Sync`.
pub trait ConditionGuard: Sized + sealed::Sealed {
    /// What is kept while it is released.
    #[doc(hidden)]
    type Released;

    #[doc(hidden)]
    fn release(self) -> Self::Released;

    #[doc(hidden)]
    fn take_back(released: Self::Released) -> Self;
}

/// A [`ConditionGuard`] that is not tied to a thread, so that a task can wait with it. Sealed: [`LockGuard`] and
/// [`RLockOwnerGuard`] are the ones.
pub trait TaskGuard: ConditionGuard {
    #[doc(hidden)]
    fn must_be_the_only_one(&self) {}

    #[doc(hidden)]
    fn take_back_async(released: Self::Released) -> impl Future<Output = Self>;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for crate::lock::LockGuard<'_, T> {}
    impl<T> Sealed for crate::rlock::RLockGuard<'_, T> {}
    impl<T: Sync> Sealed for crate::rlock::RLockOwnerGuard<'_, T> {}
}

impl<'a, T> ConditionGuard for LockGuard<'a, T> {
    type Released = &'a Lock<T>;

    fn release(self) -> &'a Lock<T> {
        Self::lock(&self)
    }

    fn take_back(lock: &'a Lock<T>) -> Self {
        lock.lock()
    }
}

impl<'a, T> TaskGuard for LockGuard<'a, T> {
    async fn take_back_async(lock: &'a Lock<T>) -> Self {
        lock.lock_async().await
    }
}

impl<'a, T: Sync> ConditionGuard for RLockGuard<'a, T> {
    type Released = (&'a RLock<T>, usize);

    fn release(self) -> Self::Released {
        self.release_all()
    }

    fn take_back((lock, levels): Self::Released) -> Self {
        Self::restore(lock, levels)
    }
}

impl<'a, T: Sync> ConditionGuard for RLockOwnerGuard<'a, T> {
    type Released = (&'a RLock<T>, Owner, usize);

    fn release(self) -> Self::Released {
        self.release_all()
    }

    fn take_back((lock, owner, levels): Self::Released) -> Self {
        Self::restore(lock, owner, levels)
    }
}

impl<'a, T: Sync> TaskGuard for RLockOwnerGuard<'a, T> {
    fn must_be_the_only_one(&self) {
        let levels = self.levels();
        assert!(levels == 1, "a task waits with the only guard of its owner, which has `{levels}`");
    }

    async fn take_back_async((lock, owner, levels): Self::Released) -> Self {
        Self::restore_async(lock, owner, levels).await
    }
}

impl Condition {
    /// A condition that nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// Releases the lock, waits to be notified, and takes the lock back.
    pub fn wait<G: ConditionGuard>(&self, guard: G) -> G {
        let place = self.set.enroll();
        let released = guard.release();
        block_on(place);
        G::take_back(released)
    }

    /// [`wait`](Self::wait), for at most `timeout`; `false` if there was no notification. Taking the lock back may take longer.
    pub fn wait_timeout<G: ConditionGuard>(&self, guard: G, timeout: Duration) -> (G, bool) {
        self.wait_until(guard, deadline_after(timeout))
    }

    /// [`wait`](Self::wait), until `deadline` at most; `false` if there was no notification. Taking the lock back may take
    /// longer.
    pub fn wait_deadline<G: ConditionGuard>(&self, guard: G, deadline: Instant) -> (G, bool) {
        self.wait_until(guard, Some(deadline))
    }

    /// [`wait`](Self::wait) from async code, with a lock that goes along with a task: that of a [`Lock`], or of an
    /// [`RLock`] that was locked for an [`Owner`](crate::Owner) handle.
    ///
    /// # Panics
    ///
    /// If the owner of the handle has more than one guard. A future can be dropped while the lock is released, and then nobody
    /// could take back for the other guards what they promise.
    pub async fn wait_async<G: TaskGuard>(&self, guard: G) -> G {
        guard.must_be_the_only_one();
        let place = self.set.enroll();
        let released = guard.release();
        // Dropped after the next line, it has been notified and has not looked.
        let notification = place.notification().await;
        let guard = G::take_back_async(released).await;
        notification.arrived();
        guard
    }

    /// Waits for as long as `must_wait` says so, looking after each notification.
    pub fn wait_while<G: ConditionGuard>(
        &self,
        mut guard: G,
        mut must_wait: impl FnMut(&mut G) -> bool,
    ) -> G {
        while must_wait(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// [`wait_while`](Self::wait_while), for at most `timeout`; `false` if it must still wait then.
    pub fn wait_while_timeout<G: ConditionGuard>(
        &self,
        guard: G,
        must_wait: impl FnMut(&mut G) -> bool,
        timeout: Duration,
    ) -> (G, bool) {
        self.wait_while_until(guard, must_wait, deadline_after(timeout))
    }

    /// [`wait_while`](Self::wait_while), until `deadline` at most; `false` if it must still wait then.
    pub fn wait_while_deadline<G: ConditionGuard>(
        &self,
        guard: G,
        must_wait: impl FnMut(&mut G) -> bool,
        deadline: Instant,
    ) -> (G, bool) {
        self.wait_while_until(guard, must_wait, Some(deadline))
    }

    /// [`wait_while`](Self::wait_while) from async code.
    ///
    /// # Panics
    ///
    /// As [`wait_async`](Self::wait_async).
    pub async fn wait_while_async<G: TaskGuard>(
        &self,
        mut guard: G,
        mut must_wait: impl FnMut(&mut G) -> bool,
    ) -> G {
        while must_wait(&mut guard) {
            guard = self.wait_async(guard).await;
        }
        guard
    }

    /// Wakes the first in line; `false` if nobody waits.
    pub fn notify_one(&self) -> bool {
        self.set.notify(1) == 1
    }

    /// Wakes the first `count` in line, and says how many there were.
    pub fn notify(&self, count: usize) -> usize {
        self.set.notify(count)
    }

    /// Wakes all who wait now, and says how many there were.
    pub fn notify_all(&self) -> usize {
        self.set.notify_all()
    }

    /// How many wait and were not notified yet.
    pub fn waiting(&self) -> usize {
        self.set.waiting()
    }

    /// How much has been waited for notifications.
    pub fn stats(&self) -> WaitStats {
        self.set.stats()
    }

    fn wait_until<G: ConditionGuard>(&self, guard: G, deadline: Option<Instant>) -> (G, bool) {
        let mut place = self.set.enroll();
        let released = guard.release();
        let notified = place.wait_deadline(deadline);
        // Out of the line before the wait for the lock, so that no later notification is spent on this one.
        drop(place);
        (G::take_back(released), notified)
    }

    fn wait_while_until<G: ConditionGuard>(
        &self,
        mut guard: G,
        mut must_wait: impl FnMut(&mut G) -> bool,
        deadline: Option<Instant>,
    ) -> (G, bool) {
        while must_wait(&mut guard) {
            let notified;
            (guard, notified) = self.wait_until(guard, deadline);
            if !notified {
                let in_time = !must_wait(&mut guard);
                return (guard, in_time);
            }
        }
        (guard, true)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.waiting()).finish()
    }
}
