//! Models of `WaitSet`: the raw condition.

use std::sync::Arc;
use std::time::Instant;

use loom::thread;
use tricorne_sync::prim::{Mutex, lock};
use tricorne_sync::raw::WaitSet;

use crate::{bounded_model, model, poll_and_drop};

/// A number of items, and who waits for one.
struct Store {
    items: Mutex<usize>,
    arrived: WaitSet,
}

impl Store {
    fn take(&self) {
        let mut items = lock(&self.items);
        while *items == 0 {
            let mut place = self.arrived.enroll();
            drop(items);
            assert!(place.wait_deadline(None));
            items = lock(&self.items);
        }
        *items -= 1;
    }

    /// Takes an item, or gives up when it is told to wait.
    fn take_or_give_up(&self) -> bool {
        let mut items = lock(&self.items);
        if *items == 0 {
            let mut place = self.arrived.enroll();
            drop(items);
            if !place.wait_deadline(Some(Instant::now())) {
                return false;
            }
            drop(place);
            items = lock(&self.items);
        }
        let there = *items > 0;
        *items -= usize::from(there);
        there
    }
}

#[test]
fn a_notification_after_enrolment_is_not_lost() {
    model(|| {
        let store = Arc::new(Store { items: Mutex::new(0), arrived: WaitSet::new() });
        let consumer = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.take())
        };
        *lock(&store.items) += 1;
        store.arrived.notify(1);
        consumer.join().unwrap();
    });
}

/// Both stand in line before the notification, so that it belongs to exactly one of them.
#[test]
fn one_that_gives_up_passes_the_notification_on() {
    model(|| {
        // Leaked, so that the places can go to other threads.
        let set: &'static WaitSet = Box::leak(Box::new(WaitSet::new()));
        let impatient = set.enroll();
        let mut patient = set.enroll();
        let leaver = thread::spawn(move || poll_and_drop(impatient).is_some());
        let waiter = thread::spawn(move || patient.wait_deadline(Some(Instant::now())));
        let notified = set.notify(1);
        let seen = usize::from(leaver.join().unwrap()) + usize::from(waiter.join().unwrap());
        assert!(seen <= notified, "nobody wakes without a notification");
        assert_eq!(set.waiting(), 0);
    });
}

#[test]
fn a_notification_reaches_the_one_that_stays() {
    bounded_model(|| {
        let set: &'static WaitSet = Box::leak(Box::new(WaitSet::new()));
        let impatient = set.enroll();
        let mut patient = set.enroll();
        let leaver = thread::spawn(move || drop(impatient));
        let waiter = thread::spawn(move || assert!(patient.wait_deadline(None)));
        // One who leaves unseen passes it on, or was gone before: the other gets it in any case.
        assert_eq!(set.notify(1), 1);
        leaver.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn a_time_out_races_with_a_notification() {
    model(|| {
        let store = Arc::new(Store { items: Mutex::new(0), arrived: WaitSet::new() });
        let consumer = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.take_or_give_up())
        };
        *lock(&store.items) += 1;
        store.arrived.notify(1);
        let taken = consumer.join().unwrap();
        assert_eq!(*lock(&store.items), usize::from(!taken));
        assert_eq!(store.arrived.waiting(), 0);
    });
}
