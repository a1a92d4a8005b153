//! A flag that threads and tasks can wait for.
//!
//! Use it to say once that something has happened: the set-up is complete, the end has come. Whoever waits for data that comes
//! with it is better off with a [`Queue`](crate::Queue) or a [`Condition`](crate::Condition).
//!
//! ```
//! use std::thread;
//! use std::time::Duration;
//! use tricorne_sync::Event;
//!
//! let end = Event::new();
//! thread::scope(|scope| {
//!     let worker = scope.spawn(|| {
//!         let mut rounds = 0;
//!         // Instead of sleeping between two rounds: it ends as soon as it is told.
//!         while !end.wait_timeout(Duration::from_millis(1)) {
//!             rounds += 1;
//!         }
//!         rounds
//!     });
//!     end.set();
//!     worker.join().unwrap();
//! });
//! assert!(end.is_set(), "it stays set, for those who come later");
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::prim::atomic::{AtomicBool, Ordering};
use crate::prim::{Mutex, lock};
use crate::wait::{
    self, Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, named_wait, update,
};

/// Tells any number of waiters that something has happened, and remembers it until it is cleared.
///
/// # Memory ordering
///
/// What a thread did before [`set`](Self::set) is visible to whoever sees the event set, by waiting or by
/// [`is_set`](Self::is_set), and to whoever [clears](Self::clear) it afterwards.
///
/// # Cancel safety
///
/// A wait that times out, or whose future is dropped, has no effect on the others.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use tricorne_sync::Event;
///
/// let ready = Event::new();
/// thread::scope(|scope| {
///     scope.spawn(|| ready.set());
///     ready.wait();
/// });
/// assert!(ready.is_set());
/// ```
pub struct Event {
    /// Changed only under the lock; read without it where that is enough.
    set: AtomicBool,
    waiters: Renewable<WaitList<()>>,
}

impl Event {
    /// An event that is not set.
    pub fn new() -> Self {
        Self { set: AtomicBool::new(false), waiters: Renewable::new(WaitList::new()) }
    }

    /// Sets it and releases all who wait, even if it is cleared again before they get to run.
    #[inline]
    pub fn set(&self) {
        // Set already: nobody sleeps, or whoever set it is about to wake them. Written once more rather than only read, so that what came
        // before this call is visible to a `clear` that comes after it: whoever clears first and then looks for work finds it.
        let again = self.set.load(Ordering::Relaxed)
            && self.set.compare_exchange(true, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !again {
            self.set_first();
        }
    }

    fn set_first(&self) {
        update(self.waiters.get(), |waiters, deferred| {
            // Release: pairs with the load in `is_set`.
            self.set.store(true, Ordering::Release);
            while waiters.grant_front((), deferred).is_some() {}
        });
    }

    /// Makes later waits wait again.
    pub fn clear(&self) {
        let _waiters = lock(self.waiters.get());
        // Not a plain store: it takes up what came before the last `set`, which may have been one without the lock.
        self.set.swap(false, Ordering::AcqRel);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        // Acquire: what came before `set` is visible after this.
        self.set.load(Ordering::Acquire)
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        if !self.is_set() {
            wait::block(self, UntilSet { event: self });
        }
    }

    /// Waits until it is set, for at most `timeout`; `false` if it was not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(wait::deadline_after(timeout))
    }

    /// Waits until it is set, until `deadline` at most; `false` if it was not.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.is_set() || self.wait_until(Some(deadline))
    }

    /// Waits until it is set, from async code.
    pub fn wait_async(&self) -> EventWait<'_> {
        EventWait(Wait::new(self, UntilSet { event: self }))
    }

    /// How much has been waited for it.
    pub fn stats(&self) -> WaitStats {
        lock(self.waiters.get()).stats(Instant::now())
    }

    /// Forgets all who wait, in the child of a forked process; whether it is set stays as it was. See
    /// [`RawLock::reinit_after_fork`](crate::raw::RawLock::reinit_after_fork).
    pub fn reinit_after_fork(&self) {
        self.waiters.renew(WaitList::new());
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        wait::block_until(self, UntilSet { event: self }, deadline).is_ok()
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

impl Primitive for Event {
    type State = WaitList<()>;

    fn state(&self) -> &Mutex<WaitList<()>> {
        self.waiters.get()
    }
}

pub(crate) struct UntilSet<'a> {
    event: &'a Event,
}

named_wait! {
    /// The future of [`Event::wait_async`]: ready once the event was set.
    ///
    /// # Cancel safety
    ///
    /// Dropping it has no effect on the others.
    EventWait<'a>, Event, UntilSet<'a>, ()
}

impl Operation for UntilSet<'_> {
    type State = WaitList<()>;
    type Request = ();
    type Grant = ();
    type Output = ();

    fn list(waiters: &mut WaitList<()>) -> &mut WaitList<()> {
        waiters
    }

    fn attempt(&mut self, _: &mut WaitList<()>, _: &mut Deferred) -> Option<()> {
        self.event.is_set().then_some(())
    }

    fn request(&mut self) {}

    fn resume(&mut self, waiters: &mut WaitList<()>, ticket: Ticket, _: &mut Deferred) -> Option<()> {
        waiters.take_granted(ticket)
    }

    fn abandon(&mut self, waiters: &mut WaitList<()>, ticket: Ticket, deferred: &mut Deferred) {
        if waiters.take_granted(ticket).is_none() {
            waiters.leave(ticket, deferred);
        }
    }
}
