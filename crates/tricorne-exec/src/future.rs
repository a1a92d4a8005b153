//! A result that is not there yet, for threads, async code and callbacks alike.
//!
//! ```text
//!            start                complete, fail, panic
//!  pending ─────────▶ running ───────────────────────────▶ done ───▶ taken
//!     │                  │                                  ▲
//!     └──── cancel ──────┼──────────────────────────────────┤
//!                        └── promise dropped (abandoned) ───┘
//! ```
//!
//! A [`Slot`] is that machine: all of it under one mutex, which is never held while foreign code (a waker, a callback,
//! a listener, a destructor of the result) runs. A [`Core`] is a slot together with the work that fills it, in one
//! allocation: of a task on a pool, the closure and its result live side by side, the queue and the [`Future`] share
//! them. A future can be waited for in three ways that do not disturb each other: its one *consumer* gets the outcome,
//! any number of *listeners* are told that it is there (that is what [`wait`](crate::wait) and
//! [`as_completed`](crate::as_completed) are made of), and [`Future::shared`] makes the outcome common property.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tricorne_sync::prim::atomic::{AtomicBool, Ordering};
use tricorne_sync::prim::{Arc, Mutex, MutexGuard, lock};

use crate::error::TaskError;
use crate::panics;
use crate::park;
use crate::shared_future::SharedFuture;

/// The outcome of a task: its value, or why there is none.
pub type TaskResult<T> = Result<T, TaskError>;

/// Makes the two ends of a result: whoever works keeps the [`Promise`], whoever waits keeps the [`Future`].
///
/// # Examples
///
/// ```
/// let (promise, future) = tricorne_exec::promise();
/// std::thread::spawn(move || promise.complete(6 * 7));
/// assert_eq!(future.result(), Ok(42));
/// ```
pub fn promise<T>() -> (Promise<T>, Future<T>) {
    pair(Elsewhere)
}

/// The two ends of a result that `work` is behind.
pub(crate) fn pair<T>(work: impl Work<T> + 'static) -> (Promise<T>, Future<T>) {
    let core: Arc<Core<T, dyn Work<T>>> = Arc::new(Core { slot: Slot::new(), work });
    (Promise { core: Some(Arc::clone(&core)) }, Future { core })
}

/// A slot and the work that fills it.
pub(crate) struct Core<T, W: ?Sized> {
    pub(crate) slot: Slot<T>,
    pub(crate) work: W,
}

impl<T, W: Work<T> + ?Sized> Core<T, W> {
    /// Cancels what has not begun and drops its work; asks what runs to stop.
    pub(crate) fn cancel(&self) -> bool {
        if self.slot.is_done() || self.work.lost().is_some() {
            return false;
        }
        self.work.cancel(&self.slot)
    }
}

/// What a future knows of the work behind it.
pub(crate) trait Work<T>: Send + Sync {
    /// Does the work here and now, if this thread may and nobody else has begun it.
    fn help(&self, slot: &Slot<T>);

    /// Waits for the outcome in a way that this work knows, until `deadline` at most. It may return before.
    fn attend(&self, _slot: &Slot<T>, _deadline: Option<Instant>) {}

    /// Cancels what has not begun, and lets go of it; asks what runs to stop. Whether it was cancelled.
    fn cancel(&self, slot: &Slot<T>) -> bool {
        // A callback that panics has been told, too, that it is cancelled.
        let cancelled = panic::catch_unwind(AssertUnwindSafe(|| slot.cancel()));
        if !matches!(cancelled, Ok(false)) {
            self.discard();
        }
        cancelled.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Lets go of the work: it was cancelled before it began.
    fn discard(&self) {}

    /// Why the work will never be done, if that is so although nobody has said it to the slot.
    fn lost(&self) -> Option<TaskError>;
}

/// The work is done by whoever holds the promise.
struct Elsewhere;

impl<T> Work<T> for Elsewhere {
    fn help(&self, _: &Slot<T>) {}

