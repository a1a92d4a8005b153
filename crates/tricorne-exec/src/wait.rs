//! Waiting for several futures: until the first has ended, or one has failed, or all have; or one after the other as
//! they end.
//!
//! Nothing here polls and no thread is spent: each future tells a common listener when it ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tricorne_sync::prim::{Arc, Mutex, lock};
use tricorne_sync::{Ready, Waitable};

use crate::future::{Future, Listener, TaskResult};
use crate::park;
use crate::shared_future::SharedFuture;
use crate::sys::fork;

/// When [`wait`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// One has ended.
    FirstCompleted,
    /// One has ended without a value, or all have ended.
    FirstException,
    /// All have ended.
    AllCompleted,
}

/// What [`wait`] has found, as positions among the futures it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// Those that have ended.
    pub done: Vec<usize>,
    /// Those that have not.
    pub not_done: Vec<usize>,
}

impl Waited {
    /// Whether all have ended.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.not_done.is_empty()
    }
}

/// Something that can be waited for together with others: a [`Future`] or a [`SharedFuture`], of any value.
pub trait AnyFuture: sealed::Watched {}

impl<T> AnyFuture for Future<T> {}

impl<T> AnyFuture for SharedFuture<T> {}

/// For waiting for a result together with a cancel token, an event or a queue: [`tricorne_sync::wait_any`].
///
/// # Examples
///
/// ```
/// use tricorne_exec::promise;
/// use tricorne_sync::{CancelToken, wait_any};
///
/// let (promise, answer) = promise();
/// let stop = CancelToken::new();
/// promise.complete(42);
/// assert_eq!(wait_any(&[&stop, &answer]), 1);
/// assert_eq!(answer.result(), Ok(42));
/// ```
impl<T: Send> Waitable for Future<T> {
    /// Ready when it has ended. On a worker of the pool that the task was given to, one that has not started is run
    /// right here, as by [`wait`].
    fn ready(&self) -> Ready<'_> {
        ended(self)
    }
}

impl<T: Send + Sync> Waitable for SharedFuture<T> {
    /// As that of a [`Future`].
    fn ready(&self) -> Ready<'_> {
        ended(self)
    }
}

fn ended<F: AnyFuture + Sync>(future: &F) -> Ready<'_> {
    Box::pin(async move {
        // Not before: what stands in front of it may be ready, and then nobody waits for this one.
        future.help();
        wait_async([future], WaitFor::AllCompleted).await;
    })
}

mod sealed {
    use super::*;

    pub trait Watched {
        fn is_over(&self) -> bool;
        fn has_failed(&self) -> bool;
        fn help(&self);
        fn listen(&self, listener: &Watcher, key: usize) -> bool;
        fn unlisten(&self, listener: &Watcher, key: usize);
    }

    /// Keeps the listeners of this crate out of its interface.
    pub struct Watcher(pub(super) Arc<dyn Listener>);
}

use sealed::{Watched, Watcher};

impl<T> Watched for Future<T> {
    fn is_over(&self) -> bool {
        self.is_done() || self.is_lost()
    }

    fn has_failed(&self) -> bool {
        self.slot().has_failed() || self.is_lost()
    }

    fn help(&self) {
        Self::help(self);
    }

    fn listen(&self, listener: &Watcher, key: usize) -> bool {
        !self.is_lost() && self.slot().listen(&listener.0, key)
    }

    fn unlisten(&self, listener: &Watcher, key: usize) {
        self.slot().unlisten(&listener.0, key);
    }
}

impl<T> Watched for SharedFuture<T> {
    fn is_over(&self) -> bool {
        self.is_done() || self.is_lost()
    }

    fn has_failed(&self) -> bool {
        self.try_result().is_some_and(Result::is_err) || self.is_lost()
    }

    fn help(&self) {
        Self::help(self);
    }

    fn listen(&self, listener: &Watcher, key: usize) -> bool {
        Self::listen(self, &listener.0, key)
    }

    fn unlisten(&self, listener: &Watcher, key: usize) {
        Self::unlisten(self, &listener.0, key);
    }
}

/// Waits until as many of `futures` have ended as `until` says, blocking the thread, for at most `timeout` (`None`:
/// without limit). The futures stay whose they are: what has ended can be had from them without waiting.
///
/// On a worker of the pool that a task was given to, one that has not started is run right here.
///
/// Futures of different values go together as `&dyn AnyFuture`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tricorne_exec::{Future, WaitFor, promise, wait};
///
/// let (slow, first) = promise();
/// let futures = vec![first, Future::ready(Ok(2))];
/// let waited = wait(&futures, WaitFor::FirstCompleted, None);
/// assert_eq!((waited.done, waited.not_done), (vec![1], vec![0]));
///
/// let waited = wait(&futures, WaitFor::AllCompleted, Some(Duration::from_millis(1)));
/// assert!(!waited.is_complete());
/// slow.complete(1);
/// assert!(wait(&futures, WaitFor::AllCompleted, None).is_complete());
/// let values: Result<Vec<_>, _> = futures.into_iter().map(Future::result).collect();
/// assert_eq!(values, Ok(vec![1, 2]));
/// ```
pub fn wait<'f, F>(
    futures: impl IntoIterator<Item = &'f F>,
    until: WaitFor,
    timeout: Option<Duration>,
) -> Waited
where
    F: AnyFuture + ?Sized + 'f,
{
    wait_until(futures.into_iter().collect(), until, timeout.and_then(park::deadline_after))
}

