//! Models of `Semaphore`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{BoundedSemaphore, Semaphore, WaitError};

use crate::{block_on, bounded_model, model, poll_and_drop};

#[test]
fn excludes_and_hands_over() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let gauge = Arc::new(AtomicUsize::new(0));
        let enter = {
            let (semaphore, gauge) = (Arc::clone(&semaphore), Arc::clone(&gauge));
            move || {
                let _permit = semaphore.acquire(1).unwrap();
                assert_eq!(gauge.fetch_add(1, Ordering::SeqCst), 0, "two hold one permit");
                gauge.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let other = thread::spawn(enter.clone());
        enter();
        other.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn wakes_a_task_as_well_as_a_thread() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let by_thread = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(semaphore.acquire(1).unwrap()))
        };
        let by_task = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(block_on(semaphore.acquire_async(1)).unwrap()))
        };
        semaphore.add_permits(1);
        by_thread.join().unwrap();
        by_task.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn permits_of_a_waiter_that_gives_up_reach_the_next() {
    bounded_model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let patient = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        let impatient = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(poll_and_drop(semaphore.acquire_async(1))))
        };
        semaphore.add_permits(1);
        impatient.join().unwrap();
        assert_eq!(patient.join().unwrap(), Ok(()), "its wake-up was lost");
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn time_out_races_with_a_release() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire_owned_timeout(1, Duration::ZERO))
        };
        semaphore.add_permits(1);
        let outcome = waiter.join().unwrap();
        assert_eq!(semaphore.available() + usize::from(outcome.is_ok()), 1);
        drop(outcome);
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_large_request_that_gives_up_unblocks_a_small_one() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let large = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire_timeout(2, Duration::ZERO).map(drop))
        };
        let small = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        assert_eq!(large.join().unwrap(), Err(WaitError::TimedOut));
        assert_eq!(small.join().unwrap(), Ok(()));
    });
}

#[test]
fn reduced_while_in_use_serves_only_what_is_left() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let held = semaphore.acquire_owned(2).unwrap();
        let reducer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.reduce_permits(1))
        };
        drop(held);
        drop(semaphore.acquire(1).unwrap());
        reducer.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn close_races_with_a_release() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire(1).map(drop))
        };
        let closer = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.close())
        };
        semaphore.add_permits(1);
        // Either outcome is right; not to come back, or to keep the permit, is not.
        let _ = waiter.join().unwrap();
        closer.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_bounded_one_takes_back_only_what_was_taken() {
    bounded_model(|| {
        let semaphore = Arc::new(BoundedSemaphore::new(1));
        semaphore.acquire(1).unwrap().forget();
        let waiter = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || drop(semaphore.acquire(1).unwrap()))
        };
        let others = {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.release(1).is_ok())
        };
        let mine = semaphore.release(1).is_ok();
        assert!(others.join().unwrap() || mine);
        waiter.join().unwrap();
        assert!(semaphore.available() <= 1, "never more than there were");
    });
}
