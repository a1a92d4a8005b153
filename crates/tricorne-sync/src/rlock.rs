//! A lock that its owner may lock again.
//!
//! Use it where a function that holds the lock calls another one that takes it too. If you can, split the inner function
//! instead, and use a [`Lock`](crate::Lock): it costs less thought, and it lets you change the data directly.
//!
//! ```
//! use std::cell::Cell;
//! use tricorne_sync::RLock;
//!
//! struct Account {
//!     balance: RLock<Cell<i64>>,
//! }
//!
//! impl Account {
//!     fn add(&self, amount: i64) {
//!         let balance = self.balance.lock();
//!         balance.set(balance.get() + amount);
//!     }
//!
//!     fn add_with_interest(&self, amount: i64) {
//!         let _balance = self.balance.lock();
//!         self.add(amount); // locks again
//!         self.add(amount / 10);
//!     }
//! }
//!
//! let account = Account { balance: RLock::new(Cell::new(0)) };
//! account.add_with_interest(100);
//! assert_eq!(account.balance.lock().get(), 110);
//! ```
//!
//! # Unsafe code
//!
//! One line promises that an `RLock` may be shared between threads although its value may not; the reason stands there.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::raw::{Owner, RawRLock};
use crate::wait::{WaitStats, deadline_after};

/// Guards data for one owner at a time, who may lock it as often as it likes; it is free once all guards are dropped.
///
/// As an owner may have several guards, they give shared references only. Put a `Cell` or a `RefCell` inside to change the
/// value.
///
/// # Who owns it
///
/// [`lock`](Self::lock) and its relatives lock for the thread that calls, and their guard stays on it. An async task has no
/// thread of its own, so [`lock_async`](Self::lock_async) locks for an [`Owner`] handle that the task carries along, and its
/// guard may go to other threads, so the value must be `Sync` for that. A handle stands for *one* task: locking and unlocking with
/// the same handle on two threads at the same moment loses count of the levels, and then the lock excludes nobody.
///
/// # Fairness, Cancel safety
///
/// Those of [`Lock`](crate::Lock). A panic does not poison it.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tricorne_sync::{Owner, RLock, block_on};
///
/// let calls = RLock::new(AtomicU32::new(0));
/// block_on(async {
///     let task = Owner::unique();
///     let outer = calls.lock_async(task).await;
///     let inner = calls.lock_async(task).await;
///     inner.fetch_add(1, Ordering::Relaxed);
///     assert_eq!(outer.load(Ordering::Relaxed), 1);
///     assert!(calls.try_lock().is_none(), "this thread is another owner");
/// });
/// assert!(calls.try_lock().is_some());
/// ```
#[derive(Default)]
pub struct RLock<T> {
    raw: RawRLock,
    value: T,
}

// SAFETY: `&T` is given to the owner only. A thread's guard cannot leave its thread, so the value is used by one thread at a
// time, and an unlock is seen by the next owner: that needs `Send`. Where that is not so the methods demand `Sync` themselves:
// where the owner is a handle, which several threads may show at once, and with a condition, which gives the lock away while
// other guards of the thread live (wakers, which are foreign code, run on it meanwhile and might reach them).
unsafe impl<T: Send> Sync for RLock<T> {}

