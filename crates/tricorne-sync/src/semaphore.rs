//! A counted supply of permits: how many things may happen, or how many bytes may be in use, at the same time.
//!
//! Use it where the number of something has to be kept within a limit (downloads, connections, bytes in memory), and nothing
//! has to be handed over. With one permit it is a lock without data; a [`Lock`](crate::Lock) says so more clearly.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::thread;
//! use tricorne_sync::Semaphore;
//!
//! let (memory, in_use) = (Semaphore::new(100), AtomicUsize::new(0));
//! thread::scope(|scope| {
//!     for size in [60, 30, 50, 80] {
//!         let (memory, in_use) = (&memory, &in_use);
//!         scope.spawn(move || {
//!             let held = memory.acquire(size).expect("nobody closes it");
//!             let now = in_use.fetch_add(size, Ordering::Relaxed) + size;
//!             assert!(now <= 100, "whoever comes too many waits");
//!             in_use.fetch_sub(size, Ordering::Relaxed);
//!             drop(held);
//!         });
//!     }
//! });
//! assert_eq!(memory.available(), 100);
//! ```

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Closed, TryAcquireError, WaitError};
use crate::prim::Arc;
use crate::raw::RawSemaphore;
use crate::wait::WaitStats;

/// Limits how much goes on at once: whoever holds permits may work, the others wait in line.
///
/// An acquisition takes any number of permits, so the same type counts requests (one permit each) and memory (one
/// permit per byte). A permit comes back when its guard is dropped, on every path.
///
/// # Fairness
///
/// First come, first served. Released permits are handed to the first in line, and nobody overtakes it, not even with
/// a smaller request that would fit: a large request cannot starve.
///
/// # Cancel safety
///
/// A wait that times out, or whose future is dropped, leaves the line; permits it was given in the same moment go to
/// the next.
///
/// # Examples
///
/// ```
/// use tricorne_sync::{Semaphore, TryAcquireError};
///
/// let downloads = Semaphore::new(2);
/// let first = downloads.acquire(1)?;
/// let second = downloads.acquire(1)?;
/// assert_eq!(downloads.try_acquire(1).err(), Some(TryAcquireError::NoPermits));
///
/// drop(first);
/// assert!(downloads.try_acquire(1).is_ok());
/// # drop(second);
/// # Ok::<(), tricorne_sync::Closed>(())
/// ```
pub struct Semaphore {
    raw: RawSemaphore,
    /// Guards do not bring the free permits above this.
    bound: usize,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = RawSemaphore::MAX_PERMITS;

    /// A semaphore with `permits` free permits.
    ///
    /// # Panics
    ///
    /// If `permits` is more than [`Self::MAX_PERMITS`].
    pub fn new(permits: usize) -> Self {
        Self::with_bound(permits, Self::MAX_PERMITS)
    }

    pub(crate) fn with_bound(permits: usize, bound: usize) -> Self {
        Self { raw: RawSemaphore::new(permits), bound }
    }

    /// Gives `count` permits back from a guard.
    fn take_back(&self, count: usize) {
        let mut fits = count;
        // Refused if somebody gave back by hand what it had not taken; so much of this was given back already. Looked at again
        // if others take or give meanwhile.
        while self.raw.release_bounded(fits, self.bound).is_err() {
            fits = count.min(self.bound.saturating_sub(self.raw.available()));
        }
    }

