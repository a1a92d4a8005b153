//! Models of `RawRLock`.

use std::sync::Arc;

use loom::thread;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::raw::RawRLock;
use tricorne_sync::{Owner, RLock};

use crate::{block_on, bounded_model, model, poll_and_drop};

#[test]
fn two_owners_exclude_each_other_on_all_levels() {
    model(|| {
        let lock = Arc::new(RawRLock::new());
        let gauge = Arc::new(AtomicUsize::new(0));
        let enter = {
            let (lock, gauge) = (Arc::clone(&lock), Arc::clone(&gauge));
            move |owner: Owner| {
                lock.lock(owner);
                assert_eq!(gauge.fetch_add(1, Ordering::SeqCst), 0, "two owners hold it");
                assert!(lock.try_lock(owner));
                assert_eq!(lock.unlock(owner), Ok(()));
                gauge.fetch_sub(1, Ordering::SeqCst);
                assert_eq!(lock.unlock(owner), Ok(()));
            }
        };
        let other = {
            let enter = enter.clone();
            thread::spawn(move || enter(Owner::unique()))
        };
        enter(Owner::unique());
        other.join().unwrap();
        assert!(!lock.is_locked());
    });
}

#[test]
fn all_levels_are_given_back_and_restored() {
    model(|| {
        let lock = Arc::new(RawRLock::new());
        let me = Owner::unique();
        lock.lock(me);
        lock.lock(me);
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                let owner = Owner::unique();
                lock.lock(owner);
                assert_eq!(lock.levels(owner), 1);
                lock.unlock(owner).unwrap();
            })
        };
        let levels = lock.release_all(me).unwrap();
        block_on(lock.restore_async(me, levels));
        assert_eq!(lock.levels(me), 2);
        lock.unlock(me).unwrap();
        lock.unlock(me).unwrap();
        other.join().unwrap();
        assert_eq!(lock.owner(), None);
    });
}

#[test]
fn one_that_gives_up_leaves_it_free() {
    bounded_model(|| {
        let lock = Arc::new(RawRLock::new());
        let me = Owner::unique();
        lock.lock(me);
        let start = |work: fn(&RawRLock, Owner)| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || work(&lock, Owner::unique()))
        };
        let impatient = start(|lock, owner| {
            if poll_and_drop(lock.lock_async(owner)).is_some() {
                lock.unlock(owner).unwrap();
            }
        });
        let patient = start(|lock, owner| {
            block_on(lock.lock_async(owner));
            lock.unlock(owner).unwrap();
        });
        lock.unlock(me).unwrap();
        impatient.join().unwrap();
        patient.join().unwrap();
        assert!(!lock.is_locked());
    });
}

/// Inside a model each of its threads has its own name, although all run on one thread of the system.
#[test]
fn threads_are_owners_of_their_own() {
    model(|| {
        let me = Owner::current_thread();
        let other = thread::spawn(Owner::current_thread).join().unwrap();
        assert_ne!(me, other);
        assert_eq!(me, Owner::current_thread());
    });
}

#[test]
fn typed_guards_of_threads_and_tasks_exclude() {
    model(|| {
        let count = Arc::new(RLock::new(AtomicUsize::new(0)));
        let other = {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                block_on(async {
                    let task = Owner::unique();
                    let outer = count.lock_async(task).await;
                    let inner = count.lock_async(task).await;
                    let before = outer.load(Ordering::Relaxed);
                    inner.store(before + 1, Ordering::Relaxed);
                });
            })
        };
        {
            let outer = count.lock();
            let inner = count.lock();
            let before = outer.load(Ordering::Relaxed);
            inner.store(before + 1, Ordering::Relaxed);
        }
        other.join().unwrap();
        assert_eq!(count.lock().load(Ordering::Relaxed), 2, "one was lost");
    });
}
