//! `CancelToken` as its users see it.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Task;
use tricorne_sync::CancelToken;

/// Longer than any test may take; a wait that should end earlier fails the test, it does not hang it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn cancelling_goes_down_the_tree_and_not_up() {
    let root = CancelToken::new();
    let branch = root.child();
    let leaf = branch.child();
    let sibling = root.child();
    branch.cancel();
    assert!(leaf.is_cancelled() && branch.is_cancelled());
    assert!(!root.is_cancelled() && !sibling.is_cancelled());
    root.cancel();
    assert!(sibling.is_cancelled() && root.child().is_cancelled() && root.clone().is_cancelled());
}

#[test]
fn cancelling_reaches_a_child_whose_parent_nobody_holds() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    let mut waits = Task::<'static, _>::new(root.child().cancelled_async());
    assert!(waits.poll().is_none());
    root.cancel();
    assert!(leaf.is_cancelled());
    assert_eq!((waits.wakes(), waits.poll()), (1, Some(())));
}

#[test]
fn a_deep_tree_is_cancelled_and_dropped_without_recursion() {
    let root = CancelToken::new();
    let mut leaf = root.child();
    for _ in 0..100_000 {
        leaf = leaf.child();
    }
    root.cancel();
    assert!(leaf.is_cancelled());
    let mut other = CancelToken::new();
    for _ in 0..100_000 {
        other = other.child();
    }
    drop(other);
}

#[test]
fn callbacks_run_once_or_are_taken_back() {
    let token = CancelToken::new();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = |runs: &Arc<AtomicUsize>| {
        let runs = Arc::clone(runs);
        move || {
            runs.fetch_add(1, Ordering::SeqCst);
        }
    };
    let kept = token.on_cancel(count(&runs));
    let of_child = token.child().on_cancel(count(&runs));
    drop(token.on_cancel(count(&runs)));
    assert_eq!(Arc::strong_count(&runs), 3, "a callback that was taken back is dropped");
    token.cancel();
    token.cancel();
    assert_eq!(runs.load(Ordering::SeqCst), 2, "the guard keeps the child's too");
    drop((kept, of_child));
    let _late = token.on_cancel(count(&runs));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[test]
fn a_callback_may_use_the_token() {
    let token = CancelToken::new();
    let inner = token.clone();
    let guard = token.on_cancel(move || {
        assert!(inner.is_cancelled() && inner.child().is_cancelled());
        inner.cancel();
        drop(inner.on_cancel(|| ()));
    });
    token.cancel();
    drop(guard);
}

#[test]
fn a_callback_that_panics_does_not_stop_the_others() {
    let token = CancelToken::new();
    let child = token.child();
    let runs = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&runs);
    let _first = token.on_cancel(|| panic!("on purpose"));
    let _second = child.on_cancel(move || {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    let payload = panic::catch_unwind(AssertUnwindSafe(|| token.cancel())).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(child.is_cancelled());
}

#[test]
fn cancelling_wakes_who_waits() {
    let token = CancelToken::new();
    let mut task = Task::new(token.cancelled_async());
    assert!(task.poll().is_none());
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| token.wait_timeout(LONG)),
            scope.spawn(|| token.wait_timeout(Duration::MAX)),
            scope.spawn(|| token.child().wait_deadline(Instant::now() + LONG)),
            scope.spawn(|| {
                token.wait();
                true
            }),
        ];
        token.cancel();
        assert!(waiters.map(|waiter| waiter.join().unwrap()).iter().all(|&cancelled| cancelled));
    });
    assert_eq!((task.wakes(), task.poll()), (1, Some(())));
    assert!(Task::new(token.cancelled_async()).poll().is_some());
}

#[test]
fn a_wait_that_is_not_cancelled_times_out() {
    let token = CancelToken::new();
    assert!(!token.wait_timeout(Duration::from_millis(2)));
    assert!(!token.wait_deadline(Instant::now()));
    assert!(!token.is_cancelled());
}

#[test]
fn the_earlier_deadline_counts_and_whoever_notices_it_cancels() {
    let past = Instant::now();
    let future = past + LONG;
    let parent = CancelToken::with_deadline(future);
    assert_eq!(parent.child().deadline(), Some(future));
    assert_eq!(parent.child_with_deadline(future + LONG).deadline(), Some(future));
    assert!(!parent.is_cancelled());
    let child = parent.child_with_deadline(past);
    assert_eq!(child.deadline(), Some(past));
    let runs = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&runs);
    let _guard = child.on_cancel(move || {
        counting.fetch_add(1, Ordering::SeqCst);
    });
    assert!(child.is_cancelled());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(!parent.is_cancelled());
    assert!(Task::new(CancelToken::with_deadline(past).cancelled_async()).poll().is_some());
}

#[test]
fn a_blocking_wait_ends_at_the_deadline() {
    let deadline = Instant::now() + Duration::from_millis(5);
    let token = CancelToken::with_deadline(deadline);
    assert!(token.wait_timeout(LONG));
    assert!(Instant::now() >= deadline);
    CancelToken::with_deadline(deadline).wait();
}
