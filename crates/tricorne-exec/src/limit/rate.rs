//! How much may happen in a time: so many requests a minute, so many tokens a minute, with bursts.
//!
//! [`Gcra`] is the rule, a pure state machine that is told the time; [`RateLimiter`] is the rule with a clock and a
//! line of waiters.
//!
//! # The rule
//!
//! The generic cell rate algorithm (ITU-T I.371, the rule by which ATM networks police a connection; the same thing as
//! a token bucket, kept in one number instead of two). Each unit costs `period / amount` of time. `due` is the moment at
//! which everything that was let through so far is paid off. A request may go when `due` lies no further ahead than the
//! burst is worth, and then moves `due` on by its own cost:
//!
//! ```text
//!        now                 now + burst
//!  ───────┼──────────────────────┼──────────▶ time
//!         ╰── credit left ──╮    │
//!                          due   │              may go: due + cost <= now + burst
//!                           ╰─ cost ─▶ new due
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use tricorne_sync::prim::{Arc, Mutex, lock};
use tricorne_sync::{Permit, Semaphore};

use crate::park;

/// A rate, with bursts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tricorne_exec::limit::Rate;
///
/// // 90,000 tokens a minute, 20,000 of them at once.
/// let rate = Rate::new(90_000, Duration::from_secs(60)).burst(20_000);
/// assert_eq!(rate.time_for(3_000), Duration::from_secs(2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    period: Duration,
    burst: u64,
}

impl Rate {
    /// `amount` units in each `period`. By default no burst: one unit at a time, evenly spread. An `amount` of 0 counts as
    /// 1.
    #[must_use]
    pub fn new(amount: u64, period: Duration) -> Self {
        Self { amount: amount.max(1), period, burst: 1 }
    }

    /// How many units may pass at once after a quiet time; at least 1.
    ///
    /// Within any `period` at most `amount + burst` units pass, apart from a single request that is larger than the burst.
    /// A provider that counts by fixed windows is met with a
    /// burst that is small against the amount.
    #[must_use]
    pub fn burst(mut self, burst: u64) -> Self {
        self.burst = burst.max(1);
        self
    }

    /// Units in each period.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// The time in which the amount may pass.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How long so many units take at this rate, rounded up to a nanosecond.
    #[must_use]
    pub fn time_for(&self, units: u64) -> Duration {
        self.real(self.cost(units))
    }

    /// The cost of so many units. Times inside the rule are counted in `amount`-ths of a nanosecond, in which every cost
    /// is a whole number: nothing is rounded, however high the rate.
    fn cost(&self, units: u64) -> u128 {
        self.period.as_nanos().saturating_mul(u128::from(units))
    }

    /// A moment, counted like costs.
    fn moment(&self, time: Duration) -> u128 {
        time.as_nanos().saturating_mul(u128::from(self.amount))
    }

    /// As a length of time, rounded up.
    fn real(&self, fine: u128) -> Duration {
        Duration::from_nanos(u64::try_from(fine.div_ceil(u128::from(self.amount))).unwrap_or(u64::MAX))
    }
}

/// The rule of a rate limit; see the module's overview. Times are distances from one arbitrary origin and may not go
/// back.
#[derive(Debug, Clone)]
pub struct Gcra {
    rate: Rate,
    /// When all that was let through is paid off, counted as [`Rate::cost`] says.
    due: u128,
    /// Nothing passes before, whatever the rate says.
    held_until: Duration,
}

