//! Locks with data, conditions, bounded semaphores and waiting for any of several, as their users see them.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Task, block_on};
use tricorne_sync::{
    BoundedSemaphore, CancelToken, Closed, Condition, Event, Lock, OverReleased, Owner, Queue, RLock,
    TryAcquireError, WaitError, wait_any, wait_any_async, wait_any_deadline, wait_any_timeout,
};

/// Longer than any test may take; a wait that should end earlier fails the test, it does not hang it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_lock_gives_access_to_one_at_a_time() {
    let mut words = Lock::new(vec!["a"]);
    words.get_mut().push("b");
    let guard = words.lock();
    assert!(words.is_locked() && words.try_lock().is_none());
    assert!(words.lock_timeout(Duration::from_millis(1)).is_none());
    assert!(words.lock_deadline(Instant::now()).is_none());
    assert_eq!(format!("{words:?} {guard:?}"), r#"Lock { value: <locked> } ["a", "b"]"#);
    let mut task = Task::new(async { words.lock_async().await.push("c") });
    assert!(task.poll().is_none());
    drop(guard);
    assert_eq!((task.wakes(), task.poll()), (1, Some(())));
    drop(task);
    assert_eq!(words.lock_timeout(LONG).unwrap().len(), 3);
    assert_eq!(words.stats().waits, 3);
    assert_eq!(words.into_inner(), ["a", "b", "c"]);
}

#[test]
fn a_panic_unlocks_and_does_not_poison() {
    let lock = Lock::new(1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = lock.lock();
        *guard = 2;
        panic!("with the lock held");
    }));
    assert!(panicked.is_err());
    assert_eq!(*lock.lock(), 2);
}

#[test]
fn a_guard_may_go_to_another_thread() {
    let lock = Lock::new(0);
    let mut guard = lock.lock();
    thread::scope(|scope| {
        scope.spawn(move || *guard += 1);
    });
    assert_eq!(lock.try_lock().map(|guard| *guard), Some(1));
}

#[test]
fn a_re_entrant_lock_is_free_after_its_last_guard() {
    let lock = RLock::new(RefCell::new(Vec::new()));
    let outer = lock.lock();
    let inner = lock.try_lock().expect("it is ours");
    inner.borrow_mut().push(1);
    assert!(lock.lock_timeout(Duration::ZERO).is_some() && lock.lock_deadline(Instant::now()).is_some());
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_lock().is_none());
            assert!(lock.lock_timeout(Duration::from_millis(1)).is_none());
        });
    });
    // In any order.
    drop(outer);
    assert!(lock.is_locked());
    drop(inner);
    assert!(!lock.is_locked());
    assert_eq!(lock.into_inner().into_inner(), [1]);
}

#[test]
fn a_handle_owns_a_re_entrant_lock_across_tasks() {
    let lock = RLock::new(0);
    let (one, two) = (Owner::unique(), Owner::unique());
    let outer = Task::new(lock.lock_async(one)).poll().expect("free");
    let inner = Task::new(lock.lock_async(one)).poll().expect("its own");
    assert_eq!((outer.owner(), *inner), (one, 0));
    let mut other = Task::new(lock.lock_async(two));
    assert!(other.poll().is_none());
    thread::scope(|scope| {
        scope.spawn(move || drop(outer));
    });
    assert!(other.poll().is_none());
    drop(inner);
    assert_eq!(other.poll().map(|guard| guard.owner()), Some(two));
}

#[test]
fn a_condition_wakes_as_many_as_it_is_told() {
    let (lock, condition) = (Lock::new(()), Condition::new());
    let mut tasks = [(); 3].map(|()| Task::new(async { drop(condition.wait_async(lock.lock()).await) }));
    assert!(tasks.iter_mut().all(|task| task.poll().is_none()));
    assert!(!lock.is_locked(), "a wait lets it go");
    assert_eq!((condition.waiting(), condition.notify(2)), (3, 2));
    assert_eq!(tasks.each_ref().map(Task::wakes), [1, 1, 0]);
    assert_eq!(tasks.each_mut().map(Task::poll), [Some(()), Some(()), None]);
    assert!(condition.notify_one() && !condition.notify_one());
    assert_eq!((tasks[2].poll(), condition.notify_all()), (Some(()), 0));
}

#[test]
fn conditions_end_in_time_and_hold_the_lock_again() {
    let (lock, condition) = (Lock::new(0), Condition::new());
    let (guard, notified) = condition.wait_timeout(lock.lock(), Duration::from_millis(1));
    assert!(!notified && lock.is_locked());
    drop(guard);
    let (guard, notified) = condition.wait_deadline(lock.lock(), Instant::now());
    assert!(!notified);
    drop(guard);
    let (guard, there) = condition.wait_while_deadline(lock.lock(), |count| **count == 0, Instant::now());
    assert!(!there);
    drop(guard);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                *lock.lock() += 1;
                condition.notify_one();
            }
        });
        let (guard, there) = condition.wait_while_timeout(lock.lock(), |count| **count < 3, LONG);
        assert!(there && *guard == 3);
    });
    assert_eq!(condition.waiting(), 0);
}

