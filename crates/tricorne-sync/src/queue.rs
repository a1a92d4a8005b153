//! A bounded queue between threads and tasks: the edge of a pipeline, and its back-pressure.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::{Closed, PutError, TryGetError, WaitError};
use crate::prim::{Mutex, lock};
use crate::wait::{self, Deferred, Operation, Primitive, Ticket, Wait, WaitList, named_wait, update};

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
/// # Fairness
///
/// Items come out in the order in which the calls that put them came, and producers and consumers are each served in
/// the order in which they came: whoever arrives while others wait goes behind them.
///
/// # Cancel safety
///
/// No item is ever lost with a consumer that gives up: the item that was meant for it stays in the queue, in its
/// place, for the next. A producer that times out gets its item back; with a dropped `put_async` future the item is
/// dropped, unless it was already in the queue.
///
/// A consumer that was promised an item does not take it before its `get_async` future is polled again. So do not keep
/// such a future alive without polling it: nobody else is given that item.
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
///     let mut total = 0;
///     while let Ok(number) = queue.get() {
///         total += number;
///     }
///     total
/// });
/// assert_eq!(total, 5050);
/// ```
pub struct Queue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    max_weight: Option<u64>,
}

pub(crate) struct State<T> {
    items: VecDeque<Item<T>>,
    weight: u64,
    capacity: usize,
    max_weight: u64,
    closed: bool,
    /// Each waits with its item, which goes into the queue in the moment in which there is room.
    producers: WaitList<Item<T>>,
    /// Those granted have a claim on one item each; which one is settled when they come to take it.
    consumers: WaitList<()>,
    puts: u64,
    gets: u64,
    high_water_items: usize,
    high_water_weight: u64,
}

pub(crate) struct Item<T> {
    value: T,
    weight: u64,
}

impl<T> State<T> {
    fn has_room(&self, weight: u64) -> bool {
        self.items.is_empty()
            || (self.items.len() < self.capacity
                && self.weight.checked_add(weight).is_some_and(|total| total <= self.max_weight))
    }

    /// Items on which no consumer has a claim.
    fn unclaimed(&self) -> usize {
        self.items.len().saturating_sub(self.consumers.granted_len())
    }

    /// Closed, and every item was taken. Items that are claimed count as there: the claim may be given up.
    fn is_finished(&self) -> bool {
        self.closed && self.items.is_empty()
    }

    fn push(&mut self, item: Item<T>) {
        self.weight += item.weight;
        self.items.push_back(item);
        self.puts += 1;
        self.high_water_items = self.high_water_items.max(self.items.len());
        self.high_water_weight = self.high_water_weight.max(self.weight);
    }

    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.weight -= item.weight;
        self.gets += 1;
        Some(item.value)
    }

    /// Brings the lines up to date after any change: lets in producers for whom there is room, promises unclaimed
    /// items to consumers, and tells consumers when nothing will come any more.
    fn settle(&mut self, deferred: &mut Deferred) {
        while !self.closed && self.producers.front().is_some_and(|item| self.has_room(item.weight)) {
            if let Some(item) = self.producers.grant_front((), deferred) {
                self.push(item);
            }
        }
        while self.unclaimed() > 0 && !self.consumers.is_empty() {
            self.consumers.grant_front((), deferred);
        }
        if self.is_finished() {
            self.consumers.wake_all(deferred);
        }
    }
}

/// What a [`Queue`] holds and has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Items in the queue now.
    pub len: usize,
    /// Total weight of the items in the queue now.
    pub weight: u64,
    /// Items that went in.
    pub puts: u64,
    /// Items that consumers took out.
    pub gets: u64,
    /// Total time that producers spent waiting for room (blocked), those that wait now included.
    pub put_wait: Duration,
    /// Total time that consumers spent waiting for items (starved), those that wait now included.
    pub get_wait: Duration,
    /// The most items that were in the queue at once.
    pub high_water_items: usize,
    /// The greatest weight that was in the queue at once.
    pub high_water_weight: u64,
}

impl<T> Queue<T> {
    /// A queue for at most `capacity` items.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: such a queue could never hold an item.
    pub fn bounded(capacity: usize) -> Self {
        Self::with_bounds(capacity, None)
    }

    /// A queue for at most `capacity` items that together weigh at most `max_weight`.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: such a queue could never hold an item.
    pub fn bounded_weighted(capacity: usize, max_weight: u64) -> Self {
        Self::with_bounds(capacity, Some(max_weight))
    }

