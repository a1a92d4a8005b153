//! Randomised schedules: shuttle runs larger scenes than loom can exhaust, each many times in a random order.
//!
//! ```text
//! RUSTFLAGS='--cfg tricorne_shuttle' cargo test -p tricorne-sync --test shuttle --release
//! ```
//!
//! Each scene prints its seed, and runs again with it if `TRICORNE_SEED` names it. A failure also prints the schedule that led
//! to it, to be replayed with `shuttle::replay`. Not modelled: time (a time-out
//! is a future that is polled once and then dropped) and weak memory orderings.
#![cfg(tricorne_shuttle)]

#[path = "common/history.rs"]
mod history;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use history::{Call, Got, History};
use shuttle::future::block_on;
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{
    CancelToken, Condition, Lock, Owner, PriorityQueue, PutError, Queue, RLock, Semaphore, TryGetError,
};

/// Random schedules per scene.
const SCHEDULES: usize = 5_000;

/// Runs a scene under random schedules.
fn check(scene: impl Fn() + Send + Sync + 'static) {
    let seed = match std::env::var("TRICORNE_SEED") {
        Ok(seed) => seed.parse().expect("`TRICORNE_SEED` is a number"),
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64),
    };
    println!("to run it again: TRICORNE_SEED={seed}");
    Runner::new(RandomScheduler::new_from_seed(seed, SCHEDULES), Config::default()).run(scene);
}

/// Polls a future once and then gives it up: a waiter that times out.
fn poll_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn every_item_arrives_once() {
    check(|| {
        let queue = Arc::new(Queue::bounded_weighted(2, 5));
        let start = |work: fn(&Queue<usize>) -> usize| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work(&queue))
        };
        let producers = [
            start(|queue| (1..=4).map(|item| queue.put_weighted(item, 2).map_or(0, |()| item)).sum()),
            start(|queue| {
                let put = |item| block_on(queue.put_weighted_async(item, 3)).map_or(0, |()| item);
                (1..=4).map(put).sum()
            }),
        ];
        let consumers = [
            start(|queue| std::iter::from_fn(|| queue.get().ok()).sum()),
            start(|queue| std::iter::from_fn(|| block_on(queue.get_batch_async(2)).ok()).flatten().sum()),
            start(|queue| (0..4).filter_map(|_| poll_and_drop(queue.get_async())?.ok()).sum()),
        ];
        let put: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        queue.close();
        let got: usize = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
        assert_eq!((put, got), (20, 20));
        let stats = queue.stats();
        assert!(stats.high_water_items <= 2 && stats.high_water_weight <= 5, "{stats:?}");
    });
}

#[test]
fn a_limit_that_moves_is_kept_and_nobody_is_forgotten() {
    check(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let gauge = Arc::new(AtomicUsize::new(0));
        let start = |count: usize, work: fn(&Semaphore, usize, &dyn Fn())| {
            let (semaphore, gauge) = (Arc::clone(&semaphore), Arc::clone(&gauge));
            thread::spawn(move || {
                work(&semaphore, count, &|| {
                    assert!(
                        gauge.fetch_add(count, Ordering::SeqCst) + count <= 3,
                        "more in use than ever allowed"
                    );
                    thread::yield_now();
                    gauge.fetch_sub(count, Ordering::SeqCst);
                });
            })
        };
        let workers = [
            start(1, |semaphore, count, use_it| {
                for _ in 0..3 {
                    let _permit = semaphore.acquire(count).unwrap();
                    use_it();
                }
            }),
            start(2, |semaphore, count, use_it| {
                for _ in 0..3 {
                    let _permit = block_on(semaphore.acquire_async(count)).unwrap();
                    use_it();
                }
            }),
            start(2, |semaphore, count, use_it| {
                for _ in 0..3 {
                    if let Some(permit) = poll_and_drop(semaphore.acquire_async(count)) {
                        let _permit = permit.unwrap();
                        use_it();
                    }
                }
            }),
        ];
        semaphore.add_permits(1);
        semaphore.reduce_permits(1);
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn a_cancel_stops_a_pipeline_and_counts_what_is_left() {
    check(|| {
        let token = CancelToken::new();
        let queues = [(); 2].map(|()| Arc::new(Queue::bounded(1)));
        let left = Arc::new(AtomicUsize::new(0));
        let guards = queues.clone().map(|queue| {
            let left = Arc::clone(&left);
            token.child().on_cancel(move || {
                left.fetch_add(queue.close_now().len(), Ordering::SeqCst);
            })
        });
        let [input, output] = queues;
        let producer = {
            let input = Arc::clone(&input);
            thread::spawn(move || (0..4).take_while(|&item| input.put(item).is_ok()).count())
        };
        let stage = thread::spawn(move || {
            let mut lost = 0;
            while let Ok(item) = input.get() {
                lost += usize::from(output.put(item).is_err());
            }
            let passed = std::iter::from_fn(|| output.try_get().ok()).count();
            (lost, passed)
        });
        token.cancel();
        let put = producer.join().unwrap();
        let (lost, passed) = stage.join().unwrap();
        drop(guards);
        assert_eq!(put, lost + passed + left.load(Ordering::SeqCst));
    });
}

/// The same property as in `fairness.rs`, under schedules that a machine seldom takes.
#[test]
fn histories_of_a_queue_are_linearisable() {
    check(|| {
        const CAPACITY: usize = 1;
        let shared = Arc::new((Queue::bounded(CAPACITY), History::default()));
        let producers = [0, 10].map(|first| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (queue, history) = &*shared;
                for item in first..first + 3 {
                    history.record(|| match item % 3 {
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
        let consumers = [0, 1].map(|consumer| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (queue, history) = &*shared;
                for turn in consumer..consumer + 12 {
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
            })
        });
        for producer in producers {
            producer.join().unwrap();
        }
        let (queue, history) = &*shared;
        history.record(|| {
            queue.close();
            Call::Close
        });
        for consumer in consumers {
            consumer.join().unwrap();
        }
        history.check(CAPACITY);
    });
}

#[test]
fn priorities_are_kept_and_everything_is_done() {
    check(|| {
        let queue = Arc::new(PriorityQueue::bounded(3));
        let producers = [0, 1].map(|parity| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put_many((0..4).map(|number| 2 * number + parity)).unwrap())
        });
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut sum = 0;
                while let Ok(batch) = queue.get_batch(2) {
                    assert!(batch.is_sorted(), "the smallest come first: {batch:?}");
                    for number in batch {
                        sum += number;
                        queue.task_done().unwrap();
                    }
                }
                sum
            })
        });
        for producer in producers {
            producer.join().unwrap();
        }
        queue.join();
        assert_eq!((queue.len(), queue.unfinished()), (0, 0));
        queue.close();
        assert_eq!(workers.map(|worker| worker.join().unwrap()).iter().sum::<u32>(), 28);
    });
}