/// [`wait`] until `deadline` at most.
pub fn wait_deadline<'f, F>(
    futures: impl IntoIterator<Item = &'f F>,
    until: WaitFor,
    deadline: Instant,
) -> Waited
where
    F: AnyFuture + ?Sized + 'f,
{
    wait_until(futures.into_iter().collect(), until, Some(deadline))
}

/// [`wait`] from async code, without limit: a timer of the runtime ends it by dropping it.
///
/// # Cancel safety
///
/// Dropped, it leaves the futures as they were.
pub async fn wait_async<'f, F>(futures: impl IntoIterator<Item = &'f F>, until: WaitFor) -> Waited
where
    F: AnyFuture + ?Sized + 'f,
{
    let watch = Watch::new(futures.into_iter().collect(), until);
    std::future::poll_fn(|context| watch.poll(context.waker())).await;
    watch.waited()
}

fn wait_until<F: AnyFuture + ?Sized>(futures: Vec<&F>, until: WaitFor, deadline: Option<Instant>) -> Waited {
    let watch = Watch::new(futures, until);
    for future in &watch.futures {
        if watch.poll(Waker::noop()).is_ready() {
            break;
        }
        future.help();
    }
    park::wait_until(deadline, |waker| watch.poll(waker));
    watch.waited()
}

/// A wait for several futures, on which it listens for as long as it lives.
struct Watch<'f, F: AnyFuture + ?Sized> {
    futures: Vec<&'f F>,
    gate: Arc<Gate>,
    listener: Watcher,
}

struct Gate {
    state: Mutex<GateState>,
    first_exception: bool,
}

struct GateState {
    /// How many must end before it opens.
    left: usize,
    waker: Option<Waker>,
}

impl Listener for Gate {
    fn done(&self, _: usize, failed: bool) {
        let mut state = lock(&self.state);
        state.left = if failed && self.first_exception { 0 } else { state.left.saturating_sub(1) };
        let waker = if state.left == 0 { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<'f, F: AnyFuture + ?Sized> Watch<'f, F> {
    fn new(futures: Vec<&'f F>, until: WaitFor) -> Self {
        let left = match until {
            WaitFor::FirstCompleted => futures.len().min(1),
            WaitFor::FirstException | WaitFor::AllCompleted => futures.len(),
        };
        let gate = Arc::new(Gate {
            state: Mutex::new(GateState { left, waker: None }),
            first_exception: until == WaitFor::FirstException,
        });
        let listener = Watcher(Arc::clone(&gate) as Arc<dyn Listener>);
        let watch = Self { futures, gate, listener };
        for (key, future) in watch.futures.iter().enumerate() {
            if !future.listen(&watch.listener, key) {
                watch.gate.done(key, future.has_failed());
            }
        }
        watch
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut state = lock(&self.gate.state);
        if state.left == 0 {
            drop(state);
            return Poll::Ready(());
        }
        let former = state.waker.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }

    fn waited(&self) -> Waited {
        let (done, not_done) = (0..self.futures.len()).partition(|&place| self.futures[place].is_over());
        Waited { done, not_done }
    }
}

impl<F: AnyFuture + ?Sized> Drop for Watch<'_, F> {
    fn drop(&mut self) {
        for (key, future) in self.futures.iter().enumerate() {
            future.unlisten(&self.listener, key);
        }
    }
}

/// Hands out the outcomes of `futures` in the order in which they end, each with its position.
///
/// # Examples
///
/// ```
/// use tricorne_exec::{ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::builder().workers(3).build()?;
/// let words = ["a", "tricorne", "hat"];
/// let lengths = words.map(|word| pool.submit(move || word.len()));
/// for (place, length) in as_completed(lengths) {
///     assert_eq!(length?, words[place].len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<T>(futures: impl IntoIterator<Item = Future<T>>) -> AsCompleted<T> {
    let mut set = AsCompleted::new();
    for future in futures {
        set.push(future);
    }
    set
}

/// The outcomes of a set of futures in the order in which they end; made by [`as_completed`].
///
/// As an iterator it blocks the thread for the next one; [`next_timeout`](Self::next_timeout) gives up in time, and
/// [`next_async`](Self::next_async) is for async code. More futures can be [`push`](Self::push)ed at any time.
///
/// On a worker of the pool that the tasks were given to, what no other has begun is run right here when nothing else is
/// there.
///
/// Dropping it does not stop the tasks that are left; [`cancel`](Self::cancel) does.
pub struct AsCompleted<T> {
    /// Those that have not been handed out, by position.
    futures: BTreeMap<usize, Future<T>>,
    /// Position of the next that is added.
    next: usize,
    /// Position of the first that this thread may not have tried to run itself.
    not_helped: usize,
    ended: Arc<Ended>,
    listener: Arc<dyn Listener>,
    /// Where it was made: in a forked child nobody tells of the parent's tasks.
    forks: u64,
}

#[derive(Default)]
struct Ended {
    state: Mutex<EndedState>,
}

#[derive(Default)]
struct EndedState {
    positions: VecDeque<usize>,
    waker: Option<Waker>,
}

impl Listener for Ended {
    fn done(&self, position: usize, _: bool) {
        let mut state = lock(&self.state);
        state.positions.push_back(position);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// [`AsCompleted::next_timeout`]: none of the futures has ended in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no task ended in time")]
pub struct TimedOut;

impl<T> AsCompleted<T> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        let ended = Arc::<Ended>::default();
        let listener = Arc::clone(&ended) as Arc<dyn Listener>;
        Self { futures: BTreeMap::new(), next: 0, not_helped: 0, ended, listener, forks: fork::forks() }
    }

