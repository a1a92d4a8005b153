//! Queues between threads and tasks: the edges of a pipeline, and their back-pressure.
//!
//! Use one wherever work is handed from some threads or tasks to others. [`Queue`] hands out the oldest item first,
//! [`LifoQueue`] the newest, [`PriorityQueue`] the smallest; all else they share, as they are one type with three
//! [orders](Order).
//!
//! ```
//! use tricorne_sync::{LifoQueue, PriorityQueue, Queue};
//!
//! let (first, last, least) = (Queue::bounded(3), LifoQueue::bounded(3), PriorityQueue::bounded(3));
//! for number in [2, 3, 1] {
//!     first.try_put(number).unwrap();
//!     last.try_put(number).unwrap();
//!     least.try_put(number).unwrap();
//! }
//! assert_eq!((first.get(), last.get(), least.get()), (Ok(2), Ok(1), Ok(1)));
//! ```

mod batch;
mod operations;
mod order;
mod state;

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

pub use batch::PutMany;
pub use operations::{Get, GetBatch, Joining, Put};
pub(crate) use operations::{Join, PutOne, Take, UntilReady};
pub use order::{Fifo, Lifo, Order, Priority};
use order::{Item, Store as _};
use state::State;

use crate::error::{Closed, PutError, TryGetError, WaitError};
use crate::prim::{Mutex, MutexGuard, lock};
use crate::wait::{self, Primitive, Wait, deadline_after, update};

/// Hands items from any number of producers to any number of consumers, oldest first, and makes producers wait when it
/// is full. Everything it does is described at [`OrderedQueue`].
pub type Queue<T> = OrderedQueue<T, Fifo>;

/// A [queue](OrderedQueue) that hands out the newest item first: what was put last is done next.
pub type LifoQueue<T> = OrderedQueue<T, Lifo>;

/// A [queue](OrderedQueue) that hands out the smallest item first, and of equal ones the oldest. Wrap items in
/// [`Reverse`](std::cmp::Reverse) for the greatest first.
///
/// Items are compared under the queue's lock: their `Ord` should be quick, and must not use the queue.
pub type PriorityQueue<T> = OrderedQueue<T, Priority>;

/// Hands items from any number of producers to any number of consumers, and makes producers wait when it is full.
///
/// It is bounded by the number of items, and also by their total weight (say, bytes) if made with
/// [`bounded_weighted`](Self::bounded_weighted). An item that alone weighs more than the bound is let in when the queue
/// is empty, so that it can pass at all. Share it behind an `Arc` or a scope.
///
/// # Closing
///
/// [`close`](Self::close) ends the putting; what is in the queue is still handed out, and then the consumers get
/// [`Closed`]. [`close_now`](Self::close_now) also takes out what is left. Producers that wait get their item back.
///
/// # Counting what is done
///
/// A consumer that calls [`task_done`](Self::task_done) for each item it has finished lets others [`join`](Self::join):
/// wait until everything that was put is done. Items that `close_now` takes out count as done.
///
/// # Fairness
///
/// Items come out in the queue's order; for the order of age that is the order in which the calls that put them came.
/// Producers are served in the order in which they came, and nobody overtakes them.
///
/// Consumers are served in that order too, but one that runs may take an item while the one that was woken for it is still
/// waking up: as long as there is something to do, nobody waits for a sleeper. Who was woken and found nothing is promised
/// the next item, or with `n` such consumers before it the item `n + 1`, and that one nobody else can take. So a consumer
/// is overtaken during one wake-up and no longer.
///
/// # Memory ordering
///
/// What came before a put is visible to whoever gets the item.
///
/// # Cancel safety
///
/// No item is ever lost with a consumer that gives up: the item that was meant for it stays in the queue, in its
/// place, for the next. A producer that times out gets back what it has not put; with a dropped `put_async` or
/// `put_many_async` future that is dropped, unless [`Put::give_up`] or [`PutMany::give_up`] takes it out before.
///
/// A consumer that was woken for an item, or promised one, takes it when its future is polled again. So do not keep a
/// `get_async` future alive without polling it: nobody else is woken for that item.
///
/// # Examples
///
/// ```
/// use std::thread;
/// use tricorne_sync::Queue;
///
/// let queue = Queue::bounded(4);
/// let total: u32 = thread::scope(|scope| {
///     scope.spawn(|| {
///         for number in 1..=100 {
///             queue.put(number).expect("only this thread closes it");
///         }
///         queue.close();
///     });
///     queue.iter().sum()
/// });
/// assert_eq!(total, 5050);
/// ```
pub struct OrderedQueue<T, O: Order<T>> {
    state: Mutex<State<T, O>>,
    capacity: Option<usize>,
    max_weight: Option<u64>,
}

