//! Data that one thread or task at a time may use.
//!
//! Use it where several threads or tasks change the same value. For values that only one of them changes and hands on, a
//! [`Queue`](crate::Queue) needs no lock; for a number alone, an atomic of the standard library is enough.
//!
//! ```
//! use std::thread;
//! use tricorne_sync::Lock;
//!
//! let counter = Lock::new(0);
//! thread::scope(|scope| {
//!     for _ in 0..4 {
//!         scope.spawn(|| {
//!             for _ in 0..1000 {
//!                 *counter.lock() += 1;
//!             }
//!         });
//!     }
//! });
//! assert_eq!(counter.into_inner(), 4000);
//! ```
//!
//! # Unsafe code
//!
//! This file is unsafe where it turns "holds the lock" into a reference to the data. The safe way, a standard mutex behind
//! our line, would lock twice: the uncontended lock would cost about twice the instructions. The model
//! `lock::typed_guards_exclude` has loom check each access.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::prim::UnsafeCell;
use crate::raw::RawLock;
use crate::wait::{WaitStats, deadline_after};

/// Guards data: whoever locks it may use the data, through a guard that unlocks it when dropped.
///
/// A panic of a holder unlocks it and does not poison it: who comes next finds the data as the panic left it.
///
/// # Fairness
///
/// Waiters are served in the order in which they came. A thread that runs may overtake the first in line while that one
/// wakes up, once; see [`RawLock`](crate::raw::RawLock#fairness).
///
/// # Cancel safety
///
/// A wait that times out, or whose future is dropped, leaves the line; if it was given the lock in the same moment, it is
/// unlocked for the next.
///
/// # Examples
///
/// A guard may be held while a task waits, and be dropped on another thread:
///
/// ```
/// use tricorne_sync::{Lock, block_on};
///
/// let words = Lock::new(vec!["a"]);
/// block_on(async {
///     let mut guard = words.lock_async().await;
///     assert!(words.try_lock().is_none());
///     guard.push("hat");
/// });
/// assert_eq!(words.lock().len(), 2);
/// ```
#[derive(Default)]
pub struct Lock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: a lock owns its value, so it may go where the value may go.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: through a shared lock the value is reached by guards only, of which there is one at a time (`RawLock`), and an
// unlock is seen by the next lock. So several threads have it one after the other, which needs `Send`, not `Sync`.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self { raw: RawLock::new(), value: UnsafeCell::new(value) }
    }

    /// Locks it, waiting for it if need be.
    ///
    /// A holder that locks it again waits for itself, for ever: that is what [`RLock`](crate::RLock) is for.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.raw.lock();
        LockGuard::new(self)
    }

    /// Locks it if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.raw.try_lock().then(|| LockGuard::new(self))
    }

    /// [`lock`](Self::lock), waiting for at most `timeout`; `None` if it was not free by then.
    pub fn lock_timeout(&self, timeout: Duration) -> Option<LockGuard<'_, T>> {
        // The clock is only read if there is something to wait for.
        self.try_lock().or_else(|| self.lock_until(deadline_after(timeout)))
    }

    /// [`lock`](Self::lock), waiting until `deadline` at most; `None` if it was not free by then.
    pub fn lock_deadline(&self, deadline: Instant) -> Option<LockGuard<'_, T>> {
        self.lock_until(Some(deadline))
    }

    /// [`lock`](Self::lock) from async code. Its place in line is taken at the first poll.
    pub async fn lock_async(&self) -> LockGuard<'_, T> {
        self.raw.lock_async().await;
        LockGuard::new(self)
    }

    /// Whether somebody holds it at this moment.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// The value, without locking: whoever has the lock for itself has the value for itself.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` means that there is no guard.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// How much has been waited for it.
    pub fn stats(&self) -> WaitStats {
        self.raw.stats()
    }

    fn lock_until(&self, deadline: Option<Instant>) -> Option<LockGuard<'_, T>> {
        self.raw.lock_deadline(deadline).then(|| LockGuard::new(self))
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_struct("Lock").field("value", &*guard).finish(),
            None => f.debug_struct("Lock").field("value", &format_args!("<locked>")).finish(),
        }
    }
}

/// The right to use what a [`Lock`] guards; dropping it unlocks.
///
/// It may go to another thread, but be shared between threads only if the value may:
///
/// ```compile_fail
/// let lock = tricorne_sync::Lock::new(std::cell::Cell::new(0));
/// let guard = lock.lock();
/// std::thread::scope(|scope| {
///     scope.spawn(|| guard.set(1));
/// });
/// ```
#[must_use = "it unlocks as soon as this is dropped"]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// As far as threads are concerned, it is a `&mut T`.
    value: PhantomData<&'a mut T>,
}

impl<'a, T> LockGuard<'a, T> {
    #[inline]
    fn new(lock: &'a Lock<T>) -> Self {
        Self { lock, value: PhantomData }
    }

    /// The lock that it holds.
    pub fn lock(guard: &Self) -> &'a Lock<T> {
        guard.lock
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held as long as this guard lives, so nobody else has a reference to the value; the one
        // that is made here borrows the guard.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed for writing.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.unlock_held();
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
