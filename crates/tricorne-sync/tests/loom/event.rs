//! Models of `Event`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tricorne_sync::Event;
use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};

use crate::{block_on, bounded_model};

#[test]
fn wakes_all_and_shows_what_came_before() {
    bounded_model(|| {
        let event = Arc::new(Event::new());
        let data = Arc::new(AtomicUsize::new(0));
        let waiter = {
            let (event, data) = (Arc::clone(&event), Arc::clone(&data));
            thread::spawn(move || {
                event.wait();
                assert_eq!(data.load(Ordering::Relaxed), 1);
            })
        };
        let task = {
            let (event, data) = (Arc::clone(&event), Arc::clone(&data));
            thread::spawn(move || {
                block_on(event.wait_async());
                assert_eq!(data.load(Ordering::Relaxed), 1);
            })
        };
        data.store(1, Ordering::Relaxed);
        event.set();
        waiter.join().unwrap();
        task.join().unwrap();
    });
}

#[test]
fn a_waiter_that_gives_up_disturbs_nobody() {
    bounded_model(|| {
        let event = Arc::new(Event::new());
        let patient = {
            let event = Arc::clone(&event);
            thread::spawn(move || event.wait())
        };
        let impatient = {
            let event = Arc::clone(&event);
            thread::spawn(move || event.wait_timeout(Duration::ZERO))
        };
        event.set();
        patient.join().unwrap();
        let _ = impatient.join().unwrap();
    });
}

#[test]
fn who_clears_and_then_looks_misses_nothing() {
    bounded_model(|| {
        let event = Arc::new(Event::new());
        let data = Arc::new(AtomicUsize::new(0));
        event.set();
        let setter = {
            let (event, data) = (Arc::clone(&event), Arc::clone(&data));
            thread::spawn(move || {
                data.store(1, Ordering::Relaxed);
                event.set();
            })
        };
        event.clear();
        if data.load(Ordering::Relaxed) == 0 {
            event.wait();
        }
        assert_eq!(data.load(Ordering::Relaxed), 1);
        setter.join().unwrap();
    });
}
