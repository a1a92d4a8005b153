//! Simulated servers that decided the adaptive rule: time is a number, so minutes run in milliseconds, always alike.
//!
//! Judged is what the server works on, not what the client has in flight: some of that is on the way or in the
//! journal.
//!
//! Not modelled: packet loss, clock jumps, more than one client.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tricorne_exec::limit::{Adaptive, AdaptiveConfig, Outcome, Ticket};
use tricorne_exec::retry::Jitter;

/// What happens at a point of time.
enum Event {
    /// A request reaches the server.
    Arrive(usize),
    /// The server has done a request.
    Done(usize),
    /// An answer reaches the client.
    Answer(usize, Outcome),
    /// The client's part of the work (its journal, say) is done and the slot is free.
    Free,
    /// The client looks at its gauge.
    Sample,
}

/// How the server treats what reaches it.
#[derive(Clone, Copy)]
enum Server {
    /// Serves `capacity(now)` at once, refuses the rest at once.
    Refusing { capacity: fn(f64) -> usize },
    /// Never refuses: `workers` at once, the rest waits in a queue.
    Queueing { workers: usize },
}

struct World {
    server: Server,
    /// Mean service time; each is drawn evenly from half of it to one and a half.
    service_secs: f64,
    /// Network time, there and back together.
    network_secs: f64,
    /// How long a slot is kept after the answer.
    hold_secs: f64,
    /// Requests that are ready to go at any time.
    demand: usize,
    config: AdaptiveConfig,
    run_secs: f64,
    seed: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            server: Server::Refusing { capacity: eight_then_sixty_four_then_eight },
            service_secs: 0.05,
            network_secs: 0.0,
            hold_secs: 0.0,
            demand: usize::MAX,
            config: AdaptiveConfig { max: 1000, ..AdaptiveConfig::default() },
            run_secs: PHASE_SECS * 3.0,
            seed: 1,
        }
    }
}

#[derive(Default)]
struct Run {
    /// The client's gauge, every 10 ms.
    samples: Vec<Sample>,
    succeeded: usize,
    refused: usize,
}

struct Sample {
    secs: f64,
    /// Requests that the server works on.
    serving: usize,
    limit: usize,
}

const PHASE_SECS: f64 = 5.0;
const SAMPLE_SECS: f64 = 0.01;

fn eight_then_sixty_four_then_eight(now: f64) -> usize {
    if (PHASE_SECS..2.0 * PHASE_SECS).contains(&now) { 64 } else { 8 }
}

/// Events in the order of their time.
#[derive(Default)]
struct Agenda {
    events: BTreeMap<(u64, usize), Event>,
    scheduled: usize,
    now_ns: u64,
}

impl Agenda {
    fn after(&mut self, secs: f64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now_ns + (secs * 1e9) as u64, self.scheduled), event);
    }

    fn next(&mut self) -> Option<Event> {
        let ((now_ns, _), event) = self.events.pop_first()?;
        self.now_ns = now_ns;
        Some(event)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns)
    }
}

impl World {
    fn run(&self) -> Run {
        let mut random = Jitter::new(self.seed);
        let mut service = || self.service_secs * (0.5 + random.unit());
        let one_way_secs = self.network_secs / 2.0;
        let mut adaptive = Adaptive::new(self.config);
        let mut tickets: Vec<Ticket> = Vec::new();
        let (mut slots, mut serving, mut queue) = (0, 0, VecDeque::new());
        let mut run = Run::default();
        let mut agenda = Agenda::default();
        agenda.after(0.0, Event::Sample);
        loop {
            while slots < adaptive.limit().min(self.demand) {
                slots += 1;
                tickets.push(adaptive.start(agenda.now()));
                agenda.after(one_way_secs, Event::Arrive(tickets.len() - 1));
            }
            let event = agenda.next().expect("the gauge is always looked at again");
            let now = agenda.now();
            if now.as_secs_f64() > self.run_secs {
                return run;
            }
            match event {
                Event::Arrive(request) => match self.server {
                    Server::Refusing { capacity } if serving >= capacity(now.as_secs_f64()) => {
                        agenda.after(one_way_secs, Event::Answer(request, Outcome::Overload));
                    }
                    Server::Queueing { workers } if serving >= workers => queue.push_back(request),
                    _ => {
                        serving += 1;
                        agenda.after(service(), Event::Done(request));
                    }
                },
                Event::Done(request) => {
                    agenda.after(one_way_secs, Event::Answer(request, Outcome::Success));
                    match queue.pop_front() {
                        Some(next) => agenda.after(service(), Event::Done(next)),
                        None => serving -= 1,
                    }
                }
                Event::Answer(request, outcome) => {
                    adaptive.answer(tickets[request], outcome, now);
                    if outcome == Outcome::Overload {
                        slots -= 1;
                        run.refused += 1;
                    } else {
                        run.succeeded += 1;
                        agenda.after(self.hold_secs, Event::Free);
                    }
                }
                Event::Free => {
                    slots -= 1;
                    adaptive.finish();
                }
                Event::Sample => {
                    run.samples.push(Sample { secs: now.as_secs_f64(), serving, limit: adaptive.limit() });
                    agenda.after(SAMPLE_SECS, Event::Sample);
                }
            }
        }
    }
}

impl Run {
    fn refused_share(&self) -> f64 {
        self.refused as f64 / (self.refused + self.succeeded) as f64
    }

