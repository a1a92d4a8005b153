//! The rule by which an adaptive limit finds out how many requests a server takes at once.
//!
//! A pure state machine: time is passed in, nothing waits, nothing is random, so the same events give the same limit.
//! It was chosen, and is kept honest, by the simulations in `tests/adaptive_simulation.rs`.
//!
//! # The two signals
//!
//! *Refusals* (429, 503, time-outs). What is in flight when a refusal comes back, without the refused, is being
//! served: after a step too far that number is exactly the new limit. But when a server shrinks, each request it
//! still works on was sent in better times, and the number says little. So refusals in a row cut deeper and deeper (by
//! 0, 1/16, 1/8, 1/4, then 1/2 each), until a request sent after a cut succeeds. There is one cut per round trip: a
//! refused request that was sent before the last cut only lowers the limit to what is in flight.
//!
//! *Latency*, for servers that never refuse but queue. A request sent as the `n`-th in flight that took `t` saw a
//! throughput of `n / t` (Little's law). While the limit grows, each answer that took not much longer than usual is a
//! vote for growth; when most of a round were slow, the median of `n / t` times the usual latency is the number of
//! requests that the server really works on, and growth ends a little below it.
//!
//! # The phases
//!
//! ```text
//!             enough answers                      refused once, congested, or at `max`
//!  warm-up ─────────────────────────▶ growing ────────────────────────────────────────▶ steady
//!                                      ▲   ▲                                            │    │
//!                                      │   └──────── probe: one request more ───────────┘    │
//!                                      └──────────── refused again and again: cut ───────────┘
//! ```
//!
//! Growing adds one per vote, which doubles the limit per round trip and spreads the new requests over it: a step too
//! far costs one refusal, not as many as the limit. From half of a level where the server was full before (a
//! *ceiling* if it refused, a *knee* if it got slow) growth is eight times slower, and a ceiling is passed only after a
//! whole round trip at it without a refusal.
//!
//! A steady limit is probed with one request more about every 400 requests, later after many refusals, but at least
//! every 2.2 seconds (or eight round trips, if that is longer): this bounds the share of refusals as well as the time
//! until more capacity is noticed.
//!
//! Only requests that were sent while the limit was in use count: an idle limit neither grows nor probes.

use std::time::Duration;

use super::Outcome;

/// Answers needed before the usual latency is trusted.
const WARM_UP_ANSWERS: usize = 8;
/// Answers of which the usual latency is the exact median, even while the limit already grows.
const SETTLED_ANSWERS: usize = 32;
/// How far each later answer moves the usual latency, as a share of it.
const USUAL_STEP: f64 = 0.02;
/// Below this, in seconds, latencies are taken as equal: there it is the scheduler of this machine that makes them
/// differ, and a server that answers so quickly may have a queue as short as that.
const LEAST_LATENCY_SECS: f64 = 0.001;
/// An answer slower than this times the usual latency is no vote for growth.
const SLOW_FACTOR: f64 = 1.5;
/// Smallest number of answers on which growth is judged.
const MIN_WINDOW: usize = 16;
/// Largest number of answers on which growth is judged.
const MAX_WINDOW: usize = 256;
/// A congested growth ends a little below what the server was found to work on: rather a server that is not quite busy
/// than a limit that creeps up with each measurement that is a little too high.
const KNEE_SHARE: f64 = 0.95;
/// A congested growth raises the limit only if the server works on at least this many times the former one.
const GAIN_TO_KEEP: f64 = 1.1;
/// A congested growth lowers the limit only if the server works on less than this share of the former one.
const LOSS_TO_CUT: f64 = 0.95;
/// Share of the normal growth near a level where the server was once found to be full.
const CAREFUL_GROWTH: f64 = 0.125;
/// A ceiling is passed only after as many votes as the limit, and at least this many.
const MIN_CONFIRMATIONS: usize = 3;
/// A steady limit is probed once in about this many requests.
const PROBE_REQUESTS: f64 = 400.0;
/// How many requests go by before the next probe for each refusal since the last.
const REQUESTS_PER_REFUSAL: f64 = 200.0;
/// A steady limit is probed at least this often, in seconds, unless round trips are long.
const MAX_PROBE_SECS: f64 = 2.2;
/// Bounds of the probe interval in round trips.
const MIN_PROBE_ROUND_TRIPS: f64 = 4.0;
const MAX_PROBE_ROUND_TRIPS: f64 = 8.0;

/// Bounds of an adaptive limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConfig {
    /// The limit never falls below this; at least 1.
    pub min: usize,
    /// Where it starts. A server that takes fewer refuses some of the first requests.
    pub initial: usize,
    /// The limit never rises above this. Bounds sockets and memory, so it should be what the process can afford.
    pub max: usize,
}

impl Default for AdaptiveConfig {
    /// From 1 to 256, starting with 4.
    fn default() -> Self {
        Self { min: 1, initial: 4, max: 256 }
    }
}

