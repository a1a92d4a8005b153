//! The waiter queue under every primitive: who waits, for what, since when, and how a waiter is served or gives up.
//!
//! A primitive is a state behind one mutex plus one [`WaitList`] per thing to wait for. An [`Operation`] says what one
//! call wants of that state. [`Wait`] drives it as a future, [`block`] drives the same future from a parked thread, so
//! each operation is written once and both worlds share one queue. A primitive with an atomic fast path keeps the part
//! of its state that the fast path needs in an atomic beside the mutex, with a bit that says "look at the line".
//!
//! # Protocol
//!
//! ```text
//!            attempt succeeds
//!   (new) ─────────────────────────────────────────────▶ finished
//!     │ join                                                ▲ ▲
//!     ▼          grant (by whoever changes the state)       │ │
//!   asleep ────────────────────────────────▶ granted ───────┘ │
//!     │  ▲                                      │             │
//!     │  │ looks in vain: from now on it insists│             │
//!     │  └───────────────┐                      │             │
//!     │ nudge            │                      │             │
//!     └────────────▶ nudged ──────────────────────────────────┘
//!                        │ looks, and takes what is there
//!     │                  │                      │
//!     │ abandon: leave   │ abandon: nudge next  │ abandon: hand the grant on
//!     ▼                  ▼                      ▼
//!   gone               gone                   gone
//! ```
//!
//! There are two ways to serve. A *grant* gives the first in line what it waits for while it sleeps: nobody can come
//! between, but whoever runs has to wait for a sleeper to wake up. A *nudge* wakes the first in line to look for itself:
//! what became free can be taken by a thread that runs, which is many times faster when there is much to do. A waiter
//! that was nudged and looked in vain *insists*: it is served by a grant. So it is overtaken during one wake-up and no
//! longer. Semaphores, events and conditions grant; locks, and consumers of queues, are nudged first.
//!
//! Every arrow happens under the primitive's mutex. A grant or a nudge is a fact in the list, not a message to a
//! sleeper: the waker only makes the waiter look. So a waiter that gives up either finds that it was never given
//! anything, or holds something and passes it to the next in line. No third case exists in which a wake-up could be
//! lost.
//!
//! Whoever arrives while others wait goes behind them.
//!
//! Wakers are foreign code. They are cloned, woken and dropped only while no lock is held; [`Deferred`] collects them
//! under the lock for afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::block::block_deadline;
use crate::error::{Closed, WaitError};
use crate::prim::{Mutex, MutexGuard, lock};

/// The name of one waiter in its list; later waiters have greater tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

struct Waiter<R> {
    request: R,
    /// `None` from the moment in which it was woken, until it goes back to sleep.
    waker: Option<Waker>,
    since: Instant,
    /// It was nudged and looked in vain.
    insists: bool,
}

struct Granted<G> {
    grant: G,
    since: Instant,
}

/// The waiters for one thing, first come first served, each with its request `R`; those served find a `G`.
pub(crate) struct WaitList<R, G = ()> {
    asleep: BTreeMap<Ticket, Waiter<R>>,
    /// Woken to look for themselves, and not back yet.
    nudged: BTreeMap<Ticket, Waiter<R>>,
    /// Served, but not back yet to take what they were granted.
    granted: BTreeMap<Ticket, Granted<G>>,
    next_ticket: u64,
    /// How many are in the three maps together.
    population: usize,
    /// Of the waits that are over.
    waited: Duration,
}

impl<R, G> WaitList<R, G> {
    pub(crate) fn new() -> Self {
        Self {
            asleep: BTreeMap::new(),
            nudged: BTreeMap::new(),
            granted: BTreeMap::new(),
            next_ticket: 0,
            population: 0,
            waited: Duration::ZERO,
        }
    }

    /// Nobody waits to be served.
    pub(crate) fn is_empty(&self) -> bool {
        self.asleep.is_empty() && self.nudged.is_empty()
    }

    /// How many wait to be served.
    pub(crate) fn len(&self) -> usize {
        self.asleep.len() + self.nudged.len()
    }

