//! A lock without a guard and without data.

use std::fmt;
use std::time::Instant;

use crate::prim::atomic::{AtomicU32, Ordering};
use crate::prim::{Mutex, lock, spins};
use crate::wait::{
    self, Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, named_wait, update,
};

/// Somebody holds it.
const LOCKED: u32 = 1;
/// Whoever unlocks it has to look at the line. Only together with `LOCKED`; set and cleared under the mutex only.
const PARKED: u32 = 2;

/// Excludes threads and tasks from one another; whoever locks it must unlock it, and anybody may do that.
///
/// For data that a lock protects use [`Lock`](crate::Lock): it has a guard. This one is for bindings and for building other
/// primitives.
///
/// # Fairness
///
/// Waiters are served in the order in which they came, with one exception: a thread that runs may take the lock while
/// the first in line is still waking up. A waiter that was woken and found the lock taken is handed it by the next
/// unlock, and nobody can come between. So a waiter is overtaken during one wake-up and no longer, and threads that use the
/// lock in turns need not wait for each other to wake up.
///
/// # Memory ordering
///
/// What a holder did before it unlocked is visible to the next holder.
///
/// # Cancel safety
///
/// A wait that gives up leaves the line; if it was given the lock in the same moment, it is unlocked for the next. A
/// [`LockWait`] that was woken must be polled or dropped: those behind it are woken by what it does.
///
/// # Examples
///
/// ```
/// use tricorne_sync::raw::RawLock;
///
/// let lock = RawLock::new();
/// lock.lock();
/// assert!(!lock.try_lock());
/// std::thread::scope(|scope| {
///     scope.spawn(|| lock.unlock()); // any thread may
///     lock.lock();
/// });
/// assert!(lock.is_locked());
/// assert_eq!(lock.unlock(), Ok(()));
/// assert!(lock.unlock().is_err(), "nobody holds it");
/// ```
///
/// # Protocol
///
/// | state | meaning | next |
/// | --- | --- | --- |
/// | 0 | free | `LOCKED`, by anybody, with one compare-and-swap |
/// | `LOCKED` | held; nobody sleeps, or one is on its way to look | 0 by unlock; `LOCKED + PARKED` by one that goes to sleep |
/// | `LOCKED + PARKED` | held; unlock has to wake or serve the first in line | 0 (nudge), or `LOCKED` with or without `PARKED` (hand-over), by unlock |
pub struct RawLock {
    state: AtomicU32,
    line: Renewable<WaitList<()>>,
}

/// A [`RawLock`] was to be unlocked that nobody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLocked;

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is not locked")
    }
}

impl std::error::Error for NotLocked {}

