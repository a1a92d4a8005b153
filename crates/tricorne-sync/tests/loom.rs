//! Model checks of the primitives: loom runs each model through every interleaving of its two or three threads.
//!
//! ```text
//! RUSTFLAGS='--cfg tricorne_loom' cargo test -p tricorne-sync --test loom --release
//! ```
//!
//! What is modelled: every lock, condition variable and atomic of the crate, blocking waits, futures polled from
//! another thread than the one that serves them, and giving up in any moment. loom has no clock, so a time-out is
//! modelled in two ways: as a future that is polled once and then dropped, and as a blocking wait whose deadline has
//! already passed, which joins the line, looks once more and leaves.
//!
//! What is not modelled: reference counts (they are the standard library's), a deadline that passes during the sleep
//! itself, more than three threads, spurious wake-ups of the condition variable, and the amount of waiting time that
//! `stats()` reports. Three models would take minutes: they are cut to three preemptions
//! (`bounded_model`). The others are exhaustive.
#![cfg(tricorne_loom)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::thread;
use tricorne_sync::prim::Parker;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{CancelToken, Closed, Event, Queue, Semaphore, WaitError};

/// Checks every interleaving.
fn model(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

/// Checks every interleaving with at most three preemptions.
fn bounded_model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// Runs a future to its end on this thread; the waker is a parker that loom can see into.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(Arc::clone(&parker));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => assert!(parker.park_deadline(None)),
        }
    }
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
fn semaphore_excludes_and_hands_over() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let gauge = Arc::new(AtomicUsize::new(0));
        let enter = {
            let (semaphore, gauge) = (Arc::clone(&semaphore), Arc::clone(&gauge));
            move || {
                let _permit = semaphore.acquire(1).unwrap();
                assert_eq!(gauge.fetch_add(1, Ordering::SeqCst), 0, "two hold one permit");
                gauge.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let other = thread::spawn(enter.clone());
        enter();
        other.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn semaphore_wakes_a_task_as_well_as_a_thread() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let by_thread = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(semaphore.acquire(1).unwrap()))
        };
        let by_task = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(block_on(semaphore.acquire_async(1)).unwrap()))
        };
        semaphore.add_permits(1);
        by_thread.join().unwrap();
        by_task.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn semaphore_permits_of_a_waiter_that_gives_up_reach_the_next() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let patient = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        let impatient = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(poll_and_drop(semaphore.acquire_async(1))))
        };
        semaphore.add_permits(1);
        impatient.join().unwrap();
        assert_eq!(patient.join().unwrap(), Ok(()), "its wake-up was lost");
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn semaphore_time_out_races_with_a_release() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire_owned_timeout(1, Duration::ZERO))
        };
        semaphore.add_permits(1);
        let outcome = waiter.join().unwrap();
        assert_eq!(semaphore.available() + usize::from(outcome.is_ok()), 1);
        drop(outcome);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn semaphore_a_large_request_that_gives_up_unblocks_a_small_one() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let large = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire_timeout(2, Duration::ZERO).map(drop))
        };
        let small = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        assert_eq!(large.join().unwrap(), Err(WaitError::TimedOut));
        assert_eq!(small.join().unwrap(), Ok(()));
    });
}

#[test]
fn semaphore_reduced_while_in_use_serves_only_what_is_left() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let held = semaphore.acquire_owned(2).unwrap();
        let reducer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.reduce_permits(1))
        };
        drop(held);
        drop(semaphore.acquire(1).unwrap());
        reducer.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn semaphore_close_races_with_a_release() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        let closer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.close())
        };
        semaphore.add_permits(1);
        // Either outcome is right; not to come back, or to keep the permit, is not.
        let _ = waiter.join().unwrap();
        closer.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn queue_hands_over_in_order_through_one_place() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.put(1).unwrap();
                block_on(queue.put_async(2)).unwrap();
                queue.close();
            })
        };
        assert_eq!(queue.get(), Ok(1));
        assert_eq!(block_on(queue.get_async()), Ok(2));
        assert_eq!(queue.get(), Err(Closed(())));
        producer.join().unwrap();
    });
}