    fn between(&self, from_secs: f64, to_secs: f64) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.secs >= from_secs && sample.secs < to_secs)
    }

    /// Mean number of requests that the server works on.
    fn mean_serving(&self, from_secs: f64, to_secs: f64) -> f64 {
        let seen: Vec<usize> = self.between(from_secs, to_secs).map(|sample| sample.serving).collect();
        seen.iter().sum::<usize>() as f64 / seen.len() as f64
    }

    /// Seconds from the start of a phase until the server's work stays within a quarter of `capacity`, taking means
    /// over a fifth of a second.
    fn follows_after(&self, phase: usize, capacity: f64) -> f64 {
        let start = phase as f64 * PHASE_SECS;
        let windows = (PHASE_SECS / 0.2) as usize;
        let is_far = |window: &usize| {
            let from = start + *window as f64 * 0.2;
            (self.mean_serving(from, from + 0.2) - capacity).abs() > 0.25 * capacity
        };
        (0..windows).rev().find(is_far).map_or(0.0, |window| (window + 1) as f64 * 0.2)
    }
}

#[test]
fn follows_a_refusing_server_up_and_down() {
    for service_secs in [0.01, 0.05, 0.2] {
        for network_secs in [0.0, 0.0002] {
            for seed in 0..5 {
                let run = World { service_secs, network_secs, seed, ..World::default() }.run();
                let context = format!("service {service_secs} s, network {network_secs} s, seed {seed}");
                for (phase, capacity) in [(0, 8.0), (1, 64.0), (2, 8.0)] {
                    let secs = run.follows_after(phase, capacity);
                    assert!(secs <= 3.0, "phase {phase} was followed after {secs:.1} s: {context}");
                }
                let refused = run.refused_share();
                assert!(refused <= 0.01, "refused {:.2} %: {context}", refused * 100.0);
            }
        }
    }
}

#[test]
fn follows_while_slots_are_held_after_the_answer() {
    for seed in 0..5 {
        let run = World { service_secs: 0.05, hold_secs: 0.002, seed, ..World::default() }.run();
        for (phase, capacity) in [(0, 8.0), (1, 64.0), (2, 8.0)] {
            let secs = run.follows_after(phase, capacity);
            assert!(secs <= 3.0, "phase {phase} was followed after {secs:.1} s, seed {seed}");
        }
        assert!(run.refused_share() <= 0.01, "refused {:.2} %, seed {seed}", run.refused_share() * 100.0);
    }
}

#[test]
fn growth_ends_where_a_queueing_server_does_no_more() {
    for workers in [1, 4, 16, 64] {
        for (service_secs, run_secs) in [(0.000_05, 1.0), (0.01, 30.0)] {
            let world =
                World { server: Server::Queueing { workers }, service_secs, run_secs, ..World::default() };
            let run = world.run();
            let context = format!("{workers} workers, {service_secs} s");
            // Queues of up to a millisecond are not noticed.
            let full = workers as f64 * (0.001 / service_secs).max(1.0);
            let top = run.samples.iter().map(|sample| sample.limit).max().expect("sampled");
            assert!(top as f64 <= 4.0 * full + 32.0, "the limit rose to {top}: {context}");
            let last: Vec<usize> = run.between(run_secs / 2.0, run_secs).map(|sample| sample.limit).collect();
            let mean = last.iter().sum::<usize>() as f64 / last.len() as f64;
            assert!(mean <= 1.5 * full + 6.0, "the limit is {mean:.1} on average: {context}");
            let share = run.succeeded as f64 / (run_secs / service_secs * workers as f64);
            assert!(share >= 0.85, "only {:.0} % of the capacity were used: {context}", share * 100.0);
        }
    }
}

#[test]
fn an_idle_limit_does_not_grow() {
    let world =
        World { server: Server::Queueing { workers: 1000 }, demand: 3, run_secs: 20.0, ..World::default() };
    let top = world.run().samples.iter().map(|sample| sample.limit).max().expect("sampled");
    assert!(top <= 5, "the limit rose to {top} for 3 requests at a time");
}

#[test]
fn a_free_server_is_used_up_to_the_maximum() {
    let config = AdaptiveConfig { max: 200, ..AdaptiveConfig::default() };
    let world =
        World { server: Server::Queueing { workers: 1000 }, config, run_secs: 3.0, ..World::default() };
    assert_eq!(world.run().samples.last().expect("sampled").limit, 200);
}

#[test]
fn a_burst_of_refusals_ends_at_what_is_being_served() {
    let mut rule = Adaptive::new(AdaptiveConfig { initial: 64, ..AdaptiveConfig::default() });
    let tickets: Vec<Ticket> = (0..64).map(|_| rule.start(Duration::ZERO)).collect();
    for ticket in &tickets[8..] {
        rule.answer(*ticket, Outcome::Overload, Duration::from_millis(1));
    }
    assert_eq!((rule.limit(), rule.in_flight()), (8, 8));
}

#[test]
fn a_dead_server_brings_the_limit_down_to_its_minimum() {
    let mut rule = Adaptive::new(AdaptiveConfig { min: 2, initial: 40, max: 64 });
    for second in 0..20 {
        let ticket = rule.start(Duration::from_secs(second));
        rule.answer(ticket, Outcome::Overload, Duration::from_secs(second));
    }
    assert_eq!((rule.limit(), rule.in_flight()), (2, 0));
}

#[test]
fn bounds_are_put_in_order() {
    let config = AdaptiveConfig { min: 0, initial: 900, max: 20 }.normalised();
    assert_eq!(config, AdaptiveConfig { min: 1, initial: 20, max: 20 });
}
