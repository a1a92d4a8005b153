//! Model checks of the core of a future: loom runs each model through every interleaving of its two or three threads.
//!
//! ```text
//! RUSTFLAGS='--cfg tricorne_loom' cargo test -p tricorne-exec --test loom --release
//! ```
//!
//! What is modelled: the lock and the flag of a slot, the thread that sleeps for an outcome, listeners, cancelling, and
//! a promise that is dropped. loom has no clock, so a wait that times out is modelled as one whose deadline has passed
//! already, and as a future that is polled once and then given up.
//!
//! What is not modelled: reference counts (they are the standard library's), a deadline that passes during the sleep
//! itself, and the thread pool, which is larger than loom can exhaust: `tests/shuttle.rs` has it.
#![cfg(tricorne_loom)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::thread;
use tricorne_exec::{Future, TaskError, WaitFor, as_completed, promise, wait};
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};

fn poll_once<T>(future: &mut Future<T>) -> Poll<Result<T, TaskError>> {
    std::future::Future::poll(std::pin::Pin::new(future), &mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_sleeping_thread_gets_the_outcome() {
    loom::model(|| {
        let (promise, future) = promise();
        let worker = thread::spawn(move || {
            assert!(promise.start());
            promise.complete(7);
        });
        assert_eq!(future.result(), Ok(7));
        worker.join().unwrap();
    });
}

#[test]
fn a_wait_that_was_given_up_loses_nothing() {
    loom::model(|| {
        let (promise, mut future) = promise();
        let worker = thread::spawn(move || promise.complete(7));
        if let Poll::Ready(outcome) = poll_once(&mut future) {
            assert_eq!(outcome, Ok(7));
        } else {
            match future.result_timeout(Duration::ZERO) {
                Ok(outcome) => assert_eq!(outcome, Ok(7)),
                Err(future) => assert_eq!(future.result(), Ok(7)),
            }
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_task_starts_or_is_cancelled() {
    loom::model(|| {
        let (promise, future) = promise();
        let worker = thread::spawn(move || {
            let started = promise.start();
            promise.complete(7);
            started
        });
        let cancelled = future.cancel();
        let outcome = future.result();
        let started = worker.join().unwrap();
        if cancelled {
            assert_eq!(outcome, Err(TaskError::Cancelled));
            assert!(!started);
        } else {
            assert_eq!(outcome, Ok(7));
        }
    });
}

#[test]
fn a_dropped_promise_wakes_who_waits() {
    loom::model(|| {
        let (promise, future) = promise::<()>();
        let worker = thread::spawn(move || drop(promise));
        assert_eq!(future.result(), Err(TaskError::Abandoned));
        worker.join().unwrap();
    });
}

#[test]
fn a_callback_runs_once_whoever_is_first() {
    loom::model(|| {
        let (promise, future) = promise();
        let calls = Arc::new(AtomicUsize::new(0));
        let worker = thread::spawn(move || promise.complete(7));
        let counted = Arc::clone(&calls);
        future.on_done(move |outcome| {
            assert_eq!(outcome, Ok(7));
            counted.fetch_add(1, Ordering::SeqCst);
        });
        worker.join().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_wait_for_two_sees_both() {
    loom::model(|| {
        let (first, first_future) = promise();
        let (second, second_future) = promise();
        let worker = thread::spawn(move || first.complete(1));
        second.complete(2);
        let futures = [first_future, second_future];
        // Its deadline has passed: it looks once, and takes its listeners back while they may be told.
        let _ = wait(&futures, WaitFor::AllCompleted, Some(Duration::ZERO));
        assert!(wait(&futures, WaitFor::AllCompleted, None).is_complete());
        assert_eq!(futures.map(Future::result), [Ok(1), Ok(2)]);
        worker.join().unwrap();
    });
}

#[test]
fn a_failure_ends_a_wait_for_the_first_one() {
    loom::model(|| {
        let (failing, failing_future) = promise::<u32>();
        let (_never, never_future) = promise::<u32>();
        let worker = thread::spawn(move || drop(failing));
        let futures = [never_future, failing_future];
        let waited = wait(&futures, WaitFor::FirstException, None);
        assert_eq!((waited.done, waited.not_done), (vec![1], vec![0]));
        worker.join().unwrap();
    });
}

#[test]
fn completions_arrive_one_by_one() {
    loom::model(|| {
        let (first, first_future) = promise();
        let (second, second_future) = promise();
        let mut completed = as_completed([first_future, second_future]);
        let worker = thread::spawn(move || {
            first.complete(0);
            second.complete(1);
        });
        let places: Vec<_> = completed
            .by_ref()
            .map(|(place, value)| {
                assert_eq!(value, Ok(place));
                place
            })
            .collect();
        assert_eq!(places, [0, 1]);
        worker.join().unwrap();
    });
}