#[test]
fn queue_two_producers_share_one_place() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producers = [1, 2].map(|item| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(item).unwrap())
        });
        assert_eq!(queue.get().unwrap() + queue.get().unwrap(), 3);
        for producer in producers {
            producer.join().unwrap();
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn queue_the_item_of_a_consumer_that_gives_up_reaches_the_next() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let patient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || poll_and_drop(queue.get_async()))
        };
        queue.put(7).unwrap();
        queue.close();
        let taken = [patient.join().unwrap(), impatient.join().unwrap().unwrap_or(Err(Closed(())))];
        assert_eq!(taken.into_iter().flatten().collect::<Vec<_>>(), [7], "exactly one gets it");
        assert!(queue.is_empty());
    });
}

#[test]
fn queue_time_out_of_a_consumer_races_with_a_put() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get_timeout(Duration::ZERO))
        };
        queue.put(7).unwrap();
        let taken = consumer.join().unwrap();
        assert_eq!(taken.or_else(|_| queue.get()), Ok(7));
    });
}

#[test]
fn queue_a_producer_that_gives_up_keeps_its_item_or_has_put_it() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        queue.put(1).unwrap();
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put_timeout(2, Duration::ZERO))
        };
        let patient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(3).unwrap())
        };
        assert_eq!(queue.get(), Ok(1));
        let kept = impatient.join().unwrap().err().map(tricorne_sync::PutError::into_inner);
        let mut rest = vec![queue.get().unwrap()];
        patient.join().unwrap();
        rest.extend(queue.close_now());
        rest.extend(kept);
        rest.sort_unstable();
        assert_eq!(rest, [2, 3]);
    });
}

#[test]
fn queue_close_now_loses_nothing() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(7))
        };
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        let mut seen = queue.close_now();
        seen.extend(producer.join().unwrap().err().map(|Closed(item)| item));
        seen.extend(consumer.join().unwrap());
        assert_eq!(seen, [7]);
    });
}

#[test]
fn event_wakes_all_and_shows_what_came_before() {
    bounded_model(|| {
        let event = Arc::new(Event::new());
        let data = Arc::new(AtomicUsize::new(0));
        let waiter = {
            let (event, data) = (Arc::clone(&event), Arc::clone(&data));
            thread::spawn(move || {
                event.wait();
                assert_eq!(data.load(Ordering::Relaxed), 1);
            })
        };
        let task = {
            let (event, data) = (Arc::clone(&event), Arc::clone(&data));
            thread::spawn(move || {
                block_on(event.wait_async());
                assert_eq!(data.load(Ordering::Relaxed), 1);
            })
        };
        data.store(1, Ordering::Relaxed);
        event.set();
        waiter.join().unwrap();
        task.join().unwrap();
    });
}

#[test]
fn event_a_waiter_that_gives_up_disturbs_nobody() {
    bounded_model(|| {
        let event = Arc::new(Event::new());
        let patient = {
            let event = Arc::clone(&event);
            thread::spawn(move || event.wait())
        };
        let impatient = {
            let event = Arc::clone(&event);
            thread::spawn(move || event.wait_timeout(Duration::ZERO))
        };
        event.set();
        patient.join().unwrap();
        let _ = impatient.join().unwrap();
    });
}

#[test]
fn cancel_ends_a_blocking_get() {
    model(|| {
        let token = CancelToken::new();
        let queue = Arc::new(Queue::<u32>::bounded(1));
        let consumer = {
            let (token, queue) = (token.child(), Arc::clone(&queue));
            thread::spawn(move || {
                let closing = Arc::clone(&queue);
                let _guard = token.on_cancel(move || closing.close());
                queue.get()
            })
        };
        token.cancel();
        assert_eq!(consumer.join().unwrap(), Err(Closed(())));
    });
}

#[test]
fn cancel_reaches_a_child_that_is_being_made() {
    model(|| {
        let token = CancelToken::new();
        let worker = {
            let token = token.clone();
            thread::spawn(move || {
                let child = token.child();
                let mut cancelled: Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(child.cancelled_async());
                drop(child);
                block_on(&mut cancelled);
            })
        };
        token.cancel();
        worker.join().unwrap();
    });
}

#[test]
fn cancel_callback_runs_once_or_was_taken_back() {
    model(|| {
        let token = CancelToken::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let worker = {
            let (token, runs) = (token.clone(), Arc::clone(&runs));
            thread::spawn(move || {
                drop(token.on_cancel(move || {
                    runs.fetch_add(1, Ordering::SeqCst);
                }));
            })
        };
        token.cancel();
        worker.join().unwrap();
        assert!(runs.load(Ordering::SeqCst) <= 1);
    });
}