    /// Nobody is in it, not even one that was served and has not come back yet.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.population == 0
    }

    /// Somebody sleeps, and nobody is on the way to look.
    pub(crate) fn needs_nudge(&self) -> bool {
        self.nudged.is_empty() && !self.asleep.is_empty()
    }

    /// How many were served and have not come back yet.
    pub(crate) fn granted_len(&self) -> usize {
        self.granted.len()
    }

    /// How many were woken to look for themselves and have not come back yet.
    pub(crate) fn nudged_len(&self) -> usize {
        self.nudged.len()
    }

    /// Whether `ticket` was woken to look for itself.
    pub(crate) fn is_nudged(&self, ticket: Ticket) -> bool {
        self.nudged.contains_key(&ticket)
    }

    /// Whether anybody sleeps.
    pub(crate) fn has_sleepers(&self) -> bool {
        !self.asleep.is_empty()
    }

    /// The figures of the line at `now`.
    pub(crate) fn stats(&self, now: Instant) -> WaitStats {
        let waiting = self.asleep.values().chain(self.nudged.values()).map(|waiter| waiter.since);
        let under_way = waiting.chain(self.granted.values().map(|granted| granted.since));
        WaitStats {
            waiting: self.len(),
            waits: self.next_ticket,
            wait: self.waited + under_way.map(|since| now.saturating_duration_since(since)).sum::<Duration>(),
        }
    }

    /// Goes to the end of the line.
    pub(crate) fn join(&mut self, request: R, waker: Option<Waker>) -> Ticket {
        let ticket = self.next_ticket();
        self.next_ticket += 1;
        self.population += 1;
        self.asleep.insert(ticket, Waiter { request, waker, since: Instant::now(), insists: false });
        ticket
    }

    /// The ticket of whoever joins next.
    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.next_ticket)
    }

    /// What the first that sleeps wants.
    pub(crate) fn front(&self) -> Option<&R> {
        self.asleep.first_key_value().map(|(_, waiter)| &waiter.request)
    }

    /// The ticket of the sleeper with `ahead` others in front of it.
    pub(crate) fn nth_ticket(&self, ahead: usize) -> Option<Ticket> {
        self.asleep.keys().nth(ahead).copied()
    }

    /// Whether the first that sleeps was nudged before and looked in vain.
    pub(crate) fn front_insists(&self) -> bool {
        self.asleep.first_key_value().is_some_and(|(_, waiter)| waiter.insists)
    }

    /// Serves the first that sleeps: it will find `grant`. Its request goes to the caller.
    pub(crate) fn grant_front(&mut self, grant: G, deferred: &mut Deferred) -> Option<R> {
        let (ticket, waiter) = self.asleep.pop_first()?;
        self.granted.insert(ticket, Granted { grant, since: waiter.since });
        deferred.wake.extend(waiter.waker);
        Some(waiter.request)
    }

    /// Wakes the first that sleeps, to look for itself.
    pub(crate) fn nudge_front(&mut self, deferred: &mut Deferred) {
        if let Some((ticket, mut waiter)) = self.asleep.pop_first() {
            deferred.wake.extend(waiter.waker.take());
            self.nudged.insert(ticket, waiter);
        }
    }

    /// Whether it is `ticket`'s turn to look: it was nudged, or nobody is in front of it.
    pub(crate) fn may_look(&self, ticket: Ticket) -> bool {
        self.nudged.contains_key(&ticket)
            || (self.nudged.is_empty()
                && self.asleep.first_key_value().is_some_and(|(first, _)| *first == ticket))
    }

    /// `ticket` looked and found nothing. If it had been nudged it sleeps again, in its place, and insists.
    pub(crate) fn looked_in_vain(&mut self, ticket: Ticket) {
        if let Some(mut waiter) = self.nudged.remove(&ticket) {
            waiter.insists = true;
            self.asleep.insert(ticket, waiter);
        }
    }

    /// Wakes all that sleep without giving them anything, so that they see that the primitive was closed.
    pub(crate) fn wake_all(&mut self, deferred: &mut Deferred) {
        deferred.wake.extend(self.asleep.values_mut().filter_map(|waiter| waiter.waker.take()));
    }

    /// Takes up the grant of `ticket` if there is one; the waiter is then no longer in the list.
    pub(crate) fn take_granted(&mut self, ticket: Ticket) -> Option<G> {
        let Granted { grant, since } = self.granted.remove(&ticket)?;
        self.population -= 1;
        self.waited += since.elapsed();
        Some(grant)
    }

    /// Leaves the line unserved and takes the request back; `None` if `ticket` does not wait.
    pub(crate) fn leave(&mut self, ticket: Ticket, deferred: &mut Deferred) -> Option<R> {
        let waiter = self.asleep.remove(&ticket).or_else(|| self.nudged.remove(&ticket))?;
        self.population -= 1;
        self.waited += waiter.since.elapsed();
        deferred.discard.extend(waiter.waker);
        Some(waiter.request)
    }

    /// Whether waking `ticket` would wake `waker`.
    fn will_wake(&self, ticket: Ticket, waker: &Waker) -> bool {
        self.asleep
            .get(&ticket)
            .and_then(|waiter| waiter.waker.as_ref())
            .is_some_and(|current| current.will_wake(waker))
    }

    /// Names the waker that `ticket` is woken by from now on.
    fn set_waker(&mut self, ticket: Ticket, waker: Waker, deferred: &mut Deferred) {
        match self.asleep.get_mut(&ticket) {
            Some(waiter) => deferred.discard.extend(waiter.waker.replace(waker)),
            None => deferred.discard.push(waker),
        }
    }
}

impl<R, G> fmt::Debug for WaitList<R, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitList")
            .field("waiting", &self.len())
            .field("granted", &self.granted.len())
            .finish_non_exhaustive()
    }
}

/// How much has been waited for one thing. Counted where a wait begins and ends, so it costs nothing while nobody waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitStats {
    /// Threads and tasks that wait now.
    pub waiting: usize,
    /// Waits so far: how often somebody came and could not go on at once (contention).
    pub waits: u64,
    /// Total time spent waiting, by waits that are over and by those under way.
    pub wait: Duration,
}

