//! What is promised about order and bounds, as properties: the lock against a model, queue histories, how often one can be
//! overtaken, and a gauge under a million operations.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;
#[path = "common/history.rs"]
mod history;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{Task, block_on};
use history::{Call, Got, History};
use proptest::prelude::*;
use tricorne_sync::raw::{RawLock, RawSemaphore};
use tricorne_sync::{Closed, PutError, Queue, Semaphore, TryAcquireError, TryGetError};

/// A deep check asks for more of everything.
fn deep() -> bool {
    std::env::var_os("TRICORNE_DEEP").is_some()
}

/// One step on a lock. Numbers choose among the waiters there are.
#[derive(Debug, Clone)]
enum Step {
    TryLock,
    Start,
    Poll(usize),
    Cancel(usize),
    Unlock,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::TryLock),
        3 => Just(Step::Start),
        4 => any::<usize>().prop_map(Step::Poll),
        1 => any::<usize>().prop_map(Step::Cancel),
        4 => Just(Step::Unlock),
    ]
}

#[derive(Default)]
struct Model {
    locked: bool,
    /// Name and whether it insists, in the order of their coming.
    asleep: BTreeMap<usize, bool>,
    nudged: Option<usize>,
    granted: Option<usize>,
    woken: BTreeMap<usize, usize>,
}

impl Model {
    fn try_lock(&mut self) -> bool {
        !std::mem::replace(&mut self.locked, true)
    }

    fn unlock(&mut self) {
        self.locked = false;
        if self.nudged.is_none()
            && let Some((name, insists)) = self.asleep.pop_first()
        {
            *self.woken.entry(name).or_default() += 1;
            self.locked = insists;
            *if insists { &mut self.granted } else { &mut self.nudged } = Some(name);
        }
    }

    fn poll(&mut self, name: usize) -> bool {
        if self.granted.take_if(|granted| *granted == name).is_some() {
            return true;
        }
        let was_nudged = self.nudged == Some(name);
        let first = self.nudged.is_none() && self.asleep.keys().next() == Some(&name);
        if (was_nudged || first) && self.try_lock() {
            self.forget(name);
            return true;
        }
        if was_nudged {
            self.nudged = None;
            self.asleep.insert(name, true);
        }
        false
    }

    fn forget(&mut self, name: usize) {
        self.asleep.remove(&name);
        self.nudged.take_if(|nudged| *nudged == name);
    }

    fn cancel(&mut self, name: usize) {
        if self.granted.take_if(|granted| *granted == name).is_some() {
            self.unlock();
            return;
        }
        self.forget(name);
        // Whoever it was to be woken for takes its turn.
        if self.nudged.is_none() && !self.asleep.is_empty() && !self.locked {
            self.unlock();
        }
    }
}

proptest! {
    #[test]
    fn a_lock_behaves_like_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let lock = RawLock::new();
        let mut model = Model::default();
        let mut tasks: Vec<(usize, Task<'_, ()>)> = Vec::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::TryLock => prop_assert_eq!(lock.try_lock(), model.try_lock()),
                Step::Start => {
                    let mut task = Task::new(lock.lock_async());
                    let real = task.poll().is_some();
                    prop_assert_eq!(real, model.try_lock());
                    if !real {
                        model.asleep.insert(name, false);
                        tasks.push((name, task));
                    }
                }
                Step::Poll(choice) if !tasks.is_empty() => {
                    let at = choice % tasks.len();
                    let real = tasks[at].1.poll().is_some();
                    prop_assert_eq!(real, model.poll(tasks[at].0));
                    if real {
                        tasks.remove(at);
                    }
                }
                Step::Cancel(choice) if !tasks.is_empty() => {
                    let (name, task) = tasks.remove(choice % tasks.len());
                    drop(task);
                    model.cancel(name);
                }
                // Nobody unlocks what was handed to a waiter that does not know yet.
                Step::Unlock if model.granted.is_none() => {
                    prop_assert_eq!(lock.unlock().is_ok(), model.locked);
                    if model.locked {
                        model.unlock();
                    }
                }
                Step::Poll(_) | Step::Cancel(_) | Step::Unlock => {}
            }
            prop_assert_eq!(lock.is_locked(), model.locked);
            prop_assert_eq!(lock.stats().waiting, model.asleep.len() + usize::from(model.nudged.is_some()));
            for (name, task) in &tasks {
                prop_assert_eq!(task.wakes(), model.woken.get(name).copied().unwrap_or_default());
            }
        }
    }
}

