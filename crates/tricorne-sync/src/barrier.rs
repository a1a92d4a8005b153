//! A place where several threads or tasks wait for each other.
//!
//! Use it between the phases of a computation that several do together, when none may begin a phase before all have ended the
//! one before.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::thread;
//! use tricorne_sync::Barrier;
//!
//! let (phase_ended, counted, totals) = (Barrier::new(2), AtomicU32::new(0), AtomicU32::new(0));
//! thread::scope(|scope| {
//!     for part in [2, 3] {
//!         let (phase_ended, counted, totals) = (&phase_ended, &counted, &totals);
//!         scope.spawn(move || {
//!             counted.fetch_add(part, Ordering::Relaxed);
//!             phase_ended.wait().expect("nobody gives up");
//!             // Both have counted: each sees the sum.
//!             totals.fetch_add(counted.load(Ordering::Relaxed), Ordering::Relaxed);
//!         });
//!     }
//! });
//! assert_eq!(totals.into_inner(), 5 + 5);
//! ```

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use crate::prim::{Mutex, lock};
use crate::wait::{
    self, Deferred, Operation, Primitive, Renewable, Ticket, Wait, WaitList, WaitStats, named_wait, update,
};

/// Holds up whoever arrives until so many have arrived as there are parties, then lets them through together.
///
/// It can be used again and again: each time it lets through exactly as many as there are parties, those who came first.
/// The last to arrive is the leader. With [`arrive`](Self::arrive) the leader can do something before it lets the others
/// through.
///
/// # Breaking
///
/// If one does not come in time, the others would wait for ever. So a wait with a time limit that ends unserved breaks the
/// barrier, as [`abort`](Self::abort) does: all who wait, and all who come later, get [`BrokenBarrier`], until somebody
/// calls [`reset`](Self::reset).
///
/// # Memory ordering
///
/// What any of them did before it arrived is visible to all of them after they went through.
///
/// # Cancel safety
///
/// A future that is dropped takes its arrival back, and the barrier stays whole. If all had arrived already and the leader
/// counts on this one, or if it had become the leader itself, the barrier breaks: all go through or none.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use tricorne_sync::Barrier;
///
/// let barrier = Barrier::new(3);
/// let mut indexes = thread::scope(|scope| {
///     let party = || barrier.wait().expect("nobody breaks it").index();
///     let parties = [(); 3].map(|()| scope.spawn(party));
///     parties.map(|party| party.join().unwrap())
/// });
/// indexes.sort_unstable();
/// assert_eq!(indexes, [0, 1, 2]);
/// ```
pub struct Barrier {
    parties: usize,
    state: Renewable<State>,
}

pub(crate) struct State {
    line: WaitList<(), Outcome>,
    /// While there is a leader that has not let the others through: those with a smaller ticket go with it.
    led_up_to: Option<Ticket>,
    /// Counts what ends the term of a leader without its doing, so that it notices.
    interruptions: u64,
    broken: bool,
}

/// What one who waits is granted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Through(usize),
    /// With the number of interruptions when it became the leader.
    Leads(u64),
    Broken,
}

impl State {
    fn new() -> Self {
        Self { line: WaitList::new(), led_up_to: None, interruptions: 0, broken: false }
    }

    /// The leader that was elected after so many interruptions will not let anybody through.
    fn lose_leader(&mut self, interruptions: u64, deferred: &mut Deferred) {
        if self.interruptions == interruptions {
            self.broken = true;
            self.interrupt(deferred);
        }
    }

    /// Sends all who wait away, and the leader too.
    fn interrupt(&mut self, deferred: &mut Deferred) {
        self.interruptions += 1;
        self.led_up_to = None;
        while self.line.grant_front(Outcome::Broken, deferred).is_some() {}
    }

    /// What the leader does that was elected after so many interruptions: lets the others through, and itself.
    fn release(
        &mut self,
        parties: usize,
        interruptions: u64,
        deferred: &mut Deferred,
    ) -> Result<Crossing, BrokenBarrier> {
        if self.interruptions != interruptions {
            return Err(BrokenBarrier);
        }
        self.let_through(parties, deferred);
        Ok(Crossing { index: parties - 1, leader: true })
    }

    /// Lets through those who wait for the leader. If enough for another round have arrived meanwhile, the first of
    /// them becomes its leader.
    fn let_through(&mut self, parties: usize, deferred: &mut Deferred) {
        let Some(end) = self.led_up_to.take() else { return };
        let mut index = 0;
        while self.line.nth_ticket(0).is_some_and(|ticket| ticket < end) {
            self.line.grant_front(Outcome::Through(index), deferred);
            index += 1;
        }
        self.elect(parties, deferred);
    }

