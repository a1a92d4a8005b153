//! A counted supply of permits without guards.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Closed, TryAcquireError, WaitError};
use crate::prim::atomic::{AtomicIsize, Ordering};
use crate::prim::{Mutex, lock};
use crate::wait::{
    self, Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, named_wait, update,
};

/// Somebody stands in line: nothing may be taken or given back without a look at it. Changed under the mutex only.
const QUEUED: isize = 1;
/// It was closed. Changed under the mutex only.
const CLOSED: isize = 2;
const FLAGS: isize = QUEUED | CLOSED;
/// One permit, in the upper bits. Their number is below zero when the limit was lowered by more than was free.
const ONE: isize = 4;

/// Counts permits; whoever takes some gives them back by hand, from anywhere.
///
/// For permits that come back by themselves use [`Semaphore`](crate::Semaphore). This one is for bindings and for
/// building other primitives.
///
/// # Fairness
///
/// First come, first served. Released permits are handed to the first in line, and nobody overtakes it, not even with
/// a smaller request that would fit.
///
/// # Memory ordering
///
/// What came before a release is visible to whoever acquires what was released.
///
/// # Cancel safety
///
/// A wait that gives up leaves the line; permits it was given in the same moment go to the next.
///
/// # Examples
///
/// ```
/// use tricorne_sync::raw::RawSemaphore;
///
/// let permits = RawSemaphore::new(2);
/// permits.acquire(2).unwrap();
/// assert!(permits.try_acquire(1).is_err());
/// assert_eq!(permits.release_bounded(2, 2), Ok(()));
/// assert!(permits.release_bounded(1, 2).is_err(), "that would make three");
/// assert_eq!(permits.available(), 2);
/// ```
///
/// # Protocol
///
/// One word holds the number of free permits and two flags. While no flag is set, permits are taken and given back by one
/// compare-and-swap. Whoever has to wait sets `QUEUED` under the mutex, in the same step in which it sees that there
/// are too few, so no release can slip in between; from then on all go through the mutex, until the line is empty.
pub struct RawSemaphore {
    word: AtomicIsize,
    line: Renewable<WaitList<usize>>,
}

/// More permits were to be given back than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverReleased;

impl fmt::Display for OverReleased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more permits given back than were taken")
    }
}

impl std::error::Error for OverReleased {}

/// What could be done to the word.
enum Change<E> {
    Done,
    /// A flag says that it needs the mutex.
    Slowly,
    Refused(E),
}