/// Turns handed round by a condition, with one who comes and gives up.
#[test]
fn turns_go_round_although_one_gives_up() {
    check(|| {
        let shared = Arc::new((Lock::new(0_usize), Condition::new()));
        let players = [0, 1, 2].map(|player| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (turn, changed) = &*shared;
                for _ in 0..3 {
                    let mut turn = if player == 1 {
                        block_on(async {
                            changed
                                .wait_while_async(turn.lock_async().await, |turn| **turn % 3 != player)
                                .await
                        })
                    } else {
                        changed.wait_while(turn.lock(), |turn| **turn % 3 != player)
                    };
                    *turn += 1;
                    changed.notify_all();
                }
            })
        });
        let (turn, changed) = &*shared;
        for _ in 0..3 {
            let _ = poll_and_drop(turn.lock_async());
            if let Some(guard) = turn.try_lock() {
                let _ = poll_and_drop(changed.wait_async(guard));
            }
            thread::yield_now();
        }
        for player in players {
            player.join().unwrap();
        }
        assert_eq!(*turn.lock(), 9);
    });
}

/// Batches by weight beside single items, some given up half-way: each item is taken or given back, once.
#[test]
fn batches_that_are_given_up_lose_nothing() {
    check(|| {
        let queue = Arc::new(Queue::bounded_weighted(2, 5));
        let start = |work: fn(&Queue<u64>) -> u64| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || work(&queue))
        };
        // What each producer has left of 1 + 2 + 3 + 4.
        let producers = [
            start(|queue| {
                queue.put_many_weighted(1..5, |item| *item).unwrap();
                0
            }),
            start(|queue| {
                let mut batch = queue.put_many_weighted_async(1..5, |item| *item);
                for _ in 0..3 {
                    let polled = pin!(&mut batch).poll(&mut Context::from_waker(Waker::noop()));
                    if let Poll::Ready(outcome) = polled {
                        outcome.unwrap();
                        return 0;
                    }
                    thread::yield_now();
                }
                batch.give_up().err().map_or(0, |rest| rest.into_inner().into_iter().sum())
            }),
            start(|queue| {
                let rest = queue.try_put_many(1..5).err();
                rest.map_or(0, |rest| rest.into_inner().into_iter().sum())
            }),
        ];
        let consumers = [
            start(|queue| std::iter::from_fn(|| queue.get().ok()).sum()),
            start(|queue| std::iter::from_fn(|| queue.get_batch(2).ok()).flatten().sum()),
        ];
        let kept: u64 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        queue.close();
        let got: u64 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
        assert_eq!(kept + got, 30);
        let stats = queue.stats();
        assert!(stats.high_water_items <= 2 && stats.high_water_weight <= 5, "{stats:?}");
    });
}

/// The turns again, with tasks that hold a re-entrant lock by their handles.
#[test]
fn turns_go_round_with_a_re_entrant_lock() {
    check(|| {
        let shared = Arc::new((RLock::new(AtomicUsize::new(0)), Condition::new()));
        let players = [0, 1].map(|player| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ((turn, changed), me) = (&*shared, Owner::unique());
                for _ in 0..3 {
                    block_on(async {
                        let guard = turn.lock_async(me).await;
                        let other = |turn: &AtomicUsize| turn.load(Ordering::Relaxed) % 2 != player;
                        let guard = changed.wait_while_async(guard, |guard| other(guard)).await;
                        let again = turn.lock_async(me).await;
                        again.store(guard.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        changed.notify_all();
                    });
                }
            })
        });
        let ((turn, changed), me) = (&*shared, Owner::unique());
        for _ in 0..3 {
            let mut wait = pin!(async { changed.wait_async(turn.lock_async(me).await).await });
            for _ in 0..2 {
                if wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                thread::yield_now();
            }
        }
        for player in players {
            player.join().unwrap();
        }
        assert_eq!(turn.lock().load(Ordering::Relaxed), 6);
    });
}