    fn lost(&self) -> Option<TaskError> {
        None
    }
}

/// Where the outcome of a task is left.
pub(crate) struct Slot<T> {
    /// Written under the lock, when there is an outcome; read without it by those who only want to know that.
    done: AtomicBool,
    state: Mutex<State<T>>,
}

/// Who waits and what is waited for are never there at once, and share their place: many futures that wait for
/// their turn are much of the memory of a program that submits a lot.
enum State<T> {
    Waiting(Waiting<T>),
    Done(TaskResult<T>),
    /// Done, and the outcome was handed out.
    Taken,
}

/// What there is of a slot before it has its outcome.
struct Waiting<T> {
    /// The work has begun.
    running: bool,
    cancel_requested: bool,
    consumer: Consumer<T>,
    /// Woken when a running task is asked to stop.
    canceller: Option<Waker>,
    listeners: Listeners,
}

enum Consumer<T> {
    None,
    Waker(Waker),
    Callback(Callback<T>),
}

type Callback<T> = Box<dyn FnOnce(TaskResult<T>) + Send>;

/// Told once that a slot has its outcome, by the thread that delivers it and with no lock held.
pub(crate) trait Listener: Send + Sync {
    /// `key` is what it was registered with.
    fn done(&self, key: usize, failed: bool);
}

/// Nearly always none or one, and that costs no allocation.
pub(crate) enum Listeners {
    None,
    One(Arc<dyn Listener>, usize),
    Many(Vec<(Arc<dyn Listener>, usize)>),
}

impl Listeners {
    pub(crate) fn add(&mut self, listener: Arc<dyn Listener>, key: usize) {
        *self = match std::mem::replace(self, Listeners::None) {
            Listeners::None => Listeners::One(listener, key),
            Listeners::One(first, first_key) => Listeners::Many(vec![(first, first_key), (listener, key)]),
            Listeners::Many(mut all) => {
                all.push((listener, key));
                Listeners::Many(all)
            }
        };
    }

    pub(crate) fn remove(&mut self, listener: &Arc<dyn Listener>, key: usize) -> Option<Arc<dyn Listener>> {
        match self {
            Listeners::One(only, only_key) if Arc::ptr_eq(only, listener) && *only_key == key => {
                match std::mem::replace(self, Listeners::None) {
                    Listeners::One(only, _) => Some(only),
                    _ => None,
                }
            }
            Listeners::Many(all) => {
                let at = all
                    .iter()
                    .position(|(other, other_key)| Arc::ptr_eq(other, listener) && *other_key == key)?;
                Some(all.swap_remove(at).0)
            }
            Listeners::None | Listeners::One(..) => None,
        }
    }

    pub(crate) fn tell(self, failed: bool) {
        match self {
            Listeners::None => {}
            Listeners::One(listener, key) => listener.done(key, failed),
            Listeners::Many(all) => {
                for (listener, key) in all {
                    listener.done(key, failed);
                }
            }
        }
    }
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self {
            done: AtomicBool::new(false),
            state: Mutex::new(State::Waiting(Waiting {
                running: false,
                cancel_requested: false,
                consumer: Consumer::None,
                canceller: None,
                listeners: Listeners::None,
            })),
        }
    }

    /// Says that work begins; `false` if it has ended before. Saying it again is allowed.
    pub(crate) fn start(&self) -> bool {
        match &mut *lock(&self.state) {
            State::Waiting(waiting) => {
                waiting.running = true;
                true
            }
            State::Done(_) | State::Taken => false,
        }
    }

    /// Ends it with `outcome`; without effect if it has ended.
    pub(crate) fn deliver(&self, outcome: TaskResult<T>) {
        self.finish(lock(&self.state), outcome);
    }