    fn with_bounds(capacity: usize, max_weight: Option<u64>) -> Self {
        assert!(capacity > 0, "queue capacity is `0`");
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                weight: 0,
                capacity,
                max_weight: max_weight.unwrap_or(u64::MAX),
                closed: false,
                producers: WaitList::new(),
                consumers: WaitList::new(),
                puts: 0,
                gets: 0,
                high_water_items: 0,
                high_water_weight: 0,
            }),
            capacity,
            max_weight,
        }
    }

    /// Puts an item that weighs nothing, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put(&self, item: T) -> Result<(), Closed<T>> {
        self.put_weighted(item, 0)
    }

    /// Puts an item of the given weight, waiting for room.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put_weighted(&self, item: T, weight: u64) -> Result<(), Closed<T>> {
        wait::block(self, PutOne::new(item, weight))
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
        PutOne::outcome(wait::try_now(self, PutOne::new(item, weight)))
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
        PutOne::outcome(wait::block_until(self, PutOne::new(item, weight), wait::deadline_after(timeout)))
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
        PutOne::outcome(wait::block_until(self, PutOne::new(item, weight), Some(deadline)))
    }

    /// [`put`](Self::put) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put_async(&self, item: T) -> Put<'_, T> {
        self.put_weighted_async(item, 0)
    }

    /// [`put_weighted`](Self::put_weighted) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the item if the queue is closed, before or during the wait.
    pub fn put_weighted_async(&self, item: T, weight: u64) -> Put<'_, T> {
        Put(Wait::new(self, PutOne::new(item, weight)))
    }

    /// Takes the oldest item, waiting for one.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get(&self) -> Result<T, Closed> {
        wait::block(self, Take::one())
    }

    /// Takes the oldest item that is not promised to somebody who came before.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`] if there is none, [`TryGetError::Closed`] if there will be none any more.
    pub fn try_get(&self) -> Result<T, TryGetError> {
        match wait::try_now(self, Take::one()) {
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
        self.get_until(wait::deadline_after(timeout))
    }

    /// [`get`](Self::get), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`] at the deadline, [`WaitError::Closed`] as for `get`.
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, WaitError> {
        self.get_until(Some(deadline))
    }

    /// [`get`](Self::get) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get_async(&self) -> Get<'_, T> {
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

    /// [`get_batch`](Self::get_batch) from async code. Its place in line is taken at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the queue is closed and everything in it was taken.
    pub fn get_batch_async(&self, max: usize) -> GetBatch<'_, T> {
        GetBatch(Wait::new(self, Take::batch(max)))
    }

    /// Ends the putting. Items in the queue are still handed out, then consumers get [`Closed`].
    pub fn close(&self) {
        update(&self.state, |state, deferred| {
            state.closed = true;
            state.producers.wake_all(deferred);
            state.settle(deferred);
        });
    }

    /// Ends it at once: closes the queue and takes out what is in it, oldest first.
    pub fn close_now(&self) -> Vec<T> {
        let items = update(&self.state, |state, deferred| {
            state.closed = true;
            state.weight = 0;
            let items = std::mem::take(&mut state.items);
            state.producers.wake_all(deferred);
            state.settle(deferred);
            items
        });
        items.into_iter().map(|item| item.value).collect()
    }

    /// Whether it was closed; there may still be items in it.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Items in the queue now.
    pub fn len(&self) -> usize {
        lock(&self.state).items.len()
    }

    /// Whether there is no item in the queue now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Total weight of the items in the queue now.
    pub fn weight(&self) -> u64 {
        lock(&self.state).weight
    }

    /// The most items it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The most weight it holds, if that is bounded.
    pub fn max_weight(&self) -> Option<u64> {
        self.max_weight
    }

    /// The figures at this moment.
    pub fn stats(&self) -> QueueStats {
        let now = Instant::now();
        let state = lock(&self.state);
        QueueStats {
            len: state.items.len(),
            weight: state.weight,
            puts: state.puts,
            gets: state.gets,
            put_wait: state.producers.stats(now).wait,
            get_wait: state.consumers.stats(now).wait,
            high_water_items: state.high_water_items,
            high_water_weight: state.high_water_weight,
        }
    }

    fn get_until(&self, deadline: Option<Instant>) -> Result<T, WaitError> {
        match wait::block_until(self, Take::one(), deadline) {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(WaitError::TimedOut),
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
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

impl<T> Primitive for Queue<T> {
    type State = State<T>;

    fn state(&self) -> &Mutex<State<T>> {
        &self.state
    }
}

/// Puts one item. Empty while the item is in line or once it is in the queue.
pub(crate) struct PutOne<T> {
    item: Option<Item<T>>,
}

impl<T> PutOne<T> {
    fn new(value: T, weight: u64) -> Self {
        Self { item: Some(Item { value, weight }) }
    }

    fn take(&mut self) -> Item<T> {
        self.item.take().expect("the item is here until it is put or in line")
    }

    /// What the caller is told, if an operation that is given back means that there was no room.
    fn outcome(result: Result<Result<(), Closed<T>>, Self>) -> Result<(), PutError<T>> {
        match result {
            Ok(outcome) => outcome.map_err(|Closed(item)| PutError::Closed(item)),
            Err(mut put) => Err(PutError::Full(put.take().value)),
        }
    }
}

named_wait! {
    /// The future of [`Queue::put_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it drops the item, unless that is in the queue already. [`give_up`](Put::give_up) gives
    /// it back.
    Put<'a, T>, Queue<T>, PutOne<T>, Result<(), Closed<T>>
}

named_wait! {
    /// The future of [`Queue::get_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it takes nothing: what it was promised stays in the queue for the next.
    Get<'a, T>, Queue<T>, Take<T, T>, Result<T, Closed>
}

named_wait! {
    /// The future of [`Queue::get_batch_async`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Get`].
    GetBatch<'a, T>, Queue<T>, Take<T, Vec<T>>, Result<Vec<T>, Closed>
}

impl<T> Put<'_, T> {
    /// Leaves the line, after a last look.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the item: still full, or closed.
    ///
    /// # Panics
    ///
    /// If it was ready before.
    pub fn give_up(self) -> Result<(), PutError<T>> {
        PutOne::outcome(self.0.give_up())
    }
}

impl<T> Operation for PutOne<T> {
    type State = State<T>;
    type Request = Item<T>;
    type Grant = ();
    type Output = Result<(), Closed<T>>;

    fn list(state: &mut State<T>) -> &mut WaitList<Item<T>> {
        &mut state.producers
    }

    fn attempt(&mut self, state: &mut State<T>, deferred: &mut Deferred) -> Option<Self::Output> {
        let item = self.take();
        if state.closed {
            Some(Err(Closed(item.value)))
        } else if state.producers.is_empty() && state.has_room(item.weight) {
            state.push(item);
            state.settle(deferred);
            Some(Ok(()))
        } else {
            self.item = Some(item);
            None
        }
    }

    fn request(&mut self) -> Item<T> {
        self.take()
    }

    fn resume(
        &mut self,
        state: &mut State<T>,
        ticket: Ticket,
        deferred: &mut Deferred,
    ) -> Option<Self::Output> {
        if state.producers.take_granted(ticket).is_some() {
            Some(Ok(()))
        } else if state.closed {
            state.producers.leave(ticket, deferred).map(|item| Err(Closed(item.value)))
        } else {
            None
        }
    }

    fn abandon(&mut self, state: &mut State<T>, ticket: Ticket, deferred: &mut Deferred) {
        if state.producers.take_granted(ticket).is_none() {
            self.item = state.producers.leave(ticket, deferred);
            // It may have been first with a heavy item, before a lighter one that fits.
            state.settle(deferred);
        }
    }
}

/// Takes one item or several, as an `R`.
pub(crate) struct Take<T, R> {
    max: usize,
    /// Takes at most so many from a queue with at least one unclaimed item.
    take: fn(&mut State<T>, usize) -> Option<R>,
}

impl<T> Take<T, T> {
    fn one() -> Self {
        Self { max: 1, take: |state, _| state.pop() }
    }
}

impl<T> Take<T, Vec<T>> {
    fn batch(max: usize) -> Self {
        Self {
            max: max.max(1),
            take: |state, max| {
                let count = state.unclaimed().min(max);
                Some((0..count).map_while(|_| state.pop()).collect())
            },
        }
    }
}

impl<T, R> Operation for Take<T, R> {
    type State = State<T>;
    type Request = ();
    type Grant = ();
    type Output = Result<R, Closed>;

    fn list(state: &mut State<T>) -> &mut WaitList<()> {
        &mut state.consumers
    }

    fn attempt(&mut self, state: &mut State<T>, deferred: &mut Deferred) -> Option<Self::Output> {
        if state.unclaimed() > 0 {
            let taken = (self.take)(state, self.max);
            state.settle(deferred);
            taken.map(Ok)
        } else if state.is_finished() {
            Some(Err(Closed(())))
        } else {
            None
        }
    }

    fn request(&mut self) {}

    fn resume(
        &mut self,
        state: &mut State<T>,
        ticket: Ticket,
        deferred: &mut Deferred,
    ) -> Option<Self::Output> {
        if state.consumers.take_granted(ticket).is_some() {
            // The claim is ours to use: there is an item, or `close_now` took it.
            self.attempt(state, deferred)
        } else if state.is_finished() {
            state.consumers.leave(ticket, deferred);
            Some(Err(Closed(())))
        } else {
            None
        }
    }

    fn abandon(&mut self, state: &mut State<T>, ticket: Ticket, deferred: &mut Deferred) {
        if state.consumers.take_granted(ticket).is_some() {
            state.settle(deferred);
        } else {
            state.consumers.leave(ticket, deferred);
        }
    }
}
