//! Defects that a review has found, and that stay away.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tricorne_sync::raw::RawRLock;
use tricorne_sync::{
    BoundedSemaphore, CancelToken, Condition, Event, Lock, Owner, PriorityQueue, Ready, Waitable, wait_any,
    wait_any_deadline, wait_any_timeout,
};

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

#[derive(PartialEq)]
struct Picky(f64);
impl Eq for Picky {}
impl PartialOrd for Picky {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Picky {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.partial_cmp(&other.0).expect("numbers")
    }
}

#[test]
fn a_comparison_that_panics_leaves_the_figures_right() {
    let queue = PriorityQueue::bounded(10);
    queue.put(Picky(1.0)).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| queue.put(Picky(f64::NAN)))).is_err());
    let stats = queue.stats();
    assert_eq!(stats.puts - stats.gets, stats.len as u64, "{stats:?}");
}

struct Counter(AtomicUsize);
impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_comparison_that_panics_loses_no_wake_up() {
    let queue = PriorityQueue::bounded(2);
    queue.put(Picky(0.0)).unwrap();
    queue.put(Picky(1.0)).unwrap();
    let woken = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut put = queue.put_async(Picky(f64::NAN));
    assert!(Pin::new(&mut put).poll(&mut Context::from_waker(&waker)).is_pending());
    // It lets the producer in, whose item cannot be compared.
    assert!(catch_unwind(AssertUnwindSafe(|| queue.get())).is_err());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it was let in, and is told");
}

#[test]
fn a_wait_that_got_in_by_re_entrance_is_in_nobodys_way() {
    let lock = RawRLock::new();
    let (me, other, third) = (Owner::unique(), Owner::unique(), Owner::unique());
    lock.lock(other);
    let mut kept = lock.lock_async(me);
    assert!(poll(&mut kept).is_pending());
    let mut behind = lock.lock_async(third);
    assert!(poll(&mut behind).is_pending());
    // The same owner gets in by another call, which was not in line.
    lock.unlock(other).unwrap();
    assert!(lock.try_lock(me));
    assert!(poll(&mut kept).is_ready(), "once more");
    lock.unlock(me).unwrap();
    lock.unlock(me).unwrap();
    assert!(poll(&mut behind).is_ready(), "nobody is before it, although the first wait still lives");
    drop(kept);
}

/// Says that it will be ready, and is not.
struct Empty(Instant);
impl Waitable for Empty {
    fn ready(&self) -> Ready<'_> {
        Box::pin(std::future::pending())
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.0)
    }
}

#[test]
fn a_deadline_that_passes_in_vain_hides_no_later_one() {
    let now = Instant::now();
    let empty = [Empty(now), Empty(now + Duration::from_millis(1))];
    let token = CancelToken::with_deadline(now + Duration::from_millis(5));
    assert_eq!(wait_any(&[&empty[0], &token, &empty[1]]), 1);
    let token = CancelToken::with_deadline(now + Duration::from_millis(5));
    assert_eq!(wait_any_timeout(&[&empty[1], &empty[0], &token], Duration::from_secs(20)), Some(2));
    assert_eq!(wait_any_deadline(&[&empty[1], &empty[0]], now + Duration::from_millis(2)), None);
}

#[test]
fn a_notification_is_not_passed_on_to_one_that_came_after_it() {
    let (lock, changed) = (Lock::new(()), Condition::new());
    let wait = || Box::pin(async { changed.wait_async(lock.lock_async().await).await });
    for notify in [|changed: &Condition| changed.notify_all(), |changed: &Condition| changed.notify(2)] {
        let (mut first, mut second) = (wait(), wait());
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        assert_eq!(notify(&changed), 2);
        let mut late = wait();
        assert!(poll(&mut late).is_pending());
        // One leaves as it was notified, the other when it waits for the lock.
        let held = lock.lock();
        assert!(poll(&mut first).is_pending());
        drop((first, second));
        drop(held);
        assert_eq!((poll(&mut late).is_pending(), changed.waiting()), (true, 1));
    }
}

/// Panics when it is woken.
struct Bomb;
impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker of somebody");
    }
}

#[test]
fn a_waker_that_panics_takes_no_wake_up_along() {
    let event = Event::new();
    let woken = Arc::new(Counter(AtomicUsize::new(0)));
    let wakers = [Arc::clone(&woken).into(), Waker::from(Arc::new(Bomb)), Arc::clone(&woken).into()];
    let mut waits = [event.wait_async(), event.wait_async(), event.wait_async()];
    for (wait, waker) in waits.iter_mut().zip(&wakers) {
        assert!(Pin::new(wait).poll(&mut Context::from_waker(waker)).is_pending());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| event.set())).is_err());
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(waits.iter_mut().all(|wait| poll(wait).is_ready()));
}
