//! `Semaphore` as its users see it, step by step on one thread, then against a model and under load.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Task, block_on};
use proptest::prelude::*;
use tricorne_sync::{Closed, Permit, Semaphore, TryAcquireError, WaitError};

/// Longer than any test may take; a wait that should end earlier fails the test, it does not hang it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn permits_are_counted_and_come_back() {
    let semaphore = Semaphore::new(3);
    let two = semaphore.acquire(2).unwrap();
    assert_eq!((two.count(), semaphore.available()), (2, 1));
    assert_eq!(semaphore.try_acquire(2).unwrap_err(), TryAcquireError::NoPermits);
    let one = semaphore.try_acquire(1).unwrap();
    drop(two);
    assert_eq!(semaphore.available(), 2);
    drop(one);
    assert_eq!(semaphore.available(), 3);
    assert_eq!(semaphore.stats().waits, 0);
}

#[test]
fn owned_permits_go_to_another_thread() {
    let semaphore = Arc::new(Semaphore::new(4));
    let permits = [
        semaphore.acquire_owned(1).unwrap(),
        semaphore.try_acquire_owned(1).unwrap(),
        semaphore.acquire_owned_timeout(1, LONG).unwrap(),
        semaphore.acquire_owned_deadline(1, Instant::now() + LONG).unwrap(),
    ];
    assert!(permits.iter().all(|permit| permit.count() == 1));
    let mut task = Task::<'static, _>::new(semaphore.acquire_owned_async(4));
    assert!(task.poll().is_none());
    thread::spawn(move || drop(permits)).join().unwrap();
    let all = task.poll().unwrap().unwrap();
    assert_eq!((all.count(), semaphore.available()), (4, 0));
}

#[test]
fn a_large_request_is_not_overtaken() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.acquire(1).unwrap();
    let mut large = Task::new(semaphore.acquire_async(2));
    let mut small = Task::new(semaphore.acquire_async(1));
    assert!(large.poll().is_none() && small.poll().is_none());
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::NoPermits);
    assert_eq!(semaphore.stats().waiting, 2);

    drop(held);
    assert_eq!((large.wakes(), small.wakes()), (1, 0));
    assert!(small.poll().is_none());
    drop(large.poll().unwrap().unwrap());
    assert_eq!(small.wakes(), 1);
    assert!(small.poll().unwrap().is_ok());
}

#[test]
fn a_large_request_that_gives_up_lets_the_next_pass() {
    let semaphore = Semaphore::new(2);
    let _held = semaphore.acquire(1).unwrap();
    let mut large = Task::new(semaphore.acquire_async(2));
    let mut small = Task::new(semaphore.acquire_async(1));
    assert!(large.poll().is_none() && small.poll().is_none());
    drop(large);
    assert_eq!(small.wakes(), 1);
    assert!(small.poll().unwrap().is_ok());
}