impl AdaptiveConfig {
    /// The same bounds put in order: `1 <= min <= initial <= max`.
    #[must_use]
    pub fn normalised(self) -> Self {
        let min = self.min.max(1);
        let max = self.max.max(min);
        Self { min, initial: self.initial.clamp(min, max), max }
    }
}

/// What is remembered about one request while it is in flight; made by [`Adaptive::start`].
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    sequence: u64,
    /// Requests in flight when it was sent, itself included.
    level: usize,
    /// Whether the limit was in use when it was sent.
    full: bool,
    sent_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Growing,
    Steady { probe_at: Duration },
}

/// The adaptive rule; see the module's overview. All times are distances from one arbitrary origin.
#[derive(Debug)]
pub struct Adaptive {
    config: AdaptiveConfig,
    limit: usize,
    in_flight: usize,
    next_sequence: u64,
    phase: Phase,
    /// Requests with a smaller sequence were sent before the phase began and say nothing about it.
    phase_start: u64,
    /// Requests with a smaller sequence were sent before the last cut.
    epoch_start: u64,
    /// Cuts since a request that was sent after one succeeded.
    refusals_in_a_row: u32,
    refused_since_probe: u32,
    /// Level at which a request was last refused, until the limit has passed it.
    ceiling: Option<usize>,
    /// Level at which the server was last found to be congested.
    knee: Option<usize>,
    /// Votes needed before the limit grows any further.
    unconfirmed: usize,
    usual: UsualLatency,
    /// Limit from which the growth under way started.
    grown_from: usize,
    /// Growth earned by answers, in requests; whole ones are added to the limit.
    credit: f64,
    window: Vec<Observation>,
}

#[derive(Debug, Clone, Copy)]
struct Observation {
    latency_secs: f64,
    level: usize,
}

impl Adaptive {
    /// A limit at `config.initial` that has seen nothing yet.
    #[must_use]
    pub fn new(config: AdaptiveConfig) -> Self {
        let config = config.normalised();
        Self {
            config,
            limit: config.initial,
            in_flight: 0,
            next_sequence: 0,
            phase: Phase::WarmUp,
            phase_start: 0,
            epoch_start: 0,
            refusals_in_a_row: 0,
            refused_since_probe: 0,
            ceiling: None,
            knee: None,
            unconfirmed: 0,
            usual: UsualLatency::default(),
            grown_from: config.initial,
            credit: 0.0,
            window: Vec::new(),
        }
    }

    /// Requests that may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Requests started and not finished; refused ones do not count any more.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A request takes a slot and is sent at `now`.
    pub fn start(&mut self, now: Duration) -> Ticket {
        self.in_flight += 1;
        self.send(now)
    }

    /// A request that holds a slot is sent (again) at `now`: its latency counts from here.
    pub fn restart(&mut self, now: Duration) -> Ticket {
        self.send(now)
    }

    fn send(&mut self, now: Duration) -> Ticket {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let level = self.in_flight;
        Ticket { sequence, level, full: level + level / 8 >= self.limit, sent_at: now }
    }