impl<T> RLock<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self { raw: RawRLock::new(), value }
    }

    /// Locks it for this thread, waiting for it if somebody else owns it.
    #[inline]
    pub fn lock(&self) -> RLockGuard<'_, T> {
        self.raw.lock(Owner::current_thread());
        self.guard()
    }

    /// Locks it for this thread if nobody else owns it.
    #[inline]
    pub fn try_lock(&self) -> Option<RLockGuard<'_, T>> {
        self.raw.try_lock(Owner::current_thread()).then(|| self.guard())
    }

    /// [`lock`](Self::lock), waiting for at most `timeout`; `None` if it was not free by then.
    pub fn lock_timeout(&self, timeout: Duration) -> Option<RLockGuard<'_, T>> {
        self.try_lock().or_else(|| self.lock_until(deadline_after(timeout)))
    }

    /// [`lock`](Self::lock), waiting until `deadline` at most; `None` if it was not free by then.
    pub fn lock_deadline(&self, deadline: Instant) -> Option<RLockGuard<'_, T>> {
        self.lock_until(Some(deadline))
    }

    /// Locks it for `owner` from async code. Its place in line is taken at the first poll.
    pub async fn lock_async(&self, owner: Owner) -> RLockOwnerGuard<'_, T>
    where
        T: Sync,
    {
        self.raw.lock_async(owner).await;
        RLockOwnerGuard { lock: self, owner }
    }

    /// Whether somebody owns it at this moment.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// The value, without locking: whoever has the lock for itself has the value for itself.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// How much has been waited for it.
    pub fn stats(&self) -> WaitStats {
        self.raw.stats()
    }

    fn lock_until(&self, deadline: Option<Instant>) -> Option<RLockGuard<'_, T>> {
        self.raw.lock_deadline(Owner::current_thread(), deadline).then(|| self.guard())
    }

    #[inline]
    fn guard(&self) -> RLockGuard<'_, T> {
        RLockGuard { lock: self, here: PhantomData }
    }
}

impl<T> From<T> for RLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_struct("RLock").field("value", &*guard).finish(),
            None => f.debug_struct("RLock").field("value", &format_args!("<locked>")).finish(),
        }
    }
}

/// One level of an [`RLock`], of the thread that locked it; dropping it gives it back.
///
/// It stays on its thread:
///
/// ```compile_fail
/// let lock = tricorne_sync::RLock::new(0);
/// let guard = lock.lock();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(guard));
/// });
/// ```
#[must_use = "it unlocks as soon as this is dropped"]
pub struct RLockGuard<'a, T> {
    lock: &'a RLock<T>,
    /// Not `Send`, not `Sync`.
    here: PhantomData<*const ()>,
}

impl<'a, T: Sync> RLockGuard<'a, T> {
    /// Gives back all levels that this thread has, for a condition; the lock and how many they were.
    pub(crate) fn release_all(self) -> (&'a RLock<T>, usize) {
        let lock = self.lock;
        std::mem::forget(self);
        let levels = lock.raw.release_all(Owner::current_thread()).expect("a guard owns its lock");
        (lock, levels)
    }

    /// Takes them back.
    pub(crate) fn restore(lock: &'a RLock<T>, levels: usize) -> Self {
        lock.raw.restore(Owner::current_thread(), levels);
        lock.guard()
    }
}

impl<T> Deref for RLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.lock.value
    }
}

impl<T> Drop for RLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock_held();
    }
}

impl<T: fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// One level of an [`RLock`], of an [`Owner`] handle; dropping it, on any thread, gives it back.
#[must_use = "it unlocks as soon as this is dropped"]
pub struct RLockOwnerGuard<'a, T: Sync> {
    lock: &'a RLock<T>,
    owner: Owner,
}

impl<'a, T: Sync> RLockOwnerGuard<'a, T> {
    /// Who holds it.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// How many guards its owner has.
    pub(crate) fn levels(&self) -> usize {
        self.lock.raw.levels(self.owner)
    }

    /// Gives back all levels of its owner, for a condition; the lock, who had it, and how many levels they were.
    pub(crate) fn release_all(self) -> (&'a RLock<T>, Owner, usize) {
        let (lock, owner) = (self.lock, self.owner);
        std::mem::forget(self);
        let levels = lock.raw.release_all(owner).expect("a guard owns its lock");
        (lock, owner, levels)
    }

    /// Takes them back.
    pub(crate) fn restore(lock: &'a RLock<T>, owner: Owner, levels: usize) -> Self {
        lock.raw.restore(owner, levels);
        Self { lock, owner }
    }

    /// Takes them back from async code.
    pub(crate) async fn restore_async(lock: &'a RLock<T>, owner: Owner, levels: usize) -> Self {
        lock.raw.restore_async(owner, levels).await;
        Self { lock, owner }
    }
}

impl<T: Sync> Deref for RLockOwnerGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.lock.value
    }
}

impl<T: Sync> Drop for RLockOwnerGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_held();
    }
}

impl<T: Sync + fmt::Debug> fmt::Debug for RLockOwnerGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
