//! The waiting half of a condition, for any lock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::block::block_deadline;
use crate::prim::{Mutex, lock};
use crate::wait::{Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, update};

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
/// A notification goes to those who enrolled first, to as many as it names and to no other. Nobody wakes without one, and
/// nobody is given one that is older than its place in line.
///
/// # Memory ordering
///
/// What came before a notification is visible to who was notified.
///
/// # Cancel safety
///
/// One who gives up leaves. One who was notified and gives up without having looked passes the notification to the next of
/// those who were in line when it came. With a place that was waited for to the end the notification is the caller's: one that
/// gives up after that, say while it takes its lock back, has to [`notify`](Self::notify) one other.
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
    line: Renewable<WaitList<(), TooLate>>,
}

/// Goes with a notification: who has this ticket or a later one came after it.
type TooLate = Ticket;

impl WaitSet {
    /// A set in which nobody waits.
    pub fn new() -> Self {
        Self { line: Renewable::new(WaitList::new()) }
    }

    /// Takes a place in line, to wait there or to leave it.
    pub fn enroll(&self) -> Enrolled<'_> {
        let ticket = lock(self.line.get()).join((), None);
        Enrolled { set: self, wait: Wait::enrolled(self, Notified, ticket) }
    }

    /// Notifies the first `count` of those who wait, and says how many there were.
    pub fn notify(&self, count: usize) -> usize {
        update(self.line.get(), |line, deferred| {
            let too_late = line.next_ticket();
            (0..count).take_while(|_| line.grant_front(too_late, deferred).is_some()).count()
        })
    }

    /// Notifies all who wait now, and says how many there were.
    pub fn notify_all(&self) -> usize {
        self.notify(usize::MAX)
    }

    /// Gives the first of those who came in time the notification of another.
    fn pass_on(line: &mut WaitList<(), TooLate>, too_late: TooLate, deferred: &mut Deferred) {
        if line.nth_ticket(0).is_some_and(|first| first < too_late) {
            line.grant_front(too_late, deferred);
        }
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
    type State = WaitList<(), TooLate>;

    fn state(&self) -> &Mutex<WaitList<(), TooLate>> {
        self.line.get()
    }
}

/// A place in a [`WaitSet`]; as a future it is ready once it was notified.
///
/// # Cancel safety
///
/// Dropped before it has seen that it was notified, it leaves the line, or passes the notification to the next.
#[must_use = "it leaves the line as soon as this is dropped"]
pub struct Enrolled<'a> {
    set: &'a WaitSet,
    wait: Wait<'a, WaitSet, Notified>,
}

impl<'a> Enrolled<'a> {
    /// Waits to be notified, until `deadline` at most; `true` if it was. It keeps its place if it was not, so the wait
    /// can go on with another call.
    ///
    /// # Panics
    ///
    /// If it has returned `true` before.
    pub fn wait_deadline(&mut self, deadline: Option<Instant>) -> bool {
        block_deadline(&mut self.wait, deadline).is_some()
    }

    /// Waits for the notification, and keeps it for one who still has to look.
    pub(crate) async fn notification(self) -> Notification<'a> {
        Notification { set: self.set, too_late: self.wait.await }
    }
}

impl Future for Enrolled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.wait).poll(context).map(|_| ())
    }
}

impl fmt::Debug for Enrolled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolled").finish_non_exhaustive()
    }
}

/// A notification that goes to the next in line when this is dropped.
pub(crate) struct Notification<'a> {
    set: &'a WaitSet,
    too_late: TooLate,
}

impl Notification<'_> {
    /// Whoever it was for can look now.
    pub(crate) fn arrived(self) {
        std::mem::forget(self);
    }
}

impl Drop for Notification<'_> {
    fn drop(&mut self) {
        update(self.set.line.get(), |line, deferred| WaitSet::pass_on(line, self.too_late, deferred));
    }
}

/// Waits for its notification. It stands in line from the start.
struct Notified;

impl Operation for Notified {
    type State = WaitList<(), TooLate>;
    type Request = ();
    type Grant = TooLate;
    type Output = TooLate;

    fn list(line: &mut Self::State) -> &mut Self::State {
        line
    }

    fn attempt(&mut self, _: &mut Self::State, _: &mut Deferred) -> Option<TooLate> {
        None
    }

    fn request(&mut self) {}

    fn resume(&mut self, line: &mut Self::State, ticket: Ticket, _: &mut Deferred) -> Option<TooLate> {
        line.take_granted(ticket)
    }

    fn abandon(&mut self, line: &mut Self::State, ticket: Ticket, deferred: &mut Deferred) {
        match line.take_granted(ticket) {
            Some(too_late) => WaitSet::pass_on(line, too_late, deferred),
            None => drop(line.leave(ticket, deferred)),
        }
    }
}
