//! The waiter queue under every primitive: who waits, for what, since when, and how a waiter is served or gives up.
//!
//! A primitive is a state behind one mutex plus one [`WaitList`] per thing to wait for. An [`Operation`] says what one
//! call wants of that state. [`Wait`] drives it as a future, [`block`] drives the same future from a parked thread, so
//! each operation is written once and both worlds share one queue.
//!
//! # Protocol
//!
//! ```text
//!            attempt succeeds
//!   (new) ─────────────────────────────────────────────▶ finished
//!     │ join                                                ▲
//!     ▼          grant (by whoever changes the state)       │ resume
//!   waiting ────────────────────────────────▶ granted ──────┤
//!     │ resume finds the primitive closed                   │
//!     ├─────────────────────────────────────────────────────┘
//!     │ abandon: leave the list                  │ abandon: hand the grant on
//!     ▼                                          ▼
//!   gone                                        gone
//! ```
//!
//! Every arrow happens under the primitive's mutex. A grant is a fact in the list, not a message to a sleeper: the
//! waker only makes the waiter look. So a waiter that gives up either finds that it was never granted anything, or
//! holds a grant and passes it to the next in line. No third case exists in which a wake-up could be lost.
//!
//! Whoever arrives while others wait goes behind them: nobody overtakes.
//!
//! Wakers are foreign code. They are cloned, woken and dropped only while no lock is held; [`Deferred`] collects them
//! under the lock for afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::prim::{Arc, Mutex, Parker, lock};

/// The name of one waiter in its list; later waiters have greater tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

struct Waiter<R> {
    request: R,
    /// `None` once it was woken to find the primitive closed.
    waker: Option<Waker>,
    since: Instant,
}

/// The waiters for one thing, first come first served, each with its request `R`.
pub(crate) struct WaitList<R> {
    waiting: BTreeMap<Ticket, Waiter<R>>,
    /// Served, but not back yet to take what it was granted; with the start of its wait.
    granted: BTreeMap<Ticket, Instant>,
    next_ticket: u64,
    /// Of the waits that are over.
    waited: Duration,
}

impl<R> WaitList<R> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new(), granted: BTreeMap::new(), next_ticket: 0, waited: Duration::ZERO }
    }

    /// Nobody waits to be served.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait to be served.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many were served and have not come back yet.
    pub(crate) fn granted_len(&self) -> usize {
        self.granted.len()
    }

    /// Total time spent waiting, by waits that are over and by those under way at `now`.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        let waiting = self.waiting.values().map(|waiter| waiter.since);
        let under_way = waiting.chain(self.granted.values().copied());
        self.waited + under_way.map(|since| now.saturating_duration_since(since)).sum::<Duration>()
    }

    /// Goes to the end of the line.
    pub(crate) fn join(&mut self, request: R, waker: Waker) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, Waiter { request, waker: Some(waker), since: Instant::now() });
        ticket
    }

    /// What the first in line wants.
    pub(crate) fn front(&self) -> Option<&R> {
        self.waiting.first_key_value().map(|(_, waiter)| &waiter.request)
    }

    /// Serves the first in line: it will find itself granted. Its request goes to the caller.
    pub(crate) fn grant_front(&mut self, deferred: &mut Deferred) -> Option<R> {
        let (ticket, waiter) = self.waiting.pop_first()?;
        self.granted.insert(ticket, waiter.since);
        deferred.wake.extend(waiter.waker);
        Some(waiter.request)
    }

    /// Wakes all that wait without granting them anything, so that they see that the primitive was closed.
    pub(crate) fn wake_all(&mut self, deferred: &mut Deferred) {
        deferred.wake.extend(self.waiting.values_mut().filter_map(|waiter| waiter.waker.take()));
    }

    /// Takes up the grant of `ticket` if there is one; the waiter is then no longer in the list.
    pub(crate) fn take_granted(&mut self, ticket: Ticket) -> bool {
        let since = self.granted.remove(&ticket);
        self.waited += since.map_or(Duration::ZERO, |since| since.elapsed());
        since.is_some()
    }

    /// Leaves the line unserved and takes the request back; `None` if `ticket` does not wait.
    pub(crate) fn leave(&mut self, ticket: Ticket, deferred: &mut Deferred) -> Option<R> {
        let waiter = self.waiting.remove(&ticket)?;
        self.waited += waiter.since.elapsed();
        deferred.discard.extend(waiter.waker);
        Some(waiter.request)
    }

    /// Whether waking `ticket` would wake `waker`.
    fn will_wake(&self, ticket: Ticket, waker: &Waker) -> bool {
        self.waiting
            .get(&ticket)
            .and_then(|waiter| waiter.waker.as_ref())
            .is_some_and(|current| current.will_wake(waker))
    }

    /// Names the waker that `ticket` is woken by from now on.
    fn set_waker(&mut self, ticket: Ticket, waker: Waker, deferred: &mut Deferred) {
        match self.waiting.get_mut(&ticket) {
            Some(waiter) => deferred.discard.extend(waiter.waker.replace(waker)),
            None => deferred.discard.push(waker),
        }
    }
}

