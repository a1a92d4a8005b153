//! A semaphore that notices when more permits come back than were taken.
//!
//! Use it where permits are given back by hand, in code that must not do so twice; with guards alone a
//! [`Semaphore`](crate::Semaphore) cannot get too many.
//!
//! ```
//! use tricorne_sync::{BoundedSemaphore, OverReleased};
//!
//! let lanes = BoundedSemaphore::new(2);
//! lanes.acquire(1)?.forget(); // to be given back by hand
//! assert_eq!(lanes.release(1), Ok(()));
//! assert_eq!(lanes.release(1), Err(OverReleased), "that was twice");
//! assert_eq!(lanes.available(), 2);
//! # Ok::<(), tricorne_sync::Closed>(())
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Closed, TryAcquireError, WaitError};
use crate::raw::OverReleased;
use crate::semaphore::{Permit, Semaphore};
use crate::wait::WaitStats;

/// A [`Semaphore`] that never has more free permits than in the beginning.
///
/// If permits were given back twice while others were taken, so that it could not be noticed, the guard of a later holder
/// gives back fewer.
///
/// Fairness and cancel safety are those of [`Semaphore`].
pub struct BoundedSemaphore {
    semaphore: Semaphore,
    bound: usize,
}

impl BoundedSemaphore {
    /// A semaphore with `permits` free permits, and never more.
    ///
    /// # Panics
    ///
    /// If `permits` is more than [`Semaphore::MAX_PERMITS`].
    pub fn new(permits: usize) -> Self {
        Self { semaphore: Semaphore::with_bound(permits, permits), bound: permits }
    }

    /// Takes `count` permits, waiting for them if need be.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire(&self, count: usize) -> Result<Permit<'_>, Closed> {
        self.semaphore.acquire(count)
    }

    /// Takes `count` permits if they are free and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] says which of the two it was: too few permits, or closed.
    pub fn try_acquire(&self, count: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.semaphore.try_acquire(count)
    }

    /// [`acquire`](Self::acquire), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_timeout(&self, count: usize, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.semaphore.acquire_timeout(count, timeout)
    }

    /// [`acquire`](Self::acquire), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_deadline(&self, count: usize, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.semaphore.acquire_deadline(count, deadline)
    }

    /// [`acquire`](Self::acquire) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub async fn acquire_async(&self, count: usize) -> Result<Permit<'_>, Closed> {
        self.semaphore.acquire_async(count).await
    }

    /// Gives back `count` permits whose guards were [forgotten](Permit::forget).
    ///
    /// # Errors
    ///
    /// [`OverReleased`] if more would be free than in the beginning; then none is given back.
    pub fn release(&self, count: usize) -> Result<(), OverReleased> {
        self.semaphore.raw().release_bounded(count, self.bound)
    }

    /// How many permits there are in all.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Permits that are free now.
    pub fn available(&self) -> usize {
        self.semaphore.available()
    }

    /// Ends it: whoever waits, and whoever comes later, gets [`Closed`].
    pub fn close(&self) {
        self.semaphore.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.semaphore.is_closed()
    }

    /// How much has been waited for permits.
    pub fn stats(&self) -> WaitStats {
        self.semaphore.stats()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore")
            .field("available", &self.available())
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
