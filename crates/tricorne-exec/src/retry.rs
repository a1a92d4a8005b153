//! Retry policy: how often one record may be tried and how long to wait in between.
//!
//! A [`RetryBudget`] belongs to one record and is handed down through every layer that may fail, so that retries
//! never nest: three layers with four attempts each would otherwise make sixty-four.
//!
//! For what may pass by itself: a server that is overloaded, a connection that was lost. What fails for good, such as a page
//! that is not there, is given up at once; so whoever tries says which is which. For code that has one thing to try there are
//! [`RetryPolicy::run`] and [`run_async`](RetryPolicy::run_async); a budget by hand is for more than one layer.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use tricorne_exec::retry::{Decision, Jitter, RetryPolicy};
//!
//! let policy = RetryPolicy { max_attempts: 4, base: Duration::from_millis(1), ..RetryPolicy::default() };
//! let fetch = |url: &str| {
//!     policy.run(
//!         // The same stream gives the same delays, so that a run can be repeated.
//!         Jitter::for_stream(7, url.len() as u64),
//!         |attempt| match (url, attempt) {
//!             ("/busy", 1 | 2) => Err(503),
//!             ("/busy", _) => Ok("page"),
//!             _ => Err(404),
//!         },
//!         |status| if *status == 503 { Decision::Retry } else { Decision::GiveUp },
//!     )
//! };
//! assert_eq!(fetch("/busy"), Ok("page"));
//! assert_eq!(fetch("/missing"), Err(404));
//! ```

use std::future::Future;
use std::time::Duration;

use crate::park;

/// How often to try and how the waiting time grows; plain data, shared by all records.
///
/// The delay before attempt `n + 1` is drawn uniformly from zero to `base * 2^(n - 1)`, at most `max_delay` ("full
/// jitter"): clients that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included. `0` means the same as `1`: no retry.
    pub max_attempts: u32,
    /// Upper bound of the first delay; it doubles with every attempt.
    pub base: Duration,
    /// Upper bound of any delay that the server did not ask for.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Six attempts, 200 ms doubling up to 20 s: a server that is away for half a minute loses no record.
    fn default() -> Self {
        Self { max_attempts: 6, base: Duration::from_millis(200), max_delay: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// A fresh budget for one record, its first attempt under way.
    #[must_use]
    pub fn budget(&self, jitter: Jitter) -> RetryBudget {
        RetryBudget { policy: *self, attempts: 1, jitter }
    }

    /// The longest delay that may be drawn after `attempts` attempts have failed.
    #[must_use]
    pub fn delay_bound(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.base.saturating_mul(1_u32 << doublings).min(self.max_delay)
    }
}

/// Whether an error is worth another attempt: the answer of the caller's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may go better next time.
    Retry,
    /// It may go better, but not before: the other side has said so (`Retry-After`).
    RetryAfter(Duration),
    /// Trying again would change nothing.
    GiveUp,
}

impl RetryPolicy {
    /// Calls `attempt` with the number of the attempt, from 1, until it succeeds, `decide` gives up or the budget is used
    /// up; sleeps in between, blocking the thread.
    ///
    /// # Errors
    ///
    /// The error of the last attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tricorne_exec::retry::{Decision, Jitter, RetryPolicy};
    ///
    /// let policy = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
    /// let answer = policy.run(
    ///     Jitter::new(7),
    ///     |attempt| if attempt < 3 { Err("503") } else { Ok("page") },
    ///     |error| if *error == "503" { Decision::Retry } else { Decision::GiveUp },
    /// );
    /// assert_eq!(answer, Ok("page"));
    /// ```
    pub fn run<T, E>(
        &self,
        jitter: Jitter,
        mut attempt: impl FnMut(u32) -> Result<T, E>,
        mut decide: impl FnMut(&E) -> Decision,
    ) -> Result<T, E> {
        let mut budget = self.budget(jitter);
        loop {
            let error = match attempt(budget.attempts()) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = budget.after(decide(&error)) else { return Err(error) };
            park::sleep(delay);
        }
    }

    /// [`run`](Self::run) for async code on a tokio runtime with timers.
    ///
    /// # Errors
    ///
    /// The error of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the attempt that is under way and makes no other.
    pub async fn run_async<T, E, F>(
        &self,
        jitter: Jitter,
        mut attempt: impl FnMut(u32) -> F,
        mut decide: impl FnMut(&E) -> Decision,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut budget = self.budget(jitter);
        loop {
            let error = match attempt(budget.attempts()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = budget.after(decide(&error)) else { return Err(error) };
            tokio::time::sleep(delay).await;
        }
    }
}

/// The attempts of one record: how many were used, and how long to wait before the next.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tricorne_exec::retry::{Jitter, RetryPolicy};
///
/// let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
/// let mut budget = policy.budget(Jitter::new(7));
/// // The first attempt failed; the server said `Retry-After: 3`.
/// let delay = budget.next_delay(Some(Duration::from_secs(3))).expect("one retry is left");
/// assert!(delay >= Duration::from_secs(3));
/// assert_eq!(budget.attempts(), 2);
/// assert_eq!(budget.next_delay(None), None);
/// ```
#[derive(Debug, Clone)]
pub struct RetryBudget {
    policy: RetryPolicy,
    attempts: u32,
    jitter: Jitter,
}

impl RetryBudget {
    /// Attempts used so far, the one under way included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the attempt under way is the last one.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.attempts >= self.policy.max_attempts
    }