#[test]
fn queue_histories_are_linearisable() {
    let rounds = if deep() { 20_000 } else { 600 };
    for round in 0..rounds {
        let (capacity, history) = (1 + round % 2, History::default());
        let queue = Queue::bounded(capacity);
        let start = Barrier::new(4);
        let (queue, history, start) = (&queue, &history, &start);
        thread::scope(|scope| {
            let producers = [0, 10].map(|first| {
                scope.spawn(move || {
                    start.wait();
                    for item in first..first + 4 {
                        history.record(|| match (item + round) % 3 {
                            0 => Call::Put(item, queue.put(item).ok().map(|()| true)),
                            1 => Call::Put(item, block_on(queue.put_async(item)).ok().map(|()| true)),
                            _ => match queue.try_put(item) {
                                Ok(()) => Call::Put(item, Some(true)),
                                Err(PutError::Full(_)) => Call::Put(item, Some(false)),
                                Err(PutError::Closed(_)) => Call::Put(item, None),
                            },
                        });
                    }
                })
            });
            for consumer in 0..2 {
                scope.spawn(move || {
                    start.wait();
                    for turn in consumer.. {
                        let mut ended = false;
                        history.record(|| {
                            let got = match turn % 3 {
                                0 => queue.get().map_or(Got::Closed, Got::Item),
                                1 => block_on(queue.get_async()).map_or(Got::Closed, Got::Item),
                                _ => match queue.try_get() {
                                    Ok(item) => Got::Item(item),
                                    Err(TryGetError::Empty) => Got::Empty,
                                    Err(TryGetError::Closed) => Got::Closed,
                                },
                            };
                            ended = got == Got::Closed;
                            Call::Get(got)
                        });
                        if ended {
                            break;
                        }
                    }
                });
            }
            for producer in producers {
                producer.join().unwrap();
            }
            history.record(|| {
                queue.close();
                Call::Close
            });
        });
        history.check(capacity);
        assert_eq!(queue.get(), Err(Closed(())));
    }
}

/// A step against those who wait for a lock, or for items of a queue.
#[derive(Debug, Clone)]
enum Push {
    /// A lock is let go; an item is put.
    Supply,
    /// One that runs takes what it can get, without waiting.
    Barge,
    Wait,
    /// One of those that were woken gets to run.
    Run(usize),
    GiveUp(usize),
}

fn push() -> impl Strategy<Value = Push> {
    prop_oneof![
        5 => Just(Push::Supply),
        5 => Just(Push::Barge),
        3 => Just(Push::Wait),
        3 => any::<usize>().prop_map(Push::Run),
        1 => any::<usize>().prop_map(Push::GiveUp),
    ]
}

/// One that waits, and what was done to it.
struct Waiting<'a> {
    task: Task<'a, ()>,
    /// Of the wake-ups it has had, how many it has answered.
    answered: usize,
    /// Once it was woken and found nothing: how many supplies may still go to others.
    others: Option<usize>,
}