    /// Makes the first in line the leader if enough wait and nobody leads.
    fn elect(&mut self, parties: usize, deferred: &mut Deferred) {
        if self.led_up_to.is_none() && self.line.len() >= parties {
            self.line.grant_front(Outcome::Leads(self.interruptions), deferred);
            let next = self.line.next_ticket();
            self.led_up_to = Some(self.line.nth_ticket(parties - 1).unwrap_or(next));
        }
    }
}

/// The barrier was broken, or reset while one waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenBarrier;

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier is broken")
    }
}

impl Error for BrokenBarrier {}

/// Why a wait with a time limit did not get through a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierError {
    /// The time was up, which broke the barrier.
    TimedOut,
    /// The barrier was broken, or reset, by somebody else.
    Broken,
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out, and the barrier is broken"),
            Self::Broken => BrokenBarrier.fmt(f),
        }
    }
}

impl Error for BarrierError {}

impl From<BrokenBarrier> for BarrierError {
    fn from(_: BrokenBarrier) -> Self {
        Self::Broken
    }
}

/// One went through a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    index: usize,
    leader: bool,
}

impl Crossing {
    /// A number below the number of parties, different for each who went through together.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether this one was the leader; exactly one is.
    pub fn is_leader(&self) -> bool {
        self.leader
    }
}

/// What comes of arriving at a barrier.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// All have arrived, and the leader has let this one through.
    Through(Crossing),
    /// All have arrived, and this one is the leader: the others wait for its [`release`](Leader::release).
    Leads(Leader<'a>),
}

impl Arrival<'_> {
    /// Goes through, letting the others through first if it leads.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] if the barrier was broken or reset since all had arrived.
    pub fn cross(self) -> Result<Crossing, BrokenBarrier> {
        match self {
            Self::Through(crossing) => Ok(crossing),
            Self::Leads(leader) => leader.release(),
        }
    }
}

/// All have arrived, and wait for this one to let them through. Dropped without that, it breaks the barrier.
#[must_use = "the barrier breaks when this is dropped"]
#[derive(Debug)]
pub struct Leader<'a> {
    barrier: &'a Barrier,
    interruptions: u64,
    released: bool,
}

impl Leader<'_> {
    /// Lets the others through, and goes through itself.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] if the barrier was broken or reset since all had arrived.
    pub fn release(mut self) -> Result<Crossing, BrokenBarrier> {
        self.released = true;
        let (parties, interruptions) = (self.barrier.parties, self.interruptions);
        update(self.barrier.state.get(), |state, deferred| state.release(parties, interruptions, deferred))
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.released {
            update(self.barrier.state.get(), |state, deferred| {
                state.lose_leader(self.interruptions, deferred);
            });
        }
    }
}

impl Barrier {
    /// A barrier for `parties`.
    ///
    /// # Panics
    ///
    /// If `parties` is 0.
    pub fn new(parties: usize) -> Self {
        assert!(parties > 0, "a barrier for `0` parties");
        Self { parties, state: Renewable::new(State::new()) }
    }

    /// Waits for the others.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] if it is broken, or is broken or reset during the wait.
    pub fn wait(&self) -> Result<Crossing, BrokenBarrier> {
        wait::block(self, Arriving { barrier: self, acts: false, breaks: false })?.cross()
    }

