//! Models of `Barrier`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::{Arrival, Barrier, BarrierError};

use crate::{block_on, bounded_model, model, poll_and_drop};

#[test]
fn two_parties_meet_twice() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let arrived = Arc::new(AtomicUsize::new(0));
        let party = {
            let (barrier, arrived) = (Arc::clone(&barrier), Arc::clone(&arrived));
            move || {
                [2, 4].map(|all| {
                    arrived.fetch_add(1, Ordering::Relaxed);
                    let index = barrier.wait().unwrap().index();
                    assert!(arrived.load(Ordering::Relaxed) >= all, "through before all had arrived");
                    index
                })
            }
        };
        let other = thread::spawn(party.clone());
        let (mine, others) = (party(), other.join().unwrap());
        for (mine, other) in mine.into_iter().zip(others) {
            assert_eq!(mine + other, 1);
        }
    });
}

#[test]
fn the_leader_acts_before_it_lets_the_others_through() {
    bounded_model(|| {
        let barrier = Arc::new(Barrier::new(3));
        let acted = Arc::new(AtomicUsize::new(0));
        let party = {
            let (barrier, acted) = (Arc::clone(&barrier), Arc::clone(&acted));
            move || match block_on(barrier.arrive()).unwrap() {
                Arrival::Through(crossing) => {
                    assert_eq!(acted.load(Ordering::Relaxed), 1);
                    crossing.index()
                }
                Arrival::Leads(leader) => {
                    acted.fetch_add(1, Ordering::Relaxed);
                    leader.release().unwrap().index()
                }
            }
        };
        let others = [party.clone(), party.clone()].map(thread::spawn);
        let mut indexes = vec![party()];
        indexes.extend(others.map(|other| other.join().unwrap()));
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2]);
    });
}

#[test]
fn a_time_out_races_with_the_last_to_arrive() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let other = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait_timeout(Duration::ZERO))
        };
        let mine = barrier.wait_timeout(Duration::ZERO);
        let other = other.join().unwrap();
        match (mine, other) {
            (Ok(mine), Ok(other)) => assert_eq!(mine.index() + other.index(), 1),
            (Err(_), Err(_)) => assert!(barrier.is_broken()),
            (mine, other) => panic!("one through, one not: {mine:?} {other:?}"),
        }
    });
}

#[test]
fn a_dropped_arrival_does_not_count() {
    bounded_model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let impatient = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || match poll_and_drop(barrier.arrive()) {
                // It came last and leads: the other waits for it.
                Some(Ok(Arrival::Leads(leader))) => usize::from(leader.release().is_ok()),
                Some(Ok(Arrival::Through(_))) => 1,
                Some(Err(_)) | None => 0,
            })
        };
        let waiter = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || block_on(barrier.arrive()).and_then(Arrival::cross).is_ok())
        };
        let through = impatient.join().unwrap();
        // Whoever waits alone is sent home by the abort; whoever was let through is not.
        barrier.abort();
        let other = waiter.join().unwrap();
        // One that was let through while it gave up counts as having gone through.
        assert!(through == 0 || other, "one went through alone");
    });
}

#[test]
fn a_reset_races_with_a_round() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let other = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.reset())
        };
        let party = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || barrier.wait_timeout(Duration::ZERO))
        };
        let outcome = party.join().unwrap();
        other.join().unwrap();
        assert!(matches!(outcome, Err(BarrierError::TimedOut | BarrierError::Broken)), "{outcome:?}");
    });
}

/// A time-out between the election of a leader and its release: both go through or neither.
#[test]
fn a_time_out_races_with_a_leader_at_work() {
    model(|| {
        let barrier = Arc::new(Barrier::new(2));
        let leader = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || block_on(barrier.arrive()).and_then(Arrival::cross).is_ok())
        };
        let impatient = barrier.wait_timeout(Duration::ZERO).is_ok();
        // One that came too late for the other waits for it in vain.
        barrier.abort();
        assert_eq!(leader.join().unwrap(), impatient, "one went through alone");
    });
}