impl<R> fmt::Debug for WaitList<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitList")
            .field("waiting", &self.waiting.len())
            .field("granted", &self.granted.len())
            .finish_non_exhaustive()
    }
}

/// What must happen once the lock is released: wakers to wake, wakers to drop.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    wake: Vec<Waker>,
    discard: Vec<Waker>,
}

impl Deferred {
    /// Does it. The caller holds no lock.
    pub(crate) fn run(self) {
        for waker in self.wake {
            waker.wake();
        }
    }
}

/// Runs `change` on the state behind `mutex`, then wakes whom it served, with the lock released.
pub(crate) fn update<S, T>(mutex: &Mutex<S>, change: impl FnOnce(&mut S, &mut Deferred) -> T) -> T {
    let mut deferred = Deferred::default();
    let outcome = change(&mut lock(mutex), &mut deferred);
    deferred.run();
    outcome
}

/// A primitive: a state behind one mutex.
pub(crate) trait Primitive {
    /// What the mutex guards.
    type State;

    fn state(&self) -> &Mutex<Self::State>;
}

/// One call on a primitive that may have to wait. All methods run under the primitive's lock.
pub(crate) trait Operation {
    /// The state of the primitive.
    type State;
    /// What a waiter of this kind leaves in the list.
    type Request;
    /// What the call returns.
    type Output;

    /// The line to wait in.
    fn list(state: &mut Self::State) -> &mut WaitList<Self::Request>;

    /// Finishes without waiting, or changes nothing.
    fn attempt(&mut self, state: &mut Self::State, deferred: &mut Deferred) -> Option<Self::Output>;

    /// The request to wait with.
    fn request(&mut self) -> Self::Request;

    /// Finishes if `ticket` was granted or can never be, and then takes it off the list.
    fn resume(
        &mut self,
        state: &mut Self::State,
        ticket: Ticket,
        deferred: &mut Deferred,
    ) -> Option<Self::Output>;

    /// Takes `ticket` off the list and hands on what it was granted, or takes the request back.
    fn abandon(&mut self, state: &mut Self::State, ticket: Ticket, deferred: &mut Deferred);
}

/// Runs `operation` if that needs no waiting; otherwise gives it back.
pub(crate) fn try_now<P, O>(primitive: &P, mut operation: O) -> Result<O::Output, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    update(primitive.state(), |state, deferred| operation.attempt(state, deferred)).ok_or(operation)
}

/// Runs `operation`, sleeping as long as it has to wait.
pub(crate) fn block<P, O>(primitive: &P, operation: O) -> O::Output
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    match block_until(primitive, operation, None) {
        Ok(output) => output,
        Err(_) => unreachable!("a wait without a deadline does not give up"),
    }
}

