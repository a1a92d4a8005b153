//! Not asking more of the other side than it can do.
//!
//! [`Limiter`] bounds how many requests are in flight: a fixed number, or one that is found out while running. It hands
//! out slots first come, first served; [`Adaptive`] is the rule behind an adaptive one. [`RateLimiter`] bounds how much
//! happens in a time, in requests or in units of different weight such as tokens; [`Gcra`] is its rule. Both rules are
//! pure state machines that are told the time, so they can be simulated.
//!
//! A server that slows down or refuses under load wants the first; one that says how much it allows, as providers of models
//! do, wants the second; and they go together. Neither is held while waiting for the next try.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use tricorne_exec::limit::{Limiter, Outcome, Rate, RateLimiter};
//!
//! // At most two requests at once, and a thousand a second, ten of them without a pause.
//! let slots = Limiter::fixed(2);
//! let rate = RateLimiter::new(Rate::new(1_000, Duration::from_secs(1)).burst(10));
//!
//! // The rate first, so that nobody waits for it with a slot in hand.
//! rate.acquire(1);
//! let mut slot = slots.acquire();
//! assert_eq!(slots.in_flight(), 1);
//! // ... the request ...
//! slot.record(Outcome::Success);
//! drop(slot);
//! assert_eq!((slots.in_flight(), slots.stats().successes), (0, 1));
//! ```

mod adaptive;
mod rate;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tricorne_sync::{OwnedPermit, Semaphore};

pub use adaptive::{Adaptive, AdaptiveConfig, Ticket};
pub use rate::{Clearance, Gcra, Rate, RateLimiter};

/// What an answer says about the server's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server did the work; its latency counts.
    Success,
    /// The server is over its limit: 429, 503, or no answer in time.
    Overload,
    /// Says nothing about load, such as a failed name lookup or a cancelled request.
    Ignored,
}

/// Bounds the requests in flight, to a host or in all.
///
/// # Fairness
///
/// First come, first served; a slot that comes free is handed to the first in line.
///
/// # Examples
///
/// ```
/// use tricorne_exec::limit::{AdaptiveConfig, Limiter, Outcome};
///
/// let limiter = Limiter::adaptive(AdaptiveConfig { min: 1, initial: 2, max: 64 });
/// let mut permit = limiter.try_acquire().expect("nobody else asks");
/// // ... the request is sent, and the answer comes ...
/// permit.record(Outcome::Success);
/// // ... the answer is written down while the slot is still held ...
/// drop(permit);
/// assert_eq!(limiter.in_flight(), 0);
/// ```
pub struct Limiter {
    slots: Arc<Semaphore>,
    origin: Instant,
    state: Mutex<State>,
}

struct State {
    rule: Rule,
    in_flight: usize,
    peak_in_flight: usize,
    successes: u64,
    overloads: u64,
}

enum Rule {
    Fixed(usize),
    Adaptive(Adaptive),
}

impl Rule {
    fn limit(&self) -> usize {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Adaptive(rule) => rule.limit(),
        }
    }
}

/// The figures of a [`Limiter`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimiterStats {
    /// Slots that there are now.
    pub limit: usize,
    /// Slots that are taken; more than `limit` for a while after the limit fell.
    pub in_flight: usize,
    /// The most slots that were ever taken at once.
    pub peak_in_flight: usize,
    /// Callers that wait for a slot.
    pub waiting: usize,
    /// Answers recorded as [`Outcome::Success`].
    pub successes: u64,
    /// Answers recorded as [`Outcome::Overload`].
    pub overloads: u64,
}

impl Limiter {
    /// A limiter with `limit` slots, which never change: at least one, at most what a semaphore can count.
    #[must_use]
    pub fn fixed(limit: usize) -> Arc<Self> {
        Self::new(Rule::Fixed(limit.clamp(1, tricorne_sync::Semaphore::MAX_PERMITS)))
    }

    /// A limiter that finds out how many requests the other side takes at once.
    #[must_use]
    pub fn adaptive(config: AdaptiveConfig) -> Arc<Self> {
        Self::new(Rule::Adaptive(Adaptive::new(config)))
    }

