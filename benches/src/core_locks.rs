//! Locks and permits: taking and giving back, uncontended in instructions, and by two threads at once in time.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use tricorne_sync::{Lock, RLock, Semaphore};

use crate::figure::{self, Rounds};
use crate::instructions::{self, Subject};

/// How much more than the best peer the instructions may be.
const BOUND: f64 = 1.3;
const ROUNDS: usize = 7;
/// For each of two threads.
const TURNS: usize = 200_000;

/// A library, and one round of it in nanoseconds for a turn.
type Contender = (&'static str, fn() -> f64);

pub(crate) const SUBJECTS: &[Subject] = &[
    ("lock tricorne", |turns| {
        let count = Lock::new(0_u64);
        for _ in 0..turns {
            *black_box(&count).lock() += 1;
        }
        assert_eq!(count.into_inner(), turns as u64);
    }),
    ("lock parking_lot", |turns| {
        let count = parking_lot::Mutex::new(0_u64);
        for _ in 0..turns {
            *black_box(&count).lock() += 1;
        }
        assert_eq!(count.into_inner(), turns as u64);
    }),
    ("lock std", |turns| {
        let count = Mutex::new(0_u64);
        for _ in 0..turns {
            *black_box(&count).lock().expect("nobody panics") += 1;
        }
        assert_eq!(count.into_inner().expect("nobody panics"), turns as u64);
    }),
    ("rlock tricorne", |turns| {
        let count = RLock::new(Cell::new(0_u64));
        for _ in 0..turns {
            let outer = black_box(&count).lock();
            let inner = black_box(&count).lock();
            inner.set(outer.get() + 1);
        }
        assert_eq!(count.into_inner().get(), turns as u64);
    }),
    ("rlock parking_lot", |turns| {
        let count = parking_lot::ReentrantMutex::new(Cell::new(0_u64));
        for _ in 0..turns {
            let outer = black_box(&count).lock();
            let inner = black_box(&count).lock();
            inner.set(outer.get() + 1);
        }
        assert_eq!(count.into_inner().get(), turns as u64);
    }),
    ("semaphore tricorne", |turns| {
        let permits = Semaphore::new(3);
        for _ in 0..turns {
            drop(black_box(&permits).acquire(2).expect("nobody closes it"));
        }
        assert_eq!(permits.available(), 3);
    }),
];

/// Counts the instructions.
pub(crate) fn count() -> Result<(), String> {
    let mut counts = Vec::new();
    for subject in SUBJECTS {
        let (bench, implementation) =
            subject.0.split_once(' ').ok_or("a subject is named by bench and library")?;
        counts.push((bench, implementation, instructions::count(subject)?));
    }
    for &(bench, implementation, value) in &counts {
        let best = counts
            .iter()
            .filter(|(other, library, _)| *other == bench && *library == "parking_lot")
            .map(|(_, _, value)| value * BOUND)
            .next();
        let floor = best.filter(|_| implementation == "tricorne");
        figure::print_once(&format!("{bench}_uncontended"), implementation, value, "instructions", floor);
    }
    Ok(())
}

/// Two threads that take the same lock again and again.
pub(crate) fn time() {
    let contenders: [Contender; 3] = [
        ("tricorne", || {
            let count = Lock::new(0_u64);
            contended(|| *count.lock() += 1)
        }),
        ("parking_lot", || {
            let count = parking_lot::Mutex::new(0_u64);
            contended(|| *count.lock() += 1)
        }),
        ("std", || {
            let count = Mutex::new(0_u64);
            contended(|| *count.lock().expect("nobody panics") += 1)
        }),
    ];
    let mut rounds = contenders.map(|_| Rounds::new());
    for _ in 0..ROUNDS {
        for ((_, run), rounds) in contenders.iter().zip(&mut rounds) {
            rounds.add(run());
        }
    }
    for ((implementation, _), rounds) in contenders.iter().zip(&rounds) {
        figure::print("lock_two_threads", implementation, rounds, "ns", None);
    }
}

/// Nanoseconds for one turn.
fn contended(turn: impl Fn() + Sync) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..TURNS).for_each(|_| turn()));
        }
    });
    start.elapsed().as_nanos() as f64 / (2 * TURNS) as f64
}
