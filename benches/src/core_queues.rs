//! Queues: a put and a get on one thread in instructions, and items from producers to consumers in time.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use tricorne_sync::Queue;

use crate::figure::{self, Rounds};
use crate::instructions::{self, Subject};

/// How much more than the best peer the instructions may be.
const BOUND: f64 = 1.3;
const ROUNDS: usize = 7;
const CAPACITY: usize = 1024;
/// In one round, all producers together.
const ITEMS: usize = 200_000;

/// A library, and one round of it with so many pairs of threads, in nanoseconds for an item.
type Contender = (&'static str, fn(usize) -> f64);

pub(crate) const SUBJECTS: &[Subject] = &[
    ("queue tricorne", |turns| {
        let queue = Queue::bounded(CAPACITY);
        for turn in 0..turns {
            black_box(&queue).put(turn).expect("nobody closes it");
            assert_eq!(black_box(&queue).get(), Ok(turn));
        }
    }),
    ("queue crossbeam", |turns| {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        for turn in 0..turns {
            black_box(&sender).send(turn).expect("the receiver is here");
            assert_eq!(black_box(&receiver).recv(), Ok(turn));
        }
    }),
    ("queue flume", |turns| {
        let (sender, receiver) = flume::bounded(CAPACITY);
        for turn in 0..turns {
            black_box(&sender).send(turn).expect("the receiver is here");
            assert_eq!(black_box(&receiver).recv(), Ok(turn));
        }
    }),
];

/// Counts the instructions.
pub(crate) fn count() -> Result<(), String> {
    let counts = SUBJECTS.iter().map(instructions::count).collect::<Result<Vec<_>, _>>()?;
    let best = counts[1].min(counts[2]);
    for ((name, _), value) in SUBJECTS.iter().zip(&counts) {
        let implementation = name.trim_start_matches("queue ");
        let floor = (implementation == "tricorne").then_some(best * BOUND);
        figure::print_once("queue_put_get", implementation, *value, "instructions", floor);
    }
    Ok(())
}

/// So many threads put, as many get.
pub(crate) fn time() {
    let contenders: [Contender; 3] = [
        ("tricorne", |pairs| {
            let queue = Queue::bounded(CAPACITY);
            let put = |item| queue.put(item).expect("nobody closes it");
            flow(pairs, put, || queue.get().expect("nobody closes it"))
        }),
        ("crossbeam", |pairs| {
            let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
            let put = |item| sender.send(item).expect("the receiver is here");
            flow(pairs, put, || receiver.recv().expect("the sender is here"))
        }),
        ("flume", |pairs| {
            let (sender, receiver) = flume::bounded(CAPACITY);
            let put = |item| sender.send(item).expect("the receiver is here");
            flow(pairs, put, || receiver.recv().expect("the sender is here"))
        }),
    ];
    for (bench, pairs) in [("queue_one_to_one", 1), ("queue_four_to_four", 4)] {
        let mut rounds = contenders.map(|_| Rounds::new());
        for _ in 0..ROUNDS {
            for ((_, run), rounds) in contenders.iter().zip(&mut rounds) {
                rounds.add(run(pairs));
            }
        }
        for ((implementation, _), rounds) in contenders.iter().zip(&rounds) {
            figure::print(bench, implementation, rounds, "ns", None);
        }
    }
}

/// Nanoseconds for one item.
fn flow(pairs: usize, put: impl Fn(usize) + Sync, get: impl Fn() -> usize + Sync) -> f64 {
    let each = ITEMS / pairs;
    let start = Instant::now();
    let sum: usize = thread::scope(|scope| {
        let consumers: Vec<_> =
            (0..pairs).map(|_| scope.spawn(|| (0..each).map(|_| get()).sum::<usize>())).collect();
        for _ in 0..pairs {
            scope.spawn(|| (0..each).for_each(&put));
        }
        consumers.into_iter().map(|consumer| consumer.join().expect("it does not panic")).sum()
    });
    let taken = start.elapsed().as_nanos() as f64 / (each * pairs) as f64;
    assert_eq!(sum, pairs * each * (each - 1) / 2, "every item arrives once");
    taken
}