/// What a queue holds and has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Items in the queue now.
    pub len: usize,
    /// Total weight of the items in the queue now.
    pub weight: u64,
    /// Items that went in.
    pub puts: u64,
    /// Items that consumers took out.
    pub gets: u64,
    /// Items that went in and are not done.
    pub unfinished: u64,
    /// How often a producer had to wait for room.
    pub put_waits: u64,
    /// Total time that producers spent waiting for room (blocked), those that wait now included.
    pub put_wait: Duration,
    /// How often a consumer had to wait for an item.
    pub get_waits: u64,
    /// Total time that consumers spent waiting for items (starved), those that wait now included.
    pub get_wait: Duration,
    /// The most items that were in the queue at once.
    pub high_water_items: usize,
    /// The greatest weight that was in the queue at once.
    pub high_water_weight: u64,
}

/// More items were reported done than were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyDone;

impl fmt::Display for TooManyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more items reported done than were put")
    }
}

impl Error for TooManyDone {}

impl<T, O: Order<T>> OrderedQueue<T, O> {
    /// A queue for at most `capacity` items.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: such a queue could never hold an item.
    pub fn bounded(capacity: usize) -> Self {
        assert!(capacity > 0, "queue capacity is `0`");
        Self::with_bounds(Some(capacity), None)
    }

    /// A queue for at most `capacity` items that together weigh at most `max_weight`.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: such a queue could never hold an item.
    pub fn bounded_weighted(capacity: usize, max_weight: u64) -> Self {
        assert!(capacity > 0, "queue capacity is `0`");
        Self::with_bounds(Some(capacity), Some(max_weight))
    }

    /// A queue for any number of items: its producers never wait, so nothing but memory holds them back.
    pub fn unbounded() -> Self {
        Self::with_bounds(None, None)
    }

    fn with_bounds(capacity: Option<usize>, max_weight: Option<u64>) -> Self {
        Self { state: Mutex::new(State::new(capacity, max_weight)), capacity, max_weight }
    }

    /// Puts an item that weighs nothing, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    #[inline]
    pub fn put(&self, item: T) -> Result<(), Closed<T>> {
        self.put_weighted(item, 0)
    }

    /// Puts an item of the given weight, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    #[inline]
    pub fn put_weighted(&self, item: T, weight: u64) -> Result<(), Closed<T>> {
        self.put_now(item, weight).unwrap_or_else(|put| wait::block(self, put))
    }