impl Gcra {
    /// A rule with its whole burst to spend.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, due: 0, held_until: Duration::ZERO }
    }

    /// Lets `units` through at `now`, or says how long from now they have to wait; then nothing has changed.
    ///
    /// What is larger than the burst can never fit into it: it passes when the whole burst is there, and is paid off
    /// afterwards. So the rate holds for it too, and nothing waits for ever.
    pub fn take(&mut self, units: u64, now: Duration) -> Result<(), Duration> {
        let wait = self.wait_for(units, now);
        if wait.is_zero() {
            self.charge(units, now);
            Ok(())
        } else {
            Err(wait)
        }
    }

    /// How long from `now` until `units` could pass; zero if now.
    #[must_use]
    pub fn wait_for(&self, units: u64, now: Duration) -> Duration {
        let moment = self.rate.moment(now);
        let fits = self.due.max(moment).saturating_add(self.rate.cost(units.min(self.rate.burst)));
        let allowed = moment.saturating_add(self.rate.cost(self.rate.burst));
        self.rate.real(fits.saturating_sub(allowed)).max(self.held_until.saturating_sub(now))
    }

    /// Counts units that were used without asking, such as the tokens of an answer: what comes later pays for them.
    pub fn charge(&mut self, units: u64, now: Duration) {
        self.due = self.due.max(self.rate.moment(now)).saturating_add(self.rate.cost(units));
    }

    /// Gives units back that were let through and not used.
    pub fn refund(&mut self, units: u64) {
        self.due = self.due.saturating_sub(self.rate.cost(units));
    }

    /// Lets nothing pass before `until`: the other side has said so, with a `Retry-After` say.
    pub fn hold_until(&mut self, until: Duration) {
        self.held_until = self.held_until.max(until);
    }

    /// Units that could pass at `now`, one after the other.
    #[must_use]
    pub fn available(&self, now: Duration) -> u64 {
        if self.held_until > now {
            return 0;
        }
        let moment = self.rate.moment(now);
        let allowed = moment.saturating_add(self.rate.cost(self.rate.burst));
        let credit = allowed.saturating_sub(self.due.max(moment));
        let units = credit / self.rate.period.as_nanos().max(1);
        u64::try_from(units).unwrap_or(u64::MAX).min(self.rate.burst)
    }
}

/// Lets only so much through in a time, from threads and async code alike.
///
/// # Fairness
///
/// First come, first served: a large request at the front is not overtaken by small ones behind it.
///
/// # Cancel safety
///
/// A wait that is dropped or times out has used nothing, and the next in line moves up at once.
///
/// # Examples
///
/// Two limits of one provider, as a client of a language model meets them:
///
/// ```
/// use std::time::Duration;
/// use tricorne_exec::limit::{Rate, RateLimiter};
///
/// let minute = Duration::from_secs(60);
/// let requests = RateLimiter::new(Rate::new(500, minute).burst(10));
/// let tokens = RateLimiter::new(Rate::new(90_000, minute).burst(20_000));
///
/// requests.acquire(1);
/// tokens.acquire(1_200);
/// // ... the answer was longer than it was thought to be ...
/// tokens.charge(300);
/// assert!(tokens.available() <= 20_000 - 1_500 + 10);
/// ```
pub struct RateLimiter {
    origin: Instant,
    rule: Mutex<Gcra>,
    /// Whoever has it stands at the front of the line.
    turn: Arc<Semaphore>,
}

impl RateLimiter {
    /// A limiter with its whole burst to spend.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { origin: Instant::now(), rule: Mutex::new(Gcra::new(rate)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits in line until `units` may pass, blocking the thread.
    pub fn acquire(&self, units: u64) {
        let _turn = self.turn.acquire(1).expect("it is never closed");
        while let Err(wait) = self.take(units) {
            park::sleep(wait);
        }
    }

    /// [`acquire`](Self::acquire), waiting for at most `timeout`; whether they may pass.
    #[must_use]
    pub fn acquire_timeout(&self, units: u64, timeout: Duration) -> bool {
        match park::deadline_after(timeout) {
            Some(deadline) => self.acquire_deadline(units, deadline),
            None => {
                self.acquire(units);
                true
            }
        }
    }

    /// [`acquire`](Self::acquire), waiting until `deadline` at most; whether they may pass. Does not wait at all once it
    /// is at the front and sees that it will be too late.
    #[must_use]
    pub fn acquire_deadline(&self, units: u64, deadline: Instant) -> bool {
        let Ok(_turn) = self.turn.acquire_deadline(1, deadline) else { return false };
        while let Err(wait) = self.take(units) {
            if park::deadline_after(wait).is_none_or(|end| end > deadline) {
                return false;
            }
            park::sleep(wait);
        }
        true
    }

