//! Event loops that run futures: for work that mostly waits, such as requests.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;
use tricorne_sync::Event;

use crate::error::{ExecError, TaskError};
use crate::executor::{Executor, Shutdown, check_name};
use crate::future::{Future, Promise, Slot, Work, pair};
use crate::map::Map;
use crate::panics;
use crate::sys::fork;
use crate::watchdog::{Blockage, Observer, Watchdog, Watched};

/// How many tasks of a map are on their way, unless told otherwise.
const MAP_WINDOW: usize = 64;

/// How long dropping the executor waits for its loops.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// Runs asynchronous tasks on one or more event loops, each a thread of its own with a tokio runtime.
///
/// Tasks go to the loops in turn and stay where they are. A task can use all of tokio: timers, sockets, `tokio::spawn`.
/// It must not block: while it does, its loop stands still, and a [`watchdog`](AsyncExecutorBuilder::watchdog) says who
/// does it.
///
/// In a program that has a tokio runtime already, [`on`](Self::on) makes an executor that uses that one.
///
/// Dropping the executor cancels what still runs, like [`Shutdown::CancelPending`], and waits for at most two seconds;
/// on a borrowed runtime it does not wait. In a forked child an executor of the parent is recognised: spawning gives
/// [`TaskError::Forked`].
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
    /// After the loops, so that it watches their last steps too.
    watchdog: Option<Watchdog>,
}

/// How an [`AsyncExecutor`] is made.
#[derive(Clone)]
pub struct AsyncExecutorBuilder {
    loops: usize,
    name: String,
    runtime: Option<Handle>,
    watchdog: Option<(Duration, Observer)>,
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

    /// Has `observer` told of each task that keeps its loop from running others for `threshold` or longer: when it is
    /// noticed, which takes up to twice the threshold, and when it is over.
    ///
    /// A few milliseconds are a good threshold: shorter ones report what the system's scheduler does. A task is named
    /// as [`spawn_named`](AsyncExecutor::spawn_named) says; steps that it has spawned by itself on the runtime are not
    /// watched. The observer is called on the watchdog's thread, and should be short. The watchdog costs a few
    /// nanoseconds for each step of a task, and a thread that sleeps while nothing runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use tricorne_exec::AsyncExecutor;
    ///
    /// let (sender, reports) = mpsc::channel();
    /// let executor = AsyncExecutor::builder()
    ///     .watchdog(Duration::from_millis(2), move |blockage| {
    ///         let _ = sender.send(blockage.clone());
    ///     })
    ///     .build()?;
    /// let (release, wait) = mpsc::channel::<()>();
    /// let parsing = executor.spawn_named("parse", async move { wait.recv().is_err() });
    /// assert_eq!(reports.recv()?.task, "parse");
    /// drop(release);
    /// assert!(reports.recv()?.over);
    /// assert_eq!(parsing.result(), Ok(true));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn watchdog(
        mut self,
        threshold: Duration,
        observer: impl Fn(&Blockage) + Send + Sync + 'static,
    ) -> Self {
        self.watchdog = Some((threshold.max(Duration::from_micros(100)), Arc::new(observer)));
        self
    }

    /// Starts the loops.
    ///
    /// # Errors
    ///
    /// [`ExecError::Start`] if the system refuses a thread, or what its event loop needs; the loops that were started
    /// end again. A name with a NUL character, which no thread can have.
    pub fn build(self) -> Result<AsyncExecutor, ExecError> {
        check_name(&self.name)?;
        panics::install_hook();
        let mut executor = AsyncExecutor {
            number: fork::new_number(),
            name: self.name,
            loops: Vec::with_capacity(self.loops),
            next_loop: AtomicUsize::new(0),
            watchdog: None,
        };
        if let Some((threshold, observer)) = self.watchdog {
            let thread = format!("{}-watchdog", executor.name);
            let started = Watchdog::start(thread.clone(), threshold, observer);
            executor.watchdog = Some(started.map_err(|source| ExecError::Start { thread, source })?);
        }
        if let Some(runtime) = self.runtime {
            executor.loops.push(EventLoop::borrow(runtime));
            return Ok(executor);
        }
        for index in 0..self.loops {
            let thread = format!("{}-{index}", executor.name);
            let started = EventLoop::start(&thread).map_err(|source| ExecError::Start { thread, source })?;
            executor.loops.push(started);
        }
        Ok(executor)
    }
}

impl fmt::Debug for AsyncExecutorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncExecutorBuilder")
            .field("loops", &self.loops)
            .field("name", &self.name)
            .field("borrowed", &self.runtime.is_some())
            .field("watchdog", &self.watchdog.as_ref().map(|(threshold, _)| threshold))
            .finish()
    }
}

