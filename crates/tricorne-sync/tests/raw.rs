//! The raw forms: who is served when, what giving up leaves behind, and what a misuse is told.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Task;
use tricorne_sync::raw::{NotLocked, NotOwner, OverReleased, RawLock, RawRLock, RawSemaphore, WaitSet};
use tricorne_sync::{Event, Owner, block_deadline};

fn past() -> Option<Instant> {
    Some(Instant::now())
}

#[test]
fn a_lock_serves_in_order_but_lets_a_runner_pass_once() {
    let lock = RawLock::new();
    lock.lock();
    let mut first = Task::new(lock.lock_async());
    let mut second = Task::new(lock.lock_async());
    assert_eq!((first.poll(), second.poll()), (None, None));
    assert_eq!(lock.stats().waiting, 2);

    lock.unlock().unwrap();
    assert_eq!((first.wakes(), second.wakes()), (1, 0), "only the first is woken");
    assert!(lock.try_lock(), "the first has not taken it yet");
    assert_eq!(first.poll(), None, "it was overtaken");

    lock.unlock().unwrap();
    assert!(!lock.try_lock(), "it was handed over");
    assert_eq!(first.poll(), Some(()));
    assert_eq!(second.wakes(), 0);

    lock.unlock().unwrap();
    assert_eq!(second.poll(), Some(()));
    lock.unlock().unwrap();
    assert!(!lock.is_locked());
    let stats = lock.stats();
    assert_eq!((stats.waiting, stats.waits), (0, 2));
}

#[test]
fn a_waiter_that_was_woken_and_leaves_wakes_the_next() {
    let lock = RawLock::new();
    lock.lock();
    let mut first = Task::new(lock.lock_async());
    let mut second = Task::new(lock.lock_async());
    let mut third = Task::new(lock.lock_async());
    assert_eq!((first.poll(), second.poll(), third.poll()), (None, None, None));

    lock.unlock().unwrap();
    drop(first);
    assert_eq!(second.wakes(), 1);

    // The same while the lock is taken again: the next unlock wakes.
    assert!(lock.try_lock());
    drop(second);
    assert_eq!(third.wakes(), 0);
    lock.unlock().unwrap();
    assert_eq!(third.wakes(), 1);
    assert_eq!(third.poll(), Some(()));
}

#[test]
fn a_waiter_that_was_handed_the_lock_and_leaves_unlocks_it() {
    let lock = RawLock::new();
    lock.lock();
    let mut first = Task::new(lock.lock_async());
    assert_eq!(first.poll(), None);
    lock.unlock().unwrap();
    lock.lock();
    assert_eq!(first.poll(), None);
    lock.unlock().unwrap();
    assert!(lock.is_locked(), "on behalf of the first");
    drop(first);
    assert!(lock.try_lock());
}

#[test]
fn a_late_sleeper_does_not_jump_the_line() {
    let lock = RawLock::new();
    lock.lock();
    let mut first = Task::new(lock.lock_async());
    let mut second = Task::new(lock.lock_async());
    assert_eq!((first.poll(), second.poll()), (None, None));
    lock.unlock().unwrap();
    assert_eq!(second.poll(), None, "it is not its turn");
    assert_eq!(first.poll(), Some(()));
}

#[test]
fn misuse_is_told() {
    let lock = RawLock::new();
    assert_eq!(lock.unlock(), Err(NotLocked));
    let (me, other) = (Owner::current_thread(), Owner::from_raw(1.try_into().unwrap()));
    let lock = RawRLock::new();
    assert_eq!(lock.unlock(me), Err(NotOwner));
    lock.lock(me);
    assert_eq!(lock.unlock(other), Err(NotOwner));
    assert_eq!(lock.release_all(other), Err(NotOwner));
    assert!(lock.is_owned_by(me) && !lock.is_owned_by(other));
    let permits = RawSemaphore::new(1);
    assert_eq!(permits.release_bounded(1, 1), Err(OverReleased));
    assert_eq!(permits.release_bounded(3, 3), Err(OverReleased));
    assert_eq!(permits.available(), 1, "nothing was added");
    assert_eq!(permits.release_bounded(2, 3), Ok(()));
}