/// Runs `steps` and checks the bound, which knows no time: a waiter is woken in vain once at the most. From then on what is
/// supplied goes to those in line only, in turn: with `n` before it, the waiter is served by the supply `n + 1` at the latest,
/// whatever those do who do not wait.
fn overtaken_during_one_wake_up<'a>(
    steps: Vec<Push>,
    supply: impl Fn(),
    barge: impl Fn(),
    wait: impl Fn() -> Task<'a, ()>,
    served: impl Fn(),
) -> Result<(), TestCaseError> {
    let mut line: Vec<Waiting<'a>> = Vec::new();
    for step in steps {
        match step {
            Push::Supply => {
                supply();
                for waiting in line.iter_mut().filter(|waiting| waiting.task.wakes() < 2) {
                    if let Some(others) = &mut waiting.others {
                        prop_assert!(*others > 0, "its turn had come, and it was not served");
                        *others -= 1;
                    }
                }
            }
            Push::Barge => barge(),
            Push::Wait => {
                let mut task = wait();
                match task.poll() {
                    Some(()) => served(),
                    None => line.push(Waiting { task, answered: 0, others: None }),
                }
            }
            Push::Run(choice) => {
                let woken = line.iter().enumerate().filter(|(_, one)| one.task.wakes() > one.answered);
                let woken: Vec<usize> = woken.map(|(at, _)| at).collect();
                if !woken.is_empty() {
                    let at = woken[choice % woken.len()];
                    let one = &mut line[at];
                    if one.task.poll().is_some() {
                        line.remove(at);
                        served();
                    } else {
                        prop_assert_eq!(one.answered, 0, "woken in vain more than once");
                        one.answered = one.task.wakes();
                        one.others = Some(at);
                    }
                }
            }
            Push::GiveUp(choice) if !line.is_empty() => drop(line.remove(choice % line.len())),
            Push::GiveUp(_) => {}
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn at_a_lock_one_is_overtaken_during_one_wake_up(steps in prop::collection::vec(push(), 1..200)) {
        let (lock, holder) = (RawLock::new(), Cell::new(false));
        let supply = || if holder.take() { lock.unlock().expect("somebody holds it") };
        let barge = || if lock.try_lock() { holder.set(true) };
        let wait = || Task::new(async { lock.lock_async().await });
        overtaken_during_one_wake_up(steps, supply, barge, wait, || holder.set(true))?;
    }

    #[test]
    fn at_a_queue_one_is_overtaken_during_one_wake_up(steps in prop::collection::vec(push(), 1..200)) {
        let queue = Queue::unbounded();
        let wait = || Task::new(async { queue.get_async().await.expect("nobody closes it") });
        overtaken_during_one_wake_up(steps, || queue.put(()).unwrap(), || assert_ne!(queue.try_get(), Err(TryGetError::Closed)), wait, || {})?;
    }

    /// Permits, and room in a queue: whoever waits is overtaken by nobody, and woken when it is served.
    #[test]
    fn for_permits_and_room_nobody_is_overtaken(steps in prop::collection::vec(push(), 1..200)) {
        let (permits, queue) = (RawSemaphore::new(0), Queue::bounded(1));
        queue.put(usize::MAX).unwrap();
        let mut line: VecDeque<(Task<'_, ()>, Task<'_, ()>)> = VecDeque::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Push::Supply => {
                    permits.release(1);
                    let _ = queue.try_get();
                    if let Some((mut permit, mut room)) = line.pop_front() {
                        prop_assert_eq!((permit.wakes(), room.wakes()), (1, 1), "the supply is for the first");
                        prop_assert_eq!((permit.poll(), room.poll()), (Some(()), Some(())));
                    }
                }
                Push::Barge if line.is_empty() => {
                    let _ = (permits.try_acquire(1), queue.try_put(name));
                }
                Push::Barge => {
                    prop_assert_eq!(permits.try_acquire(1), Err(TryAcquireError::NoPermits));
                    prop_assert_eq!(queue.try_put(name), Err(PutError::Full(name)));
                }
                // Both lines are kept equal: one waits at both or at neither.
                Push::Wait if permits.available() == 0 && queue.is_full() => {
                    let mut permit = Task::new(async { permits.acquire_async(1).await.expect("open") });
                    let put = queue.put_async(name);
                    let mut room = Task::new(async move { put.await.expect("open") });
                    prop_assert_eq!((permit.poll(), room.poll()), (None, None));
                    line.push_back((permit, room));
                }
                Push::GiveUp(choice) if !line.is_empty() => drop(line.remove(choice % line.len())),
                Push::Wait | Push::Run(_) | Push::GiveUp(_) => {}
            }
            for (permit, room) in &line {
                prop_assert_eq!((permit.wakes(), room.wakes()), (0, 0));
            }
        }
    }
}

