//! Event loops that run futures: for work that mostly waits, such as requests.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tricorne_sync::Event;

use crate::error::{ExecError, TaskError};
use crate::executor::Shutdown;
use crate::future::{Future, Promise, Slot, Work, pair};
use crate::panics;
use crate::sys::fork;

/// How long dropping the executor waits for its loops.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// Runs asynchronous tasks on one or more event loops, each a thread of its own with a tokio runtime.
///
/// Tasks go to the loops in turn and stay where they are. A task can use all of tokio: timers, sockets, `tokio::spawn`.
/// It must not block: while it does, its loop stands still.
///
/// Dropping the executor cancels what still runs, like [`Shutdown::CancelPending`], and waits for at most two seconds.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tricorne_exec::AsyncExecutor;
///
/// let executor = AsyncExecutor::builder().name("loop").build()?;
/// let future = executor.spawn(async {
///     tokio::time::sleep(Duration::from_millis(1)).await;
///     "awake"
/// });
/// assert_eq!(future.result(), Ok("awake"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AsyncExecutor {
    number: u64,
    name: String,
    loops: Vec<EventLoop>,
    next_loop: AtomicUsize,
}

/// How an [`AsyncExecutor`] is made.
#[derive(Debug, Clone)]
pub struct AsyncExecutorBuilder {
    loops: usize,
    name: String,
}

impl AsyncExecutorBuilder {
    /// Number of event loops, each a thread; at least 1, by default 1.
    #[must_use]
    pub fn loops(mut self, loops: usize) -> Self {
        self.loops = loops.max(1);
        self
    }

    /// Name of the executor; its threads are called `name-0`, `name-1` and so on. By default `loop`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the loops.
    ///
    /// # Errors
    ///
    /// [`ExecError::Start`] if the system refuses a thread, or what its event loop needs; the loops that were started
    /// end again.
    pub fn build(self) -> Result<AsyncExecutor, ExecError> {
        panics::install_hook();
        let mut executor = AsyncExecutor {
            number: fork::new_number(),
            name: self.name,
            loops: Vec::with_capacity(self.loops),
            next_loop: AtomicUsize::new(0),
        };
        for index in 0..self.loops {
            let thread = format!("{}-{index}", executor.name);
            let started = EventLoop::start(&thread).map_err(|source| ExecError::Start { thread, source })?;
            executor.loops.push(started);
        }
        Ok(executor)
    }
}

impl AsyncExecutor {
    /// An executor with one loop, unless told otherwise.
    #[must_use]
    pub fn builder() -> AsyncExecutorBuilder {
        AsyncExecutorBuilder { loops: 1, name: "loop".to_owned() }
    }

    /// Number of event loops.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.loops.len()
    }

    /// Tasks that were spawned and have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.loops.iter().map(|event_loop| event_loop.shared.lock().live).sum()
    }

    /// Has `task` run by one of the loops. Never blocks.
    ///
    /// [`Future::cancel`] ends it at its next `.await`. After [`shutdown`](Self::shutdown) the future fails with
    /// [`TaskError::Rejected`].
    pub fn spawn<T, F>(&self, task: F) -> Future<T>
    where
        F: std::future::Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (promise, future) = pair(OnLoop { executor: self.number });
        if fork::is_elsewhere(self.number) {
            promise.fail(TaskError::Forked);
            return future;
        }
        // Relaxed: it only spreads the tasks.
        let index = self.next_loop.fetch_add(1, Ordering::Relaxed) % self.loops.len();
        let event_loop = &self.loops[index];
        match LiveTask::register(&event_loop.shared) {
            Some(live) => {
                let task = Task { task: Some(Box::pin(task)), promise: Some(promise), _live: live };
                event_loop.runtime.spawn(task);
            }
            None => promise.fail(TaskError::Rejected { executor: self.name.clone() }),
        }
        future
    }

    /// Takes no more tasks, lets those that run end as `how` says, and waits for the loops to end, for at most
    /// `timeout`; what has not ended by then is cancelled. `true` if all loops have ended.
    ///
    /// `false` means that a task blocks its loop: that thread is left alone, and ends when the task lets go. Called
    /// from one of its own loops it does not wait for that one.
    pub fn shutdown(&self, how: Shutdown, timeout: Duration) -> bool {
        if fork::is_elsewhere(self.number) {
            return false;
        }
        let deadline = Instant::now().checked_add(timeout);
        for event_loop in &self.loops {
            event_loop.shared.stop(how, deadline);
        }
        let mut all_ended = true;
        for event_loop in &self.loops {
            all_ended &= event_loop.join(deadline);
        }
        all_ended
    }
}

impl Drop for AsyncExecutor {
    fn drop(&mut self) {
        if fork::is_elsewhere(self.number) {
            // The parent's threads may have been in the middle of anything when the fork came.
            std::mem::forget(std::mem::take(&mut self.loops));
            return;
        }
        self.shutdown(Shutdown::CancelPending, DROP_PATIENCE);
    }
}

impl fmt::Debug for AsyncExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncExecutor")
            .field("name", &self.name)
            .field("loops", &self.loops.len())
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

/// After its deadline a loop gets this long to drop its tasks before it is given up.
const GRACE: Duration = Duration::from_millis(200);