    /// Waits in line until `units` may pass, from async code on a tokio runtime with timers, such as that of an
    /// [`AsyncExecutor`](crate::AsyncExecutor).
    ///
    /// # Panics
    ///
    /// If it has to wait where there is no such runtime.
    pub async fn acquire_async(&self, units: u64) {
        let _turn = self.turn.acquire_async(1).await.expect("it is never closed");
        while let Err(wait) = self.take(units) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits in line until `units` may pass, and keeps the place at the front: they pass when the clearance is
    /// [used](Clearance::pass). For whoever then needs something else too that must not be held while waiting here, such as a
    /// permit: what is let through is counted at the moment at which it goes, so that a late one is followed by no burst.
    ///
    /// # Panics
    ///
    /// If it has to wait where there is no tokio runtime with timers.
    pub async fn clear_async(&self, units: u64) -> Clearance<'_> {
        let turn = self.turn.acquire_async(1).await.expect("it is never closed");
        loop {
            let wait = lock(&self.rule).wait_for(units, self.origin.elapsed());
            if wait.is_zero() {
                return Clearance { limiter: self, units, _turn: turn };
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether the whole burst could pass now: a new limiter of this rate would allow no more.
    #[must_use]
    pub fn is_rested(&self) -> bool {
        let rule = lock(&self.rule);
        rule.available(self.origin.elapsed()) == rule.rate.burst
    }

    /// Lets `units` pass now, if they may and nobody waits in line.
    ///
    /// # Errors
    ///
    /// How long they would have to wait at least: of those in line, only one unit is counted. Never zero.
    pub fn try_acquire(&self, units: u64) -> Result<(), Duration> {
        match self.turn.try_acquire(1) {
            Ok(_turn) => self.take(units),
            Err(_) => {
                let rule = lock(&self.rule);
                // Whoever is in front passes first, and that is at least one unit.
                Err(rule.wait_for(units, self.origin.elapsed()).max(rule.rate.time_for(1)))
            }
        }
    }

    /// Counts units that were used without asking, such as the tokens of an answer: those who come later pay for them.
    pub fn charge(&self, units: u64) {
        lock(&self.rule).charge(units, self.origin.elapsed());
    }

    /// Gives units back that were let through and not used. Whoever waits at the front notices when its wait is over.
    pub fn refund(&self, units: u64) {
        lock(&self.rule).refund(units);
    }

    /// Lets nothing pass for `pause`: the other side has said so, with a `Retry-After` say.
    pub fn hold(&self, pause: Duration) {
        lock(&self.rule).hold_until(self.origin.elapsed().saturating_add(pause));
    }

    /// Units that could pass now, if nobody waited in line.
    #[must_use]
    pub fn available(&self) -> u64 {
        lock(&self.rule).available(self.origin.elapsed())
    }

    fn take(&self, units: u64) -> Result<(), Duration> {
        lock(&self.rule).take(units, self.origin.elapsed())
    }
}

/// The front of the line of a [`RateLimiter`], which has room for those who stand there; made by
/// [`clear_async`](RateLimiter::clear_async).
///
/// Dropped unused it has used nothing, and the next in line moves up.
#[must_use = "nothing has passed yet, and all others wait meanwhile"]
pub struct Clearance<'a> {
    limiter: &'a RateLimiter,
    units: u64,
    _turn: Permit<'a>,
}

impl Clearance<'_> {
    /// Lets them pass now.
    pub fn pass(self) {
        self.limiter.charge(self.units);
    }
}

impl fmt::Debug for Clearance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clearance").field("units", &self.units).finish_non_exhaustive()
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("rate", &lock(&self.rule).rate)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_evenly() {
        let mut rule = Gcra::new(Rate::new(10, ms(1000)).burst(3));
        assert_eq!(rule.available(ms(0)), 3);
        for _ in 0..3 {
            assert_eq!(rule.take(1, ms(0)), Ok(()));
        }
        assert_eq!(rule.take(1, ms(0)), Err(ms(100)));
        assert_eq!(rule.take(1, ms(99)), Err(ms(1)));
        assert_eq!(rule.take(1, ms(100)), Ok(()));
        assert_eq!(rule.take(2, ms(200)), Err(ms(100)));
        // A quiet time fills the burst up again, and no further.
        assert_eq!(rule.available(ms(60_000)), 3);
    }

    #[test]
    fn what_is_larger_than_the_burst_is_paid_off_afterwards() {
        let mut rule = Gcra::new(Rate::new(10, ms(1000)).burst(2));
        assert_eq!(rule.take(1, ms(0)), Ok(()));
        assert_eq!(rule.take(20, ms(0)), Err(ms(100)), "it waits for the whole burst");
        assert_eq!(rule.take(20, ms(100)), Ok(()));
        assert_eq!(rule.take(1, ms(100)), Err(ms(1900)));
    }

    #[test]
    fn a_rate_of_several_units_a_nanosecond_is_a_limit_too() {
        let mut rule = Gcra::new(Rate::new(2_000_000_000, ms(1000)));
        let passed = (0..10_000).filter(|_| rule.take(1, Duration::from_nanos(1_000)).is_ok()).count();
        assert_eq!(passed, 1, "a burst of 1");
        assert_eq!(rule.take(1, Duration::from_nanos(1_001)), Ok(()));
        let mut rule = Gcra::new(Rate::new(700_000_000, ms(1000)));
        let passed = (0..1_000_u64).filter(|&nano| rule.take(1, Duration::from_nanos(nano)).is_ok()).count();
        assert!((500..=701).contains(&passed), "{passed} in a microsecond at 700 a microsecond");
    }