    /// The answer to a request has come; its slot is still held until [`Self::finish`].
    ///
    /// Of one request only the first answer may be reported; after [`Outcome::Overload`] the slot counts as free.
    pub fn answer(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Success => self.succeeded(ticket, now),
            Outcome::Overload => self.refused(ticket, now),
            Outcome::Ignored => {}
        }
    }

    /// The slot of a request is given back. Not to be called for a request that was refused.
    pub fn finish(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn succeeded(&mut self, ticket: Ticket, now: Duration) {
        let latency_secs = now.saturating_sub(ticket.sent_at).as_secs_f64().max(LEAST_LATENCY_SECS);
        if ticket.sequence >= self.epoch_start {
            self.refusals_in_a_row = 0;
        }
        let sent_in_this_phase = ticket.sequence >= self.phase_start;
        match self.phase {
            Phase::WarmUp => {
                self.usual.observe(latency_secs);
                if self.usual.is_known() {
                    self.grow(self.limit);
                }
            }
            Phase::Steady { probe_at } => {
                // Whenever it was sent: waiting for those sent in this phase would favour the fast ones.
                if ticket.level <= self.limit {
                    self.usual.observe(latency_secs);
                }
                if now >= probe_at && ticket.full && sent_in_this_phase && self.limit < self.config.max {
                    self.probe();
                }
            }
            Phase::Growing if sent_in_this_phase => self.judge(ticket, latency_secs, now),
            Phase::Growing => {}
        }
    }

    /// One answer to a request sent while growing.
    fn judge(&mut self, ticket: Ticket, latency_secs: f64, now: Duration) {
        if !self.usual.is_settled() {
            self.usual.observe(latency_secs);
        }
        if !ticket.full {
            return;
        }
        self.window.push(Observation { latency_secs, level: ticket.level });
        if !self.usual.is_exceeded_by(latency_secs) {
            self.vote();
        }
        if self.limit >= self.config.max {
            self.settle(self.config.max, now);
        } else if self.window.len() >= self.limit.clamp(MIN_WINDOW, MAX_WINDOW) {
            self.close_window(now);
        }
    }

    /// An answer that speaks for growth.
    fn vote(&mut self) {
        if self.unconfirmed > 0 {
            self.unconfirmed -= 1;
            if self.unconfirmed > 0 {
                return;
            }
            self.ceiling = self.ceiling.filter(|ceiling| *ceiling > self.limit);
        }
        let near_ceiling = self.ceiling.is_some_and(|ceiling| self.limit * 2 > ceiling);
        let near_knee = self.knee.is_some_and(|knee| self.limit * 2 > knee && self.limit < knee * 2);
        self.credit += if near_ceiling || near_knee { CAREFUL_GROWTH } else { 1.0 };
        if self.credit < 1.0 {
            return;
        }
        self.credit -= 1.0;
        self.limit += 1;
        if self.ceiling == Some(self.limit) {
            self.unconfirmed = self.limit.max(MIN_CONFIRMATIONS);
        }
    }

    fn close_window(&mut self, now: Duration) {
        let latency_secs = median(self.window.iter().map(|seen| seen.latency_secs));
        let throughput = median(self.window.iter().map(|seen| seen.level as f64 / seen.latency_secs));
        self.window.clear();
        if !self.usual.is_exceeded_by(latency_secs) {
            return;
        }
        let worked_on = KNEE_SHARE * throughput * self.usual.secs;
        self.knee = Some(worked_on.round() as usize);
        let former = self.grown_from as f64;
        let limit = if (LOSS_TO_CUT * former..GAIN_TO_KEEP * former).contains(&worked_on) {
            self.grown_from
        } else {
            worked_on.round() as usize
        };
        self.settle(limit.min(self.limit), now);
    }

    fn refused(&mut self, ticket: Ticket, now: Duration) {
        self.finish();
        let served = self.in_flight;
        self.refused_since_probe += 1;
        if ticket.sequence < self.epoch_start {
            self.limit = self.limit.min(served).max(self.config.min);
            return;
        }
        self.ceiling = Some(ticket.level);
        self.epoch_start = self.next_sequence;
        let served = self.limit.min(served);
        let cut = match self.refusals_in_a_row {
            0 => 0,
            1 => served / 16,
            2 => served / 8,
            3 => served / 4,
            _ => served / 2,
        };
        self.refusals_in_a_row += 1;
        if cut == 0 {
            self.settle(served, now);
        } else {
            self.grow((served - cut).max(self.config.min));
        }
    }

    fn probe(&mut self) {
        self.refused_since_probe = 0;
        self.grow(self.limit + 1);
        self.unconfirmed = self.limit.max(MIN_CONFIRMATIONS);
    }

    fn grow(&mut self, limit: usize) {
        self.grown_from = self.limit.min(limit);
        self.limit = limit;
        self.enter(Phase::Growing);
    }

    fn settle(&mut self, limit: usize, now: Duration) {
        self.limit = limit.clamp(self.config.min, self.config.max);
        self.enter(Phase::Steady { probe_at: now + self.probe_interval() });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_start = self.next_sequence;
        self.credit = 0.0;
        self.unconfirmed = 0;
        self.window.clear();
    }

    fn probe_interval(&self) -> Duration {
        if !self.usual.is_known() {
            return Duration::from_secs_f64(MAX_PROBE_SECS);
        }
        let round_trip_secs = self.usual.secs;
        let requests_per_sec = self.limit as f64 / round_trip_secs;
        let requests = PROBE_REQUESTS.max(REQUESTS_PER_REFUSAL * f64::from(self.refused_since_probe));
        let longest = MAX_PROBE_SECS.max(MAX_PROBE_ROUND_TRIPS * round_trip_secs);
        let shortest = (MIN_PROBE_ROUND_TRIPS * round_trip_secs).min(longest);
        Duration::from_secs_f64((requests / requests_per_sec).clamp(shortest, longest))
    }
}

/// A running median of latencies: exact for the first answers, later one number that each answer moves a little towards
/// itself, however far away it is.
#[derive(Debug, Default)]
struct UsualLatency {
    secs: f64,
    first: Vec<f64>,
}

impl UsualLatency {
    fn observe(&mut self, latency_secs: f64) {
        if self.is_settled() {
            let towards = if latency_secs > self.secs { 1.0 + USUAL_STEP } else { 1.0 / (1.0 + USUAL_STEP) };
            self.secs *= towards;
        } else {
            self.first.push(latency_secs);
            self.secs = median(self.first.iter().copied());
        }
    }

    fn is_known(&self) -> bool {
        self.first.len() >= WARM_UP_ANSWERS
    }

    fn is_settled(&self) -> bool {
        self.first.len() >= SETTLED_ANSWERS
    }

    /// Whether an answer was slower than usual; never while the usual latency is not known yet.
    fn is_exceeded_by(&self, latency_secs: f64) -> bool {
        self.is_known() && latency_secs > SLOW_FACTOR * self.secs
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