    /// Adds a future; its position is the number of those that were added before.
    pub fn push(&mut self, future: Future<T>) {
        let position = self.next;
        if future.is_lost() || !future.slot().listen(&self.listener, position) {
            self.ended.done(position, false);
        }
        self.futures.insert(position, future);
        self.next += 1;
    }

    /// How many outcomes have not been handed out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.futures.len()
    }

    /// Whether all outcomes have been handed out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.futures.is_empty()
    }

    /// The next outcome, with the position of its future; `None` if all were handed out. Waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if none has ended by then; it may be asked again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(usize, TaskResult<T>)>, TimedOut> {
        self.next_until(park::deadline_after(timeout)).ok_or(TimedOut)
    }

    /// [`next_timeout`](Self::next_timeout) with the moment at which the wait ends.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] if none has ended by then; it may be asked again.
    pub fn next_deadline(&mut self, deadline: Instant) -> Result<Option<(usize, TaskResult<T>)>, TimedOut> {
        self.next_until(Some(deadline)).ok_or(TimedOut)
    }

    /// The next outcome from async code.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing.
    pub async fn next_async(&mut self) -> Option<(usize, TaskResult<T>)> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// [`next_async`](Self::next_async) for a stream made by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, TaskResult<T>)>> {
        self.poll(context.waker())
    }

    /// Cancels the tasks that have not started; their outcomes are still handed out.
    pub fn cancel(&self) {
        for future in self.futures.values() {
            future.cancel();
        }
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Option<(usize, TaskResult<T>)>> {
        loop {
            if let Poll::Ready(next) = self.poll(Waker::noop()) {
                return Some(next);
            }
            let Some((&position, future)) = self.futures.range(self.not_helped..).next() else { break };
            future.help();
            self.not_helped = position + 1;
        }
        park::wait_until(deadline, |waker| self.poll(waker))
    }

    fn poll(&mut self, waker: &Waker) -> Poll<Option<(usize, TaskResult<T>)>> {
        if self.futures.is_empty() {
            return Poll::Ready(None);
        }
        if self.forks != fork::forks()
            && let Some((&position, _)) = self.futures.iter().find(|(_, future)| future.is_lost())
        {
            return self.hand_out(position);
        }
        let waker = waker.clone();
        let mut state = lock(&self.ended.state);
        let Some(position) = state.positions.pop_front() else {
            let former = state.waker.replace(waker);
            drop(state);
            drop(former);
            return Poll::Pending;
        };
        drop(state);
        self.hand_out(position)
    }

    fn hand_out(&mut self, position: usize) -> Poll<Option<(usize, TaskResult<T>)>> {
        let future = self.futures.remove(&position).expect("a position is told once");
        let outcome = match future.try_result() {
            Ok(outcome) => outcome,
            // Lost: it does not wait either.
            Err(future) => future.result(),
        };
        Poll::Ready(Some((position, outcome)))
    }
}

impl<T> Default for AsCompleted<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = (usize, TaskResult<T>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promise;

    #[test]
    fn behind_a_straggler_nothing_piles_up() {
        let (straggler, first) = promise();
        let mut set = as_completed([first]);
        for n in 1..=10_000 {
            set.push(Future::ready(Ok(n)));
            assert_eq!(set.next(), Some((n, Ok(n))));
            assert_eq!((set.len(), set.futures.len()), (1, 1));
        }
        straggler.complete(0);
        assert_eq!((set.next(), set.next()), (Some((0, Ok(0))), None));
    }
}
