//! What a run measures about itself while it runs: counters, the time of each stage, what is in work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tricorne_exec::sys::thread_cpu_time;

use crate::record::Record;

/// A counter that is only ever read for display and for the report.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Relaxed: a statistic; nothing is published through it.
        self.0.fetch_add(count, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time spent in a stage, over all its workers.
#[derive(Debug, Default)]
pub(crate) struct StageMeter {
    pub(crate) wall_nanos: Counter,
    pub(crate) cpu_nanos: Counter,
}

impl StageMeter {
    pub(crate) fn add(&self, wall: Duration, cpu: Duration) {
        self.wall_nanos.add(wall.as_nanos() as u64);
        self.cpu_nanos.add(cpu.as_nanos() as u64);
    }
    pub(crate) fn wall(&self) -> Duration {
        Duration::from_nanos(self.wall_nanos.get())
    }
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.get())
    }
}

/// The stages of one worker, one after the other: which one runs now, and what each has used.
pub struct StageClock<'a> {
    meters: &'a [StageMeter],
    place: &'a InWork,
    slot: usize,
    running: Option<usize>,
    wall: Instant,
    cpu: Duration,
}

impl<'a> StageClock<'a> {
    pub(crate) fn new(meters: &'a [StageMeter], place: &'a InWork, slot: usize) -> Self {
        StageClock { meters, place, slot, running: None, wall: Instant::now(), cpu: Duration::ZERO }
    }

    /// The worker now runs the stage with this index in [`Process::stages`](super::Process::stages).
    pub fn enter(&mut self, stage: usize) {
        let (wall, cpu) = (Instant::now(), thread_cpu_time());
        if let Some(before) = self.running {
            self.meters[before].add(wall - self.wall, cpu.saturating_sub(self.cpu));
        }
        (self.running, self.wall, self.cpu) = (Some(stage), wall, cpu);
        self.place.stage(self.slot, stage);
    }

    pub(crate) fn leave(&mut self) {
        if let Some(before) = self.running.take() {
            self.meters[before].add(self.wall.elapsed(), thread_cpu_time().saturating_sub(self.cpu));
        }
    }
}

/// What is being worked on, so that the watchdog can name it.
#[derive(Debug, Default)]
pub(crate) struct InWork {
    fetching: Mutex<BTreeMap<u64, (Instant, String)>>,
    workers: Vec<Mutex<Option<Work>>>,
}

#[derive(Debug, Clone)]
struct Work {
    id: u64,
    url: String,
    stage: usize,
    since: Instant,
}

impl InWork {
    pub(crate) fn new(workers: usize) -> Self {
        InWork { fetching: Mutex::default(), workers: (0..workers).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn fetch_begins(&self, record: &Record) {
        lock(&self.fetching).insert(record.id, (Instant::now(), record.url.clone()));
    }
    pub(crate) fn fetch_ends(&self, id: u64) {
        lock(&self.fetching).remove(&id);
    }
    pub(crate) fn fetching(&self) -> usize {
        lock(&self.fetching).len()
    }

    pub(crate) fn text_begins(&self, slot: usize, record: &Record) {
        *lock(&self.workers[slot]) =
            Some(Work { id: record.id, url: record.url.clone(), stage: 0, since: Instant::now() });
    }
    fn stage(&self, slot: usize, stage: usize) {
        if let Some(work) = lock(&self.workers[slot]).as_mut() {
            work.stage = stage;
        }
    }
    pub(crate) fn text_ends(&self, slot: usize) {
        *lock(&self.workers[slot]) = None;
    }

    /// The work that has gone on for at least `patience`, longest first, in words.
    pub(crate) fn stuck(&self, patience: Duration, stages: &[&'static str]) -> Vec<String> {
        let mut stuck = Vec::new();
        for work in &self.workers {
            if let Some(work) = lock(work).as_ref().filter(|work| work.since.elapsed() >= patience) {
                let stage = stages.get(work.stage).copied().unwrap_or("text");
                stuck.push((
                    work.since.elapsed(),
                    format!("`{stage}` of record {} (`{}`)", work.id, work.url),
                ));
            }
        }
        for (id, (since, url)) in lock(&self.fetching).iter() {
            if since.elapsed() >= patience {
                stuck.push((since.elapsed(), format!("`fetch` of record {id} (`{url}`)")));
            }
        }
        stuck.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        stuck.into_iter().map(|(age, what)| format!("{what} for {:.0} s", age.as_secs_f64())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