    fn new(rule: Rule) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(rule.limit())),
            origin: Instant::now(),
            state: Mutex::new(State { rule, in_flight: 0, peak_in_flight: 0, successes: 0, overloads: 0 }),
        })
    }

    /// Takes a slot, waiting for it in line.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait leaves the line; a slot that it was given in that moment goes to the next.
    pub async fn acquire_async(self: &Arc<Self>) -> LimitPermit {
        let slot = self.slots.acquire_owned_async(1).await.expect("the slots are never closed");
        self.take(slot)
    }

    /// Takes a slot, blocking the thread until there is one.
    pub fn acquire(self: &Arc<Self>) -> LimitPermit {
        let slot = self.slots.acquire_owned(1).expect("the slots are never closed");
        self.take(slot)
    }

    /// Takes a slot if one is free and nobody waits for it.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<LimitPermit> {
        self.slots.try_acquire_owned(1).ok().map(|slot| self.take(slot))
    }

    /// Slots that there are now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.state().rule.limit()
    }

    /// Slots that are taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    /// The figures at this moment.
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        let waiting = self.slots.stats().waiting;
        let state = self.state();
        LimiterStats {
            limit: state.rule.limit(),
            in_flight: state.in_flight,
            peak_in_flight: state.peak_in_flight,
            waiting,
            successes: state.successes,
            overloads: state.overloads,
        }
    }

    fn take(self: &Arc<Self>, slot: OwnedPermit) -> LimitPermit {
        let now = self.origin.elapsed();
        let mut state = self.state();
        state.in_flight += 1;
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight);
        let request = match &mut state.rule {
            Rule::Fixed(_) => Request::Unmeasured,
            Rule::Adaptive(rule) => Request::Sent(rule.start(now)),
        };
        drop(state);
        LimitPermit { limiter: Arc::clone(self), request, _slot: slot }
    }

    /// Changes the state, then the number of slots to match; wakes those who get one without holding our lock.
    ///
    /// The slots are changed by differences, which add up to the same whatever the order of two threads.
    fn update<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.origin.elapsed();
        let mut state = self.state();
        let before = state.rule.limit();
        let outcome = change(&mut state, now);
        let after = state.rule.limit();
        drop(state);
        if after > before {
            self.slots.add_permits(after - before);
        } else if after < before {
            self.slots.reduce_permits(before - after);
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A slot of a [`Limiter`], given back when dropped.
///
/// Taking the sample and giving back the slot are two things: [`record`](Self::record) belongs where the answer has
/// come, the drop where the answer is safe. The time in between keeps a slot busy, but is not the server's latency.
#[must_use = "the slot is free again as soon as the permit is dropped"]
pub struct LimitPermit {
    limiter: Arc<Limiter>,
    request: Request,
    /// Given back last, after the gauge has gone down.
    _slot: OwnedPermit,
}

/// Where the request of a permit stands.
#[derive(Clone, Copy)]
enum Request {
    /// The limit is fixed: nothing is learnt from it.
    Unmeasured,
    Sent(Ticket),
    Answered,
    /// The rule counts its slot as free already.
    Refused,
}

impl LimitPermit {
    /// Starts the latency over: the request really goes out now.
    ///
    /// For a caller that, after it got the slot, had to wait for something that is not the server's load, such as the
    /// slot of a second limiter. Without effect once an outcome is recorded.
    pub fn mark_sent(&mut self) {
        if matches!(self.request, Request::Sent(_)) {
            self.request = self.limiter.update(|state, now| match &mut state.rule {
                Rule::Fixed(_) => Request::Unmeasured,
                Rule::Adaptive(rule) => Request::Sent(rule.restart(now)),
            });
        }
    }

    /// Says what came of the request. Only the first call counts; a permit dropped without one was
    /// [`Outcome::Ignored`].
    pub fn record(&mut self, outcome: Outcome) {
        self.record_besides(outcome, Duration::ZERO);
    }

    /// [`record`](Self::record) for a caller that was busy itself for `own_work` of the time since the request was
    /// sent, with this or with other requests: an answer that lay there meanwhile was no slower for it, and a client at
    /// the end of its strength must not take that for the server's.
    pub fn record_besides(&mut self, outcome: Outcome, own_work: Duration) {
        let request = self.request;
        if matches!(request, Request::Answered | Request::Refused) {
            return;
        }
        self.limiter.update(|state, now| {
            match outcome {
                Outcome::Success => state.successes += 1,
                Outcome::Overload => state.overloads += 1,
                Outcome::Ignored => {}
            }
            if let (Rule::Adaptive(rule), Request::Sent(ticket)) = (&mut state.rule, request) {
                rule.answer(ticket, outcome, now.saturating_sub(own_work));
            }
        });
        self.request = match outcome {
            Outcome::Overload => Request::Refused,
            Outcome::Success | Outcome::Ignored => Request::Answered,
        };
    }

    /// The limiter that the slot belongs to.
    #[must_use]
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }
}

impl fmt::Debug for LimitPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitPermit").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl Drop for LimitPermit {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        state.in_flight -= 1;
        if let (Rule::Adaptive(rule), Request::Sent(_) | Request::Answered) = (&mut state.rule, self.request)
        {
            rule.finish();
        }
    }
}