    /// Takes `count` permits, waiting for them if need be. More than the semaphore ever has waits until some are
    /// added.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire(&self, count: usize) -> Result<Permit<'_>, Closed> {
        self.raw.acquire(count).map(|()| self.permit(count))
    }

    /// Takes `count` permits if they are free and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] says which of the two it was: too few permits, or closed.
    pub fn try_acquire(&self, count: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.raw.try_acquire(count).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_timeout(&self, count: usize, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.raw.acquire_timeout(count, timeout).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_deadline(&self, count: usize, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.raw.acquire_deadline(count, Some(deadline)).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub async fn acquire_async(&self, count: usize) -> Result<Permit<'_>, Closed> {
        self.raw.acquire_async(count).await?;
        Ok(self.permit(count))
    }

    /// [`acquire`](Self::acquire) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire_owned(self: &Arc<Self>, count: usize) -> Result<OwnedPermit, Closed> {
        self.raw.acquire(count).map(|()| self.owned_permit(count))
    }

    /// [`try_acquire`](Self::try_acquire) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], as for `try_acquire`.
    pub fn try_acquire_owned(self: &Arc<Self>, count: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.raw.try_acquire(count).map(|()| self.owned_permit(count))
    }

    /// [`acquire_timeout`](Self::acquire_timeout) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`WaitError`], as for `acquire_timeout`.
    pub fn acquire_owned_timeout(
        self: &Arc<Self>,
        count: usize,
        timeout: Duration,
    ) -> Result<OwnedPermit, WaitError> {
        self.raw.acquire_timeout(count, timeout).map(|()| self.owned_permit(count))
    }

    /// [`acquire_deadline`](Self::acquire_deadline) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`WaitError`], as for `acquire_deadline`.
    pub fn acquire_owned_deadline(
        self: &Arc<Self>,
        count: usize,
        deadline: Instant,
    ) -> Result<OwnedPermit, WaitError> {
        self.raw.acquire_deadline(count, Some(deadline)).map(|()| self.owned_permit(count))
    }

    /// [`acquire_async`](Self::acquire_async) with a permit, and a future, that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire_owned_async(
        self: &Arc<Self>,
        count: usize,
    ) -> impl Future<Output = Result<OwnedPermit, Closed>> + Send + use<> {
        let semaphore = Arc::clone(self);
        async move {
            semaphore.raw.acquire_async(count).await?;
            Ok(OwnedPermit { semaphore, count })
        }
    }

    /// Permits that are free now; zero while the semaphore is in debt.
    pub fn available(&self) -> usize {
        self.raw.available()
    }

    /// Raises the limit by `count` permits, which are free at once.
    ///
    /// # Panics
    ///
    /// If more than [`Self::MAX_PERMITS`] would be free.
    pub fn add_permits(&self, count: usize) {
        self.raw.release(count);
    }

    /// Lowers the limit by `count` permits, without waiting for them.
    ///
    /// Permits in use stay in use. If fewer than `count` are free the semaphore goes into debt: that many of the
    /// permits that come back are kept, and nobody is served before the debt is paid.
    ///
    /// # Panics
    ///
    /// If the debt would be more than [`Self::MAX_PERMITS`].
    pub fn reduce_permits(&self, count: usize) {
        self.raw.reduce(count);
    }

    /// Ends it: whoever waits, and whoever comes later, gets [`Closed`]. Permits in use stay valid.
    pub fn close(&self) {
        self.raw.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// How much has been waited for permits.
    pub fn stats(&self) -> WaitStats {
        self.raw.stats()
    }

    pub(crate) fn raw(&self) -> &RawSemaphore {
        &self.raw
    }

    fn permit(&self, count: usize) -> Permit<'_> {
        Permit { semaphore: self, count }
    }

    fn owned_permit(self: &Arc<Self>, count: usize) -> OwnedPermit {
        OwnedPermit { semaphore: Arc::clone(self), count }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .field("closed", &self.is_closed())
            .finish()
    }
}

/// Permits in use; dropping it gives them back.
#[must_use = "the permits go back as soon as this is dropped"]
#[derive(Debug)]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// How many permits it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Does not give the permits back, ever; [`Semaphore::add_permits`] can make up for them.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.take_back(self.count);
    }
}

/// Permits in use that can go to another thread or task; dropping it gives them back.
#[must_use = "the permits go back as soon as this is dropped"]
#[derive(Debug)]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    count: usize,
}

impl OwnedPermit {
    /// How many permits it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Does not give the permits back, ever; [`Semaphore::add_permits`] can make up for them.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.take_back(self.count);
    }
}
