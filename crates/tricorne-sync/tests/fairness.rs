//! What is promised about order and bounds, as properties: the lock against a model, queue histories, starvation, and a gauge
//! under a million operations.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;
#[path = "common/history.rs"]
mod history;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Task, block_on};
use history::{Call, Got, History};
use proptest::prelude::*;
use tricorne_sync::raw::RawLock;
use tricorne_sync::{Closed, Lock, PutError, Queue, Semaphore, TryGetError};

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

/// Threads that never let go of the lock for longer than an instant do not keep others out.
#[test]
fn nobody_starves_at_a_lock() {
    let (lock, stop) = (Lock::new(0_u64), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    *lock.lock() += 1;
                }
            });
        }
        let polite = [(); 4].map(|()| scope.spawn(|| (0..25).for_each(|_| *lock.lock() += 1)));
        for thread in polite {
            thread.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(began.elapsed() < Duration::from_secs(20), "100 turns took {:?}", began.elapsed());
}

/// A consumer that waits gets its item although others take all they can: once woken in vain it is promised the next.
#[test]
fn nobody_starves_at_a_queue() {
    let (queue, stop) = (Queue::bounded(1), AtomicBool::new(false));
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| while queue.put(()).is_ok() {});
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = queue.try_get();
                }
            });
        }
        let polite = scope.spawn(|| (0..50).for_each(|_| queue.get().unwrap()));
        polite.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        queue.close();
    });
    assert!(began.elapsed() < Duration::from_secs(20), "50 items took {:?}", began.elapsed());
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