    #[test]
    fn charges_refunds_and_holds_count() {
        let mut rule = Gcra::new(Rate::new(10, ms(1000)).burst(5));
        rule.charge(5, ms(0));
        assert_eq!(rule.take(1, ms(0)), Err(ms(100)));
        rule.refund(1);
        assert_eq!(rule.take(1, ms(0)), Ok(()));
        rule.hold_until(ms(700));
        assert_eq!((rule.available(ms(600)), rule.take(1, ms(600))), (0, Err(ms(100))));
        assert_eq!(rule.take(5, ms(700)), Ok(()));
    }

    #[test]
    fn an_async_line_is_served_in_order_and_a_dropped_wait_uses_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let limiter = RateLimiter::new(Rate::new(1_000, ms(1_000)).burst(1));
            limiter.acquire_async(1).await;
            let order = std::cell::RefCell::new(Vec::new());
            let wait = async |n: u64, units: u64| {
                limiter.acquire_async(units).await;
                order.borrow_mut().push(n);
            };
            // In line from the first poll on; the second gives up after that.
            let mut first = std::pin::pin!(wait(1, 3));
            let mut given_up = Box::pin(wait(2, 1_000_000));
            let mut third = std::pin::pin!(wait(3, 1));
            tokio::select! {
                biased;
                () = &mut first => unreachable!("it has to wait"),
                () = &mut given_up => unreachable!("it stands behind"),
                () = &mut third => unreachable!("it stands behind"),
                () = std::future::ready(()) => {}
            }
            drop(given_up);
            tokio::join!(first, third);
            assert_eq!(*order.borrow(), [1, 3]);
        });
    }

    #[test]
    fn a_clearance_counts_when_it_is_used_and_only_then() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let limiter = RateLimiter::new(Rate::new(1, Duration::from_secs(3600)));
            let clearance = limiter.clear_async(1).await;
            assert_eq!(limiter.try_acquire(1), Err(Duration::from_secs(3600)), "somebody stands in front");
            drop(clearance);
            assert!(limiter.is_rested());
            limiter.clear_async(1).await.pass();
            assert!(!limiter.is_rested());
            assert!(limiter.try_acquire(1).is_err_and(|wait| wait > Duration::from_secs(3500)));
        });
    }

    #[test]
    fn a_wait_that_would_be_too_long_is_refused_at_once() {
        let limiter = RateLimiter::new(Rate::new(1, Duration::from_secs(3600)));
        assert_eq!(limiter.try_acquire(1), Ok(()));
        assert!(limiter.try_acquire(1).is_err_and(|wait| wait > Duration::from_secs(3500)));
        let before = Instant::now();
        assert!(!limiter.acquire_timeout(1, Duration::from_secs(60)));
        assert!(before.elapsed() < Duration::from_secs(30));
    }

    proptest! {
        /// Against what is promised: within any span at most `span * rate + burst` units pass, and one that is told to
        /// wait passes after exactly that time and not before.
        #[test]
        fn no_span_sees_more_than_its_share(
            amount in 1_u64..200,
            burst in 1_u64..50,
            steps in proptest::collection::vec((0_u64..400, 1_u64..20), 1..200),
        ) {
            let rate = Rate::new(amount, ms(1000)).burst(burst);
            let mut rule = Gcra::new(rate);
            let mut now = Duration::ZERO;
            let mut passed: VecDeque<(Duration, u64)> = VecDeque::new();
            for (step, units) in steps {
                now += ms(step);
                let units = units.min(burst);
                if let Err(wait) = rule.clone().take(units, now) {
                    prop_assert!(wait > Duration::ZERO);
                    let before = wait.saturating_sub(Duration::from_nanos(1));
                    prop_assert!(rule.clone().take(units, now + before).is_err());
                    now += wait;
                }
                prop_assert!(rule.available(now) >= units);
                prop_assert_eq!(rule.take(units, now), Ok(()));
                passed.push_back((now, units));
                let mut total = 0;
                for (at, units) in passed.iter().rev() {
                    total += units;
                    let span = (now - *at).as_nanos();
                    let share = u128::from(amount) * span / 1_000_000_000 + u128::from(burst);
                    prop_assert!(u128::from(total) <= share, "{total} in {span} ns");
                }
            }
        }
    }
}