#[test]
fn slices_keep_the_place_in_line() {
    let lock = RawLock::new();
    lock.lock();
    let mut sliced = lock.lock_async();
    assert_eq!(block_deadline(&mut sliced, past()), None);
    let mut later = Task::new(lock.lock_async());
    assert_eq!(later.poll(), None);
    for _ in 0..3 {
        assert_eq!(block_deadline(&mut sliced, past()), None);
    }
    lock.unlock().unwrap();
    assert_eq!(later.wakes(), 0, "the sliced one came first");
    assert_eq!(block_deadline(&mut sliced, past()), Some(()));
    assert!(lock.is_locked());
}

#[test]
fn a_notification_counts_and_is_passed_on() {
    let set = WaitSet::new();
    assert_eq!(set.notify(1), 0, "nobody to remember it for");
    let mut places = [(); 4].map(|()| set.enroll());
    assert_eq!(set.notify(2), 2);
    let seen = places.each_mut().map(|place| place.wait_deadline(past()));
    assert_eq!(seen, [true, true, false, false]);

    let [_, _, third, mut fourth] = places;
    assert_eq!(set.notify(1), 1);
    drop(third);
    assert!(fourth.wait_deadline(past()), "the third left without having looked");

    let mut places = [(); 2].map(|()| set.enroll());
    assert_eq!(set.notify_all(), 2);
    assert!(places.iter_mut().all(|place| place.wait_deadline(past())));
    assert_eq!(set.waiting(), 0);
}

#[test]
fn a_forked_child_starts_afresh() {
    // As the child would see it: taken by a thread that is not there, with somebody in line.
    let lock = RawLock::new();
    lock.lock();
    let mut wait = lock.lock_async();
    assert_eq!(block_deadline(&mut wait, past()), None);
    std::mem::forget(wait);
    lock.reinit_after_fork();
    assert!(lock.try_lock());
    assert_eq!(lock.stats().waits, 0);
    lock.unlock().unwrap();

    let lock = RawRLock::new();
    lock.lock(Owner::unique());
    lock.reinit_after_fork();
    assert!(lock.try_lock(Owner::current_thread()));

    let event = Event::new();
    event.set();
    event.reinit_after_fork();
    assert!(event.is_set());

    let set = WaitSet::new();
    std::mem::forget(set.enroll());
    set.reinit_after_fork();
    assert_eq!(set.waiting(), 0);

    let permits = RawSemaphore::new(0);
    permits.reinit_after_fork(3);
    assert_eq!(permits.available(), 3);
}

#[test]
fn under_load_a_lock_excludes_and_loses_nobody() {
    const THREADS: usize = 6;
    const TURNS: usize = 4_000;
    let lock = Arc::new(RawLock::new());
    let (inside, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = |seed: usize| {
        let (lock, inside, done) = (Arc::clone(&lock), Arc::clone(&inside), Arc::clone(&done));
        move || {
            for turn in 0..TURNS {
                match (turn + seed) % 4 {
                    0 => lock.lock(),
                    1 => common::block_on(lock.lock_async()),
                    // Gives up now and then, and comes again.
                    2 => while !lock.lock_deadline(Some(Instant::now() + Duration::from_micros(50))) {},
                    _ => {
                        let mut wait = lock.lock_async();
                        while block_deadline(&mut wait, past()).is_none() {}
                    }
                }
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                done.fetch_add(1, Ordering::Relaxed);
                inside.fetch_sub(1, Ordering::Relaxed);
                lock.unlock().unwrap();
            }
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|seed| thread::spawn(work(seed))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), THREADS * TURNS);
    assert!(!lock.is_locked());
}