impl AsyncExecutor {
    /// An executor on a runtime that is there already and stays its owner's: nothing is started here, and shutting
    /// down ends the tasks of this executor only. [`loops`](AsyncExecutorBuilder::loops) has no meaning then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tricorne_exec::AsyncExecutor;
    ///
    /// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// let executor = AsyncExecutor::on(runtime.handle().clone()).name("guest").build()?;
    /// let future = executor.spawn(async { 6 * 7 });
    /// assert_eq!(runtime.block_on(future), Ok(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on(runtime: Handle) -> AsyncExecutorBuilder {
        AsyncExecutorBuilder { runtime: Some(runtime), ..Self::builder() }
    }

    /// An executor with one loop, unless told otherwise.
    #[must_use]
    pub fn builder() -> AsyncExecutorBuilder {
        AsyncExecutorBuilder { loops: 1, name: "loop".to_owned(), runtime: None, watchdog: None }
    }

    /// Name of the executor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of event loops; 1 for a borrowed runtime, whatever it has.
    #[must_use]
    pub fn loops(&self) -> usize {
        self.loops.len()
    }

    /// Tasks that were spawned and have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        if fork::is_elsewhere(self.number) {
            return 0;
        }
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
        self.spawn_named(std::any::type_name::<F>(), task)
    }

    /// [`spawn`](Self::spawn) with a name for the [`watchdog`](AsyncExecutorBuilder::watchdog). Without one, a task is
    /// called after its type, which tells the function that it was written in.
    pub fn spawn_named<T, F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> Future<T>
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
                let watched = self.watchdog.as_ref().map(|watchdog| watchdog.register(name.into()));
                let number = live.number;
                let task = Task { task: Some(Box::pin(task)), promise: Some(promise), watched, _live: live };
                let spawned = event_loop.runtime.spawn(task);
                if let Some(number) = number {
                    event_loop.shared.keep(number, &spawned.abort_handle());
                }
            }
            None => promise.fail(TaskError::Rejected { executor: self.name.clone() }),
        }
        future
    }

    /// Makes a task of every item and runs them side by side; the results come in the order of the items.
    ///
    /// Lazy and bounded: `function` is called by the thread that takes the results, and never more than a
    /// [`window`](Map::window) of tasks (by default 64) are on their way. A result is the value or the error of its
    /// item. Dropping the map cancels its tasks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tricorne_exec::AsyncExecutor;
    ///
    /// let executor = AsyncExecutor::builder().build()?;
    /// let lengths = executor.map(["a", "tricorne", "hat"], |word| async move {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    ///     word.len()
    /// });
    /// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [1, 8, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::type_complexity, reason = "a closure in the type, which an alias cannot name")]
    pub fn map<I, F, T>(
        &self,
        items: I,
        mut function: F,
    ) -> Map<I::IntoIter, impl FnMut(I::Item) -> Future<T::Output>, T::Output>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> T,
        T: std::future::Future + Send + 'static,
        T::Output: Send + 'static,
    {
        Map::new(items.into_iter(), move |item| self.spawn(function(item)), MAP_WINDOW)
    }

    /// Takes no more tasks, lets those that run end as `how` says, and waits for the loops to end, for at most
    /// `timeout`; what has not ended by then is cancelled. `true` if all loops have ended.
    ///
    /// `false` means that a task blocks its loop: that thread is left alone, and ends when the task lets go. Called
    /// from one of its own loops it does not wait for that one. On a borrowed runtime it waits for the tasks; called on
    /// that runtime's only thread they cannot end meanwhile, so there [`shutdown_async`](Self::shutdown_async) is the
    /// way.
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

    /// [`shutdown`](Self::shutdown) from async code, without limit: dropped, it leaves the executor closed.
    pub async fn shutdown_async(&self, how: Shutdown) {
        if fork::is_elsewhere(self.number) {
            return;
        }
        for event_loop in &self.loops {
            event_loop.shared.stop(how, None);
        }
        for event_loop in &self.loops {
            event_loop.shared.ended.wait_async().await;
        }
    }
}

impl Executor for AsyncExecutor {
    fn name(&self) -> &str {
        &self.name
    }

    fn parallelism(&self) -> usize {
        self.loops.len()
    }

    /// Has the closure run on a loop, which it must not block: see [`AsyncExecutor`].
    fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_named(std::any::type_name::<F>(), async move { task() })
    }

    fn shutdown_timeout(&self, how: Shutdown, timeout: Option<Duration>) -> bool {
        self.shutdown(how, timeout.unwrap_or(Duration::MAX))
    }
}

