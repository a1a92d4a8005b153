//! A counted supply of permits: how many things may happen, or how many bytes may be in use, at the same time.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{Closed, TryAcquireError, WaitError};
use crate::prim::{Arc, Mutex, lock};
use crate::wait::{self, Deferred, Operation, Primitive, Ticket, Wait, WaitList, update};

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
    state: Mutex<State>,
}

pub(crate) struct State {
    /// Below zero when the limit was reduced by more than was free.
    available: isize,
    closed: bool,
    acquires: u64,
    waiters: WaitList<usize>,
}

impl State {
    fn fits(&self, count: usize) -> bool {
        // `count` may exceed `isize` in a request that can never be met; it then waits for ever.
        isize::try_from(count).is_ok_and(|count| count <= self.available)
    }

    fn take(&mut self, count: usize) {
        self.available -= count.cast_signed();
        self.acquires += 1;
    }

    fn give_back(&mut self, count: usize, deferred: &mut Deferred) {
        self.available += count.cast_signed();
        self.serve(deferred);
    }

    /// Hands free permits to the first in line for as long as they suffice.
    fn serve(&mut self, deferred: &mut Deferred) {
        while !self.closed && self.waiters.front().is_some_and(|&count| self.fits(count)) {
            if let Some(count) = self.waiters.grant_front(deferred) {
                self.take(count);
            }
        }
    }
}

/// What a [`Semaphore`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemaphoreStats {
    /// Permits that are free now.
    pub available: usize,
    /// Acquisitions that wait in line now.
    pub waiting: usize,
    /// Acquisitions that were served.
    pub acquires: u64,
    /// Total time that acquisitions have spent waiting, those that wait now included.
    pub wait: Duration,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// A semaphore with `permits` free permits.
    ///
    /// # Panics
    ///
    /// If `permits` is more than [`Self::MAX_PERMITS`].
    pub fn new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "more permits than a semaphore can count: `{permits}`");
        Self {
            state: Mutex::new(State {
                available: permits.cast_signed(),
                closed: false,
                acquires: 0,
                waiters: WaitList::new(),
            }),
        }
    }

    /// Takes `count` permits, waiting for them if need be. More than the semaphore ever has waits until some are
    /// added.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire(&self, count: usize) -> Result<Permit<'_>, Closed> {
        wait::block(self, Acquire { count }).map(|()| self.permit(count))
    }

    /// Takes `count` permits if they are free and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] says which of the two it was: too few permits, or closed.
    pub fn try_acquire(&self, count: usize) -> Result<Permit<'_>, TryAcquireError> {
        self.try_take(count).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_timeout(&self, count: usize, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.take_until(count, wait::deadline_after(timeout)).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire), until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] if the semaphore is closed.
    pub fn acquire_deadline(&self, count: usize, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.take_until(count, Some(deadline)).map(|()| self.permit(count))
    }

    /// [`acquire`](Self::acquire) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub async fn acquire_async(&self, count: usize) -> Result<Permit<'_>, Closed> {
        Wait::new(self, Acquire { count }).await?;
        Ok(self.permit(count))
    }

    /// [`acquire`](Self::acquire) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    pub fn acquire_owned(self: &Arc<Self>, count: usize) -> Result<OwnedPermit, Closed> {
        wait::block(&**self, Acquire { count }).map(|()| self.owned_permit(count))
    }

    /// [`try_acquire`](Self::try_acquire) with a permit that can go to another thread or task.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`], as for `try_acquire`.
    pub fn try_acquire_owned(self: &Arc<Self>, count: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.try_take(count).map(|()| self.owned_permit(count))
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
        self.take_until(count, wait::deadline_after(timeout)).map(|()| self.owned_permit(count))
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
        self.take_until(count, Some(deadline)).map(|()| self.owned_permit(count))
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
            Wait::new(&*semaphore, Acquire { count }).await?;
            Ok(OwnedPermit { semaphore, count })
        }
    }

    /// Permits that are free now; zero while the semaphore is in debt.
    pub fn available(&self) -> usize {
        lock(&self.state).available.max(0).cast_unsigned()
    }

    /// Raises the limit by `count` permits, which are free at once.
    ///
    /// # Panics
    ///
    /// If more than [`Self::MAX_PERMITS`] would be free.
    pub fn add_permits(&self, count: usize) {
        update(&self.state, |state, deferred| {
            let room = Self::MAX_PERMITS.cast_signed() - state.available;
            assert!(
                isize::try_from(count).is_ok_and(|count| count <= room),
                "more permits than a semaphore can count: `{count}` added"
            );
            state.give_back(count, deferred);
        });
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
        let mut state = lock(&self.state);
        let room = state.available + Self::MAX_PERMITS.cast_signed();
        assert!(
            isize::try_from(count).is_ok_and(|count| count <= room),
            "a greater debt than a semaphore can count: `{count}` permits removed"
        );
        state.available -= count.cast_signed();
    }

    /// Ends it: whoever waits, and whoever comes later, gets [`Closed`]. Permits in use stay valid.
    pub fn close(&self) {
        update(&self.state, |state, deferred| {
            state.closed = true;
            state.waiters.wake_all(deferred);
        });
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// The figures at this moment.
    pub fn stats(&self) -> SemaphoreStats {
        let state = lock(&self.state);
        SemaphoreStats {
            available: state.available.max(0).cast_unsigned(),
            waiting: state.waiters.len(),
            acquires: state.acquires,
            wait: state.waiters.waited(Instant::now()),
        }
    }

    fn try_take(&self, count: usize) -> Result<(), TryAcquireError> {
        match wait::try_now(self, Acquire { count }) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Closed(()))) => Err(TryAcquireError::Closed),
            Err(_) => Err(TryAcquireError::NoPermits),
        }
    }

    fn take_until(&self, count: usize, deadline: Option<Instant>) -> Result<(), WaitError> {
        match wait::block_until(self, Acquire { count }, deadline) {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(WaitError::TimedOut),
        }
    }

    fn permit(&self, count: usize) -> Permit<'_> {
        Permit { semaphore: self, count }
    }

    fn owned_permit(self: &Arc<Self>, count: usize) -> OwnedPermit {
        OwnedPermit { semaphore: Arc::clone(self), count }
    }

    fn release(&self, count: usize) {
        update(&self.state, |state, deferred| state.give_back(count, deferred));
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Semaphore")
            .field("available", &state.available)
            .field("waiting", &state.waiters.len())
            .field("closed", &state.closed)
            .finish()
    }
}

