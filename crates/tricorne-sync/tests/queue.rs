//! `Queue` as its users see it, step by step on one thread, then against a model and under load.
#![cfg(not(any(tricorne_loom, tricorne_shuttle)))]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Task, block_on};
use proptest::prelude::*;
use tricorne_sync::{
    Closed, LifoQueue, PriorityQueue, PutError, PutMany, Queue, TooManyDone, TryGetError, WaitError,
};

/// Longer than any test may take; a wait that should end earlier fails the test, it does not hang it.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn first_in_first_out_within_the_bound() {
    let queue = Queue::bounded(2);
    assert_eq!((queue.capacity(), queue.max_weight(), queue.is_empty()), (2, None, true));
    assert_eq!(queue.try_get(), Err(TryGetError::Empty));
    queue.put('a').unwrap();
    queue.try_put('b').unwrap();
    assert_eq!(queue.try_put('c'), Err(PutError::Full('c')));
    assert_eq!(queue.len(), 2);
    assert_eq!((queue.get(), queue.try_get()), (Ok('a'), Ok('b')));
}

#[test]
#[should_panic(expected = "queue capacity is `0`")]
fn a_queue_for_nothing_is_refused() {
    let _ = Queue::<()>::bounded(0);
}

#[test]
fn weight_bounds_too_but_never_keeps_an_item_out_for_ever() {
    let queue = Queue::bounded_weighted(10, 100);
    assert_eq!(queue.max_weight(), Some(100));
    queue.put_weighted("half", 50).unwrap();
    assert_eq!(queue.try_put_weighted("more", 51), Err(PutError::Full("more")));
    assert_eq!(queue.try_put_weighted("huge", u64::MAX), Err(PutError::Full("huge")));
    queue.put_weighted("half", 50).unwrap();
    queue.put("weighs nothing").unwrap();
    assert_eq!((queue.len(), queue.weight()), (3, 100));
    assert_eq!(queue.get_batch(10).unwrap().len(), 3);
    queue.put_weighted("huge", u64::MAX).unwrap();
    assert_eq!(queue.try_put("small"), Err(PutError::Full("small")));
    assert_eq!((queue.get(), queue.weight()), (Ok("huge"), 0));
    assert_eq!(queue.stats().high_water_weight, u64::MAX);
}