struct EventLoop {
    runtime: Handle,
    shared: Arc<LoopShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the loop's thread, its tasks and the executor know of each other.
struct LoopShared {
    state: Mutex<LoopState>,
    /// The loop is to look at `state` again.
    changed: Event,
    /// The loop has dropped its runtime, and every task with it.
    ended: Event,
}

struct LoopState {
    live: usize,
    stopping: Option<Stop>,
}

#[derive(Clone, Copy)]
struct Stop {
    /// Whether live tasks are run to their end.
    drain: bool,
    /// When they are cancelled all the same.
    deadline: Option<Instant>,
}

impl LoopShared {
    fn lock(&self) -> std::sync::MutexGuard<'_, LoopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, how: Shutdown, deadline: Option<Instant>) {
        self.lock().stopping = Some(Stop { drain: how == Shutdown::Drain, deadline });
        self.changed.set();
    }

    /// Returns when the loop shall end; its tasks run meanwhile.
    async fn run_until_stopped(&self) {
        loop {
            let (live, stopping) = self.look();
            if stopping.is_some_and(|stop| !stop.drain || live == 0) {
                return;
            }
            let change = self.changed.wait_async();
            match stopping.and_then(|stop| stop.deadline) {
                None => change.await,
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline.into(), change).await.is_err() {
                        return;
                    }
                }
            }
            // Cleared before the next look, so a change that comes in between is seen by that look.
            self.changed.clear();
        }
    }

    fn look(&self) -> (usize, Option<Stop>) {
        let state = self.lock();
        (state.live, state.stopping)
    }
}

impl EventLoop {
    fn start(thread: &str) -> std::io::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().thread_name(format!("{thread}-io")).build()?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(LoopShared {
            state: Mutex::new(LoopState { live: 0, stopping: None }),
            changed: Event::new(),
            ended: Event::new(),
        });
        let loop_shared = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name(thread.to_owned()).spawn(move || run(runtime, &loop_shared))?;
        Ok(Self { runtime: handle, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Waits for the thread until `deadline` and a little longer; whether it has ended.
    fn join(&self, deadline: Option<Instant>) -> bool {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return self.shared.ended.is_set();
        };
        if thread.thread().id() == thread::current().id() {
            return false;
        }
        let ended = match deadline.and_then(|deadline| deadline.checked_add(GRACE)) {
            Some(deadline) => self.shared.ended.wait_deadline(deadline),
            None => {
                self.shared.ended.wait();
                true
            }
        };
        if ended {
            // A loop does not panic: its tasks do so guarded.
            let _ = thread.join();
        }
        ended
    }
}

fn run(runtime: Runtime, shared: &LoopShared) {
    runtime.block_on(shared.run_until_stopped());
    // Cancels every task at its `.await`; without waiting for name lookups and the like on tokio's own threads.
    runtime.shutdown_background();
    shared.ended.set();
}

/// Counts a task as live until it is dropped.
struct LiveTask {
    shared: Arc<LoopShared>,
}

impl LiveTask {
    /// `None` if the loop takes no more tasks.
    fn register(shared: &Arc<LoopShared>) -> Option<Self> {
        let mut state = shared.lock();
        if state.stopping.is_some() {
            return None;
        }
        state.live += 1;
        drop(state);
        Some(Self { shared: Arc::clone(shared) })
    }
}

impl Drop for LiveTask {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.live -= 1;
        let was_last = state.live == 0 && state.stopping.is_some();
        drop(state);
        if was_last {
            self.shared.changed.set();
        }
    }
}

/// What the future of a task on a loop knows of it.
struct OnLoop {
    executor: u64,
}

impl<T> Work<T> for OnLoop {
    fn help(&self, _: &Slot<T>) {}

    fn discard(&self) {}

    fn lost(&self) -> Option<TaskError> {
        fork::is_elsewhere(self.executor).then_some(TaskError::Forked)
    }
}

/// A task together with the promise of its result.
struct Task<T, F> {
    /// `None` once it has ended, so that what it holds is dropped before its result is delivered.
    task: Option<Pin<Box<F>>>,
    promise: Option<Promise<T>>,
    _live: LiveTask,
}

// The task is pinned by its box; nothing else is.
impl<T, F> Unpin for Task<T, F> {}

impl<T, F> Task<T, F> {
    fn end(&mut self, outcome: Result<T, TaskError>) {
        // The destructor of the task or of its result may panic, and a callback too; the loop must not see it.
        drop(panics::catch(|| self.task = None));
        if let Some(promise) = self.promise.take() {
            drop(panics::catch(|| promise.deliver(outcome)));
        }
    }
}

impl<T, F> std::future::Future for Task<T, F>
where
    F: std::future::Future<Output = T>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let (Some(task), Some(promise)) = (&mut this.task, &this.promise) else { return Poll::Ready(()) };
        if !promise.start() || promise.poll_cancel_requested(context).is_ready() {
            this.end(Err(TaskError::Cancelled));
            return Poll::Ready(());
        }
        match panics::catch(|| task.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => {
                this.end(Ok(value));
                Poll::Ready(())
            }
            Err(error) => {
                this.end(Err(error));
                Poll::Ready(())
            }
        }
    }
}

impl<T, F> Drop for Task<T, F> {
    fn drop(&mut self) {
        // Only the end of its loop drops a task that has not ended.
        if self.promise.is_some() {
            self.end(Err(TaskError::Cancelled));
        }
    }
}
