//! What one can wait for at a queue: room, an item, the end of all work.

use std::marker::PhantomData;

use super::OrderedQueue;
use super::order::{Fifo, Item, Order};
use super::state::State;
use crate::error::{Closed, PutError};
use crate::wait::{Deferred, Operation, Ticket, WaitList, named_wait};

/// Puts one item. Empty while the item is in line or once it is in the queue.
pub(crate) struct PutOne<T, O> {
    item: Option<Item<T>>,
    order: PhantomData<fn() -> O>,
}

impl<T, O> PutOne<T, O> {
    pub(super) fn new(value: T, weight: u64) -> Self {
        Self::of(Item { value, weight })
    }

    pub(super) fn of(item: Item<T>) -> Self {
        Self { item: Some(item), order: PhantomData }
    }

    fn take(&mut self) -> Item<T> {
        self.item.take().expect("the item is here until it is put or in line")
    }

    /// What the caller is told, if an operation that is given back means that there was no room.
    pub(super) fn outcome(result: Result<Result<(), Closed<T>>, Self>) -> Result<(), PutError<T>> {
        match result {
            Ok(outcome) => outcome.map_err(|Closed(item)| PutError::Closed(item)),
            Err(mut put) => Err(PutError::Full(put.take().value)),
        }
    }
}

named_wait! {
    /// The future of [`OrderedQueue::put_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it drops the item, unless that is in the queue already. [`give_up`](Put::give_up) gives
    /// it back.
    Put<'a, T, O: Order<T> = Fifo>, OrderedQueue<T, O>, PutOne<T, O>, Result<(), Closed<T>>
}

impl<T, O: Order<T>> Put<'_, T, O> {
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

impl<T, O: Order<T>> Operation for PutOne<T, O> {
    type State = State<T, O>;
    type Request = Item<T>;
    type Grant = ();
    type Output = Result<(), Closed<T>>;

    fn list(state: &mut Self::State) -> &mut WaitList<Item<T>> {
        &mut state.producers
    }

    fn attempt(&mut self, state: &mut Self::State, deferred: &mut Deferred) -> Option<Self::Output> {
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
        state: &mut Self::State,
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

    fn abandon(&mut self, state: &mut Self::State, ticket: Ticket, deferred: &mut Deferred) {
        if state.producers.take_granted(ticket).is_none() {
            self.item = state.producers.leave(ticket, deferred);
            // It may have been first with a heavy item, before a lighter one that fits.
            state.settle(deferred);
        }
    }
}

/// Takes one item or several, as an `R`.
pub(crate) struct Take<T, O: Order<T>, R> {
    max: usize,
    /// Takes at most so many from a queue with at least one unclaimed item.
    take: fn(&mut State<T, O>, usize) -> Option<R>,
}

impl<T, O: Order<T>> Take<T, O, T> {
    pub(super) fn one() -> Self {
        Self { max: 1, take: |state, _| state.pop() }
    }
}

impl<T, O: Order<T>> Take<T, O, Vec<T>> {
    pub(super) fn batch(max: usize) -> Self {
        Self {
            max: max.max(1),
            take: |state, max| {
                let count = state.unclaimed().min(max);
                let mut items = Vec::with_capacity(count);
                items.extend((0..count).map_while(|_| state.pop()));
                Some(items)
            },
        }
    }
}

named_wait! {
    /// The future of [`OrderedQueue::get_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it takes nothing: what it was woken for stays in the queue for the next.
    Get<'a, T, O: Order<T> = Fifo>, OrderedQueue<T, O>, Take<T, O, T>, Result<T, Closed>
}

named_wait! {
    /// The future of [`OrderedQueue::get_batch_async`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Get`].
    GetBatch<'a, T, O: Order<T> = Fifo>, OrderedQueue<T, O>, Take<T, O, Vec<T>>, Result<Vec<T>, Closed>
}

impl<T, O: Order<T>, R> Operation for Take<T, O, R> {
    type State = State<T, O>;
    type Request = ();
    type Grant = ();
    type Output = Result<R, Closed>;

    fn list(state: &mut Self::State) -> &mut WaitList<()> {
        &mut state.consumers
    }

    fn attempt(&mut self, state: &mut Self::State, deferred: &mut Deferred) -> Option<Self::Output> {
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
        state: &mut Self::State,
        ticket: Ticket,
        deferred: &mut Deferred,
    ) -> Option<Self::Output> {
        if state.consumers.take_granted(ticket).is_some() {
            // The claim is ours to use: there is an item, or `close_now` took it.
            return self.attempt(state, deferred);
        }
        if state.is_finished() || (state.consumers.is_nudged(ticket) && state.unclaimed() > 0) {
            state.consumers.leave(ticket, deferred);
            return self.attempt(state, deferred);
        }
        state.consumers.looked_in_vain(ticket);
        None
    }

    fn abandon(&mut self, state: &mut Self::State, ticket: Ticket, deferred: &mut Deferred) {
        if state.consumers.take_granted(ticket).is_none() {
            state.consumers.leave(ticket, deferred);
        }
        // Somebody else has to be woken for what it was woken for.
        state.settle(deferred);
    }
}

/// Waits until all is done.
pub(crate) struct Join<T, O>(PhantomData<fn() -> (T, O)>);

impl<T, O> Join<T, O> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

named_wait! {
    /// The future of [`OrderedQueue::join_async`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it has no effect on the others.
    Joining<'a, T, O: Order<T> = Fifo>, OrderedQueue<T, O>, Join<T, O>, ()
}

impl<T, O: Order<T>> Operation for Join<T, O> {
    type State = State<T, O>;
    type Request = ();
    type Grant = ();
    type Output = ();

    fn list(state: &mut Self::State) -> &mut WaitList<()> {
        &mut state.joiners
    }

    fn attempt(&mut self, state: &mut Self::State, _: &mut Deferred) -> Option<()> {
        (state.unfinished() == 0).then_some(())
    }

    fn request(&mut self) {}

    fn resume(&mut self, state: &mut Self::State, ticket: Ticket, _: &mut Deferred) -> Option<()> {
        state.joiners.take_granted(ticket)
    }

    fn abandon(&mut self, state: &mut Self::State, ticket: Ticket, deferred: &mut Deferred) {
        if state.joiners.take_granted(ticket).is_none() {
            state.joiners.leave(ticket, deferred);
        }
    }
}

/// Waits until something can be taken, or nothing will come any more.
pub(crate) struct UntilReady<T, O>(PhantomData<fn() -> (T, O)>);

impl<T, O> UntilReady<T, O> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T, O: Order<T>> Operation for UntilReady<T, O> {
    type State = State<T, O>;
    type Request = ();
    type Grant = ();
    type Output = ();

    fn list(state: &mut Self::State) -> &mut WaitList<()> {
        &mut state.watchers
    }

    fn attempt(&mut self, state: &mut Self::State, _: &mut Deferred) -> Option<()> {
        state.is_ready().then_some(())
    }

    fn request(&mut self) {}

    fn resume(&mut self, state: &mut Self::State, ticket: Ticket, _: &mut Deferred) -> Option<()> {
        state.watchers.take_granted(ticket)
    }

    fn abandon(&mut self, state: &mut Self::State, ticket: Ticket, deferred: &mut Deferred) {
        if state.watchers.take_granted(ticket).is_none() {
            state.watchers.leave(ticket, deferred);
        }
    }
}