impl Primitive for Semaphore {
    type State = State;

    fn state(&self) -> &Mutex<State> {
        &self.state
    }
}

/// Takes permits; the caller makes the guard.
struct Acquire {
    count: usize,
}

impl Operation for Acquire {
    type State = State;
    type Request = usize;
    type Output = Result<(), Closed>;

    fn list(state: &mut State) -> &mut WaitList<usize> {
        &mut state.waiters
    }

    fn attempt(&mut self, state: &mut State, _: &mut Deferred) -> Option<Self::Output> {
        if state.closed {
            Some(Err(Closed(())))
        } else if state.waiters.is_empty() && state.fits(self.count) {
            state.take(self.count);
            Some(Ok(()))
        } else {
            None
        }
    }

    fn request(&mut self) -> usize {
        self.count
    }

    fn resume(&mut self, state: &mut State, ticket: Ticket, deferred: &mut Deferred) -> Option<Self::Output> {
        if state.waiters.take_granted(ticket) {
            Some(Ok(()))
        } else if state.closed {
            state.waiters.leave(ticket, deferred);
            Some(Err(Closed(())))
        } else {
            None
        }
    }

    fn abandon(&mut self, state: &mut State, ticket: Ticket, deferred: &mut Deferred) {
        if state.waiters.take_granted(ticket) {
            state.give_back(self.count, deferred);
        } else {
            state.waiters.leave(ticket, deferred);
            // It may have been first with a large request, before a smaller one that fits.
            state.serve(deferred);
        }
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
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
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
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}
