//! Defects that a review has found, and that stay away.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tricorne_sync::{Condition, Lock};

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_notified_wait_dropped_while_it_takes_the_lock_back_passes_the_notification_on() {
    let (lock, changed) = (Lock::new(()), Condition::new());
    let mut first = Box::pin(async { changed.wait_async(lock.lock_async().await).await });
    assert!(poll(&mut first).is_pending());
    let mut second = Box::pin(async { changed.wait_async(lock.lock_async().await).await });
    assert!(poll(&mut second).is_pending());
    let held = lock.lock();
    assert!(changed.notify_one());
    assert!(poll(&mut first).is_pending(), "it waits for the lock");
    drop(first);
    drop(held);
    assert!(poll(&mut second).is_ready(), "the notification goes to the next in line");
}
