//! Executors: a task given away and its result taken back, many at once and one by one; a map over a million items; tasks that borrow;
//! what the watchdog costs. All by time, contenders in turns, since what is measured is two threads meeting.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tricorne_exec::sys::current_rss_bytes;
use tricorne_exec::{AsyncExecutor, ThreadPoolExecutor};

use crate::figure::{self, Rounds};
use crate::instructions::{self, Subject};

const ROUNDS: usize = 9;
const WORKERS: usize = 2;
/// Tasks on their way at once.
const TASKS: u64 = 50_000;
/// Tasks one after the other.
const TRIPS: usize = 3_000;
/// How much longer than two bare wake-ups a round trip may take.
const TRIP_BOUND: f64 = 1.3;
const ITEMS: u64 = 1_000_000;
/// Memory that a map may gain over a million items, in KiB: allocators take it in steps of some MiB. Held, the items would take 200 MiB.
const MAP_KIB: f64 = 8192.0;
const SCOPES: usize = 300;
const STEPS: usize = 100_000;

/// A task given away and its result taken back, one after the other, in instructions of both threads together.
pub(crate) const SUBJECTS: &[Subject] = &[
    ("executor_task tricorne", |turns| {
        let pool = ThreadPoolExecutor::builder().workers(1).build().expect("nothing is started yet");
        for _ in 0..turns {
            assert_eq!(pool.submit(|| black_box(1)).result(), Ok(1));
        }
    }),
    ("executor_task threadpool", |turns| {
        let pool = threadpool::ThreadPool::new(1);
        for _ in 0..turns {
            let (sender, receiver) = mpsc::sync_channel(1);
            pool.execute(move || {
                let _ = sender.send(black_box(1));
            });
            assert_eq!(receiver.recv(), Ok(1));
        }
    }),
];

/// Counts the instructions.
pub(crate) fn count() -> Result<(), String> {
    let mut counts = Vec::new();
    for subject in SUBJECTS {
        counts.push(instructions::count(subject)?);
    }
    figure::print_once("executor_task", "tricorne", counts[0], "instructions", Some(counts[1]));
    figure::print_once("executor_task", "threadpool", counts[1], "instructions", None);
    Ok(())
}

pub(crate) fn time() -> Result<(), String> {
    submit()?;
    round_trip()?;
    map()?;
    scope()?;
    watchdog()
}

fn pool() -> Result<ThreadPoolExecutor, String> {
    ThreadPoolExecutor::builder().workers(WORKERS).build().map_err(|error| error.to_string())
}

/// Nanoseconds for each of `count`, and the sum that was computed.
fn each(count: u64, work: impl FnOnce() -> u64) -> (f64, u64) {
    let before = Instant::now();
    let sum = black_box(work());
    (before.elapsed().as_nanos() as f64 / count as f64, sum)
}

/// Adds a round, after a look at the result: what computes something else is no peer.
fn add(rounds: &mut Rounds, (nanos, sum): (f64, u64)) {
    assert_eq!(sum, TASKS * (TASKS - 1) / 2, "every task ran once");
    rounds.add(nanos);
}