/// The mutex around a primitive's state, which a forked child can replace.
///
/// In a child of a forked process only one thread goes on. If another one held the mutex in that moment, nobody will
/// ever unlock it. So the child does not touch it: it puts a new one behind it, which is used from then on.
pub(crate) struct Renewable<S> {
    mutex: Mutex<S>,
    next: OnceLock<Box<Renewable<S>>>,
}

impl<S> Renewable<S> {
    pub(crate) fn new(state: S) -> Self {
        Self { mutex: Mutex::new(state), next: OnceLock::new() }
    }

    /// The mutex in use.
    pub(crate) fn get(&self) -> &Mutex<S> {
        &self.latest().mutex
    }

    /// Starts afresh with `state`.
    pub(crate) fn renew(&self, state: S) {
        let fresh = Box::new(Self::new(state));
        // Only a forked child does this, while it has one thread: nobody else can have set it.
        let _ = self.latest().next.set(fresh);
    }

    fn latest(&self) -> &Self {
        let mut latest = self;
        while let Some(next) = latest.next.get() {
            latest = next;
        }
        latest
    }
}

/// What must happen once the lock is released: wakers to wake, wakers to drop. It happens on drop, so that nobody who was served
/// sleeps on if what came after panicked (the order of a priority queue is foreign code).
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    wake: Vec<Waker>,
    discard: Vec<Waker>,
}

impl Deferred {
    /// Does it. The caller holds no lock.
    pub(crate) fn run(self) {
        drop(self);
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        // A waker is foreign code. If it panics, those behind it are woken on the way out.
        struct Rest<'a>(std::vec::Drain<'a, Waker>);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                for waker in self.0.by_ref() {
                    waker.wake();
                }
            }
        }
        let mut rest = Rest(self.wake.drain(..));
        for waker in rest.0.by_ref() {
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
    /// What one that was served finds there.
    type Grant;
    /// What the call returns.
    type Output;

    /// The line to wait in.
    fn list(state: &mut Self::State) -> &mut WaitList<Self::Request, Self::Grant>;

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
pub(crate) fn try_now<P, O>(primitive: &P, operation: O) -> Result<O::Output, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    try_locked(lock(primitive.state()), operation)
}

/// [`try_now`] for a caller that has locked the state already.
pub(crate) fn try_locked<O: Operation>(
    state: MutexGuard<'_, O::State>,
    mut operation: O,
) -> Result<O::Output, O> {
    let mut deferred = Deferred::default();
    // Unlocked before that is dropped.
    let mut state = state;
    let output = operation.attempt(&mut state, &mut deferred);
    drop(state);
    deferred.run();
    output.ok_or(operation)
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
    let mut wait = Wait::new(primitive, operation);
    block_deadline(&mut wait, deadline).map_or_else(|| wait.give_up(), Ok)
}

/// [`block_until`] for at most `timeout`. The clock is looked at only if the operation has to wait.
pub(crate) fn block_for<P, O>(primitive: &P, operation: O, timeout: Duration) -> Result<O::Output, O>
where
    P: Primitive,
    O: Operation<State = P::State>,
{
    try_now(primitive, operation)
        .or_else(|operation| block_until(primitive, operation, deadline_after(timeout)))
}

/// What the caller of an operation with a time limit is told; one that is given back was not served in time.
pub(crate) fn in_time<T, O>(result: Result<Result<T, Closed>, O>) -> Result<T, WaitError> {
    match result {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(WaitError::TimedOut),
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

    /// A wait that stands in line already, with `ticket`.
    pub(crate) fn enrolled(primitive: &'a P, operation: O, ticket: Ticket) -> Self {
        Self { primitive, operation: Some(operation), ticket: Some(ticket) }
    }

    /// Changes the operation, if it is not finished.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut O)) {
        self.operation.as_mut().map(change);
    }

    /// Its place in line, once it has one.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.ticket
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
                        *ticket = Some(list.join(operation.request(), Some(waker)));
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
    pub(crate) fn give_up(mut self) -> Result<O::Output, O> {
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

/// Defines a future with a name of its own around a [`Wait`].
macro_rules! named_wait {
    (
        $(#[$attribute:meta])*
        $name:ident<'a $(, $generic:ident $(: $bound:path)? $(= $default:ty)?)*>, $primitive:ty, $operation:ty, $output:ty
    ) => {
        $(#[$attribute])*
        #[must_use = "a future does nothing before it is polled"]
        pub struct $name<'a $(, $generic $(: $bound)? $(= $default)?)*>(
            pub(crate) $crate::wait::Wait<'a, $primitive, $operation>,
        );

        impl<'a $(, $generic $(: $bound)?)*> std::future::Future for $name<'a $(, $generic)*> {
            type Output = $output;

            fn poll(
                mut self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                std::pin::Pin::new(&mut self.0).poll(context)
            }
        }

        impl<'a $(, $generic $(: $bound)?)*> std::fmt::Debug for $name<'a $(, $generic)*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("in_line", &self.0.ticket().is_some()).finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use named_wait;
