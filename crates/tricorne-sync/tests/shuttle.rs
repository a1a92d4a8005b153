//! Randomised schedules: shuttle runs larger scenes than loom can exhaust, each many times in a random order.
//!
//! ```text
//! RUSTFLAGS='--cfg tricorne_shuttle' cargo test -p tricorne-sync --test shuttle --release
//! ```
//!
//! A failure prints the schedule that led to it, to be replayed with `shuttle::replay`. Not modelled: time (a time-out
//! is a future that is polled once and then dropped) and weak memory orderings.
#![cfg(tricorne_shuttle)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::future::block_on;
use shuttle::thread;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{CancelToken, Queue, Semaphore};

/// Random schedules per scene.
const SCHEDULES: usize = 5_000;

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
    shuttle::check_random(
        || {
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
        },
        SCHEDULES,
    );
}

#[test]
fn a_limit_that_moves_is_kept_and_nobody_is_forgotten() {
    shuttle::check_random(
        || {
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
        },
        SCHEDULES,
    );
}

#[test]
fn a_cancel_stops_a_pipeline_and_counts_what_is_left() {
    shuttle::check_random(
        || {
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
        },
        SCHEDULES,
    );
}