/// Lets a task run some time after it was woken; says how often that was.
fn run_counting(mut task: Task<'_, ()>, some_time: impl Fn()) -> usize {
    loop {
        let seen = task.wakes();
        if task.poll().is_some() {
            return task.wakes();
        }
        while task.wakes() == seen {
            thread::yield_now();
        }
        some_time();
    }
}

/// Threads that take all they can get do not keep one out that waits: it has its turn at the second wake-up.
#[test]
fn a_turn_takes_two_wake_ups_against_threads_that_push() {
    let (lock, queue, permits) = (RawLock::new(), Queue::bounded(1), RawSemaphore::new(1));
    let (stop, turns) = (AtomicBool::new(false), if deep() { 5_000 } else { 200 });
    let pushes = AtomicUsize::new(0);
    // It is slow to wake up: meanwhile the others have had many tries.
    let some_time = || {
        let before = pushes.load(Ordering::Relaxed);
        while pushes.load(Ordering::Relaxed) < before + 20 {
            thread::yield_now();
        }
    };
    let most = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if lock.try_lock() {
                        lock.unlock().unwrap();
                    }
                    let _ = queue.try_get();
                    if permits.try_acquire(1).is_ok() {
                        permits.release(1);
                    }
                    pushes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| while queue.put(()).is_ok() {});
        let polite = scope.spawn(|| {
            let turn = |_| {
                let at_lock = run_counting(Task::new(async { lock.lock_async().await }), some_time);
                lock.unlock().unwrap();
                let at_queue = run_counting(Task::new(async { queue.get_async().await.unwrap() }), some_time);
                let at_permits =
                    run_counting(Task::new(async { permits.acquire_async(1).await.unwrap() }), some_time);
                permits.release(1);
                [at_lock, at_queue, at_permits]
            };
            (0..turns).map(turn).fold([0; 3], |most, now| [0, 1, 2].map(|at| most[at].max(now[at])))
        });
        let most = polite.join();
        stop.store(true, Ordering::Relaxed);
        queue.close();
        most.unwrap()
    });
    assert!(most[0] <= 2 && most[1] <= 2 && most[2] <= 1, "wake-ups per turn: {most:?}");
}

#[test]
fn a_gauge_keeps_its_bound_through_a_million_operations() {
    const PERMITS: usize = 3;
    const THREADS: usize = 4;
    const EACH: usize = 250_000;
    let (semaphore, gauge, most) = (Semaphore::new(PERMITS), AtomicUsize::new(0), AtomicUsize::new(0));
    let use_it = |count: usize| {
        let now = gauge.fetch_add(count, Ordering::SeqCst) + count;
        most.fetch_max(now, Ordering::Relaxed);
        gauge.fetch_sub(count, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        for seed in 1..=THREADS as u64 {
            let (semaphore, use_it) = (&semaphore, &use_it);
            scope.spawn(move || {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for _ in 0..EACH {
                    // Marsaglia's xorshift.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let count = 1 + random as usize % PERMITS;
                    let permit = match random >> 60 {
                        0 => Some(semaphore.acquire(count).unwrap()),
                        1 => block_on(semaphore.acquire_async(count)).ok(),
                        2 => semaphore.acquire_timeout(count, Duration::from_micros(5)).ok(),
                        3 => Task::new(semaphore.acquire_async(count)).poll().and_then(Result::ok),
                        _ => semaphore.try_acquire(count).ok(),
                    };
                    if let Some(permit) = permit {
                        use_it(permit.count());
                    }
                }
            });
        }
    });
    assert_eq!((semaphore.available(), gauge.into_inner()), (PERMITS, 0));
    let most = most.into_inner();
    assert!((1..=PERMITS).contains(&most), "`{most}` in use at once");
}