    /// Leaves the outcome if there is none, and lets those know who wait for it.
    fn finish(&self, mut state: MutexGuard<'_, State<T>>, outcome: TaskResult<T>) {
        let State::Waiting(waiting) = &mut *state else {
            // Before `outcome`, whose destructor is foreign.
            drop(state);
            return;
        };
        // The canceller is only dropped, but without the lock: a waker is foreign code.
        let _canceller = waiting.canceller.take();
        let consumer = std::mem::replace(&mut waiting.consumer, Consumer::None);
        let listeners = std::mem::replace(&mut waiting.listeners, Listeners::None);
        let failed = outcome.is_err();
        let (waker, callback) = match consumer {
            Consumer::Callback(callback) => {
                *state = State::Taken;
                (None, Some((callback, outcome)))
            }
            Consumer::Waker(waker) => {
                *state = State::Done(outcome);
                (Some(waker), None)
            }
            Consumer::None => {
                *state = State::Done(outcome);
                (None, None)
            }
        };
        // Release: whoever sees it may look for the outcome without having to wait.
        self.done.store(true, Ordering::Release);
        drop(state);
        listeners.tell(failed);
        if let Some(waker) = waker {
            waker.wake();
        }
        // Last, since it may panic.
        if let Some((callback, outcome)) = callback {
            callback(outcome);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        // Acquire: pairs with the store in `finish`.
        self.done.load(Ordering::Acquire)
    }

    /// Whether there is an outcome, and it is an error. An outcome that was handed out counts as none.
    pub(crate) fn has_failed(&self) -> bool {
        self.is_done() && matches!(*lock(&self.state), State::Done(Err(_)))
    }

    /// The outcome, if it is there.
    ///
    /// # Panics
    ///
    /// If it was handed out already.
    pub(crate) fn try_take(&self) -> Option<TaskResult<T>> {
        if !self.is_done() {
            return None;
        }
        match std::mem::replace(&mut *lock(&self.state), State::Taken) {
            State::Done(outcome) => Some(outcome),
            State::Waiting(_) | State::Taken => panic!("a future's result was asked for twice"),
        }
    }

    /// Takes the outcome if it is there; otherwise `waker` is woken when it is.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<TaskResult<T>> {
        if let Some(outcome) = self.try_take() {
            return Poll::Ready(outcome);
        }
        // Cloned before the lock is taken, dropped after it is released: a waker is foreign code.
        match self.consume(Consumer::Waker(waker.clone())) {
            Ok(()) => Poll::Pending,
            Err((outcome, _)) => Poll::Ready(outcome),
        }
    }

    /// Leaves `callback` as the consumer, or calls it at once.
    pub(crate) fn on_done(&self, callback: Callback<T>) {
        if let Err((outcome, Consumer::Callback(callback))) = self.consume(Consumer::Callback(callback)) {
            callback(outcome);
        }
    }

    /// Leaves the consumer; it comes back with the outcome if that is there already.
    fn consume(&self, consumer: Consumer<T>) -> Result<(), (TaskResult<T>, Consumer<T>)> {
        let mut state = lock(&self.state);
        if let State::Waiting(waiting) = &mut *state {
            let former = std::mem::replace(&mut waiting.consumer, consumer);
            drop(state);
            drop(former);
            return Ok(());
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(outcome) => Err((outcome, consumer)),
            State::Waiting(_) | State::Taken => panic!("a future's result was asked for twice"),
        }
    }

    /// Has `listener` told when there is an outcome; `false` if there is one already: then it is not told.
    pub(crate) fn listen(&self, listener: &Arc<dyn Listener>, key: usize) -> bool {
        match &mut *lock(&self.state) {
            State::Waiting(waiting) => {
                waiting.listeners.add(Arc::clone(listener), key);
                true
            }
            State::Done(_) | State::Taken => false,
        }
    }

    /// Takes a listener back that was not told yet.
    pub(crate) fn unlisten(&self, listener: &Arc<dyn Listener>, key: usize) {
        let former = match &mut *lock(&self.state) {
            State::Waiting(waiting) => waiting.listeners.remove(listener, key),
            State::Done(_) | State::Taken => None,
        };
        drop(former);
    }

