//! Putting many items with one call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use std::vec;

use super::OrderedQueue;
use super::operations::PutOne;
use super::order::{Fifo, Item, Order};
use crate::block::{block_deadline, block_on};
use crate::error::{Closed, PutError};
use crate::wait::{Wait, deadline_after, update};

/// # Putting many
///
/// As many of the items as there is room for go in at one stroke, in their order. For the next one a place in line is taken,
/// as with a single put, so items of others may get in between. All forms give back what was not put, in its order.
///
/// The `weighted` forms weigh each item with `weight_of` before the first is put, while nothing is locked.
impl<T, O: Order<T>> OrderedQueue<T, O> {
    /// Puts items that weigh nothing, in their order, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the items that were not put.
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<(), Closed<Vec<T>>> {
        block_on(self.put_many_async(items))
    }

    /// Puts those of the first items for which there is room now, if nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: full, or closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tricorne_sync::{PutError, Queue};
    ///
    /// let queue = Queue::bounded(2);
    /// assert_eq!(queue.try_put_many(["a", "b", "c"]), Err(PutError::Full(vec!["c"])));
    /// assert_eq!(queue.get_batch(9), Ok(vec!["a", "b"]));
    /// ```
    pub fn try_put_many(&self, items: impl IntoIterator<Item = T>) -> Result<(), PutError<Vec<T>>> {
        self.put_many_async(items).give_up()
    }

    /// [`put_many`](Self::put_many), waiting for at most `timeout` in all.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: still full after `timeout`, or closed.
    pub fn put_many_timeout(
        &self,
        items: impl IntoIterator<Item = T>,
        timeout: Duration,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_many_async(items).block_until(|| deadline_after(timeout))
    }

    /// [`put_many`](Self::put_many), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: still full at the deadline, or closed.
    pub fn put_many_deadline(
        &self,
        items: impl IntoIterator<Item = T>,
        deadline: Instant,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_many_async(items).block_until(|| Some(deadline))
    }

    /// [`put_many`](Self::put_many) from async code. The first are put at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the items that were not put.
    pub fn put_many_async(&self, items: impl IntoIterator<Item = T>) -> PutMany<'_, T, O> {
        self.put_many_weighted_async(items, |_| 0)
    }

    /// Puts items, each with its weight, in their order, waiting for room where there is none.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the items that were not put.
    ///
    /// # Examples
    ///
    /// ```
    /// use tricorne_sync::Queue;
    ///
    /// let queue = Queue::bounded_weighted(100, 8);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         queue.put_many_weighted(["hats", "have", "corners"], |word| word.len() as u64).unwrap();
    ///         queue.close();
    ///     });
    ///     assert_eq!(queue.iter().collect::<Vec<_>>(), ["hats", "have", "corners"]);
    /// });
    /// assert_eq!(queue.stats().high_water_weight, 8);
    /// ```
    pub fn put_many_weighted(
        &self,
        items: impl IntoIterator<Item = T>,
        weight_of: impl FnMut(&T) -> u64,
    ) -> Result<(), Closed<Vec<T>>> {
        block_on(self.put_many_weighted_async(items, weight_of))
    }

    /// Puts those of the first items for which there is room now, each with its weight, if nobody waits before us.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: full, or closed.
    pub fn try_put_many_weighted(
        &self,
        items: impl IntoIterator<Item = T>,
        weight_of: impl FnMut(&T) -> u64,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_many_weighted_async(items, weight_of).give_up()
    }

    /// [`put_many_weighted`](Self::put_many_weighted), waiting for at most `timeout` in all.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: still full after `timeout`, or closed.
    pub fn put_many_weighted_timeout(
        &self,
        items: impl IntoIterator<Item = T>,
        weight_of: impl FnMut(&T) -> u64,
        timeout: Duration,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_many_weighted_async(items, weight_of).block_until(|| deadline_after(timeout))
    }

    /// [`put_many_weighted`](Self::put_many_weighted), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: still full at the deadline, or closed.
    pub fn put_many_weighted_deadline(
        &self,
        items: impl IntoIterator<Item = T>,
        weight_of: impl FnMut(&T) -> u64,
        deadline: Instant,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_many_weighted_async(items, weight_of).block_until(|| Some(deadline))
    }

    /// [`put_many_weighted`](Self::put_many_weighted) from async code. The first are put at the first poll.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the items that were not put.
    pub fn put_many_weighted_async(
        &self,
        items: impl IntoIterator<Item = T>,
        mut weight_of: impl FnMut(&T) -> u64,
    ) -> PutMany<'_, T, O> {
        let weigh = |value| Item { weight: weight_of(&value), value };
        let items: Vec<_> = items.into_iter().map(weigh).collect();
        PutMany { queue: self, next: None, rest: items.into_iter() }
    }
}

