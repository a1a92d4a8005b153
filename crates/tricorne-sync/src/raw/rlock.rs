//! A re-entrant lock without a guard and without data.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::lock::{LockWait, RawLock};
use super::owner::{Owner, OwnerCell};
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::wait::WaitStats;

/// A [`RawLock`] that its owner may lock again; it is free once it was unlocked as often.
///
/// Whoever locks says who it is with an [`Owner`]: the current thread, or a handle.
///
/// # Fairness, Memory ordering, Cancel safety
///
/// Those of [`RawLock`].
///
/// # Examples
///
/// ```
/// use tricorne_sync::Owner;
/// use tricorne_sync::raw::RawRLock;
///
/// let lock = RawRLock::new();
/// let (me, other) = (Owner::current_thread(), Owner::unique());
/// lock.lock(me);
/// lock.lock(me);
/// assert_eq!(lock.levels(me), 2);
/// assert!(!lock.try_lock(other));
/// assert!(lock.unlock(other).is_err(), "it is not the owner");
///
/// let levels = lock.release_all(me).unwrap();
/// assert!(!lock.is_locked());
/// lock.restore(me, levels);
/// assert_eq!(lock.levels(me), 2);
/// ```
pub struct RawRLock {
    lock: RawLock,
    /// Written by the holder of `lock` only.
    owner: OwnerCell,
    /// How often it was locked. Read and written by the owner only.
    levels: AtomicUsize,
}

/// A re-entrant lock was to be unlocked by one that does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOwner;

impl fmt::Display for NotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is not held by this owner")
    }
}

impl std::error::Error for NotOwner {}

impl RawRLock {
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self { lock: RawLock::new(), owner: OwnerCell::new(), levels: AtomicUsize::new(0) }
    }

    /// Takes it for `owner`, or once more if it is the owner already; `false` if somebody else holds it.
    #[inline]
    pub fn try_lock(&self, owner: Owner) -> bool {
        self.enter(owner) || (self.lock.try_lock() && self.own(owner, 1))
    }

    /// Takes it for `owner`, waiting for it if somebody else holds it.
    #[inline]
    pub fn lock(&self, owner: Owner) {
        if !self.enter(owner) {
            self.lock.lock();
            self.own(owner, 1);
        }
    }

    /// Takes it for `owner`, waiting until `deadline` at most; `false` if somebody else still held it then.
    #[inline]
    pub fn lock_deadline(&self, owner: Owner, deadline: Option<Instant>) -> bool {
        self.enter(owner) || (self.lock.lock_deadline(deadline) && self.own(owner, 1))
    }

    /// Takes it for `owner` from async code.
    pub fn lock_async(&self, owner: Owner) -> RLockWait<'_> {
        RLockWait { lock: self, owner, levels: 1, reentrant: true, wait: self.lock.lock_async() }
    }

    /// Gives back one level.
    ///
    /// # Errors
    ///
    /// [`NotOwner`] if `owner` does not hold it.
    #[inline]
    pub fn unlock(&self, owner: Owner) -> Result<(), NotOwner> {
        if !self.owner.is(owner) {
            return Err(NotOwner);
        }
        self.unlock_held();
        Ok(())
    }

    /// Gives back all levels at once and says how many they were, for [`restore`](Self::restore): what a condition
    /// does while it waits.
    ///
    /// # Errors
    ///
    /// [`NotOwner`] if `owner` does not hold it.
    pub fn release_all(&self, owner: Owner) -> Result<usize, NotOwner> {
        if !self.owner.is(owner) {
            return Err(NotOwner);
        }
        let levels = self.levels.load(Ordering::Relaxed);
        self.let_go();
        Ok(levels)
    }

    /// Takes it back for `owner` with `levels` levels, waiting for it if need be.
    ///
    /// It is for an owner that holds it no more; one that still does waits for itself.
    pub fn restore(&self, owner: Owner, levels: usize) {
        self.lock.lock();
        self.own(owner, levels);
    }

    /// [`restore`](Self::restore) from async code, or in slices with [`block_deadline`](crate::block_deadline).
    pub fn restore_async(&self, owner: Owner, levels: usize) -> RLockWait<'_> {
        RLockWait { lock: self, owner, levels, reentrant: false, wait: self.lock.lock_async() }
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether `owner` holds it.
    #[inline]
    pub fn is_owned_by(&self, owner: Owner) -> bool {
        self.owner.is(owner)
    }

    /// How often `owner` has locked it.
    pub fn levels(&self, owner: Owner) -> usize {
        if self.owner.is(owner) { self.levels.load(Ordering::Relaxed) } else { 0 }
    }

    /// Who holds it at this moment.
    pub fn owner(&self) -> Option<Owner> {
        self.owner.get()
    }

    /// How much has been waited for it.
    pub fn stats(&self) -> WaitStats {
        self.lock.stats()
    }

    /// Makes it free in the child of a forked process; see [`RawLock::reinit_after_fork`].
    pub fn reinit_after_fork(&self) {
        self.owner.set(None);
        self.levels.store(0, Ordering::Relaxed);
        self.lock.reinit_after_fork();
    }

    /// Gives back one level, on behalf of a guard, which knows that its owner holds it.
    #[inline]
    pub(crate) fn unlock_held(&self) {
        let levels = self.levels.load(Ordering::Relaxed) - 1;
        if levels == 0 {
            self.let_go();
        } else {
            self.levels.store(levels, Ordering::Relaxed);
        }
    }

    /// One level more, if `owner` holds it.
    #[inline]
    fn enter(&self, owner: Owner) -> bool {
        let mine = self.owner.is(owner);
        if mine {
            let levels = self.levels.load(Ordering::Relaxed).checked_add(1);
            self.levels.store(levels.expect("an owner does not lock so often"), Ordering::Relaxed);
        }
        mine
    }

    /// Writes down who has just taken it.
    #[inline]
    fn own(&self, owner: Owner, levels: usize) -> bool {
        self.owner.set(Some(owner));
        self.levels.store(levels, Ordering::Relaxed);
        true
    }

    #[inline]
    fn let_go(&self) {
        self.owner.set(None);
        self.lock.unlock_held();
    }
}

impl Default for RawRLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RawRLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRLock")
            .field("owner", &self.owner())
            .field("levels", &self.levels.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// The future of [`RawRLock::lock_async`] and [`RawRLock::restore_async`]: when it is ready, its owner holds the lock.
///
/// # Cancel safety
///
/// Dropped before it is ready, it leaves the line, or unlocks what it was given.
#[must_use = "a future does nothing before it is polled"]
#[derive(Debug)]
pub struct RLockWait<'a> {
    lock: &'a RawRLock,
    owner: Owner,
    levels: usize,
    reentrant: bool,
    wait: LockWait<'a>,
}

impl Future for RLockWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.reentrant && self.lock.enter(self.owner) {
            // It leaves the line: whoever unlocks must not wake one that is not polled any more.
            self.wait = self.lock.lock.lock_async();
            return Poll::Ready(());
        }
        let polled = Pin::new(&mut self.wait).poll(context);
        if polled.is_ready() {
            self.lock.own(self.owner, self.levels);
        }
        polled
    }
}