/// Runs `operation`, sleeping as long as it has to wait; gives it back if `deadline` passes first.
///
/// The operation is tried before the clock is looked at, so that one which need not wait never times out.
pub(crate) fn block_until<P, O>(
    primitive: &P,
    operation: O,
    deadline: Option<Instant>,
) -> Result<O::Output, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    let operation = match try_now(primitive, operation) {
        Ok(output) => return Ok(output),
        Err(operation) => operation,
    };
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(Arc::clone(&parker));
    let mut wait = Wait::new(primitive, operation);
    loop {
        if let Some(output) = wait.advance(&waker) {
            return Ok(output);
        }
        if !parker.park_deadline(deadline) {
            return wait.give_up();
        }
    }
}

/// The deadline that is `timeout` from now; `None` if that is further than the clock goes.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// An operation on its way, as a future.
///
/// # Cancel safety
///
/// Dropped before it is ready, it leaves the line or hands on what it was granted.
pub(crate) struct Wait<'a, P, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    primitive: &'a P,
    /// `None` once it is finished or given back.
    operation: Option<O>,
    ticket: Option<Ticket>,
}

// Nothing in it is ever pinned: the operation is only used by value or by plain reference.
impl<P, O> Unpin for Wait<'_, P, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
}

impl<'a, P, O> Wait<'a, P, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    pub(crate) fn new(primitive: &'a P, operation: O) -> Self {
        Self { primitive, operation: Some(operation), ticket: None }
    }

    /// Goes as far as it can: the output if it finished, otherwise it is in line and `waker` will be woken.
    fn advance(&mut self, waker: &Waker) -> Option<O::Output> {
        let operation = self.operation.as_mut().expect("polled after it was ready");
        let ticket = &mut self.ticket;
        // Cloned between two looks at the state, so that foreign code does not run under the lock and
        // nothing is cloned when there is nothing to wait for.
        let mut spare: Option<Waker> = None;
        loop {
            let step = update(self.primitive.state(), |state, deferred| {
                let output = match *ticket {
                    None => operation.attempt(state, deferred),
                    Some(ticket) => operation.resume(state, ticket, deferred),
                };
                if output.is_some() {
                    return Step::Finished(output);
                }
                let list = O::list(state);
                match (*ticket, spare.take()) {
                    (None, None) => Step::NeedsWaker,
                    (None, Some(waker)) => {
                        *ticket = Some(list.join(operation.request(), waker));
                        Step::Waits
                    }
                    (Some(ticket), None) if list.will_wake(ticket, waker) => Step::Waits,
                    (Some(_), None) => Step::NeedsWaker,
                    (Some(ticket), Some(waker)) => {
                        list.set_waker(ticket, waker, deferred);
                        Step::Waits
                    }
                }
            });
            match step {
                Step::Finished(output) => {
                    self.operation = None;
                    return output;
                }
                Step::Waits => return None,
                Step::NeedsWaker => spare = Some(waker.clone()),
            }
        }
    }

    /// The last look: finishes if it was served meanwhile, otherwise leaves and gives the operation back.
    fn give_up(mut self) -> Result<O::Output, O> {
        let mut operation = self.operation.take().expect("given up after it was ready");
        let ticket = self.ticket;
        let output = update(self.primitive.state(), |state, deferred| {
            let ticket = ticket?;
            let output = operation.resume(state, ticket, deferred);
            if output.is_none() {
                operation.abandon(state, ticket, deferred);
            }
            output
        });
        output.ok_or(operation)
    }
}

enum Step<T> {
    Finished(Option<T>),
    Waits,
    NeedsWaker,
}

impl<P, O> Future for Wait<'_, P, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    type Output = O::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        self.get_mut().advance(context.waker()).map_or(Poll::Pending, Poll::Ready)
    }
}

impl<P, O> Drop for Wait<'_, P, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    fn drop(&mut self) {
        if let (Some(operation), Some(ticket)) = (&mut self.operation, self.ticket) {
            update(self.primitive.state(), |state, deferred| operation.abandon(state, ticket, deferred));
        }
    }
}