impl RawSemaphore {
    /// The most permits that a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// A semaphore with `permits` free permits.
    ///
    /// # Panics
    ///
    /// If `permits` is more than [`Self::MAX_PERMITS`].
    pub fn new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "more permits than a semaphore can count: `{permits}`");
        Self { word: AtomicIsize::new(permits.cast_signed() * ONE), line: Renewable::new(WaitList::new()) }
    }

    /// Takes `count` permits, waiting for them if need be. More than the semaphore ever has waits until some are
    /// added.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the semaphore is closed, before or during the wait.
    #[inline]
    pub fn acquire(&self, count: usize) -> Result<(), Closed> {
        if self.take_fast(count) { Ok(()) } else { wait::block(self, Acquire { semaphore: self, count }) }
    }

    /// Takes `count` permits if they are free and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError`] says which of the two it was: too few permits, or closed.
    #[inline]
    pub fn try_acquire(&self, count: usize) -> Result<(), TryAcquireError> {
        if self.take_fast(count) { Ok(()) } else { self.try_acquire_slowly(count) }
    }

    /// Takes `count` permits, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] if the semaphore is closed.
    #[inline]
    pub fn acquire_deadline(&self, count: usize, deadline: Option<Instant>) -> Result<(), WaitError> {
        if self.take_fast(count) {
            return Ok(());
        }
        wait::in_time(wait::block_until(self, Acquire { semaphore: self, count }, deadline))
    }

    /// [`acquire_deadline`](Self::acquire_deadline), for at most `timeout`. The clock is looked at only if it has to wait.
    #[inline]
    pub(crate) fn acquire_timeout(&self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        if self.take_fast(count) {
            return Ok(());
        }
        wait::in_time(wait::block_for(self, Acquire { semaphore: self, count }, timeout))
    }

    /// Takes `count` permits from async code. Its place in line is taken at the first poll.
    pub fn acquire_async(&self, count: usize) -> AcquireWait<'_> {
        AcquireWait(Wait::new(self, Acquire { semaphore: self, count }))
    }

    /// Gives `count` permits back, or adds them: they are free at once.
    ///
    /// # Panics
    ///
    /// If more than [`Self::MAX_PERMITS`] would be free.
    #[inline]
    pub fn release(&self, count: usize) {
        if self.release_bounded(count, Self::MAX_PERMITS).is_err() {
            panic!("more permits than a semaphore can count: `{count}` added");
        }
    }

    /// Gives `count` permits back if not more than `bound` are free then; otherwise gives back none.
    ///
    /// # Errors
    ///
    /// [`OverReleased`] if it would be more than `bound`.
    #[inline]
    pub fn release_bounded(&self, count: usize, bound: usize) -> Result<(), OverReleased> {
        match self.give(count, bound, FLAGS) {
            Change::Done => Ok(()),
            Change::Refused(refused) => Err(refused),
            Change::Slowly => self.release_slowly(count, bound),
        }
    }

    /// Lowers the limit by `count` permits, without waiting for them: if fewer are free, the semaphore goes into debt,
    /// which is paid by the permits that come back.
    ///
    /// # Panics
    ///
    /// If the debt would be more than [`Self::MAX_PERMITS`].
    pub fn reduce(&self, count: usize) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let room = free(word) + Self::MAX_PERMITS.cast_signed();
            assert!(
                isize::try_from(count).is_ok_and(|count| count <= room),
                "a greater debt than a semaphore can count: `{count}` permits removed"
            );
            match self.swap(word, word - count.cast_signed() * ONE) {
                Ok(()) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Ends it: whoever waits, and whoever comes later, gets [`Closed`]. Permits can still be given back.
    pub fn close(&self) {
        update(self.line.get(), |line, deferred| {
            self.word.fetch_or(CLOSED, Ordering::AcqRel);
            line.wake_all(deferred);
        });
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Permits that are free now; zero while the semaphore is in debt.
    pub fn available(&self) -> usize {
        free(self.word.load(Ordering::Acquire)).max(0).cast_unsigned()
    }

    /// How much has been waited for permits.
    pub fn stats(&self) -> WaitStats {
        lock(self.line.get()).stats(Instant::now())
    }

    /// Starts afresh with `permits` in the child of a forked process; see
    /// [`RawLock::reinit_after_fork`](super::RawLock::reinit_after_fork).
    pub fn reinit_after_fork(&self, permits: usize) {
        self.line.renew(WaitList::new());
        self.word.store(permits.min(Self::MAX_PERMITS).cast_signed() * ONE, Ordering::SeqCst);
    }

    #[inline]
    fn take_fast(&self, count: usize) -> bool {
        matches!(self.take(count, FLAGS), Change::Done)
    }

    /// Takes permits, unless one of `flags` is set or there are too few.
    #[inline]
    fn take(&self, count: usize, flags: isize) -> Change<isize> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & flags != 0 {
                return Change::Slowly;
            }
            // `count` may exceed `isize` in a request that can never be met; it then waits for ever.
            if !isize::try_from(count).is_ok_and(|count| count <= free(word)) {
                return Change::Refused(word);
            }
            match self.swap(word, word - count.cast_signed() * ONE) {
                Ok(()) => return Change::Done,
                Err(now) => word = now,
            }
        }
    }

    /// Gives permits, unless one of `flags` is set or there would be too many.
    #[inline]
    fn give(&self, count: usize, bound: usize, flags: isize) -> Change<OverReleased> {
        let bound = bound.min(Self::MAX_PERMITS).cast_signed();
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & flags != 0 {
                return Change::Slowly;
            }
            if !isize::try_from(count).is_ok_and(|count| count <= bound - free(word)) {
                return Change::Refused(OverReleased);
            }
            match self.swap(word, word + count.cast_signed() * ONE) {
                Ok(()) => return Change::Done,
                Err(now) => word = now,
            }
        }
    }

    /// Acquire and release: whoever takes permits sees what came before they were given.
    #[inline]
    fn swap(&self, from: isize, to: isize) -> Result<(), isize> {
        self.word.compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Relaxed).map(drop)
    }

    #[cold]
    fn try_acquire_slowly(&self, count: usize) -> Result<(), TryAcquireError> {
        update(self.line.get(), |line, _| {
            if self.is_closed() {
                Err(TryAcquireError::Closed)
            } else if line.is_empty() && matches!(self.take(count, CLOSED), Change::Done) {
                Ok(())
            } else {
                Err(TryAcquireError::NoPermits)
            }
        })
    }

    #[cold]
    fn release_slowly(&self, count: usize, bound: usize) -> Result<(), OverReleased> {
        update(self.line.get(), |line, deferred| match self.give(count, bound, 0) {
            Change::Refused(refused) => Err(refused),
            Change::Done | Change::Slowly => {
                self.serve(line, deferred);
                Ok(())
            }
        })
    }

    /// Hands free permits to the first in line for as long as they suffice. Under the mutex.
    fn serve(&self, line: &mut WaitList<usize>, deferred: &mut Deferred) {
        while let Some(&count) = line.front() {
            // Too few, or closed: the line stays.
            let Change::Done = self.take(count, CLOSED) else { return };
            line.grant_front((), deferred);
        }
        // Nobody is left to look after.
        self.word.fetch_and(!QUEUED, Ordering::Relaxed);
    }
}