impl Drop for AsyncExecutor {
    fn drop(&mut self) {
        if fork::is_elsewhere(self.number) {
            // The parent's threads may have been in the middle of anything when the fork came.
            std::mem::forget((std::mem::take(&mut self.loops), self.watchdog.take()));
            return;
        }
        let borrowed = self.loops.iter().any(|event_loop| event_loop.borrowed);
        self.shutdown(Shutdown::CancelPending, if borrowed { Duration::ZERO } else { DROP_PATIENCE });
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
    /// The runtime is somebody else's: only our tasks are to end.
    borrowed: bool,
    shared: Arc<LoopShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the loop's thread, its tasks and the executor know of each other.
struct LoopShared {
    state: Mutex<LoopState>,
    /// The loop is to look at `state` again.
    changed: Event,
    /// The loop has dropped its runtime, and every task with it; of a borrowed one, every task of ours.
    ended: Event,
}

struct LoopState {
    live: usize,
    stopping: Option<Stop>,
    /// How to end each task, by number, on a runtime that we may not end; `None` until it is spawned.
    handles: Option<HashMap<u64, Option<AbortHandle>>>,
    next_number: u64,
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

    fn new(borrowed: bool) -> Arc<Self> {
        let handles = borrowed.then(HashMap::new);
        Arc::new(Self {
            state: Mutex::new(LoopState { live: 0, stopping: None, handles, next_number: 0 }),
            changed: Event::new(),
            ended: Event::new(),
        })
    }

    fn stop(&self, how: Shutdown, deadline: Option<Instant>) {
        let mut state = self.lock();
        state.stopping = Some(Stop { drain: how == Shutdown::Drain, deadline });
        let over = state.handles.is_some() && state.live == 0;
        drop(state);
        self.changed.set();
        if over {
            self.ended.set();
        }
        if how == Shutdown::CancelPending {
            self.abort_all();
        }
    }

    /// Ends the tasks on a borrowed runtime, each at its next `.await`.
    fn abort_all(&self) {
        let handles: Vec<_> =
            self.lock().handles.iter().flat_map(HashMap::values).flatten().cloned().collect();
        handles.iter().for_each(AbortHandle::abort);
    }

    /// Remembers how to end a task, unless it has ended.
    fn keep(&self, number: u64, handle: &AbortHandle) {
        let mut state = self.lock();
        let cancelled = state.stopping.is_some_and(|stop| !stop.drain);
        if let Some(place) = state.handles.as_mut().and_then(|handles| handles.get_mut(&number)) {
            *place = Some(handle.clone());
        }
        drop(state);
        if cancelled {
            handle.abort();
        }
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
        let shared = LoopShared::new(false);
        let loop_shared = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name(thread.to_owned()).spawn(move || run(runtime, &loop_shared))?;
        Ok(Self { runtime: handle, borrowed: false, shared, thread: Mutex::new(Some(thread)) })
    }

    fn borrow(runtime: Handle) -> Self {
        Self { runtime, borrowed: true, shared: LoopShared::new(true), thread: Mutex::new(None) }
    }

    /// Waits until the tasks have ended, those that are left at `deadline` being cancelled then.
    fn join_borrowed(&self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            self.shared.ended.wait();
            return true;
        };
        if self.shared.ended.wait_deadline(deadline) {
            return true;
        }
        self.shared.abort_all();
        self.shared.ended.wait_timeout(GRACE)
    }

    /// Waits for the thread until `deadline` and a little longer; whether it has ended.
    fn join(&self, deadline: Option<Instant>) -> bool {
        if self.borrowed {
            return self.join_borrowed(deadline);
        }
        let own = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if self.lock_thread().as_ref().is_some_and(own) {
            return false;
        }
        let ended = match deadline.and_then(|deadline| deadline.checked_add(GRACE)) {
            Some(deadline) => self.shared.ended.wait_deadline(deadline),
            None => {
                self.shared.ended.wait();
                true
            }
        };
        // Only whoever finds it ended takes the handle: a wait that was too short may be repeated.
        if ended && let Some(thread) = { self.lock_thread().take() } {
            // A loop does not panic: its tasks do so guarded.
            let _ = thread.join();
        }
        ended
    }

    fn lock_thread(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// On a borrowed runtime.
    number: Option<u64>,
}

impl LiveTask {
    /// `None` if the loop takes no more tasks.
    fn register(shared: &Arc<LoopShared>) -> Option<Self> {
        let mut state = shared.lock();
        if state.stopping.is_some() {
            return None;
        }
        state.live += 1;
        let number = state.next_number;
        state.next_number += 1;
        let number = state.handles.as_mut().map(|handles| {
            handles.insert(number, None);
            number
        });
        drop(state);
        Some(Self { shared: Arc::clone(shared), number })
    }
}

impl Drop for LiveTask {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.live -= 1;
        let handles = state.handles.as_mut();
        let handle = self.number.and_then(|number| handles?.remove(&number));
        let was_last = state.live == 0 && state.stopping.is_some();
        let borrowed = state.handles.is_some();
        drop(state);
        drop(handle);
        if was_last {
            self.shared.changed.set();
        }
        if was_last && borrowed {
            self.shared.ended.set();
        }
    }
}

/// What the future of a task on a loop knows of it.
struct OnLoop {
    executor: u64,
}

impl<T> Work<T> for OnLoop {
    fn help(&self, _: &Slot<T>) {}

    fn lost(&self) -> Option<TaskError> {
        fork::is_elsewhere(self.executor).then_some(TaskError::Forked)
    }
}

/// A task together with the promise of its result.
struct Task<T, F> {
    /// `None` once it has ended, so that what it holds is dropped before its result is delivered.
    task: Option<Pin<Box<F>>>,
    promise: Option<Promise<T>>,
    watched: Option<Watched>,
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
        let mut step = || panics::catch(|| task.as_mut().poll(context));
        let outcome = match &this.watched {
            Some(watched) => watched.step(step),
            None => step(),
        };
        match outcome {
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
