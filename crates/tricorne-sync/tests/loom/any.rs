//! Models of waiting for the first of several things.

use std::sync::Arc;
use std::time::Instant;

use loom::thread;
use tricorne_sync::{CancelToken, Event, Queue, wait_any, wait_any_deadline};

use crate::{bounded_model, model};

#[test]
fn a_cancel_and_an_item_race() {
    bounded_model(|| {
        let (token, queue) = (CancelToken::new(), Arc::new(Queue::bounded(1)));
        let canceller = {
            let token = token.clone();
            thread::spawn(move || token.cancel())
        };
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(7).unwrap())
        };
        match wait_any(&[&token, &*queue]) {
            0 => assert!(token.is_cancelled()),
            _ => assert_eq!(queue.try_get(), Ok(7), "nobody else takes it"),
        }
        canceller.join().unwrap();
        producer.join().unwrap();
    });
}

#[test]
fn one_that_gives_up_takes_nothing() {
    model(|| {
        let (event, queue) = (Event::new(), Arc::new(Queue::bounded(1)));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.put(7).unwrap();
                queue.close();
            })
        };
        let _ = wait_any_deadline(&[&event, &*queue], Instant::now());
        assert_eq!(queue.get(), Ok(7));
        producer.join().unwrap();
    });
}

/// A consumer that waits for its turn is served although another one only watches.
#[test]
fn a_watcher_and_a_consumer_are_both_told() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        let watcher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || wait_any(&[&*queue]))
        };
        queue.put(7).unwrap();
        assert_eq!(consumer.join().unwrap(), Ok(7));
        queue.close();
        assert_eq!(watcher.join().unwrap(), 0);
    });
}