fn submit() -> Result<(), String> {
    let own = pool()?;
    let peer = threadpool::ThreadPool::new(WORKERS);
    let rayon =
        rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().map_err(|error| error.to_string())?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(WORKERS)
        .build()
        .map_err(|error| error.to_string())?;
    let mut rounds: [Rounds; 5] = std::array::from_fn(|_| Rounds::new());
    for _ in 0..ROUNDS {
        let [tricorne, handles, channel, spawned, blocking] = &mut rounds;
        add(
            tricorne,
            each(TASKS, || {
                let futures: Vec<_> = (0..TASKS).map(|n| own.submit(move || n)).collect();
                futures.into_iter().map(|future| future.result().unwrap_or(0)).sum()
            }),
        );
        // Its tasks have no result. One channel for each gives what a future gives: this task's result, or that it failed.
        add(
            handles,
            each(TASKS, || {
                let results: Vec<_> = (0..TASKS)
                    .map(|n| {
                        let (sender, receiver) = mpsc::sync_channel(1);
                        peer.execute(move || {
                            let _ = sender.send(n);
                        });
                        receiver
                    })
                    .collect();
                results.into_iter().map(|result| result.recv().unwrap_or(0)).sum()
            }),
        );
        // One channel for all is the cheapest that it can do, and tells nothing of which task it was.
        add(
            channel,
            each(TASKS, || {
                let (sender, receiver) = mpsc::channel();
                for n in 0..TASKS {
                    let sender = sender.clone();
                    peer.execute(move || {
                        let _ = sender.send(n);
                    });
                }
                drop(sender);
                receiver.iter().sum()
            }),
        );
        add(
            spawned,
            each(TASKS, || {
                let (sender, receiver) = mpsc::channel();
                for n in 0..TASKS {
                    let sender = sender.clone();
                    rayon.spawn(move || {
                        let _ = sender.send(n);
                    });
                }
                drop(sender);
                receiver.iter().sum()
            }),
        );
        add(
            blocking,
            each(TASKS, || {
                tokio.block_on(async {
                    let tasks: Vec<_> = (0..TASKS).map(|n| tokio::task::spawn_blocking(move || n)).collect();
                    let mut sum = 0;
                    for task in tasks {
                        sum += task.await.unwrap_or(0);
                    }
                    sum
                })
            }),
        );
    }
    let [tricorne, handles, channel, spawned, blocking] = &rounds;
    figure::print("executor_submit", "tricorne", tricorne, "ns/task", channel.median());
    figure::print("executor_submit", "threadpool", channel, "ns/task", None);
    figure::print("executor_submit", "threadpool_handles", handles, "ns/task", None);
    figure::print("executor_submit", "rayon", spawned, "ns/task", None);
    figure::print("executor_submit", "spawn_blocking", blocking, "ns/task", None);
    Ok(())
}