    /// Ends it as cancelled if nobody has begun the work, and asks for it otherwise.
    fn cancel(&self) -> bool {
        let mut state = lock(&self.state);
        let State::Waiting(waiting) = &mut *state else { return false };
        if !waiting.running {
            self.finish(state, Err(TaskError::Cancelled));
            return true;
        }
        waiting.cancel_requested = true;
        let canceller = waiting.canceller.take();
        drop(state);
        if let Some(waker) = canceller {
            waker.wake();
        }
        false
    }

    /// Whether the work need not go on: somebody has asked for that, or it has ended.
    fn is_cancel_requested(&self) -> bool {
        match &*lock(&self.state) {
            State::Waiting(waiting) => waiting.cancel_requested,
            State::Done(_) | State::Taken => true,
        }
    }

    fn poll_cancel_requested(&self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut state = lock(&self.state);
        match &mut *state {
            State::Waiting(waiting) if !waiting.cancel_requested => {
                let former = waiting.canceller.replace(waker);
                drop(state);
                drop(former);
                Poll::Pending
            }
            _ => {
                // Before the clone of the waker.
                drop(state);
                Poll::Ready(())
            }
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if self.is_done()
            && let State::Done(Err(error @ TaskError::Panicked { .. })) =
                self.state.get_mut().unwrap_or_else(PoisonError::into_inner)
        {
            panics::unseen(error);
        }
    }
}

/// The working end: delivers the outcome, once.
///
/// Dropped without an outcome it delivers [`TaskError::Abandoned`], so that nobody waits for ever.
pub struct Promise<T> {
    /// `None` once the outcome was delivered.
    core: Option<Arc<Core<T, dyn Work<T>>>>,
}

impl<T> Promise<T> {
    /// Says that work begins; from now on [`Future::cancel`] is only a request. `false` if it was cancelled already:
    /// then the work need not be done.
    #[must_use]
    pub fn start(&self) -> bool {
        self.slot().start()
    }

    /// Delivers the value. Without effect if the task was cancelled.
    pub fn complete(self, value: T) {
        self.deliver(Ok(value));
    }

    /// Delivers the reason why there is no value. Without effect if the task was cancelled.
    pub fn fail(self, error: TaskError) {
        self.deliver(Err(error));
    }

    /// Delivers the outcome, whichever it is. Without effect if the task was cancelled.
    pub fn deliver(mut self, outcome: TaskResult<T>) {
        if let Some(core) = self.core.take() {
            core.slot.deliver(outcome);
        }
    }

    /// Runs `work` and delivers what it returns, or that it panicked. Does not run it if the task was cancelled.
    pub fn run(self, work: impl FnOnce() -> T) {
        panics::install_hook();
        if self.start() {
            self.deliver(panics::catch(work));
        }
    }

    /// Whether [`Future::cancel`] was called.
    #[must_use]
    pub fn is_cancel_requested(&self) -> bool {
        self.slot().is_cancel_requested()
    }

    /// Ready when [`Future::cancel`] was called; otherwise `waker` is woken when it is.
    pub fn poll_cancel_requested(&self, context: &mut Context<'_>) -> Poll<()> {
        self.slot().poll_cancel_requested(context.waker())
    }

