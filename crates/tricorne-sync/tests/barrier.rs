//! The barrier: rounds, the leader, and how it breaks.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::Task;
use tricorne_sync::{Arrival, Barrier, BarrierError, BrokenBarrier};

fn index(arrival: Option<Result<Arrival<'_>, BrokenBarrier>>) -> Option<usize> {
    arrival.map(|arrival| arrival.unwrap().cross().unwrap().index())
}

#[test]
fn many_rounds_let_through_whole_groups() {
    const PARTIES: usize = 5;
    const ROUNDS: usize = 300;
    let barrier = Arc::new(Barrier::new(PARTIES));
    let threads = [(); PARTIES].map(|()| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || (0..ROUNDS).map(|_| barrier.wait().unwrap()).collect::<Vec<_>>())
    });
    let seen = threads.map(|thread| thread.join().unwrap());
    for round in 0..ROUNDS {
        let mut indexes = seen.each_ref().map(|crossings| crossings[round].index());
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2, 3, 4]);
        assert_eq!(seen.iter().filter(|crossings| crossings[round].is_leader()).count(), 1);
    }
}

#[test]
fn who_arrives_while_the_leader_acts_waits_for_the_next_round() {
    let barrier = Barrier::new(2);
    let mut first = Task::new(barrier.arrive());
    let mut second = Task::new(barrier.arrive());
    assert!(first.poll().is_none());
    let Some(Ok(Arrival::Leads(leader))) = second.poll() else { panic!("it came last") };
    assert!(first.poll().is_none(), "the leader has not released it");

    let mut next = [(); 3].map(|()| Task::new(barrier.arrive()));
    assert!(next.iter_mut().all(|task| task.poll().is_none()));
    assert_eq!(leader.release().map(|crossing| crossing.index()), Ok(1));
    assert_eq!(index(first.poll()), Some(0));

    // Two of the three are the next round, led by the first of them.
    assert!(next[1].poll().is_none() && next[2].poll().is_none());
    assert_eq!(index(next[0].poll()), Some(1));
    assert_eq!(index(next[1].poll()), Some(0));
    assert!(next[2].poll().is_none());
    assert_eq!(barrier.waiting(), 1);
}

#[test]
fn a_leader_that_does_not_release_breaks_it() {
    let barrier = Barrier::new(2);
    let mut first = Task::new(barrier.arrive());
    assert!(first.poll().is_none());
    let mut second = Task::new(barrier.arrive());
    drop(second.poll().expect("it leads"));
    assert!(matches!(first.poll(), Some(Err(BrokenBarrier))));
    assert_eq!(barrier.wait().err(), Some(BrokenBarrier));
    barrier.reset();
    assert!(!barrier.is_broken());
}

#[test]
fn time_limits_break_it_and_a_reset_mends_it() {
    let barrier = Barrier::new(2);
    let mut waiter = Task::new(barrier.wait_async());
    assert_eq!(waiter.poll(), None);
    barrier.reset();
    assert_eq!(waiter.poll(), Some(Err(BrokenBarrier)), "a reset sends home who waits");

    assert_eq!(barrier.wait_timeout(Duration::ZERO), Err(BarrierError::TimedOut));
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait_timeout(Duration::ZERO), Err(BarrierError::Broken));
    barrier.reset();
    let mut waiter = Task::new(barrier.wait_async());
    assert_eq!(waiter.poll(), None);
    assert_eq!(barrier.wait_timeout(Duration::ZERO).map(|crossing| crossing.index()), Ok(1));
    assert_eq!(waiter.poll().unwrap().map(|crossing| crossing.index()), Ok(0));
}

#[test]
fn an_abort_reaches_the_leader() {
    let barrier = Barrier::new(1);
    let Some(Ok(Arrival::Leads(leader))) = Task::new(barrier.arrive()).poll() else { panic!("alone") };
    barrier.abort();
    assert_eq!(leader.release(), Err(BrokenBarrier));
    barrier.reset();
    assert!(barrier.wait().unwrap().is_leader());
}

#[test]
fn one_that_leaves_does_not_count() {
    let barrier = Barrier::new(2);
    let mut first = Task::new(barrier.arrive());
    assert!(first.poll().is_none());
    drop(first);
    assert_eq!(barrier.waiting(), 0);
    let mut second = Task::new(barrier.arrive());
    assert!(second.poll().is_none());

    // All or none: once all have arrived, leaving breaks it.
    let Some(Ok(Arrival::Leads(leader))) = Task::new(barrier.arrive()).poll() else { panic!("it came last") };
    drop(second);
    assert_eq!(leader.release(), Err(BrokenBarrier));
    assert!(barrier.is_broken());
    barrier.reset();
    let mut third = barrier.arrive();
    assert!(tricorne_sync::block_deadline(&mut third, Some(std::time::Instant::now())).is_none());
    third.abort();
    assert!(barrier.is_broken());
}

#[test]
#[should_panic(expected = "`0` parties")]
fn a_barrier_for_nobody_is_refused() {
    let _ = Barrier::new(0);
}