impl RawLock {
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self { state: AtomicU32::new(0), line: Renewable::new(WaitList::new()) }
    }

    /// Takes it if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire: pairs with the release by the last holder.
        self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes it, waiting for it if need be.
    #[inline]
    pub fn lock(&self) {
        if !self.try_lock() {
            self.lock_without_limit();
        }
    }

    /// Takes it, waiting until `deadline` at most; `false` if it was not free by then.
    #[inline]
    pub fn lock_deadline(&self, deadline: Option<Instant>) -> bool {
        self.try_lock() || self.lock_slowly(deadline)
    }

    /// Takes it from async code. Its place in line is taken at the first poll.
    pub fn lock_async(&self) -> LockWait<'_> {
        LockWait(Wait::new(self, Acquire { lock: self }))
    }

    /// Lets it go. Any thread or task may do that, not only the one that took it.
    ///
    /// # Errors
    ///
    /// [`NotLocked`] if nobody holds it.
    #[inline]
    pub fn unlock(&self) -> Result<(), NotLocked> {
        // Release: what was done under the lock is visible to the next holder.
        match self.state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(0) => Err(NotLocked),
            Err(_) => self.unlock_slowly(),
        }
    }

    /// [`unlock`](Self::unlock) by a guard, which knows that it holds it.
    #[inline]
    pub(crate) fn unlock_held(&self) {
        // Release: as in `unlock`.
        if self.state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_held_slowly();
        }
    }

    #[cold]
    fn unlock_held_slowly(&self) {
        let unlocked = self.unlock_slowly();
        debug_assert!(unlocked.is_ok(), "whoever has a guard holds the lock");
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) != 0
    }

    /// How much has been waited for it.
    pub fn stats(&self) -> WaitStats {
        lock(self.line.get()).stats(Instant::now())
    }

    /// Makes it usable in the child of a forked process: free, with nobody waiting, whatever the other threads of the
    /// parent were doing with it. To be called by the child while it has one thread; waits of the parent that the
    /// child's memory still holds must not be polled, only forgotten.
    pub fn reinit_after_fork(&self) {
        self.line.renew(WaitList::new());
        self.state.store(0, Ordering::SeqCst);
    }

    #[cold]
    #[inline(never)]
    fn lock_without_limit(&self) {
        self.lock_slowly(None);
    }

    #[cold]
    fn lock_slowly(&self, deadline: Option<Instant>) -> bool {
        spins(|| self.state.load(Ordering::Relaxed) == 0 && self.try_lock())
            || wait::block_until(self, Acquire { lock: self }, deadline).is_ok()
    }

    #[cold]
    fn unlock_slowly(&self) -> Result<(), NotLocked> {
        update(self.line.get(), |line, deferred| {
            // Relaxed: whoever holds it knows that it is locked, and `PARKED` changes under the mutex.
            if self.state.load(Ordering::Relaxed) == 0 {
                return Err(NotLocked);
            }
            self.pass_on(line, deferred);
            Ok(())
        })
    }

    /// Gives it away, on behalf of its holder: hands it to the first in line if that insists; otherwise lets it go and
    /// wakes the first in line.
    fn pass_on(&self, line: &mut WaitList<()>, deferred: &mut Deferred) {
        // Plain stores: nobody but the holder, and whoever has the mutex, changes a state that is not 0.
        if line.front_insists() {
            line.grant_front((), deferred);
            self.state.store(Self::held(line.needs_nudge()), Ordering::Relaxed);
        } else {
            if line.needs_nudge() {
                line.nudge_front(deferred);
            }
            // Release: as in `unlock`.
            self.state.store(0, Ordering::Release);
        }
    }

    const fn held(parked: bool) -> u32 {
        if parked { LOCKED | PARKED } else { LOCKED }
    }

    /// Takes it if it is free, leaving `parked` behind; otherwise makes sure that the next unlock looks at the line.
    /// Under the mutex.
    fn take_or_park(&self, parked: bool) -> bool {
        loop {
            let (from, to) = match self.state.load(Ordering::Relaxed) {
                0 => (0, Self::held(parked)),
                LOCKED => (LOCKED, LOCKED | PARKED),
                _ => return false,
            };
            // Acquire: as in `try_lock`. For parking, the mutex orders what has to be ordered.
            if self.state.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return from == 0;
            }
        }
    }
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RawLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLock").field("locked", &self.is_locked()).finish_non_exhaustive()
    }
}

impl Primitive for RawLock {
    type State = WaitList<()>;

    fn state(&self) -> &Mutex<WaitList<()>> {
        self.line.get()
    }
}

/// Takes the lock.
pub(crate) struct Acquire<'a> {
    lock: &'a RawLock,
}

named_wait! {
    /// The future of [`RawLock::lock_async`]: when it is ready, the caller holds the lock.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it leaves the line, or unlocks what it was given.
    LockWait<'a>, RawLock, Acquire<'a>, ()
}

impl Operation for Acquire<'_> {
    type State = WaitList<()>;
    type Request = ();
    type Grant = ();
    type Output = ();

    fn list(line: &mut WaitList<()>) -> &mut WaitList<()> {
        line
    }

    fn attempt(&mut self, line: &mut WaitList<()>, _: &mut Deferred) -> Option<()> {
        self.lock.take_or_park(line.needs_nudge()).then_some(())
    }

    fn request(&mut self) {}

    fn resume(&mut self, line: &mut WaitList<()>, ticket: Ticket, deferred: &mut Deferred) -> Option<()> {
        if line.take_granted(ticket).is_some() {
            return Some(());
        }
        if !line.may_look(ticket) {
            return None;
        }
        // Nobody else is on the way, so those who are left need whoever unlocks to look.
        if self.lock.take_or_park(line.len() > 1) {
            line.leave(ticket, deferred);
            return Some(());
        }
        line.looked_in_vain(ticket);
        None
    }

    fn abandon(&mut self, line: &mut WaitList<()>, ticket: Ticket, deferred: &mut Deferred) {
        if line.take_granted(ticket).is_some() {
            self.lock.pass_on(line, deferred);
            return;
        }
        line.leave(ticket, deferred);
        // If it was nudged, the next has to be served instead: at once if the lock is free, by the next unlock otherwise.
        if line.needs_nudge() && self.lock.take_or_park(false) {
            self.lock.pass_on(line, deferred);
        }
    }
}
