//! Models of `Condition`, with both kinds of locks.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::thread;
use tricorne_sync::prim::atomic::{AtomicBool, AtomicUsize, Ordering};
use tricorne_sync::{Condition, Lock, Owner, RLock};

use crate::{block_on, bounded_model, model, model_with_preemptions, poll_and_drop};

struct Store {
    items: Lock<usize>,
    arrived: Condition,
}

/// A store, and a way to start threads that work on it.
#[allow(clippy::type_complexity, reason = "a type of its own would say less")]
fn store() -> (Arc<Store>, impl Fn(fn(&Store) -> usize) -> thread::JoinHandle<usize>) {
    let store = Arc::new(Store { items: Lock::new(0), arrived: Condition::new() });
    let start = {
        let store = Arc::clone(&store);
        move |work: fn(&Store) -> usize| {
            let store = Arc::clone(&store);
            thread::spawn(move || work(&store))
        }
    };
    (store, start)
}

impl Store {
    fn put(&self, count: usize) {
        *self.items.lock() += count;
        self.arrived.notify(count);
    }

    fn take(&self) -> usize {
        let mut items = self.arrived.wait_while(self.items.lock(), |items| **items == 0);
        *items -= 1;
        1
    }

    async fn take_async(&self) -> usize {
        let items = self.items.lock_async().await;
        let mut items = self.arrived.wait_while_async(items, |items| **items == 0).await;
        *items -= 1;
        1
    }
}

#[test]
fn a_thread_and_a_task_are_both_served() {
    bounded_model(|| {
        let (store, start) = store();
        let thread = start(Store::take);
        let task = start(|store| block_on(store.take_async()));
        store.put(2);
        assert_eq!(thread.join().unwrap() + task.join().unwrap(), 2);
        assert_eq!(*store.items.lock(), 0);
    });
}

#[test]
fn one_that_gives_up_costs_nobody_its_notification() {
    bounded_model(|| {
        let (store, start) = store();
        let patient = start(Store::take);
        let impatient = start(|store| poll_and_drop(store.take_async()).unwrap_or(0));
        store.put(1);
        // If the impatient one took the item, one more is needed for the patient one.
        if impatient.join().unwrap() == 1 {
            store.put(1);
        }
        patient.join().unwrap();
    });
}

#[test]
fn a_time_out_races_with_a_notification() {
    model(|| {
        let (store, start) = store();
        let consumer = start(|store| {
            let (mut items, there) =
                store.arrived.wait_while_timeout(store.items.lock(), |items| **items == 0, Duration::ZERO);
            *items -= usize::from(there);
            usize::from(there)
        });
        store.put(1);
        let taken = consumer.join().unwrap();
        assert_eq!(taken + *store.items.lock(), 1);
        assert_eq!(store.arrived.waiting(), 0);
    });
}

#[test]
fn a_wait_gives_back_all_levels_of_a_re_entrant_lock() {
    model(|| {
        let shared = Arc::new((RLock::new(AtomicBool::new(false)), Condition::new()));
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (ready, changed) = &*shared;
                ready.lock().store(true, Ordering::Relaxed);
                changed.notify_all();
            })
        };
        let (ready, changed) = &*shared;
        let outer = ready.lock();
        let inner = changed.wait_while(ready.lock(), |ready| !ready.load(Ordering::Relaxed));
        drop(inner);
        assert!(outer.load(Ordering::Relaxed) && ready.is_locked());
        drop(outer);
        assert!(!ready.is_locked());
        other.join().unwrap();
    });
}

struct SharedStore {
    items: RLock<AtomicUsize>,
    arrived: Condition,
}

impl SharedStore {
    fn put(&self, count: usize) {
        self.items.lock().fetch_add(count, Ordering::Relaxed);
        self.arrived.notify(count);
    }

    async fn take(&self) -> usize {
        let items = self.items.lock_async(Owner::unique()).await;
        let items = self.arrived.wait_while_async(items, |items| items.load(Ordering::Relaxed) == 0).await;
        // Not one step: what excludes others here is the lock.
        let before = items.load(Ordering::Relaxed);
        items.store(before - 1, Ordering::Relaxed);
        1
    }
}

/// Polled once or twice and then dropped, it leaves in each of its states: in line for the lock, for the notification, and for
/// the lock again with the notification in its hands.
fn poll_twice_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut poll = || match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    };
    poll().or_else(|| {
        thread::yield_now();
        poll()
    })
}

#[test]
fn a_task_that_gives_up_with_a_re_entrant_lock_costs_nobody_its_notification() {
    // With three it takes half a minute.
    model_with_preemptions(2, || {
        let store =
            Arc::new(SharedStore { items: RLock::new(AtomicUsize::new(0)), arrived: Condition::new() });
        let start = |work: fn(&SharedStore) -> usize| {
            let store = Arc::clone(&store);
            thread::spawn(move || work(&store))
        };
        let patient = start(|store| block_on(store.take()));
        let impatient = start(|store| poll_twice_and_drop(store.take()).unwrap_or(0));
        store.put(1);
        // If the impatient one took the item, one more is needed for the patient one.
        if impatient.join().unwrap() == 1 {
            store.put(1);
        }
        patient.join().unwrap();
        assert_eq!(store.items.lock().load(Ordering::Relaxed), 0);
        assert_eq!(store.arrived.waiting(), 0);
    });
}

#[test]
fn a_task_that_gives_up_twice_polled_costs_nobody_its_notification() {
    bounded_model(|| {
        let (store, start) = store();
        let patient = start(Store::take);
        let impatient = start(|store| poll_twice_and_drop(store.take_async()).unwrap_or(0));
        store.put(1);
        if impatient.join().unwrap() == 1 {
            store.put(1);
        }
        patient.join().unwrap();
    });
}
