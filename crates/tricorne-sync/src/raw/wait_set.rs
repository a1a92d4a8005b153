//! The waiting half of a condition, for any lock.

use std::fmt;
use std::time::Instant;

use crate::block::block_deadline;
use crate::prim::{Mutex, lock};
use crate::wait::{
    Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, named_wait, update,
};

/// Who waits to be notified. With a lock of the caller's choice it is a condition.
///
/// Under the lock that guards what is waited for: look whether to wait, and [`enroll`](Self::enroll). Then release the
/// lock, wait, and take it again. A notification that comes after the enrolment is not lost, however late the wait
/// begins.
///
/// With the locks of this crate, [`Condition`](crate::Condition) does these steps.
///
/// # Fairness
///
/// A notification goes to those who enrolled first, to as many as it names and to no other. Nobody wakes without one.
///
/// # Memory ordering
///
/// What came before a notification is visible to who was notified.
///
/// # Cancel safety
///
/// One who gives up leaves. One who was notified and gives up without having looked passes the notification to the
/// next.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
/// use tricorne_sync::raw::WaitSet;
///
/// let (items, arrived) = (Mutex::new(Vec::new()), WaitSet::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         items.lock().unwrap().push("hat");
///         arrived.notify(1);
///     });
///     let mut guard = items.lock().unwrap();
///     while guard.is_empty() {
///         let mut place = arrived.enroll();
///         drop(guard);
///         place.wait_deadline(None);
///         guard = items.lock().unwrap();
///     }
///     assert_eq!(*guard, ["hat"]);
/// });
/// ```
pub struct WaitSet {
    line: Renewable<WaitList<()>>,
}

impl WaitSet {
    /// A set in which nobody waits.
    pub fn new() -> Self {
        Self { line: Renewable::new(WaitList::new()) }
    }

    /// Takes a place in line, to wait there or to leave it.
    pub fn enroll(&self) -> Enrolled<'_> {
        let ticket = lock(self.line.get()).join((), None);
        Enrolled(Wait::enrolled(self, Notified, ticket))
    }

    /// Notifies the first `count` of those who wait, and says how many there were.
    pub fn notify(&self, count: usize) -> usize {
        update(self.line.get(), |line, deferred| {
            (0..count).take_while(|_| line.grant_front((), deferred).is_some()).count()
        })
    }

    /// Notifies all who wait now, and says how many there were.
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }

    /// How many wait and were not notified yet.
    pub fn waiting(&self) -> usize {
        lock(self.line.get()).len()
    }

    /// How much has been waited here.
    pub fn stats(&self) -> WaitStats {
        lock(self.line.get()).stats(Instant::now())
    }

    /// Forgets all who wait, in the child of a forked process; see
    /// [`RawLock::reinit_after_fork`](super::RawLock::reinit_after_fork).
    pub fn reinit_after_fork(&self) {
        self.line.renew(WaitList::new());
    }
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSet").field("waiting", &self.waiting()).finish()
    }
}

impl Primitive for WaitSet {
    type State = WaitList<()>;

    fn state(&self) -> &Mutex<WaitList<()>> {
        self.line.get()
    }
}

/// Waits for its notification. It stands in line from the start.
pub(crate) struct Notified;

named_wait! {
    /// A place in a [`WaitSet`]; as a future it is ready once it was notified.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it has seen that it was notified, it leaves the line, or passes the notification to the next.
    Enrolled<'a>, WaitSet, Notified, ()
}

impl Enrolled<'_> {
    /// Waits to be notified, until `deadline` at most; `true` if it was. It keeps its place if it was not, so the wait
    /// can go on with another call.
    ///
    /// # Panics
    ///
    /// If it has returned `true` before.
    pub fn wait_deadline(&mut self, deadline: Option<Instant>) -> bool {
        block_deadline(&mut self.0, deadline).is_some()
    }
}

impl Operation for Notified {
    type State = WaitList<()>;
    type Request = ();
    type Grant = ();
    type Output = ();

    fn list(line: &mut WaitList<()>) -> &mut WaitList<()> {
        line
    }

    fn attempt(&mut self, _: &mut WaitList<()>, _: &mut Deferred) -> Option<()> {
        None
    }

    fn request(&mut self) {}

    fn resume(&mut self, line: &mut WaitList<()>, ticket: Ticket, _: &mut Deferred) -> Option<()> {
        line.take_granted(ticket)
    }

    fn abandon(&mut self, line: &mut WaitList<()>, ticket: Ticket, deferred: &mut Deferred) {
        if line.take_granted(ticket).is_some() {
            line.grant_front((), deferred);
        } else {
            line.leave(ticket, deferred);
        }
    }
}