/// The future of [`OrderedQueue::put_many_async`] and [`OrderedQueue::put_many_weighted_async`].
///
/// # Cancel safety
///
/// Dropped before it is ready, it drops the items that are not in the queue yet. [`give_up`](PutMany::give_up) gives them back.
#[must_use = "a future does nothing before it is polled"]
pub struct PutMany<'a, T, O: Order<T> = Fifo> {
    queue: &'a OrderedQueue<T, O>,
    /// The first that there was no room for, in line.
    next: Option<Wait<'a, OrderedQueue<T, O>, PutOne<T, O>>>,
    /// What comes after it.
    rest: vec::IntoIter<Item<T>>,
}

// Nothing in it is ever pinned.
impl<T, O: Order<T>> Unpin for PutMany<'_, T, O> {}

impl<T, O: Order<T>> PutMany<'_, T, O> {
    /// Stops here, after a last look for room.
    ///
    /// # Errors
    ///
    /// [`PutError`] with the items that were not put: still full, or closed.
    pub fn give_up(mut self) -> Result<(), PutError<Vec<T>>> {
        if let Some(next) = self.next.take() {
            PutOne::outcome(next.give_up()).map_err(|error| match error {
                PutError::Full(item) => PutError::Full(self.not_put(Some(item))),
                PutError::Closed(item) => PutError::Closed(self.not_put(Some(item))),
            })?;
        }
        let closed = self.put_what_fits();
        match self.not_put(None) {
            rest if rest.is_empty() => Ok(()),
            rest if closed => Err(PutError::Closed(rest)),
            rest => Err(PutError::Full(rest)),
        }
    }

    /// All forms with a time limit. The clock is looked at only if one has to wait.
    fn block_until(mut self, deadline: impl FnOnce() -> Option<Instant>) -> Result<(), PutError<Vec<T>>> {
        self.put_what_fits();
        if self.rest.len() == 0 {
            return Ok(());
        }
        match block_deadline(&mut self, deadline()) {
            Some(outcome) => outcome.map_err(|Closed(items)| PutError::Closed(items)),
            None => self.give_up(),
        }
    }

    /// Puts the first of the rest, as many as fit; says whether the queue is closed.
    fn put_what_fits(&mut self) -> bool {
        update(&self.queue.state, |state, deferred| {
            state.put_what_fits(&mut self.rest, deferred);
            state.closed
        })
    }

    /// What was not put, in its order.
    fn not_put(&mut self, next: Option<T>) -> Vec<T> {
        next.into_iter().chain(self.rest.by_ref().map(|item| item.value)).collect()
    }
}

impl<T, O: Order<T>> Future for PutMany<'_, T, O> {
    type Output = Result<(), Closed<Vec<T>>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(next) = &mut this.next {
                let outcome = ready!(Pin::new(next).poll(context));
                this.next = None;
                if let Err(Closed(item)) = outcome {
                    return Poll::Ready(Err(Closed(this.not_put(Some(item)))));
                }
            }
            this.put_what_fits();
            match this.rest.next() {
                None => return Poll::Ready(Ok(())),
                Some(item) => this.next = Some(Wait::new(this.queue, PutOne::of(item))),
            }
        }
    }
}

impl<T, O: Order<T>> fmt::Debug for PutMany<'_, T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.rest.len() + usize::from(self.next.is_some());
        f.debug_struct("PutMany").field("left", &left).finish_non_exhaustive()
    }
}
