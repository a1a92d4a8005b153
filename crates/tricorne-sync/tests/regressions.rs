//! Defects that a review has found, and that stay away.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tricorne_sync::{BoundedSemaphore, Condition, Lock};

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

#[test]
fn a_guard_gives_back_no_more_than_it_holds() {
    let lanes = BoundedSemaphore::new(2);
    let held = lanes.acquire(2).expect("open");
    lanes.release(1).expect("not noticed: one permit too many is given back by hand");
    let mut waits: Vec<_> = [2, 1, 1, 1, 1, 1].map(|count| Box::pin(lanes.acquire_async(count))).into();
    assert!(waits.iter_mut().all(|wait| poll(wait).is_pending()));
    drop(held);
    let served: Vec<_> = waits.iter_mut().map(poll).filter(Poll::is_ready).collect();
    assert_eq!(served.len(), 1, "there are two permits, which the first has");
}
