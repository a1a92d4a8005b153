//! Models of `RawLock`.

use std::sync::Arc;
use std::time::Instant;

use loom::cell::UnsafeCell;
use loom::thread;
use tricorne_sync::Lock;
use tricorne_sync::raw::RawLock;

use crate::{block_on, bounded_model, model, poll_and_drop};

/// A lock and what it guards; loom reports two accesses that nothing orders.
#[derive(Default)]
struct Guarded {
    lock: RawLock,
    count: UnsafeCell<usize>,
}

// SAFETY: the models touch `count` only while they hold `lock`; that this suffices is what loom checks.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// One more, by the holder of the lock, who then lets it go.
    fn count_and_unlock(&self) {
        // SAFETY: loom's pointer is valid, and loom itself reports another access at the same time.
        self.count.with_mut(|count| unsafe { *count += 1 });
        self.lock.unlock().unwrap();
    }

    fn total(&self) -> usize {
        self.lock.lock();
        // SAFETY: as above.
        let total = self.count.with(|count| unsafe { *count });
        self.lock.unlock().unwrap();
        total
    }
}

fn shared() -> (Arc<Guarded>, impl Fn(fn(&Guarded)) -> thread::JoinHandle<()>) {
    let guarded = Arc::new(Guarded::default());
    let start = {
        let guarded = Arc::clone(&guarded);
        move |work: fn(&Guarded)| {
            let guarded = Arc::clone(&guarded);
            thread::spawn(move || work(&guarded))
        }
    };
    (guarded, start)
}

#[test]
fn excludes_and_shows_what_came_before() {
    model(|| {
        let (guarded, start) = shared();
        let other = start(|guarded| {
            for _ in 0..2 {
                guarded.lock.lock();
                guarded.count_and_unlock();
            }
        });
        guarded.lock.lock();
        guarded.count_and_unlock();
        other.join().unwrap();
        assert_eq!(guarded.total(), 3);
    });
}

#[test]
fn three_in_line_are_all_served() {
    bounded_model(|| {
        let (guarded, start) = shared();
        let others = [
            start(|guarded| {
                guarded.lock.lock();
                guarded.count_and_unlock();
            }),
            start(|guarded| {
                block_on(guarded.lock.lock_async());
                guarded.count_and_unlock();
            }),
        ];
        guarded.lock.lock();
        guarded.count_and_unlock();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(guarded.total(), 3);
    });
}

#[test]
fn one_that_gives_up_wakes_the_next() {
    bounded_model(|| {
        let (guarded, start) = shared();
        guarded.lock.lock();
        let patient = start(|guarded| {
            guarded.lock.lock();
            guarded.count_and_unlock();
        });
        let impatient = start(|guarded| {
            if poll_and_drop(guarded.lock.lock_async()).is_some() {
                guarded.lock.unlock().unwrap();
            }
        });
        guarded.count_and_unlock();
        impatient.join().unwrap();
        patient.join().unwrap();
        assert_eq!(guarded.total(), 2);
    });
}

#[test]
fn a_time_out_races_with_an_unlock() {
    model(|| {
        let (guarded, start) = shared();
        guarded.lock.lock();
        let waiter = start(|guarded| {
            if guarded.lock.lock_deadline(Some(Instant::now())) {
                guarded.count_and_unlock();
            }
        });
        guarded.count_and_unlock();
        waiter.join().unwrap();
        assert!((1..=2).contains(&guarded.total()));
        assert!(guarded.lock.try_lock(), "nobody holds it");
    });
}

/// The first in line is nudged, finds the lock taken by one that ran, and must be handed it by the next unlock.
#[test]
fn one_that_was_overtaken_is_handed_it() {
    bounded_model(|| {
        let (guarded, start) = shared();
        guarded.lock.lock();
        let waiter = start(|guarded| {
            guarded.lock.lock();
            guarded.count_and_unlock();
        });
        guarded.count_and_unlock();
        for _ in 0..2 {
            if guarded.lock.try_lock() {
                guarded.count_and_unlock();
            }
        }
        waiter.join().unwrap();
        assert!((2..=4).contains(&guarded.total()));
    });
}

#[test]
fn a_slice_that_ends_keeps_the_place() {
    model(|| {
        let (guarded, start) = shared();
        guarded.lock.lock();
        let waiter = start(|guarded| {
            let mut wait = guarded.lock.lock_async();
            if tricorne_sync::block_deadline(&mut wait, Some(Instant::now())).is_none() {
                tricorne_sync::block_deadline(&mut wait, None).unwrap();
            }
            guarded.count_and_unlock();
        });
        guarded.count_and_unlock();
        waiter.join().unwrap();
        assert_eq!(guarded.total(), 2);
    });
}

/// The data of a typed lock is reached through loom's cell, which reports two accesses that nothing orders.
#[test]
fn typed_guards_exclude() {
    model(|| {
        let words = Arc::new(Lock::new(Vec::new()));
        let other = {
            let words = Arc::clone(&words);
            thread::spawn(move || block_on(words.lock_async()).push("task"))
        };
        words.lock().push("thread");
        other.join().unwrap();
        let mut words = words.lock();
        words.sort_unstable();
        assert_eq!(*words, ["task", "thread"]);
    });
}

#[test]
fn a_typed_time_out_races_with_an_unlock() {
    model(|| {
        let count = Arc::new(Lock::new(0));
        let held = count.lock();
        let other = {
            let count = Arc::clone(&count);
            thread::spawn(move || count.lock_deadline(Instant::now()).map(|mut guard| *guard += 1).is_some())
        };
        drop(held);
        let counted = other.join().unwrap();
        assert_eq!(count.try_lock().map(|guard| *guard), Some(i32::from(counted)));
    });
}