/// The free permits in `word`.
fn free(word: isize) -> isize {
    word >> ONE.trailing_zeros()
}

impl fmt::Debug for RawSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSemaphore")
            .field("available", &free(self.word.load(Ordering::Relaxed)))
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Primitive for RawSemaphore {
    type State = WaitList<usize>;

    fn state(&self) -> &Mutex<WaitList<usize>> {
        self.line.get()
    }
}

/// Takes permits.
pub(crate) struct Acquire<'a> {
    semaphore: &'a RawSemaphore,
    count: usize,
}

named_wait! {
    /// The future of [`RawSemaphore::acquire_async`]: when it is ready, the caller has the permits.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it leaves the line, or gives back what it was given.
    AcquireWait<'a>, RawSemaphore, Acquire<'a>, Result<(), Closed>
}

impl Operation for Acquire<'_> {
    type State = WaitList<usize>;
    type Request = usize;
    type Grant = ();
    type Output = Result<(), Closed>;

    fn list(line: &mut WaitList<usize>) -> &mut WaitList<usize> {
        line
    }

    fn attempt(&mut self, line: &mut WaitList<usize>, _: &mut Deferred) -> Option<Self::Output> {
        let semaphore = self.semaphore;
        loop {
            let word = semaphore.word.load(Ordering::Relaxed);
            if word & CLOSED != 0 {
                return Some(Err(Closed(())));
            }
            if line.is_empty() {
                match semaphore.take(self.count, CLOSED) {
                    Change::Done => return Some(Ok(())),
                    // To be tried again if anything was given back since.
                    Change::Refused(word) if semaphore.swap(word, word | QUEUED).is_ok() => return None,
                    Change::Refused(_) | Change::Slowly => {}
                }
            } else {
                return None;
            }
        }
    }

    fn request(&mut self) -> usize {
        self.count
    }

    fn resume(
        &mut self,
        line: &mut WaitList<usize>,
        ticket: Ticket,
        deferred: &mut Deferred,
    ) -> Option<Self::Output> {
        if line.take_granted(ticket).is_some() {
            Some(Ok(()))
        } else if self.semaphore.is_closed() {
            line.leave(ticket, deferred);
            Some(Err(Closed(())))
        } else {
            None
        }
    }

    fn abandon(&mut self, line: &mut WaitList<usize>, ticket: Ticket, deferred: &mut Deferred) {
        if line.take_granted(ticket).is_some() {
            self.semaphore.word.fetch_add(self.count.cast_signed() * ONE, Ordering::AcqRel);
        } else {
            line.leave(ticket, deferred);
        }
        // Others may be served now: with what it had, or because it stood first with a large request.
        self.semaphore.serve(line, deferred);
    }
}
