//! Tasks by the thousand while workers, and now and then the template, are killed at random.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tricorne_exec::TaskError;
use tricorne_exec::sys::current_rss_bytes;

use crate::Test;
use crate::functions::COUNT;
use crate::support::{Counters, Facts, deep, descriptors, eventually, is_running, kill, pool};

pub(crate) const TESTS: &[Test] = &[("chaos", chaos)];

/// Enough for choosing whom to kill (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn chaos(facts: &mut Facts) {
    let tasks: u32 = if deep() { 100_000 } else { 20_000 };
    let seed = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20 | 1;
    facts.insert("seed".to_owned(), seed.into());
    let counters = Counters::new("chaos");
    let pool = pool(3);
    let inputs = |tasks: std::ops::Range<u32>| tasks.map(|item| (counters.path(), item, u32::MAX));
    // Everything that is made once is made before the first look.
    assert!(pool.map(&COUNT, inputs(0..500)).all(|result| result.is_ok()));
    std::fs::remove_file(counters.path()).expect("the first runs");
    eventually("they idle", || pool.stats().idle == 3);
    let before = (descriptors(), current_rss_bytes().expect("Linux has it"));

    let is_over = AtomicBool::new(false);
    let mut crashed: HashMap<u32, u32> = HashMap::new();
    let (mut kills, mut templates) = (0, 0);
    let begun = Instant::now();
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut random = Random(seed);
            let (mut kills, mut templates) = (0_u32, 0_u32);
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(500 + random.below(3000)));
                let pids = pool.worker_pids();
                if random.below(50) == 0 {
                    if let Some(template) = pool.template_pid().filter(|pid| is_running(*pid)) {
                        kill(template, Signal::KILL);
                        templates += 1;
                    }
                } else if !pids.is_empty() {
                    let pid = pids[random.below(pids.len() as u64) as usize];
                    if is_running(pid) {
                        kill(pid, Signal::KILL);
                        kills += 1;
                    }
                }
            }
            (kills, templates)
        });
        for (item, result) in pool.map(&COUNT, inputs(0..tasks)).enumerate() {
            match result {
                Ok(value) => assert_eq!(value as usize, item),
                Err(TaskError::WorkerCrashed(crash)) => {
                    *crashed.entry(crash.pid).or_default() += 1;
                }
                Err(error) => panic!("seed {seed}, task {item}: {error}"),
            }
        }
        is_over.store(true, Ordering::Relaxed);
        (kills, templates) = killer.join().expect("it kills and does not panic");
    });
    let took = begun.elapsed();

    // One task for each worker that was killed, at most, and no task twice: also not one that was lost.
    assert!(crashed.values().all(|tasks| *tasks == 1), "seed {seed}: {crashed:?}");
    let lost = crashed.len() as u32;
    assert!(lost <= kills, "seed {seed}: {lost} lost, {kills} killed");
    let runs = counters.read(tasks as usize);
    let doubled = runs.iter().filter(|runs| **runs > 1).count();
    let never = runs.iter().filter(|runs| **runs == 0).count() as u32;
    assert_eq!(doubled, 0, "seed {seed}");
    assert!(never <= lost, "seed {seed}: {never} tasks were neither run nor reported as lost");
    // Only workers that were killed while they were being made count towards this; it must not end the pool.
    eventually("workers are there", || pool.submit(&COUNT, (counters.path(), 0, u32::MAX)).result().is_ok());
    eventually("they idle", || pool.stats().idle == pool.stats().workers);
    eventually("descriptors are as before", || descriptors() <= before.0);
    let rss = current_rss_bytes().expect("Linux has it");
    assert!(rss < before.1 + (16 << 20), "{} MiB, then {} MiB", before.1 >> 20, rss >> 20);

    for (name, value) in [
        ("done", u64::from(tasks - lost)),
        ("killed_workers", u64::from(kills)),
        ("killed_templates", u64::from(templates)),
        ("lost", u64::from(lost)),
        ("lost_beyond_one_per_kill", 0),
        ("doubled", 0),
        ("descriptors_before", before.0 as u64),
        ("descriptors_after", descriptors() as u64),
        ("rss_before", before.1),
        ("rss_after", rss),
        ("millis", took.as_millis() as u64),
    ] {
        facts.insert(name.to_owned(), value.into());
    }
}