    /// Puts an item that weighs nothing if there is room now and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: full, or closed.
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.try_put_weighted(item, 0)
    }

    /// Puts an item of the given weight if there is room now and nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: full, or closed.
    pub fn try_put_weighted(&self, item: T, weight: u64) -> Result<(), PutError<T>> {
        PutOne::outcome(self.put_now(item, weight))
    }

    /// [`put`](Self::put), waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: still full after `timeout`, or closed.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_weighted_timeout(item, 0, timeout)
    }

    /// [`put_weighted`](Self::put_weighted), waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: still full after `timeout`, or closed.
    pub fn put_weighted_timeout(&self, item: T, weight: u64, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, weight, || deadline_after(timeout))
    }

    /// [`put`](Self::put), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: still full at the deadline, or closed.
    pub fn put_deadline(&self, item: T, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_weighted_deadline(item, 0, deadline)
    }

    /// [`put_weighted`](Self::put_weighted), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: still full at the deadline, or closed.
    pub fn put_weighted_deadline(&self, item: T, weight: u64, deadline: Instant) -> Result<(), PutError<T>> {
        self.put_until(item, weight, || Some(deadline))
    }

    /// [`put`](Self::put) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put_async(&self, item: T) -> Put<'_, T, O> {
        self.put_weighted_async(item, 0)
    }

    /// [`put_weighted`](Self::put_weighted) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put_weighted_async(&self, item: T, weight: u64) -> Put<'_, T, O> {
        Put(Wait::new(self, PutOne::new(item, weight)))
    }

    /// Takes the next item, waiting for one.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    #[inline]
    pub fn get(&self) -> Result<T, Closed> {
        self.get_now().unwrap_or_else(|take| wait::block(self, take))
    }

    /// Takes the next item that is not promised to somebody who came before.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`] if there is none, or what there is is promised; [`TryGetError::Closed`] if there will be none
    /// any more. A closed queue is not finished before what was promised has been taken.
    pub fn try_get(&self) -> Result<T, TryGetError> {
        match self.get_now() {
            Ok(Ok(item)) => Ok(item),
            Ok(Err(Closed(()))) => Err(TryGetError::Closed),
            Err(_) => Err(TryGetError::Empty),
        }
    }

    /// [`get`](Self::get), waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Closed`] as for `get`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, WaitError> {
        match self.get_now() {
            Ok(outcome) => Ok(outcome?),
            Err(take) => self.take_until(take, deadline_after(timeout)),
        }
    }

    /// [`get`](Self::get), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] as for `get`.
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, WaitError> {
        self.take_until(Take::one(), Some(deadline))
    }

    /// [`get`](Self::get) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get_async(&self) -> Get<'_, T, O> {
        Get(Wait::new(self, Take::one()))
    }

    /// Waits for one item, then takes what is there: at least one item, at most `max`.
    ///
    /// It leaves items that are promised to other consumers. With a `max` of 0 it takes one.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get_batch(&self, max: usize) -> Result<Vec<T>, Closed> {
        wait::block(self, Take::batch(max))
    }

    /// [`get_batch`](Self::get_batch), without waiting.
    ///
    /// # Errors
    ///
    /// [`TryGetError`], as for [`try_get`](Self::try_get).
    pub fn try_get_batch(&self, max: usize) -> Result<Vec<T>, TryGetError> {
        match wait::try_now(self, Take::batch(max)) {
            Ok(Ok(items)) => Ok(items),
            Ok(Err(Closed(()))) => Err(TryGetError::Closed),
            Err(_) => Err(TryGetError::Empty),
        }
    }

    /// [`get_batch`](Self::get_batch), waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] after `timeout`, [`WaitError::Closed`] as for `get_batch`.
    pub fn get_batch_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<T>, WaitError> {
        wait::in_time(wait::block_for(self, Take::batch(max), timeout))
    }

    /// [`get_batch`](Self::get_batch), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] as for `get_batch`.
    pub fn get_batch_deadline(&self, max: usize, deadline: Instant) -> Result<Vec<T>, WaitError> {
        self.take_until(Take::batch(max), Some(deadline))
    }

    /// [`get_batch`](Self::get_batch) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get_batch_async(&self, max: usize) -> GetBatch<'_, T, O> {
        GetBatch(Wait::new(self, Take::batch(max)))
    }

    /// The items as they come, until the queue is closed and everything in it was taken. It takes an item when it is asked
    /// for the next, and waits for it.
    pub fn iter(&self) -> Iter<'_, T, O> {
        Iter { queue: self }
    }

    /// Reports that an item that was taken is done.
    ///
    /// # Errors
    ///
    /// [`TooManyDone`] if all items that were put are done already.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        update(&self.state, State::finish_one)
    }

    /// How many items were put and are not done.
    pub fn unfinished(&self) -> u64 {
        lock(&self.state).unfinished()
    }

    /// Waits until every item that was put is done.
    pub fn join(&self) {
        wait::block(self, Join::new());
    }

    /// [`join`](Self::join), for at most `timeout`; `false` if something is not done by then.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        wait::block_for(self, Join::new(), timeout).is_ok()
    }

    /// [`join`](Self::join), until `deadline` at most; `false` if something is not done by then.
    pub fn join_deadline(&self, deadline: Instant) -> bool {
        wait::block_until(self, Join::new(), Some(deadline)).is_ok()
    }

    /// [`join`](Self::join) from async code.
    pub fn join_async(&self) -> Joining<'_, T, O> {
        Joining(Wait::new(self, Join::new()))
    }

    /// Ends the putting. Items in the queue are still handed out, then consumers get [`Closed`].
    pub fn close(&self) {
        update(&self.state, State::close);
    }

    /// Ends it at once: closes the queue and takes out what is in it, in its order. What is taken out counts as done.
    pub fn close_now(&self) -> Vec<T> {
        update(&self.state, |state, deferred| {
            let items = state.drain();
            state.close(deferred);
            items
        })
    }

    /// Whether it was closed; there may still be items in it.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Looks at each item that is in the queue, in no particular order, for those who account for what it refers to (such as
    /// a garbage collector). The queue is locked meanwhile, so `look` must not use it.
    pub fn for_each(&self, look: impl FnMut(&T)) {
        lock(&self.state).items.for_each(look);
    }

    /// Items in the queue now.
    pub fn len(&self) -> usize {
        lock(&self.state).items.len()
    }

    /// Whether there is no item in the queue now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a producer would have to wait now with an item that weighs nothing.
    pub fn is_full(&self) -> bool {
        let state = lock(&self.state);
        !state.producers.is_empty() || !state.has_room(0)
    }

    /// Total weight of the items in the queue now.
    pub fn weight(&self) -> u64 {
        lock(&self.state).weight
    }

    /// The most items it holds; `usize::MAX` if it is unbounded.
    pub fn capacity(&self) -> usize {
        self.capacity.unwrap_or(usize::MAX)
    }

    /// The most weight it holds, if that is bounded.
    pub fn max_weight(&self) -> Option<u64> {
        self.max_weight
    }

    /// The figures at this moment.
    pub fn stats(&self) -> QueueStats {
        lock(&self.state).stats(Instant::now())
    }

    /// When something can be taken, or nothing will come any more; for [`Waitable`](crate::Waitable).
    pub(crate) fn ready(&self) -> Wait<'_, Self, UntilReady<T, O>> {
        Wait::new(self, UntilReady::new())
    }

    /// Puts it if that needs no waiting.
    #[inline]
    fn put_now(&self, item: T, weight: u64) -> Result<Result<(), Closed<T>>, PutOne<T, O>> {
        let mut state = lock(&self.state);
        if state.put_is_simple(weight) {
            state.push(Item { value: item, weight });
            return Ok(Ok(()));
        }
        Self::try_slowly(state, PutOne::new(item, weight))
    }

    /// Takes one item if that needs no waiting.
    #[inline]
    fn get_now(&self) -> Result<Result<T, Closed>, Take<T, O, T>> {
        let mut state = lock(&self.state);
        if state.get_is_simple()
            && let Some(item) = state.pop()
        {
            return Ok(Ok(item));
        }
        Self::try_slowly(state, Take::one())
    }

    /// Out of line, so that the way without waiters is short.
    #[inline(never)]
    fn try_slowly<P>(state: MutexGuard<'_, State<T, O>>, operation: P) -> Result<P::Output, P>
    where
        P: wait::Operation<State = State<T, O>>,
    {
        wait::try_locked(state, operation)
    }

    fn put_until(
        &self,
        item: T,
        weight: u64,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<(), PutError<T>> {
        PutOne::outcome(self.put_now(item, weight).or_else(|put| wait::block_until(self, put, deadline())))
    }

    fn take_until<R>(&self, take: Take<T, O, R>, deadline: Option<Instant>) -> Result<R, WaitError> {
        wait::in_time(wait::block_until(self, take, deadline))
    }
}

impl<T, O: Order<T>> fmt::Debug for OrderedQueue<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Queue")
            .field("len", &state.items.len())
            .field("capacity", &self.capacity)
            .field("weight", &state.weight)
            .field("max_weight", &self.max_weight)
            .field("closed", &state.closed)
            .finish()
    }
}

impl<T, O: Order<T>> Primitive for OrderedQueue<T, O> {
    type State = State<T, O>;

    fn state(&self) -> &Mutex<State<T, O>> {
        &self.state
    }
}

/// The items of a queue as they come; see [`OrderedQueue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T, O: Order<T> = Fifo> {
    queue: &'a OrderedQueue<T, O>,
}

impl<T, O: Order<T>> Iterator for Iter<'_, T, O> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.get().ok()
    }
}

impl<'a, T, O: Order<T>> IntoIterator for &'a OrderedQueue<T, O> {
    type Item = T;
    type IntoIter = Iter<'a, T, O>;

    fn into_iter(self) -> Iter<'a, T, O> {
        self.iter()
    }
}
