//! `Event` as its users see it.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::Task;
use tricorne_sync::Event;

/// Longer than any test may take; a wait that should end earlier fails the test, it does not hang it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn an_event_releases_all_who_wait_even_if_cleared_at_once() {
    let event = Event::new();
    let mut tasks = [Task::new(event.wait_async()), Task::new(event.wait_async())];
    assert!(tasks.iter_mut().all(|task| task.poll().is_none()));
    event.set();
    event.clear();
    assert!(tasks.iter_mut().all(|task| task.wakes() == 1 && task.poll().is_some()));
    assert!(!event.is_set());
    assert!(Task::new(event.wait_async()).poll().is_none());
    event.set();
    assert!(Task::new(event.wait_async()).poll().is_some());
}

#[test]
fn waiting_threads_are_released() {
    let event = Event::default();
    thread::scope(|scope| {
        let waiters = [
            scope.spawn(|| event.wait_timeout(LONG)),
            scope.spawn(|| event.wait_deadline(Instant::now() + LONG)),
            scope.spawn(|| {
                event.wait();
                true
            }),
        ];
        event.set();
        assert!(waiters.map(|waiter| waiter.join().unwrap()).iter().all(|&set| set));
    });
}

#[test]
fn event_time_limits() {
    let event = Event::new();
    let limit = Duration::from_millis(5);
    let start = Instant::now();
    assert!(!event.wait_timeout(limit));
    assert!(start.elapsed() >= limit);
    assert!(!event.wait_deadline(start));
    event.set();
    assert!(event.wait_deadline(start) && event.wait_timeout(Duration::ZERO));
}
