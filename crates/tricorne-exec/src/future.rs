//! A result that is not there yet, for threads, async code and callbacks alike.
//!
//! ```text
//!            start                complete, fail, panic
//!  pending ─────────▶ running ───────────────────────────▶ done
//!     │                  │                                  ▲
//!     └──── cancel ──────┼──────────────────────────────────┤
//!                        └── promise dropped (abandoned) ───┘
//! ```
//!
//! All under one mutex, which is never held while foreign code (a waker, a callback, a destructor of the result) runs.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tricorne_sync::prim::Parker;

use crate::error::TaskError;
use crate::panics;

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
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            progress: Progress::Pending,
            consumer: Consumer::None,
            cancel_requested: false,
            canceller: None,
        }),
    });
    (Promise { shared: Some(Arc::clone(&shared)) }, Future { shared, inline: None })
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    progress: Progress<T>,
    consumer: Consumer<T>,
    cancel_requested: bool,
    /// Woken when a running task is asked to stop.
    canceller: Option<Waker>,
}

enum Progress<T> {
    Pending,
    Running,
    Done(TaskResult<T>),
    /// Done, and the outcome was handed out.
    Taken,
}

enum Consumer<T> {
    None,
    Waker(Waker),
    Callback(Box<dyn FnOnce(TaskResult<T>) + Send>),
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it with `outcome` unless it has ended; only if nobody has started it when `unless_running`.
    fn end(&self, outcome: TaskResult<T>, unless_running: bool) -> bool {
        let mut state = self.lock();
        match state.progress {
            Progress::Running if unless_running => return false,
            Progress::Pending | Progress::Running => {}
            Progress::Done(_) | Progress::Taken => return false,
        }
        let canceller = state.canceller.take();
        match std::mem::replace(&mut state.consumer, Consumer::None) {
            Consumer::Callback(callback) => {
                state.progress = Progress::Taken;
                drop(state);
                callback(outcome);
            }
            Consumer::Waker(waker) => {
                state.progress = Progress::Done(outcome);
                drop(state);
                waker.wake();
            }
            Consumer::None => {
                state.progress = Progress::Done(outcome);
                drop(state);
            }
        }
        drop(canceller);
        true
    }

    /// Takes the outcome if it is there; otherwise `waker` is woken when it is.
    fn poll(&self, waker: &Waker) -> Poll<TaskResult<T>> {
        // Cloned before the lock is taken, dropped after it is released: a waker is foreign code.
        let waker = waker.clone();
        let mut state = self.lock();
        match std::mem::replace(&mut state.progress, Progress::Taken) {
            Progress::Done(outcome) => Poll::Ready(outcome),
            Progress::Taken => panic!("a future's result was asked for twice"),
            waiting => {
                state.progress = waiting;
                let former = std::mem::replace(&mut state.consumer, Consumer::Waker(waker));
                drop(state);
                drop(former);
                Poll::Pending
            }
        }
    }
}

/// The working end: delivers the outcome, once.
///
/// Dropped without an outcome it delivers [`TaskError::Abandoned`], so that nobody waits for ever.
pub struct Promise<T> {
    /// `None` once the outcome was delivered.
    shared: Option<Arc<Shared<T>>>,
}

impl<T> Promise<T> {
    /// Says that work begins; from now on [`Future::cancel`] is only a request. `false` if it was cancelled already:
    /// then the work need not be done.
    #[must_use]
    pub fn start(&self) -> bool {
        let mut state = self.shared().lock();
        if matches!(state.progress, Progress::Pending) {
            state.progress = Progress::Running;
        }
        matches!(state.progress, Progress::Running)
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
        if let Some(shared) = self.shared.take() {
            shared.end(outcome, false);
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
        self.shared().lock().cancel_requested
    }

    /// Ready when [`Future::cancel`] was called; otherwise `waker` is woken when it is.
    pub fn poll_cancel_requested(&self, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let mut state = self.shared().lock();
        if state.cancel_requested {
            return Poll::Ready(());
        }
        let former = state.canceller.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }

    fn shared(&self) -> &Arc<Shared<T>> {
        self.shared.as_ref().expect("only delivering consumes it, and that takes the promise")
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.end(Err(TaskError::Abandoned), false);
        }
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

/// A task that the thread that waits for it may run itself, if it has not started.
pub(crate) trait Inline: Send + Sync {
    /// Runs the task here and now, if this thread may and nobody else has begun.
    fn run_inline(&self);
}

/// The waiting end: a result that has one consumer, who blocks for it, awaits it, or leaves a callback.
///
/// Dropping it does not stop the task; the result is dropped where it is made.
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
    shared: Arc<Shared<T>>,
    /// How a worker of the same pool runs the task itself rather than waiting for itself.
    inline: Option<Arc<dyn Inline>>,
}

impl<T> Future<T> {
    pub(crate) fn with_inline(mut self, inline: Arc<dyn Inline>) -> Self {
        self.inline = Some(inline);
        self
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
        self.wait(Instant::now().checked_add(timeout)).ok_or(self)
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<TaskResult<T>> {
        if let Some(inline) = &self.inline {
            inline.run_inline();
        }
        let parker = Arc::new(Parker::new());
        let waker = Waker::from(Arc::clone(&parker));
        loop {
            if let Poll::Ready(outcome) = self.shared.poll(&waker) {
                return Some(outcome);
            }
            if !parker.park_deadline(deadline) {
                // The last look: it may have come between the wake-up and the deadline.
                return match self.shared.poll(&waker) {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                };
            }
        }
    }

    /// Calls `callback` with the outcome, on the thread that delivers it; at once, here, if it is there already.
    ///
    /// The callback should be short: it holds up a worker or an event loop.
    ///
    /// # Panics
    ///
    /// If the result was handed out already, and whatever the callback panics with when called at once.
    pub fn on_done(self, callback: impl FnOnce(TaskResult<T>) + Send + 'static) {
        let mut state = self.shared.lock();
        match std::mem::replace(&mut state.progress, Progress::Taken) {
            Progress::Done(outcome) => {
                drop(state);
                callback(outcome);
            }
            Progress::Taken => panic!("a future's result was asked for twice"),
            waiting => {
                state.progress = waiting;
                let former = std::mem::replace(&mut state.consumer, Consumer::Callback(Box::new(callback)));
                drop(state);
                drop(former);
            }
        }
    }

    /// Whether the outcome is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.shared.lock().progress, Progress::Done(_) | Progress::Taken)
    }

    /// Cancels the task if it has not started: the outcome is then [`TaskError::Cancelled`], and this returns `true`.
    ///
    /// A task that runs is only asked to stop, and this returns `false`: an asynchronous one ends at its next
    /// `.await`, one on a thread runs to its end.
    pub fn cancel(&self) -> bool {
        let mut state = self.shared.lock();
        state.cancel_requested = true;
        let canceller = state.canceller.take();
        drop(state);
        if let Some(waker) = canceller {
            waker.wake();
        }
        self.shared.end(Err(TaskError::Cancelled), true)
    }
}

// Nothing in it is pinned: the result is only moved.
impl<T> Unpin for Future<T> {}

impl<T> std::future::Future for Future<T> {
    type Output = TaskResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TaskResult<T>> {
        self.shared.poll(context.waker())
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
    fn a_panic_value_that_is_not_text_is_an_error_too() {
        let (promise, future) = super::promise::<()>();
        promise.run(|| std::panic::panic_any(17));
        let error = future.result().expect_err("it panicked");
        assert!(error.to_string().ends_with("`a value that is not text`"), "{error}");
    }
}