#[test]
fn a_condition_gives_back_all_levels_of_a_re_entrant_lock() {
    let (lock, condition) = (RLock::new(AtomicBool::new(false)), Condition::new());
    let announce = || {
        lock.lock().store(true, Ordering::Relaxed);
        condition.notify_one();
    };
    thread::scope(|scope| {
        let outer = lock.lock();
        scope.spawn(announce);
        let inner = condition.wait_while(lock.lock(), |ready| !ready.load(Ordering::Relaxed));
        drop(inner);
        assert!(lock.is_locked(), "the outer level was restored");
        drop(outer);
    });
    assert!(!lock.is_locked());

    // The same for a handle.
    lock.lock().store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        let me = Owner::unique();
        let outer = block_on(lock.lock_async(me));
        scope.spawn(announce);
        let inner = block_on(lock.lock_async(me));
        let inner = condition.wait_while(inner, |ready| !ready.load(Ordering::Relaxed));
        assert_eq!(inner.owner(), me);
        drop(inner);
        assert!(lock.is_locked(), "the outer level was restored");
        drop(outer);
    });
    assert!(!lock.is_locked());
}

#[test]
fn tasks_wait_for_a_condition_with_a_re_entrant_lock() {
    let (lock, condition) = (RLock::new(AtomicUsize::new(0)), Condition::new());
    let take = || async {
        let guard = lock.lock_async(Owner::unique()).await;
        let guard = condition.wait_while_async(guard, |count| count.load(Ordering::Relaxed) == 0).await;
        guard.fetch_sub(1, Ordering::Relaxed);
    };
    let mut tasks = [(); 3].map(|()| Task::new(take()));
    assert!(tasks.iter_mut().all(|task| task.poll().is_none()));
    assert!(!lock.is_locked(), "a wait lets it go");
    let held = lock.lock();
    held.fetch_add(1, Ordering::Relaxed);
    assert!(condition.notify_one());
    let [mut first, mut second, third] = tasks;
    assert!(first.poll().is_none(), "it takes the lock back");
    // It was notified and has not looked, so the second is.
    drop(first);
    assert_eq!((second.wakes(), third.wakes()), (1, 0));
    drop(held);
    assert_eq!(second.poll(), Some(()));
    drop(third);
    assert_eq!((condition.waiting(), lock.is_locked()), (0, false));
}

#[test]
fn a_task_waits_with_its_only_guard() {
    let (lock, condition) = (RLock::new(()), Condition::new());
    let me = Owner::unique();
    let outer = block_on(lock.lock_async(me));
    let inner = block_on(lock.lock_async(me));
    let refused = catch_unwind(AssertUnwindSafe(|| Task::new(condition.wait_async(inner)).poll().is_some()));
    assert!(refused.is_err());
    assert_eq!((condition.waiting(), lock.is_locked()), (0, true));
    drop(outer);
    assert!(!lock.is_locked(), "the guard that was refused has given back its level");
}

#[test]
fn a_bounded_semaphore_takes_back_no_more_than_it_had() {
    let permits = BoundedSemaphore::new(2);
    assert_eq!((permits.bound(), permits.release(1)), (2, Err(OverReleased)));
    permits.acquire(2).unwrap().forget();
    assert_eq!(permits.try_acquire(1).err(), Some(TryAcquireError::NoPermits));
    assert_eq!(permits.acquire_timeout(1, Duration::ZERO).err(), Some(WaitError::TimedOut));
    assert_eq!(permits.acquire_deadline(1, Instant::now()).err(), Some(WaitError::TimedOut));
    let mut task = Task::new(async { permits.acquire_async(1).await.map(drop) });
    assert!(task.poll().is_none());
    assert_eq!(permits.release(3), Err(OverReleased));
    assert!(task.poll().is_none(), "none of the three was given back");
    assert_eq!(permits.release(2), Ok(()));
    assert_eq!((task.poll(), permits.available()), (Some(Ok(())), 2));

    // Given back twice while it was out: it cannot be noticed then, but it does not add up either.
    let held = permits.acquire(1).unwrap();
    assert_eq!(permits.release(1), Ok(()));
    drop(held);
    assert_eq!(permits.available(), 2);
    permits.close();
    assert!(permits.is_closed());
    assert_eq!(permits.acquire(1).err(), Some(Closed(())));
}

#[test]
fn the_first_of_several_is_named() {
    let (event, token, queue) = (Event::new(), CancelToken::new(), Queue::bounded(2));
    assert_eq!(wait_any_deadline(&[&event, &token, &queue], Instant::now()), None);
    assert_eq!(wait_any_timeout(&[&event, &token, &queue], Duration::from_millis(1)), None);
    let mut task = Task::new(wait_any_async(&[&event, &token, &queue]));
    assert!(task.poll().is_none());
    queue.put(1).unwrap();
    assert_eq!((task.wakes(), task.poll()), (1, Some(2)));
    token.cancel();
    assert_eq!(wait_any(&[&event, &token, &queue]), 1);
    assert_eq!((queue.get(), queue.is_empty()), (Ok(1), true));
    queue.close();
    assert_eq!(wait_any(&[&event, &queue]), 1, "nothing will come any more");
    thread::scope(|scope| {
        scope.spawn(|| event.set());
        assert_eq!(wait_any_timeout(&[&event], LONG), Some(0));
    });
}

#[test]
fn a_deadline_of_one_of_several_counts() {
    let event = Event::new();
    let token = CancelToken::with_deadline(Instant::now() + Duration::from_millis(5));
    assert_eq!(wait_any(&[&event, &token]), 1);
    assert!(token.is_cancelled());
    let token = CancelToken::with_deadline(Instant::now() + Duration::from_millis(5));
    assert_eq!(wait_any_timeout(&[&event, &token], LONG), Some(1));
    let token = CancelToken::with_deadline(Instant::now() + LONG);
    assert_eq!(wait_any_timeout(&[&event, &token], Duration::from_millis(1)), None);
}

#[test]
#[should_panic(expected = "no things")]
fn waiting_for_nothing_is_refused() {
    wait_any(&[]);
}
