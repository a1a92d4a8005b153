//! Models of the queues.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tricorne_sync::{Closed, LifoQueue, PriorityQueue, Queue};

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

/// The consumer that was woken for the first item finds that it was taken; the second is promised to it.
#[test]
fn an_overtaken_consumer_gets_the_next_item() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(2));
        let waiter = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get())
        };
        queue.put(1).unwrap();
        let overtook = queue.try_get();
        queue.put(2).unwrap();
        let got = waiter.join().unwrap().unwrap();
        assert_eq!(overtook.is_ok(), got == 2);
        assert_eq!(queue.len(), usize::from(overtook.is_err()));
    });
}

#[test]
fn two_consumers_one_of_which_leaves_take_what_is_there() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(2));
        let patient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.get().unwrap())
        };
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || poll_and_drop(queue.get_async()).map_or(0, Result::unwrap))
        };
        queue.put_many([1, 2]).unwrap();
        let taken = impatient.join().unwrap() + patient.join().unwrap();
        assert_eq!(taken + queue.close_now().into_iter().sum::<usize>(), 3);
    });
}

/// A batch of two for one place, which stops waiting at any moment: each item is in the queue, taken, or given back.
#[test]
fn a_batch_that_gives_up_keeps_what_is_not_put() {
    model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let impatient = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put_many_timeout([1, 2], Duration::ZERO))
        };
        let taken = queue.try_get();
        let kept = impatient.join().unwrap().err().map_or_else(Vec::new, tricorne_sync::PutError::into_inner);
        let seen: Vec<i32> = taken.into_iter().chain(queue.close_now()).chain(kept).collect();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn a_batch_and_a_producer_share_one_place() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(1));
        let batch = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put_many_weighted([1, 2], |_| 1).unwrap())
        };
        let single = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.put(4).unwrap())
        };
        assert_eq!((0..3).map(|_| queue.get().unwrap()).sum::<i32>(), 7);
        batch.join().unwrap();
        single.join().unwrap();
        assert!(queue.is_empty());
    });
}

#[test]
fn a_join_waits_for_the_last_that_is_done() {
    model(|| {
        let queue = Arc::new(Queue::bounded(2));
        queue.put_many([1, 2]).unwrap();
        let worker = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.get().unwrap();
                queue.task_done().unwrap();
                queue.close_now();
            })
        };
        queue.join();
        assert_eq!(queue.unfinished(), 0);
        worker.join().unwrap();
    });
}

#[test]
fn a_join_that_gives_up_disturbs_nobody() {
    bounded_model(|| {
        let queue = Arc::new(Queue::bounded(1));
        queue.put(1).unwrap();
        let joiners = [
            {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.join())
            },
            {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let _ = poll_and_drop(queue.join_async());
                })
            },
        ];
        queue.get().unwrap();
        queue.task_done().unwrap();
        for joiner in joiners {
            joiner.join().unwrap();
        }
    });
}

/// The other orders share all but the store; one model each shows that they are wired to it.
#[test]
fn the_other_orders_hand_over_too() {
    bounded_model(|| {
        let (newest, least) = (Arc::new(LifoQueue::bounded(1)), Arc::new(PriorityQueue::bounded(1)));
        let producer = {
            let (newest, least) = (Arc::clone(&newest), Arc::clone(&least));
            thread::spawn(move || {
                for number in [2, 1] {
                    newest.put(number).unwrap();
                    least.put(number).unwrap();
                }
            })
        };
        let got = [(); 2].map(|()| (newest.get().unwrap(), least.get().unwrap()));
        assert_eq!(got, [(2, 2), (1, 1)]);
        producer.join().unwrap();
    });
}
