//! A function over many items: lazy, bounded, in the order of the items or as they end.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::future::{Future, TaskResult};
use crate::panics;
use crate::park;
use crate::wait::{AsCompleted, TimedOut};

/// The results of a function over many items, in the order of the items.
///
/// Made by the `map` of an executor. Items are taken from their source by the thread that asks for results, and only
/// so many that [`window`](Self::window) tasks are on their way; results that nobody has asked for count among them. So
/// memory is bounded whatever the number of items, and a slow consumer slows the source down.
///
/// As an iterator it blocks the thread for the next result; [`next_async`](Self::next_async) is for async code. Each
/// result is a value or an error of its own: one that fails ends nothing else.
///
/// Dropping it cancels the tasks that have not started.
pub struct Map<I: Iterator, S, R> {
    source: Fuse<I>,
    submit: S,
    window: usize,
    in_flight: InFlight<R>,
}

/// Tasks that are cancelled when they are dropped.
struct InFlight<R>(VecDeque<Future<R>>);

impl<R> Drop for InFlight<R> {
    fn drop(&mut self) {
        for future in &self.0 {
            // What a task holds is foreign: a destructor that panics is not to keep the others going.
            panics::contain(|| {
                future.cancel();
            });
        }
    }
}

impl<I, S, R> Map<I, S, R>
where
    I: Iterator,
    S: FnMut(I::Item) -> Future<R>,
{
    pub(crate) fn new(source: I, submit: S, window: usize) -> Self {
        Self { source: source.fuse(), submit, window: window.max(1), in_flight: InFlight(VecDeque::new()) }
    }

    /// How many tasks may be on their way, or ended and not asked for; at least 1.
    ///
    /// A large one rides out tasks of very different length, where one slow task at the front keeps finished ones
    /// behind it; a small one holds less in memory.
    #[must_use]
    pub fn window(mut self, window: usize) -> Self {
        self.window = window.max(1);
        self
    }

    /// The same results in the order in which they end: no task waits for a slower one before it. What an item was
    /// must be part of its result.
    #[must_use]
    pub fn unordered(mut self) -> UnorderedMap<I, S, R> {
        let mut completed = AsCompleted::new();
        for future in std::mem::take(&mut self.in_flight.0) {
            completed.push(future);
        }
        let Self { source, submit, window, .. } = self;
        UnorderedMap { source, submit, window, completed }
    }

    /// The next result; `None` after the last. Waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if it is not there by then; it may be asked again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TaskResult<R>>, TimedOut> {
        self.next_until(park::deadline_after(timeout))
    }

    /// [`next_timeout`](Self::next_timeout) with the moment at which the wait ends.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if it is not there by then; it may be asked again.
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<TaskResult<R>>, TimedOut> {
        self.next_until(Some(deadline))
    }

    /// The next result from async code. The source is still asked here and now, and should not block.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing.
    pub async fn next_async(&mut self) -> Option<TaskResult<R>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`next_async`](Self::next_async) for a stream made by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TaskResult<R>>> {
        self.fill();
        let Some(front) = self.in_flight.0.front_mut() else { return Poll::Ready(None) };
        let outcome = std::task::ready!(std::future::Future::poll(Pin::new(front), context));
        self.in_flight.0.pop_front();
        Poll::Ready(Some(outcome))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<TaskResult<R>>, TimedOut> {
        self.fill();
        let Some(front) = self.in_flight.0.pop_front() else { return Ok(None) };
        // Tiny tasks: rather let the workers do some than be woken for each.
        park::yield_until(|| front.is_done());
        match deadline {
            None => Ok(Some(front.result())),
            Some(deadline) => match front.result_deadline(deadline) {
                Ok(outcome) => Ok(Some(outcome)),
                Err(front) => {
                    self.in_flight.0.push_front(front);
                    Err(TimedOut)
                }
            },
        }
    }

    fn fill(&mut self) {
        while self.in_flight.0.len() < self.window {
            let Some(item) = self.source.next() else { break };
            self.in_flight.0.push_back((self.submit)(item));
        }
    }
}

impl<I, S, R> Iterator for Map<I, S, R>
where
    I: Iterator,
    S: FnMut(I::Item) -> Future<R>,
{
    type Item = TaskResult<R>;

    fn next(&mut self) -> Option<TaskResult<R>> {
        match self.next_until(None) {
            Ok(next) => next,
            Err(TimedOut) => unreachable!("a wait without a deadline does not time out"),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        more(self.source.size_hint(), self.in_flight.0.len())
    }
}

impl<I: Iterator, S, R> fmt::Debug for Map<I, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("window", &self.window)
            .field("in_flight", &self.in_flight.0.len())
            .finish_non_exhaustive()
    }
}

/// [`Map`] in the order in which the tasks end; made by [`Map::unordered`].
pub struct UnorderedMap<I: Iterator, S, R> {
    source: Fuse<I>,
    submit: S,
    window: usize,
    completed: AsCompleted<R>,
}

impl<I, S, R> UnorderedMap<I, S, R>
where
    I: Iterator,
    S: FnMut(I::Item) -> Future<R>,
{
    /// As [`Map::window`].
    #[must_use]
    pub fn window(mut self, window: usize) -> Self {
        self.window = window.max(1);
        self
    }

    /// As [`Map::next_timeout`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if none is there by then; it may be asked again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TaskResult<R>>, TimedOut> {
        self.fill();
        self.completed.next_timeout(timeout).map(outcome_only)
    }

    /// As [`Map::next_deadline`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if none is there by then; it may be asked again.
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<TaskResult<R>>, TimedOut> {
        self.fill();
        self.completed.next_deadline(deadline).map(outcome_only)
    }

    /// As [`Map::next_async`].
    pub async fn next_async(&mut self) -> Option<TaskResult<R>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`next_async`](Self::next_async) for a stream made by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TaskResult<R>>> {
        self.fill();
        self.completed.poll_next(context).map(outcome_only)
    }

    fn fill(&mut self) {
        while self.completed.len() < self.window {
            let Some(item) = self.source.next() else { break };
            self.completed.push((self.submit)(item));
        }
    }
}

impl<I, S, R> Iterator for UnorderedMap<I, S, R>
where
    I: Iterator,
    S: FnMut(I::Item) -> Future<R>,
{
    type Item = TaskResult<R>;

    fn next(&mut self) -> Option<TaskResult<R>> {
        self.fill();
        outcome_only(self.completed.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        more(self.source.size_hint(), self.completed.len())
    }
}

impl<I: Iterator, S, R> Drop for UnorderedMap<I, S, R> {
    fn drop(&mut self) {
        self.completed.cancel();
    }
}

impl<I: Iterator, S, R> fmt::Debug for UnorderedMap<I, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnorderedMap")
            .field("window", &self.window)
            .field("in_flight", &self.completed.len())
            .finish_non_exhaustive()
    }
}

fn outcome_only<R>(next: Option<(usize, TaskResult<R>)>) -> Option<TaskResult<R>> {
    next.map(|(_, outcome)| outcome)
}

fn more((least, most): (usize, Option<usize>), extra: usize) -> (usize, Option<usize>) {
    (least.saturating_add(extra), most.and_then(|most| most.checked_add(extra)))
}