#[test]
fn producers_are_served_in_turn_and_their_items_keep_that_order() {
    let queue = Queue::bounded_weighted(4, 10);
    queue.put_weighted(0, 6).unwrap();
    let mut heavy = Task::new(queue.put_weighted_async(1, 8));
    let mut light = Task::new(queue.put_weighted_async(2, 1));
    assert!(heavy.poll().is_none() && light.poll().is_none());
    assert_eq!(queue.try_put(3), Err(PutError::Full(3)), "nobody overtakes");
    assert_eq!(queue.get(), Ok(0));
    assert_eq!((heavy.wakes(), light.wakes(), queue.len()), (1, 1, 2));
    assert_eq!((heavy.poll(), light.poll()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(queue.get_batch(9), Ok(vec![1, 2]));
}

#[test]
fn a_heavy_item_that_gives_up_lets_the_next_pass() {
    let queue = Queue::bounded_weighted(4, 10);
    queue.put_weighted(0, 6).unwrap();
    let mut heavy = Task::new(queue.put_weighted_async(1, 8));
    let mut light = Task::new(queue.put_weighted_async(2, 1));
    assert!(heavy.poll().is_none() && light.poll().is_none());
    drop(heavy);
    assert_eq!((light.wakes(), queue.len()), (1, 2));
    assert_eq!(light.poll(), Some(Ok(())));
}

#[test]
fn a_dropped_get_leaves_the_item_to_the_next_in_its_place() {
    let queue = Queue::bounded(4);
    let mut first = Task::new(queue.get_async());
    let mut second = Task::new(queue.get_async());
    assert!(first.poll().is_none() && second.poll().is_none());
    queue.put('a').unwrap();
    queue.put('b').unwrap();
    assert_eq!((first.wakes(), second.wakes()), (1, 1));
    drop(first);
    assert_eq!(second.poll(), Some(Ok('a')));
    assert_eq!(queue.try_get(), Ok('b'));

    let mut third = Task::new(queue.get_async());
    let mut fourth = Task::new(queue.get_async());
    assert!(third.poll().is_none() && fourth.poll().is_none());
    queue.put('c').unwrap();
    assert_eq!((third.wakes(), fourth.wakes()), (1, 0));
    drop(third);
    assert_eq!((fourth.wakes(), fourth.poll()), (1, Some(Ok('c'))));
}

#[test]
fn a_dropped_put_drops_its_item() {
    let item = Arc::new(());
    let queue = Queue::bounded(1);
    queue.put(Arc::clone(&item)).unwrap();
    let mut task = Task::new(queue.put_async(Arc::clone(&item)));
    assert!(task.poll().is_none());
    assert_eq!(Arc::strong_count(&item), 3);
    drop(task);
    assert_eq!(Arc::strong_count(&item), 2);
    drop(queue.get());
    assert!(queue.is_empty());
}

#[test]
fn a_consumer_is_overtaken_during_one_wake_up_only() {
    let queue = Queue::bounded(4);
    let mut first = Task::new(queue.get_async());
    let mut second = Task::new(queue.get_async());
    assert!(first.poll().is_none() && second.poll().is_none());
    queue.put('a').unwrap();
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert_eq!(queue.try_get(), Ok('a'), "one that runs need not wait for a sleeper");
    assert_eq!(first.poll(), None);

    queue.put('b').unwrap();
    assert_eq!(first.wakes(), 2);
    assert_eq!(queue.try_get(), Err(TryGetError::Empty), "it is promised now");
    queue.put('c').unwrap();
    assert_eq!(second.wakes(), 1);
    assert_eq!(first.poll(), Some(Ok('b')));
    assert_eq!(second.poll(), Some(Ok('c')));
}

#[test]
fn a_batch_leaves_what_is_promised_to_others() {
    let queue = Queue::bounded(8);
    let mut one = Task::new(queue.get_async());
    assert!(one.poll().is_none());
    queue.put(9).unwrap();
    assert_eq!((queue.try_get(), one.poll()), (Ok(9), None));
    let mut many = Task::new(queue.get_batch_async(8));
    assert!(many.poll().is_none());
    for number in 0..4 {
        queue.put(number).unwrap();
    }
    assert_eq!(many.poll(), Some(Ok(vec![0, 1, 2])));
    assert_eq!(queue.try_get_batch(2), Err(TryGetError::Empty));
    assert_eq!(one.poll(), Some(Ok(3)));
    queue.put(4).unwrap();
    queue.put(5).unwrap();
    assert_eq!(queue.get_batch(0), Ok(vec![4]));
    assert_eq!(queue.get_batch_timeout(3, LONG), Ok(vec![5]));
    assert_eq!(queue.get_batch_deadline(3, Instant::now()), Err(WaitError::TimedOut));
}

#[test]
fn many_are_put_in_order_and_come_back_if_it_closes() {
    let queue = Queue::bounded(2);
    thread::scope(|scope| {
        let producer = scope.spawn(|| queue.put_many(0..5));
        assert_eq!((0..5).map(|_| queue.get().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(producer.join().unwrap(), Ok(()));
    });
    let mut producer = Task::new(queue.put_many_async(0..5));
    assert!(producer.poll().is_none());
    assert_eq!((queue.len(), queue.is_full()), (2, true));
    queue.close();
    assert_eq!(producer.poll(), Some(Err(Closed(vec![2, 3, 4]))));
    assert_eq!(queue.put_many([7]), Err(Closed(vec![7])));
    assert_eq!(queue.iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_batch_within_a_time_limit_gives_back_what_was_not_put() {
    let queue = Queue::bounded_weighted(3, 10);
    assert_eq!(queue.try_put_many(0..2), Ok(()));
    assert_eq!(queue.put_many_timeout(2..5, Duration::from_millis(1)), Err(PutError::Full(vec![3, 4])));
    assert_eq!(queue.put_many_deadline(3..5, Instant::now()), Err(PutError::Full(vec![3, 4])));
    assert_eq!(queue.get_batch(9), Ok(vec![0, 1, 2]));
    let weigh = |item: &u64| *item;
    assert_eq!(queue.try_put_many_weighted([4, 5, 2], weigh), Err(PutError::Full(vec![2])));
    assert_eq!(queue.put_many_weighted_timeout([], weigh, Duration::ZERO), Ok(()));
    let limit = Duration::from_millis(1);
    assert_eq!(queue.put_many_weighted_timeout([1, 2, 3], weigh, limit), Err(PutError::Full(vec![2, 3])));
    let past = Instant::now();
    assert_eq!(queue.put_many_weighted_deadline([2], weigh, past), Err(PutError::Full(vec![2])));
    assert_eq!((queue.get_batch(9), queue.weight()), (Ok(vec![4, 5, 1]), 0));
    thread::scope(|scope| {
        let producer = scope.spawn(|| queue.put_many_weighted_timeout([7, 3, 9, 20, 1], weigh, LONG));
        let got: Vec<u64> = (0..5).map(|_| queue.get().unwrap()).collect();
        assert_eq!((got, producer.join().unwrap()), (vec![7, 3, 9, 20, 1], Ok(())));
    });
    queue.close();
    assert_eq!(queue.try_put_many([]), Ok(()));
    assert_eq!(queue.try_put_many([7]), Err(PutError::Closed(vec![7])));
    assert_eq!(queue.put_many_timeout([7], LONG), Err(PutError::Closed(vec![7])));
    assert_eq!(queue.put_many_weighted([7], weigh), Err(Closed(vec![7])));
}

#[test]
fn a_batch_that_waits_is_given_up_in_any_state() {
    let queue = Queue::bounded(1);
    let batch = queue.put_many_async([1]);
    assert_eq!(batch.give_up(), Ok(()), "never polled: one look");
    let mut batch = queue.put_many_async([2, 3, 4]);
    assert!(tricorne_sync::block_deadline(&mut batch, Some(Instant::now())).is_none());
    assert_eq!(format!("{batch:?}"), "PutMany { left: 3, .. }");
    assert_eq!(queue.get(), Ok(1), "which lets the first of them in");
    assert_eq!(batch.give_up(), Err(PutError::Full(vec![3, 4])));
    let mut batch = queue.put_many_async([5, 6]);
    assert!(tricorne_sync::block_deadline(&mut batch, Some(Instant::now())).is_none());
    assert_eq!(queue.close_now(), [2]);
    assert_eq!(batch.give_up(), Err(PutError::Closed(vec![5, 6])));
}

#[test]
fn an_unbounded_queue_is_never_full() {
    let queue = Queue::unbounded();
    queue.put_many(0..10_000).unwrap();
    assert_eq!((queue.len(), queue.capacity(), queue.is_full()), (10_000, usize::MAX, false));
    queue.close();
    assert_eq!(queue.into_iter().sum::<u32>(), 49_995_000);
}

#[test]
fn other_orders() {
    let lifo = LifoQueue::bounded(2);
    lifo.put_many([1, 2]).unwrap();
    let mut third = Task::new(lifo.put_async(3));
    assert!(third.poll().is_none());
    assert_eq!((lifo.get(), lifo.get(), lifo.get()), (Ok(2), Ok(3), Ok(1)));

    let least = PriorityQueue::unbounded();
    least.put_many([(2, 'a'), (1, 'a'), (2, 'b'), (0, 'z')]).unwrap();
    assert_eq!(least.get(), Ok((0, 'z')));
    assert_eq!(least.get_batch(2), Ok(vec![(1, 'a'), (2, 'a')]));
    assert_eq!(least.close_now(), [(2, 'b')]);
}

/// Items that compare equal although they differ.
#[test]
fn of_equal_items_the_oldest_comes_first() {
    #[derive(Debug)]
    struct Job(u8, usize);
    impl PartialEq for Job {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Job {}
    impl PartialOrd for Job {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Job {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.0.cmp(&other.0)
        }
    }
    let queue = PriorityQueue::unbounded();
    for number in 0..50 {
        queue.put(Job(u8::from(number % 2 == 0), number)).unwrap();
    }
    queue.close();
    let numbers: Vec<usize> = queue.iter().map(|job| job.1).collect();
    let expected: Vec<usize> = (0..50).filter(|n| n % 2 == 1).chain((0..50).filter(|n| n % 2 == 0)).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn join_waits_for_what_is_not_done() {
    let queue = Queue::bounded(4);
    queue.join();
    assert_eq!(queue.task_done(), Err(TooManyDone));
    queue.put_many([1, 2, 3]).unwrap();
    let mut join = Task::new(queue.join_async());
    assert_eq!((join.poll(), queue.unfinished()), (None, 3));
    assert!(!queue.join_timeout(Duration::from_millis(1)));

    queue.get().unwrap();
    queue.task_done().unwrap();
    assert_eq!((join.wakes(), queue.unfinished()), (0, 2));
    // One is taken and not done, one is still in the queue: that one counts as done when it is taken out.
    queue.get().unwrap();
    assert_eq!(queue.close_now(), [3]);
    assert_eq!((join.poll(), queue.unfinished()), (None, 1));
    assert!(!queue.join_deadline(Instant::now()));
    queue.task_done().unwrap();
    assert_eq!((join.wakes(), join.poll()), (1, Some(())));
    assert_eq!(queue.task_done(), Err(TooManyDone));
    queue.join();

    let idle = Queue::<u8>::bounded(1);
    idle.put(1).unwrap();
    let mut join = Task::new(idle.join_async());
    assert!(join.poll().is_none());
    idle.close_now();
    assert_eq!(join.poll(), Some(()), "everything was taken out");
}

#[test]
fn a_producer_that_gives_up_has_its_item_back() {
    let queue = Queue::bounded(1);
    queue.put(1).unwrap();
    let mut put = queue.put_async(2);
    assert!(tricorne_sync::block_deadline(&mut put, Some(Instant::now())).is_none());
    assert_eq!(put.give_up(), Err(PutError::Full(2)));
    let mut put = queue.put_async(3);
    assert!(tricorne_sync::block_deadline(&mut put, Some(Instant::now())).is_none());
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(put.give_up(), Ok(()), "it was let in meanwhile");
    assert_eq!(queue.get(), Ok(3));
}

#[test]
fn time_limits() {
    let queue = Queue::bounded(1);
    let past = Instant::now();
    let limit = Duration::from_millis(5);
    queue.put_deadline(1, past).expect("room needs no time");
    assert_eq!(queue.put_deadline(2, past), Err(PutError::Full(2)));
    assert_eq!(queue.put_weighted_deadline(2, 1, past), Err(PutError::Full(2)));
    assert_eq!(queue.put_timeout(2, limit), Err(PutError::Full(2)));
    assert_eq!(queue.put_weighted_timeout(2, 1, limit).unwrap_err().into_inner(), 2);
    assert_eq!(queue.get_deadline(past), Ok(1));
    assert_eq!(queue.get_deadline(past), Err(WaitError::TimedOut));
    assert_eq!(queue.get_timeout(limit), Err(WaitError::TimedOut));
    let stats = queue.stats();
    assert!(stats.put_wait >= 2 * limit && stats.get_wait >= limit, "{stats:?}");
    assert_eq!((stats.puts, stats.gets, stats.high_water_items), (1, 1, 1));
}

#[test]
fn closing_drains() {
    let queue = Queue::bounded(2);
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let mut producer = Task::new(queue.put_async(3));
    assert!(producer.poll().is_none());
    queue.close();
    assert_eq!((producer.wakes(), producer.poll()), (1, Some(Err(Closed(3)))));
    assert_eq!(queue.put(4), Err(Closed(4)));
    assert!(queue.try_put(4).unwrap_err().is_closed());
    assert_eq!((queue.get(), queue.get_timeout(LONG)), (Ok(1), Ok(2)));
    assert_eq!(queue.get(), Err(Closed(())));
    assert_eq!(queue.try_get(), Err(TryGetError::Closed));
    assert_eq!(queue.get_timeout(LONG), Err(WaitError::Closed));
    assert_eq!(queue.get_batch(3), Err(Closed(())));
    assert!(queue.is_closed());
}

#[test]
fn closing_now_hands_back_what_is_left() {
    let queue = Queue::bounded_weighted(2, 9);
    let mut consumer = Task::new(queue.get_async());
    assert!(consumer.poll().is_none());
    queue.put_weighted(1, 4).unwrap();
    queue.put_weighted(2, 5).unwrap();
    let mut producer = Task::new(queue.put_async(3));
    assert!(producer.poll().is_none());
    assert_eq!(queue.close_now(), [1, 2]);
    assert_eq!(producer.poll(), Some(Err(Closed(3))));
    assert_eq!(consumer.poll(), Some(Err(Closed(()))));
    assert_eq!((queue.len(), queue.weight(), queue.close_now()), (0, 0, vec![]));
}

#[test]
fn a_consumer_is_not_told_closed_while_a_promised_item_may_still_come_back() {
    let queue = Queue::bounded(2);
    let mut first = Task::new(queue.get_async());
    let mut second = Task::new(queue.get_async());
    assert!(first.poll().is_none() && second.poll().is_none());
    queue.put('a').unwrap();
    queue.close();
    assert_eq!(second.poll(), None);
    drop(first);
    assert_eq!((second.wakes(), second.poll()), (1, Some(Ok('a'))));
}

#[test]
fn consumers_that_wait_are_woken_when_it_closes() {
    let queue = Queue::<u8>::bounded(1);
    let mut task = Task::new(queue.get_async());
    assert!(task.poll().is_none());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| queue.get_timeout(LONG));
        queue.close();
        assert_eq!(waiter.join().unwrap(), Err(WaitError::Closed));
    });
    assert_eq!((task.wakes(), task.poll()), (1, Some(Err(Closed(())))));
}

#[test]
fn futures_can_cross_threads_and_errors_need_no_printable_items() {
    struct Opaque;
    fn is_send<T: Send>(_: &T) {}
    let queue = Queue::bounded(1);
    is_send(&queue);
    is_send(&queue.get_async());
    is_send(&queue.put_async(Opaque));
    assert!(queue.try_put(Opaque).is_ok());
    let error = queue.try_put(Opaque).unwrap_err();
    assert_eq!((error.to_string(), format!("{error:?}")), ("the queue is full".into(), "Full(..)".into()));
    queue.close();
    assert_eq!(format!("{:?}", queue.put(Opaque)), "Err(Closed(..))");
}

/// One step of the property test. Numbers that choose among what there is are taken modulo its count.
#[derive(Debug, Clone)]
enum Step {
    TryPut(u64),
    StartPut(u64),
    TryGet,
    StartGet,
    StartBatch(usize),
    /// The weights of the items.
    TryPutMany(Vec<u64>),
    StartPutMany(Vec<u64>),
    PollPut(usize),
    PollGet(usize),
    CancelPut(usize),
    CancelGet(usize),
    PollPutMany(usize),
    GiveUpPutMany(usize),
    CancelPutMany(usize),
    Close,
    CloseNow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u64).prop_map(Step::TryPut),
        6 => (0..8_u64).prop_map(Step::StartPut),
        6 => Just(Step::TryGet),
        6 => Just(Step::StartGet),
        2 => (0..4_usize).prop_map(Step::StartBatch),
        6 => any::<usize>().prop_map(Step::PollPut),
        6 => any::<usize>().prop_map(Step::PollGet),
        3 => any::<usize>().prop_map(Step::CancelPut),
        3 => any::<usize>().prop_map(Step::CancelGet),
        2 => prop::collection::vec(0..5_u64, 0..4).prop_map(Step::TryPutMany),
        3 => prop::collection::vec(0..8_u64, 0..6).prop_map(Step::StartPutMany),
        5 => any::<usize>().prop_map(Step::PollPutMany),
        1 => any::<usize>().prop_map(Step::GiveUpPutMany),
        1 => any::<usize>().prop_map(Step::CancelPutMany),
        1 => Just(Step::Close),
        1 => Just(Step::CloseNow),
    ]
}

/// The specification. An item is its number and weight; producers and consumers have names.
#[derive(Default)]
struct Model {
    capacity: usize,
    max_weight: u64,
    items: VecDeque<(usize, u64)>,
    closed: bool,
    producers: VecDeque<(usize, u64)>,
    accepted: Vec<usize>,
    /// In the order of their names, which is that of their coming.
    asleep: Vec<Consumer>,
    nudged: Vec<Consumer>,
    promised: Vec<Consumer>,
    /// How often each consumer was woken.
    woken: BTreeMap<usize, usize>,
}

#[derive(Clone, Copy)]
struct Consumer {
    name: usize,
    /// How many it takes.
    max: usize,
    insists: bool,
    /// It was woken to see that nothing will come any more.
    told: bool,
}

/// A producer of several items: what it has not put yet.
struct Batch {
    items: VecDeque<(usize, u64)>,
    /// The first of them is in line.
    in_line: bool,
}

impl Batch {
    /// Items are numbered in hundreds by the step that brought them.
    fn new(name: usize, weights: &[u64]) -> Self {
        let items = weights.iter().enumerate().map(|(at, &weight)| (name * 100 + at, weight)).collect();
        Self { items, in_line: false }
    }

    fn numbers(&self) -> Vec<usize> {
        self.items.iter().map(|item| item.0).collect()
    }
}

/// The weights of a batch by the numbers of its items.
fn weigh(weights: Vec<u64>) -> impl Fn(&usize) -> u64 {
    move |number| weights[number % 100]
}

impl Model {
    fn weight(&self) -> u64 {
        self.items.iter().map(|item| item.1).sum()
    }

    fn has_room(&self, weight: u64) -> bool {
        let fits = self.items.len() < self.capacity && self.weight() + weight <= self.max_weight;
        self.items.is_empty() || fits
    }

    fn unclaimed(&self) -> usize {
        self.items.len().saturating_sub(self.promised.len())
    }

    fn is_finished(&self) -> bool {
        self.closed && self.items.is_empty()
    }

    fn settle(&mut self) {
        while let Some(&item) = self.producers.front()
            && self.has_room(item.1)
            && !self.closed
        {
            self.producers.pop_front();
            self.items.push_back(item);
            self.accepted.push(item.0);
        }
        while let Some(&first) = self.asleep.first()
            && self.unclaimed() > if first.insists { 0 } else { self.nudged.len() }
        {
            self.asleep.remove(0);
            *self.woken.entry(first.name).or_default() += 1;
            if first.insists { &mut self.promised } else { &mut self.nudged }.push(first);
        }
        if self.is_finished() {
            for consumer in self.asleep.iter_mut().filter(|consumer| !consumer.told) {
                consumer.told = true;
                *self.woken.entry(consumer.name).or_default() += 1;
            }
        }
    }

    fn try_put(&mut self, number: usize, weight: u64) -> Result<(), PutError<usize>> {
        if self.closed {
            Err(PutError::Closed(number))
        } else if self.producers.is_empty() && self.has_room(weight) {
            self.items.push_back((number, weight));
            self.settle();
            Ok(())
        } else {
            Err(PutError::Full(number))
        }
    }

    fn try_get(&mut self, max: usize) -> Result<Vec<usize>, TryGetError> {
        let free = self.unclaimed().min(max.max(1));
        if free > 0 {
            let taken = self.items.drain(..free).map(|item| item.0).collect();
            self.settle();
            Ok(taken)
        } else if self.is_finished() {
            Err(TryGetError::Closed)
        } else {
            Err(TryGetError::Empty)
        }
    }

    /// Puts what fits of the first of `batch`.
    fn put_what_fits(&mut self, batch: &mut VecDeque<(usize, u64)>) {
        while let Some(&item) = batch.front()
            && !self.closed
            && self.producers.is_empty()
            && self.has_room(item.1)
        {
            batch.pop_front();
            self.items.push_back(item);
        }
        self.settle();
    }

    /// `None`: goes on waiting, with the first of `batch` in line.
    fn poll_put_many(&mut self, batch: &mut Batch) -> Option<Result<(), Closed<Vec<usize>>>> {
        loop {
            if let Some(&(number, _)) = batch.items.front()
                && batch.in_line
            {
                batch.in_line = false;
                match self.poll_put(number) {
                    Some(Ok(())) => batch.items.pop_front(),
                    Some(Err(_)) => return Some(Err(Closed(batch.numbers()))),
                    None => {
                        batch.in_line = true;
                        return None;
                    }
                };
            }
            self.put_what_fits(&mut batch.items);
            let Some(&next) = batch.items.front() else { return Some(Ok(())) };
            if self.closed {
                return Some(Err(Closed(batch.numbers())));
            }
            self.producers.push_back(next);
            batch.in_line = true;
        }
    }

    fn give_up_put_many(&mut self, mut batch: Batch) -> Result<(), PutError<Vec<usize>>> {
        if let Some(&(number, _)) = batch.items.front()
            && batch.in_line
        {
            let accepted = self.accepted.contains(&number);
            let closed = self.closed;
            self.cancel(number);
            if !accepted {
                let numbers = batch.numbers();
                return Err(if closed { PutError::Closed(numbers) } else { PutError::Full(numbers) });
            }
            batch.items.pop_front();
        }
        self.put_what_fits(&mut batch.items);
        match batch.numbers() {
            rest if rest.is_empty() => Ok(()),
            rest if self.closed => Err(PutError::Closed(rest)),
            rest => Err(PutError::Full(rest)),
        }
    }

    /// `None`: goes on waiting.
    fn poll_put(&mut self, number: usize) -> Option<Result<(), Closed<usize>>> {
        if let Some(at) = self.accepted.iter().position(|&accepted| accepted == number) {
            self.accepted.remove(at);
            Some(Ok(()))
        } else if self.closed {
            self.producers.retain(|item| item.0 != number);
            Some(Err(Closed(number)))
        } else {
            None
        }
    }

    fn poll_get(&mut self, name: usize) -> Option<Result<Vec<usize>, Closed>> {
        let find = |list: &[Consumer]| list.iter().position(|consumer| consumer.name == name);
        if let Some(at) = find(&self.promised) {
            let consumer = self.promised.remove(at);
            return Some(self.try_get(consumer.max).map_err(|_| Closed(())));
        }
        if self.is_finished() {
            self.asleep.retain(|consumer| consumer.name != name);
            self.nudged.retain(|consumer| consumer.name != name);
            return Some(Err(Closed(())));
        }
        let mut consumer = self.nudged.remove(find(&self.nudged)?);
        if self.unclaimed() > 0 {
            return Some(self.try_get(consumer.max).map_err(|_| Closed(())));
        }
        consumer.insists = true;
        self.asleep.push(consumer);
        self.asleep.sort_by_key(|consumer| consumer.name);
        None
    }

    fn cancel(&mut self, name: usize) {
        self.producers.retain(|item| item.0 != name);
        self.accepted.retain(|&accepted| accepted != name);
        for list in [&mut self.asleep, &mut self.nudged, &mut self.promised] {
            list.retain(|consumer| consumer.name != name);
        }
        self.settle();
    }
}

type PutTask<'a> = Task<'a, Result<(), Closed<usize>>>;
type GetTask<'a> = Task<'a, Result<Vec<usize>, Closed>>;

proptest! {
    #[test]
    fn it_behaves_like_the_model(
        capacity in 1..4_usize,
        max_weight in 0..8_u64,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let queue = Queue::bounded_weighted(capacity, max_weight);
        let mut model = Model { capacity, max_weight, ..Model::default() };
        let mut puts: Vec<(usize, PutTask<'_>)> = Vec::new();
        let mut gets: Vec<(usize, GetTask<'_>)> = Vec::new();
        let mut batches: Vec<(Batch, PutMany<'_, usize>)> = Vec::new();
        let poll = |batch: &mut PutMany<'_, usize>| match Pin::new(batch).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        };
        for (step_number, step) in steps.into_iter().enumerate() {
            let name = 100 * step_number;
            match step {
                Step::TryPut(weight) => {
                    prop_assert_eq!(queue.try_put_weighted(name, weight), model.try_put(name, weight));
                }
                Step::StartPut(weight) => {
                    let mut task = Task::new(queue.put_weighted_async(name, weight));
                    let real = task.poll();
                    match model.try_put(name, weight) {
                        Ok(()) => prop_assert_eq!(real, Some(Ok(()))),
                        Err(PutError::Closed(_)) => prop_assert_eq!(real, Some(Err(Closed(name)))),
                        Err(PutError::Full(_)) => {
                            prop_assert_eq!(real, None);
                            model.producers.push_back((name, weight));
                            puts.push((name, task));
                        }
                    }
                }
                Step::TryGet => {
                    prop_assert_eq!(queue.try_get().map(|item| vec![item]), model.try_get(1));
                }
                Step::StartGet | Step::StartBatch(_) => {
                    let (max, mut task) = match step {
                        Step::StartBatch(max) => (max, Task::new(queue.get_batch_async(max))),
                        _ => (1, Task::new(async { queue.get_async().await.map(|item| vec![item]) })),
                    };
                    let real = task.poll();
                    match model.try_get(max) {
                        Ok(taken) => prop_assert_eq!(real, Some(Ok(taken))),
                        Err(TryGetError::Closed) => prop_assert_eq!(real, Some(Err(Closed(())))),
                        Err(TryGetError::Empty) => {
                            prop_assert_eq!(real, None);
                            model.asleep.push(Consumer { name, max, insists: false, told: false });
                            gets.push((name, task));
                        }
                    }
                }
                Step::PollPut(choice) if !puts.is_empty() => {
                    let at = choice % puts.len();
                    let real = puts[at].1.poll();
                    prop_assert_eq!(real, model.poll_put(puts[at].0));
                    if real.is_some() {
                        puts.remove(at);
                    }
                }
                Step::PollGet(choice) if !gets.is_empty() => {
                    let at = choice % gets.len();
                    let real = gets[at].1.poll();
                    let finished = real.is_some();
                    prop_assert_eq!(real, model.poll_get(gets[at].0));
                    if finished {
                        gets.remove(at);
                    }
                }
                Step::CancelPut(choice) if !puts.is_empty() => {
                    let (name, task) = puts.remove(choice % puts.len());
                    drop(task);
                    model.cancel(name);
                }
                Step::CancelGet(choice) if !gets.is_empty() => {
                    let (name, task) = gets.remove(choice % gets.len());
                    drop(task);
                    model.cancel(name);
                }
                Step::TryPutMany(weights) => {
                    let batch = Batch::new(step_number, &weights);
                    let real = queue.try_put_many_weighted(batch.numbers(), weigh(weights));
                    prop_assert_eq!(real, model.give_up_put_many(batch));
                }
                Step::StartPutMany(weights) => {
                    let mut batch = Batch::new(step_number, &weights);
                    let mut task = queue.put_many_weighted_async(batch.numbers(), weigh(weights));
                    let real = poll(&mut task);
                    prop_assert_eq!(&real, &model.poll_put_many(&mut batch));
                    if real.is_none() {
                        batches.push((batch, task));
                    }
                }
                Step::PollPutMany(choice) if !batches.is_empty() => {
                    let at = choice % batches.len();
                    let (batch, task) = &mut batches[at];
                    let real = poll(task);
                    let finished = real.is_some();
                    prop_assert_eq!(real, model.poll_put_many(batch));
                    if finished {
                        drop(batches.remove(at));
                    }
                }
                Step::GiveUpPutMany(choice) if !batches.is_empty() => {
                    let (batch, task) = batches.remove(choice % batches.len());
                    prop_assert_eq!(task.give_up(), model.give_up_put_many(batch));
                }
                Step::CancelPutMany(choice) if !batches.is_empty() => {
                    let (batch, task) = batches.remove(choice % batches.len());
                    drop(task);
                    model.cancel(batch.items[0].0);
                }
                Step::Close => {
                    queue.close();
                    model.closed = true;
                    model.settle();
                }
                Step::CloseNow => {
                    let left: Vec<usize> = model.items.drain(..).map(|item| item.0).collect();
                    prop_assert_eq!(queue.close_now(), left);
                    model.closed = true;
                    model.settle();
                }
                Step::PollPut(_) | Step::PollGet(_) | Step::CancelPut(_) | Step::CancelGet(_) => {}
                Step::PollPutMany(_) | Step::GiveUpPutMany(_) | Step::CancelPutMany(_) => {}
            }
            prop_assert_eq!((queue.len(), queue.weight()), (model.items.len(), model.weight()));
            for (name, task) in &puts {
                let due = model.closed || model.accepted.contains(name);
                prop_assert_eq!(task.wakes() > 0, due, "who is served is woken, and nobody else");
            }
            for (name, task) in &gets {
                let due = model.woken.get(name).copied().unwrap_or_default();
                prop_assert_eq!(task.wakes(), due, "who is served is woken, and nobody else");
            }
        }
    }
}

#[test]
fn under_load_every_item_arrives_once_and_the_bound_holds() {
    const CAPACITY: usize = 4;
    const MAX_WEIGHT: u64 = 10;
    let each = 3_000_u64;
    let queue = Queue::bounded_weighted(CAPACITY, MAX_WEIGHT);
    let sum = AtomicU64::new(0);
    let count = AtomicUsize::new(0);
    let take = |item: u64| {
        sum.fetch_add(item, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        let consumers = [
            scope.spawn(|| {
                while let Ok(item) = queue.get() {
                    take(item);
                }
            }),
            scope.spawn(|| {
                while let Ok(items) = block_on(queue.get_batch_async(3)) {
                    items.into_iter().for_each(take);
                }
            }),
            scope.spawn(|| {
                loop {
                    match queue.get_timeout(Duration::from_micros(20)) {
                        Ok(item) => take(item),
                        Err(WaitError::Closed) => break,
                        // Goes in line and leaves it again.
                        Err(WaitError::TimedOut) => {
                            if let Some(Ok(item)) = Task::new(queue.get_async()).poll() {
                                take(item);
                            }
                        }
                    }
                }
            }),
        ];
        let producers = [
            scope.spawn(|| (0..each).for_each(|item| queue.put_weighted(item, item % 7).unwrap())),
            scope.spawn(|| {
                for item in 0..each {
                    block_on(queue.put_weighted_async(item, item % 5)).unwrap();
                }
            }),
            scope.spawn(|| {
                for mut item in 0..each {
                    while let Err(error) = queue.put_weighted_timeout(item, 1, Duration::from_micros(20)) {
                        item = error.into_inner();
                    }
                }
            }),
        ];
        for producer in producers {
            producer.join().unwrap();
        }
        queue.close();
        for consumer in consumers {
            consumer.join().unwrap();
        }
    });
    let stats = queue.stats();
    assert_eq!((count.into_inner() as u64, sum.into_inner()), (3 * each, 3 * (each * (each - 1) / 2)));
    assert_eq!((stats.puts, stats.gets, stats.len, stats.weight), (3 * each, 3 * each, 0, 0));
    assert!(stats.high_water_items <= CAPACITY && stats.high_water_weight <= MAX_WEIGHT, "{stats:?}");
}
