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
//! `stats()` reports, a fork, and what a caller's own waker does. Models that would take minutes are cut to three preemptions
//! (`bounded_model`), one to two. The others are exhaustive, unless `LOOM_MAX_PREEMPTIONS` says otherwise, as `cargo xtask check` does without
//! `--deep`.
#![cfg(tricorne_loom)]

mod any;
mod barrier;
mod cancel;
mod condition;
mod event;
mod lock;
mod queue;
mod rlock;
mod semaphore;
mod wait_set;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tricorne_sync::block_deadline;

/// Checks every interleaving.
fn model(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

/// Checks every interleaving with at most three preemptions.
fn bounded_model(check: impl Fn() + Send + Sync + 'static) {
    model_with_preemptions(3, check);
}

/// Checks every interleaving with at most so many preemptions.
fn model_with_preemptions(most: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(most);
    builder.check(check);
}

/// Runs a future to its end on this thread; the waker is a parker that loom can see into.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    block_deadline(&mut pin!(future), None).expect("no deadline")
}

/// Polls a future once and then gives it up: a waiter that times out.
fn poll_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