#[test]
fn a_dropped_future_hands_its_permits_on() {
    let semaphore = Semaphore::new(1);
    let held = semaphore.acquire(1).unwrap();
    let mut first = Task::new(semaphore.acquire_async(1));
    let mut second = Task::new(semaphore.acquire_async(1));
    assert!(first.poll().is_none() && second.poll().is_none());
    drop(held);
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    drop(first);
    assert_eq!(second.wakes(), 1);
    drop(second.poll().unwrap().unwrap());
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn a_task_that_moves_is_woken_by_its_latest_waker() {
    let semaphore = Semaphore::new(0);
    let mut acquire = Box::pin(semaphore.acquire_async(1));
    let counted = Arc::new(CountWakes(AtomicUsize::new(0)));
    let waker = std::task::Waker::from(Arc::clone(&counted));
    let mut noop = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(acquire.as_mut().poll(&mut noop).is_pending());
    assert!(acquire.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    semaphore.add_permits(1);
    assert_eq!(counted.0.load(Ordering::SeqCst), 1);
    drop(acquire);
    drop(waker);
    assert_eq!(Arc::strong_count(&counted), 1, "no waker is kept");
}

struct CountWakes(AtomicUsize);

impl std::task::Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn time_limits() {
    let semaphore = Semaphore::new(1);
    let past = Instant::now();
    let permit = semaphore.acquire_deadline(1, past).expect("what is free needs no time");
    assert_eq!(semaphore.acquire_deadline(1, past).unwrap_err(), WaitError::TimedOut);
    let limit = Duration::from_millis(5);
    let start = Instant::now();
    assert_eq!(semaphore.acquire_timeout(1, limit).unwrap_err(), WaitError::TimedOut);
    assert!(start.elapsed() >= limit);
    let stats = semaphore.stats();
    assert!(stats.wait >= limit && stats.waiting == 0, "{stats:?}");
    drop(permit);
    assert!(semaphore.acquire_timeout(1, Duration::MAX).is_ok(), "a limit beyond the clock is no limit");
}

#[test]
fn a_wait_under_way_counts_as_waiting_time() {
    let semaphore = Semaphore::new(0);
    let mut task = Task::new(semaphore.acquire_async(1));
    assert!(task.poll().is_none());
    let first = semaphore.stats().wait;
    while semaphore.stats().wait == first {
        thread::yield_now();
    }
}

#[test]
fn the_limit_falls_below_what_is_in_use() {
    let semaphore = Semaphore::new(3);
    let permits: Vec<_> = (0..3).map(|_| semaphore.acquire(1).unwrap()).collect();
    semaphore.reduce_permits(2);
    let mut task = Task::new(semaphore.acquire_async(1));
    assert!(task.poll().is_none());
    let mut permits = permits.into_iter();
    drop(permits.next());
    drop(permits.next());
    assert!(task.poll().is_none(), "two permits pay the debt");
    assert_eq!(semaphore.available(), 0);
    drop(permits.next());
    let permit = task.poll().unwrap().unwrap();
    semaphore.add_permits(1);
    assert_eq!(semaphore.available(), 1);
    drop(permit);
    assert_eq!(semaphore.available(), 2);
}

#[test]
fn closing_ends_all_waits() {
    let semaphore = Semaphore::new(1);
    let held = semaphore.acquire(1).unwrap();
    let mut task = Task::new(semaphore.acquire_async(1));
    assert!(task.poll().is_none());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.acquire_timeout(1, LONG).map(drop));
        while semaphore.stats().waiting < 2 {
            thread::yield_now();
        }
        semaphore.close();
        assert_eq!(waiter.join().unwrap(), Err(WaitError::Closed));
    });
    assert_eq!(task.wakes(), 1);
    assert_eq!(task.poll().unwrap().unwrap_err(), Closed(()));
    drop(held);
    assert_eq!(semaphore.acquire(1).unwrap_err(), Closed(()));
    assert_eq!(semaphore.try_acquire(1).unwrap_err(), TryAcquireError::Closed);
    assert!(semaphore.is_closed());
}

#[test]
fn a_panic_over_a_misuse_leaves_it_usable() {
    let semaphore = Semaphore::new(1);
    let add = || semaphore.add_permits(usize::MAX);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(add)).is_err());
    assert!(semaphore.acquire(1).is_ok());
}

#[test]
fn futures_and_permits_can_cross_threads() {
    fn is_send<T: Send>(_: &T) {}
    let semaphore = Arc::new(Semaphore::new(1));
    is_send(&semaphore.acquire_async(1));
    is_send(&semaphore.acquire_owned_async(1));
    is_send(&semaphore.acquire_owned(1));
    is_send(&semaphore);
}

/// One step of the property test. Numbers that choose among what there is are taken modulo its count.
#[derive(Debug, Clone)]
enum Step {
    Try(usize),
    Start(usize),
    Poll(usize),
    Cancel(usize),
    Release(usize),
    Add(usize),
    Reduce(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_usize).prop_map(Step::Try),
        6 => (0..5_usize).prop_map(Step::Start),
        6 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Cancel),
        6 => any::<usize>().prop_map(Step::Release),
        2 => (0..4_usize).prop_map(Step::Add),
        2 => (0..4_usize).prop_map(Step::Reduce),
        1 => Just(Step::Close),
    ]
}

/// The specification: free permits, and a line of (name, count) served from the front.
#[derive(Default)]
struct Model {
    available: i64,
    closed: bool,
    line: VecDeque<(usize, usize)>,
    /// Served but not polled since.
    granted: Vec<(usize, usize)>,
}

impl Model {
    fn serve(&mut self) {
        while let Some(&(name, count)) = self.line.front()
            && !self.closed
            && count as i64 <= self.available
        {
            self.available -= count as i64;
            self.line.pop_front();
            self.granted.push((name, count));
        }
    }

    fn try_acquire(&mut self, count: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            Err(TryAcquireError::Closed)
        } else if self.line.is_empty() && count as i64 <= self.available {
            self.available -= count as i64;
            Ok(())
        } else {
            Err(TryAcquireError::NoPermits)
        }
    }

    /// `None`: goes on waiting.
    fn poll(&mut self, name: usize) -> Option<Result<(), Closed>> {
        if let Some(at) = self.granted.iter().position(|&(granted, _)| granted == name) {
            self.granted.remove(at);
            Some(Ok(()))
        } else if self.closed {
            self.line.retain(|&(waiting, _)| waiting != name);
            Some(Err(Closed(())))
        } else {
            None
        }
    }

    fn cancel(&mut self, name: usize) {
        if let Some(at) = self.granted.iter().position(|&(granted, _)| granted == name) {
            self.available += self.granted.remove(at).1 as i64;
        }
        self.line.retain(|&(waiting, _)| waiting != name);
        self.serve();
    }
}