    /// [`wait`](Self::wait), for at most `timeout`; then the barrier is broken.
    ///
    /// # Errors
    ///
    /// [`BarrierError`] says whether it was this wait that broke it.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Crossing, BarrierError> {
        self.wait_until(wait::deadline_after(timeout))
    }

    /// [`wait`](Self::wait), until `deadline` at most; then the barrier is broken.
    ///
    /// # Errors
    ///
    /// [`BarrierError`] says whether it was this wait that broke it.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<Crossing, BarrierError> {
        self.wait_until(Some(deadline))
    }

    /// [`wait`](Self::wait) from async code.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrier`] as for `wait`.
    pub async fn wait_async(&self) -> Result<Crossing, BrokenBarrier> {
        Wait::new(self, Arriving { barrier: self, acts: false, breaks: false }).await?.cross()
    }

    /// Arrives, and waits for the others; the last to arrive gets to do something before it lets the others through.
    ///
    /// Those who arrive while a leader is at it wait for the round after.
    pub fn arrive(&self) -> Arrive<'_> {
        Arrive(Wait::new(self, Arriving { barrier: self, acts: true, breaks: false }))
    }

    /// Breaks it: all who wait, and all who come later, get [`BrokenBarrier`].
    pub fn abort(&self) {
        update(self.state.get(), |state, deferred| {
            state.broken = true;
            state.interrupt(deferred);
        });
    }

    /// Makes it as new: not broken, and nobody has arrived. Those who wait get [`BrokenBarrier`].
    pub fn reset(&self) {
        update(self.state.get(), |state, deferred| {
            state.broken = false;
            state.interrupt(deferred);
        });
    }

    /// How many have to arrive.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many have arrived and wait for the others.
    pub fn waiting(&self) -> usize {
        lock(self.state.get()).line.len()
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        lock(self.state.get()).broken
    }

    /// How much has been waited here.
    pub fn stats(&self) -> WaitStats {
        lock(self.state.get()).line.stats(Instant::now())
    }

    /// Makes it as new in the child of a forked process; see
    /// [`RawLock::reinit_after_fork`](crate::raw::RawLock::reinit_after_fork).
    pub fn reinit_after_fork(&self) {
        self.state.renew(State::new());
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Crossing, BarrierError> {
        match wait::block_until(self, Arriving { barrier: self, acts: false, breaks: true }, deadline) {
            Ok(arrival) => Ok(arrival?.cross()?),
            Err(_) => Err(BarrierError::TimedOut),
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(self.state.get());
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &state.line.len())
            .field("broken", &state.broken)
            .finish()
    }
}

impl Primitive for Barrier {
    type State = State;

    fn state(&self) -> &Mutex<State> {
        self.state.get()
    }
}

/// Arrives.
pub(crate) struct Arriving<'a> {
    barrier: &'a Barrier,
    /// As the leader it has something to do before it lets the others through.
    acts: bool,
    /// Leaving unserved breaks the barrier.
    breaks: bool,
}

impl<'a> Arriving<'a> {
    /// Becomes the leader that was elected after so many interruptions.
    fn lead(
        &self,
        state: &mut State,
        interruptions: u64,
        deferred: &mut Deferred,
    ) -> Result<Arrival<'a>, BrokenBarrier> {
        let barrier = self.barrier;
        if self.acts {
            Ok(Arrival::Leads(Leader { barrier, interruptions, released: false }))
        } else {
            state.release(barrier.parties, interruptions, deferred).map(Arrival::Through)
        }
    }
}

impl Arrive<'_> {
    /// Leaves and breaks the barrier, as a time-out does. To leave it whole, drop this.
    pub fn abort(mut self) {
        self.0.change(|arriving| arriving.breaks = true);
    }
}

named_wait! {
    /// The future of [`Barrier::arrive`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it takes the arrival back. If all had arrived already, the barrier breaks.
    Arrive<'a>, Barrier, Arriving<'a>, Result<Arrival<'a>, BrokenBarrier>
}

impl<'a> Operation for Arriving<'a> {
    type State = State;
    type Request = ();
    type Grant = Outcome;
    type Output = Result<Arrival<'a>, BrokenBarrier>;

    fn list(state: &mut State) -> &mut WaitList<(), Outcome> {
        &mut state.line
    }

    fn attempt(&mut self, state: &mut State, deferred: &mut Deferred) -> Option<Self::Output> {
        if state.broken {
            Some(Err(BrokenBarrier))
        } else if state.led_up_to.is_none() && state.line.len() + 1 == self.barrier.parties {
            state.led_up_to = Some(state.line.next_ticket());
            Some(self.lead(state, state.interruptions, deferred))
        } else {
            None
        }
    }

    fn request(&mut self) {}

    fn resume(&mut self, state: &mut State, ticket: Ticket, deferred: &mut Deferred) -> Option<Self::Output> {
        Some(match state.line.take_granted(ticket)? {
            Outcome::Through(index) => Ok(Arrival::Through(Crossing { index, leader: false })),
            Outcome::Leads(interruptions) => self.lead(state, interruptions, deferred),
            Outcome::Broken => Err(BrokenBarrier),
        })
    }

    fn abandon(&mut self, state: &mut State, ticket: Ticket, deferred: &mut Deferred) {
        match state.line.take_granted(ticket) {
            Some(Outcome::Leads(interruptions)) => state.lose_leader(interruptions, deferred),
            Some(Outcome::Through(_) | Outcome::Broken) => {}
            None => {
                state.line.leave(ticket, deferred);
                // All have arrived and go through together or not at all.
                let counted_on = state.led_up_to.is_some_and(|end| ticket < end);
                if self.breaks || counted_on {
                    state.broken = true;
                    state.interrupt(deferred);
                }
            }
        }
    }
}