    /// [`next_delay`](Self::next_delay) if the decision is to try again.
    pub fn after(&mut self, decision: Decision) -> Option<Duration> {
        match decision {
            Decision::Retry => self.next_delay(None),
            Decision::RetryAfter(floor) => self.next_delay(Some(floor)),
            Decision::GiveUp => None,
        }
    }

    /// Takes the next attempt from the budget and says how long to wait before it; `None` when there is none left.
    ///
    /// `hint` is what the server asked for (Retry-After) and is a floor: the delay is never shorter, and longer by at
    /// most `base`, so that those who were told the same moment do not all come at that moment. A hint is not
    /// bounded by `max_delay`: a caller that does not want to wait that long has to refuse it before.
    pub fn next_delay(&mut self, hint: Option<Duration>) -> Option<Duration> {
        if self.is_exhausted() {
            return None;
        }
        let delay = match hint {
            Some(floor) => floor.saturating_add(self.jitter.up_to(self.policy.base)),
            None => self.jitter.up_to(self.policy.delay_bound(self.attempts)),
        };
        self.attempts += 1;
        Some(delay)
    }
}

/// A small seeded random generator (`SplitMix64`) for delays: reproducible, and not for secrets.
#[derive(Debug, Clone)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// A generator whose delays depend on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator for the stream `stream` of `seed`: one per record, whatever the order the records run in.
    #[must_use]
    pub fn for_stream(seed: u64, stream: u64) -> Self {
        let mut mixer = Self::new(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Self::new(mixer.next_u64())
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A duration from zero to `bound`.
    pub fn up_to(&mut self, bound: Duration) -> Duration {
        // Rounding to nanoseconds may add half of one.
        bound.mul_f64(self.unit()).min(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_or_one_attempt_means_no_retry() {
        for max_attempts in [0, 1] {
            let mut budget = RetryPolicy { max_attempts, ..RetryPolicy::default() }.budget(Jitter::new(1));
            assert!(budget.is_exhausted());
            assert_eq!(budget.next_delay(Some(Duration::ZERO)), None);
            assert_eq!(budget.attempts(), 1);
        }
    }

    #[test]
    fn attempts_end_with_a_success_a_decision_or_the_budget() {
        let policy = RetryPolicy { max_attempts: 3, base: Duration::ZERO, max_delay: Duration::ZERO };
        let run = |succeeds_at: u32, decision: Decision| {
            let mut made = 0;
            let attempt = |number| {
                made = number;
                if number == succeeds_at { Ok(number) } else { Err(number) }
            };
            let outcome = policy.run(Jitter::new(1), attempt, |_| decision);
            (outcome, made)
        };
        assert_eq!(run(2, Decision::Retry), (Ok(2), 2));
        assert_eq!(run(9, Decision::RetryAfter(Duration::ZERO)), (Err(3), 3));
        assert_eq!(run(9, Decision::GiveUp), (Err(1), 1));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let attempt = async |number: u32| if number == 3 { Ok(number) } else { Err(number) };
        let outcome = runtime.block_on(policy.run_async(Jitter::new(1), attempt, |_| Decision::Retry));
        assert_eq!(outcome, Ok(3));
    }

    #[test]
    fn jitter_spreads_over_the_whole_range() {
        let bound = Duration::from_secs(1);
        let mut jitter = Jitter::new(42);
        let delays: Vec<f64> = (0..10_000).map(|_| jitter.up_to(bound).as_secs_f64()).collect();
        let mean = delays.iter().sum::<f64>() / delays.len() as f64;
        assert!((0.48..0.52).contains(&mean), "mean delay is {mean}");
        assert!(delays.iter().any(|delay| *delay < 0.01) && delays.iter().any(|delay| *delay > 0.99));
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |stream| Jitter::for_stream(5, stream).next_u64();
        assert_ne!(draw(0), draw(1));
        assert_eq!(draw(1), draw(1));
    }

    proptest! {
        #[test]
        fn delays_stay_in_their_bounds_and_attempts_run_out(
            seed: u64,
            max_attempts in 1_u32..80,
            base_ms in 0_u64..5_000,
            max_delay_ms in 0_u64..60_000,
            hints in proptest::collection::vec(proptest::option::of(0_u64..4_000_000), 80),
        ) {
            let policy = RetryPolicy {
                max_attempts,
                base: Duration::from_millis(base_ms),
                max_delay: Duration::from_millis(max_delay_ms),
            };
            let mut budget = policy.budget(Jitter::new(seed));
            let mut retries = 0;
            for hint in hints {
                let hint = hint.map(Duration::from_millis);
                let bound = policy.delay_bound(budget.attempts());
                let Some(delay) = budget.next_delay(hint) else { break };
                retries += 1;
                match hint {
                    Some(floor) => prop_assert!(delay >= floor && delay <= floor + policy.base),
                    None => prop_assert!(delay <= bound && bound <= policy.max_delay),
                }
            }
            prop_assert_eq!(retries, max_attempts - 1);
            prop_assert_eq!(budget.attempts(), max_attempts);
        }
    }
}