/// The median over some trips, in microseconds.
fn trips(mut trip: impl FnMut()) -> f64 {
    let mut micros: Vec<f64> = (0..TRIPS)
        .map(|_| {
            let before = Instant::now();
            trip();
            before.elapsed().as_nanos() as f64 / 1e3
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    micros[micros.len() / 2]
}

fn round_trip() -> Result<(), String> {
    let own = pool()?;
    let peer = threadpool::ThreadPool::new(WORKERS);
    let rayon =
        rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().map_err(|error| error.to_string())?;
    let echo = Echo::start();
    let mut rounds: [Rounds; 4] = std::array::from_fn(|_| Rounds::new());
    for _ in 0..ROUNDS {
        let [floor, tricorne, threadpool, spawned] = &mut rounds;
        floor.add(trips(|| echo.trip()));
        tricorne.add(trips(|| assert_eq!(own.submit(|| black_box(1)).result(), Ok(1))));
        let (sender, receiver) = mpsc::channel();
        threadpool.add(trips(|| {
            let sender = sender.clone();
            peer.execute(move || {
                let _ = sender.send(black_box(1));
            });
            assert_eq!(receiver.recv(), Ok(1));
        }));
        spawned.add(trips(|| {
            let sender = sender.clone();
            rayon.spawn(move || {
                let _ = sender.send(black_box(1));
            });
            assert_eq!(receiver.recv(), Ok(1));
        }));
    }
    let [floor, tricorne, threadpool, spawned] = &rounds;
    let bound = floor.median().map(|floor| floor * TRIP_BOUND);
    figure::print("executor_round_trip", "tricorne", tricorne, "us", bound);
    figure::print("executor_round_trip", "two_wakes", floor, "us", None);
    figure::print("executor_round_trip", "threadpool", threadpool, "us", None);
    figure::print("executor_round_trip", "rayon", spawned, "us", None);
    Ok(())
}

/// A thread that wakes whoever has woken it: two bare wake-ups a trip, by the cheapest that the standard library has.
struct Echo {
    requests: std::sync::Arc<std::sync::atomic::AtomicU64>,
    answers: std::sync::Arc<std::sync::atomic::AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    const STOP: u64 = u64::MAX;

    fn start() -> Self {
        use std::sync::atomic::Ordering::{Acquire, Release};
        let requests = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let answers = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (seen, answered, asker) = (requests.clone(), answers.clone(), thread::current());
        let echo = thread::spawn(move || {
            let mut last = 0;
            loop {
                let request = seen.load(Acquire);
                if request == Self::STOP {
                    return;
                }
                if request == last {
                    thread::park();
                    continue;
                }
                last = request;
                answered.store(request, Release);
                asker.unpark();
            }
        });
        Self { requests, answers, thread: Some(echo) }
    }

    fn trip(&self) {
        use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
        let Some(thread) = &self.thread else { return };
        let request = self.requests.load(Relaxed) + 1;
        self.requests.store(request, Release);
        thread.thread().unpark();
        while self.answers.load(Acquire) != request {
            thread::park();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.requests.store(Self::STOP, std::sync::atomic::Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn map() -> Result<(), String> {
    let own = pool()?;
    let (mut ordered, mut unordered, mut gained) = (Rounds::new(), Rounds::new(), Rounds::new());
    for round in 0..3 {
        // The first results bring threads, stacks and the allocator's first blocks.
        let (mut low, mut high) = (u64::MAX, 0);
        let before = Instant::now();
        let mut sum = 0;
        for (n, result) in own.map(0..ITEMS, |n| n).enumerate() {
            sum += result.map_err(|error| error.to_string())?;
            if n >= 10_000 && n % 10_000 == 0 {
                let now = current_rss_bytes().unwrap_or(0);
                (low, high) = (low.min(now), high.max(now));
            }
        }
        assert_eq!(sum, ITEMS * (ITEMS - 1) / 2, "every item was mapped once");
        ordered.add(before.elapsed().as_nanos() as f64 / ITEMS as f64);
        gained.add((high - low) as f64 / 1024.0);
        if round == 0 {
            let before = Instant::now();
            let results = own.map(0..ITEMS, |n| n).unordered();
            assert_eq!(results.map(|result| result.unwrap_or(0)).sum::<u64>(), sum);
            unordered.add(before.elapsed().as_nanos() as f64 / ITEMS as f64);
        }
    }
    figure::print("executor_map", "tricorne", &ordered, "ns/item", None);
    figure::print("executor_map_unordered", "tricorne", &unordered, "ns/item", None);
    figure::print("executor_map_memory", "tricorne", &gained, "KiB", Some(MAP_KIB));
    Ok(())
}

fn scope() -> Result<(), String> {
    let own = pool()?;
    let (mut tricorne, mut threads) = (Rounds::new(), Rounds::new());
    let mut cells = [0_u64; 4];
    let bump = |cell: &mut u64| *cell += 1;
    for _ in 0..ROUNDS {
        let before = Instant::now();
        for _ in 0..SCOPES {
            own.scope(|scope| cells.iter_mut().for_each(|cell| drop(scope.submit(|| bump(cell)))));
        }
        tricorne.add(before.elapsed().as_nanos() as f64 / 1e3 / SCOPES as f64);
        let before = Instant::now();
        for _ in 0..SCOPES {
            thread::scope(|scope| {
                for cell in &mut cells {
                    scope.spawn(|| bump(cell));
                }
            });
        }
        threads.add(before.elapsed().as_nanos() as f64 / 1e3 / SCOPES as f64);
    }
    assert!(cells.iter().all(|cell| *cell == (2 * SCOPES * ROUNDS) as u64), "every task ran once");
    figure::print("executor_scope", "tricorne", &tricorne, "us", threads.median());
    figure::print("executor_scope", "thread_scope", &threads, "us", None);
    Ok(())
}

fn watchdog() -> Result<(), String> {
    let without = AsyncExecutor::builder().build().map_err(|error| error.to_string())?;
    let with = AsyncExecutor::builder().watchdog(Duration::from_millis(5), |_| {}).build();
    let with = with.map_err(|error| error.to_string())?;
    let (mut bare, mut watched) = (Rounds::new(), Rounds::new());
    for _ in 0..ROUNDS {
        for (executor, rounds) in [(&without, &mut bare), (&with, &mut watched)] {
            let task = executor.spawn(async {
                let before = Instant::now();
                for _ in 0..STEPS {
                    tokio::task::yield_now().await;
                }
                before.elapsed().as_nanos() as f64 / STEPS as f64
            });
            rounds.add(task.result().map_err(|error| error.to_string())?);
        }
    }
    figure::print("executor_step", "tricorne", &bare, "ns", None);
    figure::print("executor_step", "tricorne_watched", &watched, "ns", None);
    Ok(())
}