    fn slot(&self) -> &Slot<T> {
        &self.core.as_ref().expect("only delivering consumes it, and that takes the promise").slot
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(core) = self.core.take() {
            core.slot.deliver(Err(TaskError::Abandoned));
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

/// The waiting end: a result that has one consumer, who blocks for it, awaits it, or leaves a callback.
///
/// To wait for several, without giving them up, there are [`wait`](crate::wait) and
/// [`as_completed`](crate::as_completed); to hand one result to several, [`shared`](Self::shared).
///
/// Dropping it does not stop the task; the result is dropped where it is made. If the task panics then, the program's
/// panic hook is told, as it is of a thread that nobody joins.
///
/// # Cancel safety
///
/// It keeps its place whatever happens: a wait that timed out or an `.await` through `&mut` that was given up can be
/// repeated.
///
/// # Panics
///
/// Asking again after the result was handed out panics, as with any `std` future.
#[must_use = "the task runs anyway, but its result and its failure are lost"]
pub struct Future<T> {
    core: Arc<Core<T, dyn Work<T>>>,
}

impl<T> Future<T> {
    pub(crate) fn of(core: Arc<Core<T, dyn Work<T>>>) -> Self {
        Self { core }
    }

    /// A future whose outcome is there from the start.
    pub fn ready(outcome: TaskResult<T>) -> Self {
        let (promise, future) = promise();
        promise.deliver(outcome);
        future
    }

    pub(crate) fn slot(&self) -> &Slot<T> {
        &self.core.slot
    }

    pub(crate) fn core(&self) -> &Arc<Core<T, dyn Work<T>>> {
        &self.core
    }

    /// Nobody in this process will ever deliver, and nobody has.
    pub(crate) fn is_lost(&self) -> bool {
        !self.is_done() && self.core.work.lost().is_some()
    }

    /// Does the task here and now if this thread is a worker of its pool and no other has begun it.
    pub(crate) fn help(&self) {
        if !self.is_done() {
            self.core.work.help(&self.core.slot);
        }
    }

    /// Waits for the outcome, blocking the thread.
    ///
    /// On a worker of the pool that the task was given to, a task that has not started is run right here.
    ///
    /// # Errors
    ///
    /// Why there is no value: [`TaskError`].
    pub fn result(self) -> TaskResult<T> {
        match self.wait(None) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a deadline does not time out"),
        }
    }

    /// [`result`](Self::result), waiting for at most `timeout`; the future comes back if that was too short.
    ///
    /// Run by the waiting worker itself, the task may take longer than `timeout`.
    ///
    /// # Errors
    ///
    /// The future itself if the outcome is not there in time.
    pub fn result_timeout(self, timeout: Duration) -> Result<TaskResult<T>, Self> {
        self.wait(park::deadline_after(timeout)).ok_or(self)
    }

    /// [`result`](Self::result), waiting until `deadline` at most; the future comes back if it is not there by then.
    ///
    /// # Errors
    ///
    /// The future itself if the outcome is not there in time.
    pub fn result_deadline(self, deadline: Instant) -> Result<TaskResult<T>, Self> {
        self.wait(Some(deadline)).ok_or(self)
    }

    /// The outcome if it is there now.
    ///
    /// # Errors
    ///
    /// The future itself if the outcome is not there yet.
    pub fn try_result(self) -> Result<TaskResult<T>, Self> {
        self.core.slot.try_take().ok_or(self)
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<TaskResult<T>> {
        if let Some(outcome) = self.core.slot.try_take() {
            return Some(outcome);
        }
        if let Some(error) = self.core.work.lost() {
            return Some(Err(error));
        }
        self.core.work.help(&self.core.slot);
        self.core.work.attend(&self.core.slot, deadline);
        park::wait_until(deadline, |waker| self.core.slot.poll(waker))
    }

    /// Calls `callback` with the outcome, on the thread that delivers it; at once, here, if it is there already.
    ///
    /// The callback should be short: it holds up a worker or an event loop. For several callbacks on one result, see
    /// [`shared`](Self::shared).
    ///
    /// # Panics
    ///
    /// If the result was handed out already, and whatever the callback panics with when called at once.
    pub fn on_done(self, callback: impl FnOnce(TaskResult<T>) + Send + 'static) {
        self.core.slot.on_done(Box::new(callback));
    }

    /// Makes the outcome common property: the future that comes back can be cloned, waited for by many, and takes any
    /// number of callbacks; all see the outcome by reference.
    #[must_use = "the task runs anyway, but its result and its failure are lost"]
    pub fn shared(self) -> SharedFuture<T>
    where
        T: Send + Sync + 'static,
    {
        SharedFuture::of(self)
    }

    /// Whether the outcome is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.core.slot.is_done()
    }

    /// Cancels the task if it has not started: the outcome is then [`TaskError::Cancelled`], what the task holds is
    /// dropped here and now (what an asynchronous one holds, soon after, by its loop), and this returns `true`.
    ///
    /// A task that runs is only asked to stop, and this returns `false`: an asynchronous one ends at its next
    /// `.await`, one on a thread runs to its end.
    pub fn cancel(&self) -> bool {
        self.core.cancel()
    }
}

// Nothing in it is pinned: the result is only moved.
impl<T> Unpin for Future<T> {}

impl<T> std::future::Future for Future<T> {
    type Output = TaskResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TaskResult<T>> {
        if let Some(error) = self.core.work.lost() {
            return Poll::Ready(self.core.slot.try_take().unwrap_or(Err(error)));
        }
        self.core.slot.poll(context.waker())
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_result_comes_to_a_thread_a_callback_and_an_await() {
        let (promise, future) = super::promise();
        promise.complete(1);
        assert!(future.is_done());
        assert_eq!(future.result(), Ok(1));

        let (promise, future) = super::promise();
        let (sender, receiver) = mpsc::channel();
        future.on_done(move |outcome| sender.send(outcome).expect("the test waits"));
        promise.complete(2);
        assert_eq!(receiver.recv(), Ok(Ok(2)));

        let (promise, future) = super::promise();
        let worker = thread::spawn(move || promise.complete(3));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(runtime.block_on(future), Ok(3));
        worker.join().expect("it does not panic");
    }

    #[test]
    fn a_wait_that_timed_out_can_be_repeated() {
        let (promise, future) = super::promise();
        let future = future.result_timeout(Duration::ZERO).expect_err("nobody has delivered");
        promise.complete("late");
        assert_eq!(future.result_timeout(Duration::MAX).expect("delivered"), Ok("late"));
    }

    #[test]
    fn a_dropped_promise_is_an_error_and_not_a_hang() {
        let (promise, future) = super::promise::<()>();
        drop(promise);
        assert_eq!(future.result(), Err(TaskError::Abandoned));
    }

    #[test]
    fn cancelled_before_the_start_it_does_not_run() {
        let (promise, future) = super::promise();
        assert!(future.cancel());
        assert!(!future.cancel(), "it has ended already");
        promise.run(|| panic!("it must not run"));
        assert_eq!(future.result(), Err::<(), _>(TaskError::Cancelled));
    }

    #[test]
    fn cancelled_while_running_it_is_asked_to_stop() {
        let (promise, future) = super::promise();
        assert!(promise.start());
        assert!(!promise.is_cancel_requested());
        assert!(!future.cancel());
        assert!(promise.is_cancel_requested());
        promise.complete(4);
        assert_eq!(future.result(), Ok(4));
    }

    #[test]
    fn a_panic_has_message_and_location() {
        let (promise, future) = super::promise::<()>();
        let line = line!() + 1;
        promise.run(|| panic!("broken at {}", 5));
        let Err(TaskError::Panicked { message, location }) = future.result() else {
            panic!("it did not panic")
        };
        assert_eq!(message, "broken at 5");
        let location = location.expect("the hook is ours");
        assert!(location.contains(&format!("future.rs:{line}:")), "{location}");
    }

    #[test]
    fn a_callback_that_panics_at_a_cancellation_keeps_nothing_back() {
        struct Held(Arc<AtomicBool>);
        impl Work<()> for Held {
            fn help(&self, _: &Slot<()>) {}

            fn discard(&self) {
                self.0.store(true, Ordering::SeqCst);
            }

            fn lost(&self) -> Option<TaskError> {
                None
            }
        }
        let discarded = Arc::new(AtomicBool::new(false));
        let (_promise, future) = pair(Held(Arc::clone(&discarded)));
        let core = Arc::clone(future.core());
        future.on_done(|outcome| std::panic::panic_any(outcome.is_err()));
        assert!(panic::catch_unwind(AssertUnwindSafe(|| core.cancel())).is_err());
        assert!(discarded.load(Ordering::SeqCst));
    }

    #[test]
    fn a_panic_value_that_is_not_text_is_an_error_too() {
        let (promise, future) = super::promise::<()>();
        promise.run(|| std::panic::panic_any(17));
        let error = future.result().expect_err("it panicked");
        assert!(error.to_string().ends_with("`a value that is not text`"), "{error}");
    }
}