proptest! {
    #[test]
    fn it_behaves_like_the_model(start in 0..4_usize, steps in prop::collection::vec(step(), 1..60)) {
        let semaphore = Semaphore::new(start);
        let mut model = Model { available: start as i64, ..Model::default() };
        let mut waits: Vec<(usize, Task<'_, Result<Permit<'_>, Closed>>)> = Vec::new();
        let mut held: Vec<Permit<'_>> = Vec::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::Try(count) => {
                    let real = semaphore.try_acquire(count);
                    prop_assert_eq!(real.as_ref().map(|_| ()).map_err(|&error| error), model.try_acquire(count));
                    held.extend(real);
                }
                Step::Start(count) => {
                    let mut task = Task::new(semaphore.acquire_async(count));
                    match (task.poll(), model.try_acquire(count)) {
                        (Some(Ok(permit)), Ok(())) => held.push(permit),
                        (Some(Err(Closed(()))), Err(TryAcquireError::Closed)) => {}
                        (None, Err(TryAcquireError::NoPermits)) => {
                            model.line.push_back((name, count));
                            waits.push((name, task));
                        }
                        (real, expected) => prop_assert!(false, "{real:?} instead of {expected:?}"),
                    }
                }
                Step::Poll(choice) if !waits.is_empty() => {
                    let at = choice % waits.len();
                    let real = waits[at].1.poll();
                    let outcome = real.as_ref().map(|result| result.as_ref().map(|_| ()).map_err(|&error| error));
                    prop_assert_eq!(outcome, model.poll(waits[at].0));
                    if let Some(result) = real {
                        waits.remove(at);
                        held.extend(result);
                    }
                }
                Step::Cancel(choice) if !waits.is_empty() => {
                    let (name, task) = waits.remove(choice % waits.len());
                    drop(task);
                    model.cancel(name);
                }
                Step::Release(choice) if !held.is_empty() => {
                    let permit = held.remove(choice % held.len());
                    model.available += permit.count() as i64;
                    drop(permit);
                    model.serve();
                }
                Step::Add(count) => {
                    semaphore.add_permits(count);
                    model.available += count as i64;
                    model.serve();
                }
                Step::Reduce(count) => {
                    semaphore.reduce_permits(count);
                    model.available -= count as i64;
                }
                Step::Close => {
                    semaphore.close();
                    model.closed = true;
                }
                Step::Poll(_) | Step::Cancel(_) | Step::Release(_) => {}
            }
            prop_assert_eq!(semaphore.available() as i64, model.available.max(0));
            prop_assert_eq!(semaphore.stats().waiting, model.line.len());
            for (name, task) in &waits {
                let served = model.granted.iter().any(|(granted, _)| granted == name);
                prop_assert_eq!(task.wakes() > 0, served || model.closed, "who is served is woken, and nobody else");
            }
        }
    }
}

#[test]
fn the_gauge_never_exceeds_the_bound() {
    const PERMITS: usize = 3;
    let rounds = 4_000;
    let semaphore = Semaphore::new(PERMITS);
    let gauge = AtomicUsize::new(0);
    let served = AtomicUsize::new(0);
    let use_permit = |permit: Permit<'_>| {
        let in_use = gauge.fetch_add(permit.count(), Ordering::SeqCst) + permit.count();
        assert!(in_use <= PERMITS, "{in_use} permits in use");
        thread::yield_now();
        gauge.fetch_sub(permit.count(), Ordering::SeqCst);
        served.fetch_add(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                use_permit(semaphore.acquire(1 + round % PERMITS).unwrap());
            }
        });
        scope.spawn(|| {
            for round in 0..rounds {
                use_permit(block_on(semaphore.acquire_async(1 + round % 2)).unwrap());
            }
        });
        scope.spawn(|| {
            for _ in 0..rounds {
                if let Ok(permit) = semaphore.acquire_timeout(1, Duration::from_micros(20)) {
                    use_permit(permit);
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..rounds {
                let mut task = Task::new(semaphore.acquire_async(2));
                if let Some(permit) = task.poll() {
                    use_permit(permit.unwrap());
                }
                thread::yield_now();
                if let Ok(permit) = semaphore.try_acquire(1) {
                    use_permit(permit);
                }
            }
        });
    });
    assert_eq!(semaphore.available(), PERMITS);
    assert!(served.load(Ordering::Relaxed) >= 2 * rounds);
}
