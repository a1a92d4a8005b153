//! Models of the queues.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tricorne_sync::{Closed, Queue};

use crate::{block_on, bounded_model, model, poll_and_drop};

#[test]
fn hands_over_in_order_through_one_place() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.put(1).unwrap();
                block_on(queue.put_async(2)).unwrap();
                queue.close();
            })
        };
        assert_eq!(queue.get(), Ok(1));
        assert_eq!(block_on(queue.get_async()), Ok(2));
        assert_eq!(queue.get(), Err(Closed(())));
        producer.join().unwrap();
    });
}

#[test]
fn two_producers_share_one_place() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producers = [1, 2].map(|item| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(item).unwrap())
        });
        assert_eq!(queue.get().unwrap() + queue.get().unwrap(), 3);
        for producer in producers {
            producer.join().unwrap();
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn the_item_of_a_consumer_that_gives_up_reaches_the_next() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let patient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || poll_and_drop(queue.get_async()))
        };
        queue.put(7).unwrap();
        queue.close();
        let taken = [patient.join().unwrap(), impatient.join().unwrap().unwrap_or(Err(Closed(())))];
        assert_eq!(taken.into_iter().flatten().collect::<Vec<_>>(), [7], "exactly one gets it");
        assert!(queue.is_empty());
    });
}

#[test]
fn time_out_of_a_consumer_races_with_a_put() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get_timeout(Duration::ZERO))
        };
        queue.put(7).unwrap();
        let taken = consumer.join().unwrap();
        assert_eq!(taken.or_else(|_| queue.get()), Ok(7));
    });
}

#[test]
fn a_producer_that_gives_up_keeps_its_item_or_has_put_it() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        queue.put(1).unwrap();
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put_timeout(2, Duration::ZERO))
        };
        let patient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(3).unwrap())
        };
        assert_eq!(queue.get(), Ok(1));
        let kept = impatient.join().unwrap().err().map(tricorne_sync::PutError::into_inner);
        let mut rest = vec![queue.get().unwrap()];
        patient.join().unwrap();
        rest.extend(queue.close_now());
        rest.extend(kept);
        rest.sort_unstable();
        assert_eq!(rest, [2, 3]);
    });
}

#[test]
fn close_now_loses_nothing() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(7))
        };
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        let mut seen = queue.close_now();
        seen.extend(producer.join().unwrap().err().map(|Closed(item)| item));
        seen.extend(consumer.join().unwrap());
        assert_eq!(seen, [7]);
    });
}
