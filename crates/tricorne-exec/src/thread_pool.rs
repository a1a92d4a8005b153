//! Threads that run tasks: for native work that keeps a core busy, and for calls that block.
//!
//! # Protocol
//!
//! The queue has two halves, each with a mutex, so that who submits and who works do not meet at every task: `submit` puts
//! tasks into [`State`], workers take them from [`Ready`]; a worker that finds `Ready` empty moves over all that has come
//! meanwhile. Everything else of a pool is in `State`. Whoever needs both locks takes that of `Ready` first. Foreign code
//! never runs under either. A worker is in one of three states:
//!
//! ```text
//!              takes a task                      nothing to do
//!   searching ─────────────▶ busy ──────────────────────────────▶ searching ──▶ idle ──▶ (retired)
//!       ▲                                                                        │
//!       └───────────────── summoned by `submit`, or by a worker ─────────────────┘
//! ```
//!
//! At most one worker searches at a time: lets others run for a moment before it falls asleep, or has been summoned and not taken
//! a task yet. While there is one, `submit` wakes nobody; a searching worker that takes a task and leaves others behind
//! summons the next. So a burst of tiny tasks costs one wake-up and not one for each, and yet, as long as there are
//! tasks, either no worker is idle or one is on its way: a worker falls idle only under both locks with both halves empty, and
//! what it finds while it searches, it takes under both.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use std::cell::Cell;

use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
use tricorne_sync::prim::thread::{self, JoinHandle};
use tricorne_sync::prim::{Arc, Condvar, Mutex, MutexGuard, Parker, lock, thread_local};

use crate::error::{ExecError, TaskError};
use crate::executor::{Executor, Shutdown, check_name, window_for};
use crate::future::{Core, Future, Slot, Work};
use crate::map::Map;
use crate::panics;
use crate::park;
use crate::scope::{self, Scope};
use crate::sys::fork;

thread_local! {
    /// The pool that this thread works for; no pool has the number 0.
    #[expect(clippy::missing_const_for_thread_local, reason = "the model checkers' macros know no `const`")]
    static POOL: Cell<u64> = Cell::new(0);
}

/// Whether this thread is a worker of the pool with this number.
pub(crate) fn is_worker_of(pool: u64) -> bool {
    POOL.with(Cell::get) == pool && !fork::is_elsewhere(pool)
}

/// Runs tasks on named threads, in the order in which they were submitted.
///
/// Threads are started when there is work for them, up to the number of [`workers`](ThreadPoolBuilder::workers), and
/// end when they were idle for the [`keep_alive`](ThreadPoolBuilder::keep_alive) time.
///
/// The queue of tasks has no bound: whoever may submit faster than the workers work uses [`map`](Self::map), which is
/// bounded, or a [`Semaphore`](tricorne_sync::Semaphore). A task that panics fails alone. A task that waits for another
/// one of the same pool, with [`Future::result`], [`wait`](crate::wait), [`as_completed`](crate::as_completed), a map or
/// a scope, runs it itself if no worker has begun it, so a pool does not wait for itself. (Awaiting it there, in a
/// runtime of the task's own, has no such help.)
///
/// Dropping the pool finishes all tasks that were submitted, like [`Shutdown::Drain`]; while the thread panics, it
/// cancels those that have not started, so that the panic is not held up by them.
///
/// # Forks
///
/// In a forked child the pool of the parent is recognised: its threads do not exist there. Submitting gives
/// [`TaskError::Forked`], as does waiting for a task of the parent's; shutting it down or dropping it does nothing.
///
/// # Examples
///
/// ```
/// use tricorne_exec::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::builder().workers(2).name("squares").build()?;
/// let squares: Vec<_> = (0..5).map(|n| pool.submit(move || n * n)).collect();
/// let squares: Result<Vec<u32>, _> = squares.into_iter().map(|future| future.result()).collect();
/// assert_eq!(squares?, [0, 1, 4, 9, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ThreadPoolExecutor {
    pool: Arc<Pool>,
}

/// How a [`ThreadPoolExecutor`] is made.
#[derive(Clone)]
pub struct ThreadPoolBuilder {
    workers: usize,
    name: String,
    stack_bytes: Option<usize>,
    keep_alive: Option<Duration>,
    start_all: bool,
    initializer: Option<Initializer>,
}

type Initializer = Arc<dyn Fn() -> Result<(), BoxError> + Send + Sync>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ThreadPoolBuilder {
    /// Number of threads at the most; at least 1. By default as many as the process may use cores.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Name of the pool; its threads are called `name-0`, `name-1` and so on. By default `worker`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Stack of each thread in bytes. By default what the standard library uses (2 MiB).
    #[must_use]
    pub fn stack_bytes(mut self, stack_bytes: usize) -> Self {
        self.stack_bytes = Some(stack_bytes);
        self
    }

    /// How long a thread stays when it has nothing to do; `None` for ever. By default 10 seconds: longer than a pause
    /// between two batches, and a program that needs the pool once gets its memory back.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Option<Duration>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Starts all threads in [`build`](Self::build), not when they are needed, and keeps them: for a fixed set of tasks
    /// that must all run at once, where a thread that cannot be had is an error to know before.
    #[must_use]
    pub fn start_all(mut self) -> Self {
        self.start_all = true;
        self.keep_alive = None;
        self
    }

    /// Has each thread call `initializer` before its first task.
    ///
    /// If it fails or panics, the pool is broken: what waits and what is submitted later fails with
    /// [`TaskError::Broken`] and the reason, since no task may run without what the initializer sets up.
    #[must_use]
    pub fn initializer<F>(mut self, initializer: F) -> Self
    where
        F: Fn() -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    {
        self.initializer = Some(Arc::new(initializer));
        self
    }

    /// Makes the pool.
    ///
    /// # Errors
    ///
    /// [`ExecError::Start`] if the system refuses a thread of [`start_all`](Self::start_all); those that were started
    /// end again. A name with a NUL character, which no thread can have. Without `start_all` no thread is started here: if none can be had later, tasks fail with
    /// [`TaskError::Broken`].
    pub fn build(self) -> Result<ThreadPoolExecutor, ExecError> {
        check_name(&self.name)?;
        panics::install_hook();
        let start_all = self.start_all;
        let executor = ThreadPoolExecutor {
            pool: Arc::new(Pool {
                number: fork::new_number(),
                ready: Ready::default(),
                state: Mutex::new(State {
                    tasks: VecDeque::new(),
                    ready_at_most: 0,
                    idle: Vec::new(),
                    searching: 0,
                    starting: 0,
                    workers: Vec::new(),
                    live: 0,
                    leaving: 0,
                    phase: Phase::Open,
                    counts: Counts::default(),
                }),
                incoming: AtomicUsize::new(0),
                ended: Condvar::new(),
                builder: self,
            }),
        };
        if start_all {
            let pool = &executor.pool;
            let mut state = lock(&pool.state);
            for _ in 0..pool.builder.workers {
                if let Err((thread, source)) = pool.start_worker(&mut state) {
                    drop(state);
                    return Err(ExecError::Start { thread, source });
                }
            }
        }
        Ok(executor)
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("stack_bytes", &self.stack_bytes)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// What a [`ThreadPoolExecutor`] is doing, and has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadPoolStats {
    /// Threads that there are now.
    pub threads: usize,
    /// Of these, asleep for want of work.
    pub idle: usize,
    /// Tasks that wait for a worker. A cancelled one counts until its turn would have come.
    pub queued: usize,
    /// The most that ever waited at once.
    pub queued_peak: usize,
    /// Tasks that were submitted.
    pub submitted: u64,
    /// Tasks that workers have taken from the queue and are done with, those included that were cancelled before or
    /// run by a worker that waited for them.
    pub finished: u64,
    /// Panics of tasks on the pool's threads, whether or not somebody has asked for the result.
    pub panicked: u64,
    /// Threads that were started.
    pub threads_started: u64,
    /// Threads that ended because they were idle.
    pub threads_retired: u64,
}

/// What the executor and its workers share.
pub(crate) struct Pool {
    number: u64,
    builder: ThreadPoolBuilder,
    ready: Ready,
    state: Mutex<State>,
    /// Number of tasks in `state`, to look at without the lock.
    incoming: AtomicUsize,
    /// Told when a worker has ended.
    ended: Condvar,
}

/// The front of the queue, which only workers touch: on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Ready {
    state: Mutex<ReadyState>,
    /// Number of its tasks, to look at without the lock.
    len: AtomicUsize,
}

#[derive(Default)]
struct ReadyState {
    tasks: VecDeque<Arc<dyn Job>>,
    /// Tasks that workers are done with.
    finished: u64,
    /// Panics in them.
    panicked: u64,
}

struct State {
    /// The back of the queue.
    tasks: VecDeque<Arc<dyn Job>>,
    /// The front is not longer than that: what to look at on another core's cache line is known without.
    ready_at_most: usize,
    /// Workers that sleep, by their place; the one that fell asleep last is summoned first.
    idle: Vec<usize>,
    /// Workers that look for a task: 0 or 1, and for a moment more when all are summoned to end.
    searching: usize,
    /// Threads that were started and have not come to the queue yet.
    starting: usize,
    workers: Vec<Worker>,
    /// Threads that have not ended.
    live: usize,
    /// Workers that wait in `shutdown` for the others.
    leaving: usize,
    phase: Phase,
    counts: Counts,
}

#[derive(Default)]
struct Worker {
    /// Whether a thread has this place.
    taken: bool,
    /// It was taken off the list of the idle by somebody who has work for it.
    summoned: bool,
    parker: Arc<Parker>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker has to say of the task that it has run.
#[derive(Clone, Copy)]
struct Done {
    panicked: u64,
}

enum Phase {
    Open,
    /// Nothing more is taken; what is in the queue is run.
    Closed,
    Broken(String),
}

#[derive(Default)]
struct Counts {
    queued_peak: usize,
    submitted: u64,
    started: u64,
    retired: u64,
}

impl State {
    /// The sleeper to wake for what is in the queue, unless one is on its way.
    fn summon(&mut self) -> Option<Arc<Parker>> {
        if self.searching > 0 {
            return None;
        }
        let place = self.idle.pop()?;
        self.searching += 1;
        let worker = &mut self.workers[place];
        worker.summoned = true;
        Some(Arc::clone(&worker.parker))
    }

    /// All that sleep, so that they see that it is over.
    fn summon_all(&mut self) -> Vec<Arc<Parker>> {
        self.searching += self.idle.len();
        let idle = std::mem::take(&mut self.idle);
        let summoned = idle.into_iter().map(|place| {
            self.workers[place].summoned = true;
            Arc::clone(&self.workers[place].parker)
        });
        summoned.collect()
    }
}

impl Pool {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn name(&self) -> &str {
        &self.builder.name
    }

    /// Puts a task into the queue and sees to it that somebody comes for it.
    pub(crate) fn push(self: &Arc<Self>, job: Arc<dyn Job>) -> Result<(), TaskError> {
        if fork::is_elsewhere(self.number) {
            return Err(TaskError::Forked);
        }
        let mut state = lock(&self.state);
        match &state.phase {
            Phase::Open => {}
            Phase::Closed => return Err(TaskError::Rejected { executor: self.name().to_owned() }),
            Phase::Broken(reason) => {
                return Err(TaskError::Broken { message: reason.clone() });
            }
        }
        state.tasks.push_back(job);
        state.counts.submitted += 1;
        let incoming = state.tasks.len();
        // Relaxed: only a hint; the queue itself is looked at under the lock.
        self.incoming.store(incoming, Ordering::Relaxed);
        if incoming + state.ready_at_most > state.counts.queued_peak {
            state.ready_at_most = self.ready.len.load(Ordering::Relaxed);
            state.counts.queued_peak = state.counts.queued_peak.max(incoming + state.ready_at_most);
        }
        if let Some(parker) = state.summon() {
            drop(state);
            parker.unpark();
            return Ok(());
        }
        let needs_another = state.idle.is_empty()
            && state.live < self.builder.workers
            && incoming + self.ready.len.load(Ordering::Relaxed) > state.starting + state.searching;
        if needs_another
            && let Err((thread, source)) = self.start_worker(&mut state)
            && state.live == 0
        {
            // Nobody will come: not for this one, and there are no others, nor was anything left at the front by the last
            // worker that went.
            let tasks = std::mem::take(&mut state.tasks);
            self.incoming.store(0, Ordering::Relaxed);
            drop(state);
            let message = format!("cannot start thread `{thread}`: {source}");
            Self::end_all(tasks, || TaskError::Broken { message: message.clone() });
        }
        Ok(())
    }

    /// Starts a thread. Under the lock, so that its place has its handle before it can leave.
    fn start_worker(self: &Arc<Self>, state: &mut State) -> Result<(), (String, io::Error)> {
        let place = state.workers.iter().position(|worker| !worker.taken).unwrap_or(state.workers.len());
        if place == state.workers.len() {
            state.workers.push(Worker::default());
        }
        let name = format!("{}-{place}", self.name());
        let mut builder = thread::Builder::new().name(name.clone());
        if let Some(bytes) = self.builder.stack_bytes {
            builder = builder.stack_size(bytes);
        }
        let parker = Arc::new(Parker::new());
        let pool = Arc::clone(self);
        let worker_parker = Arc::clone(&parker);
        let thread =
            builder.spawn(move || pool.work(place, &worker_parker)).map_err(|source| (name, source))?;
        state.workers[place] = Worker { taken: true, summoned: false, parker, thread: Some(thread) };
        state.live += 1;
        state.starting += 1;
        state.counts.started += 1;
        Ok(())
    }

    /// What a worker does.
    fn work(self: &Arc<Self>, place: usize, parker: &Parker) {
        POOL.with(|pool| pool.set(self.number));
        if let Some(initializer) = &self.builder.initializer {
            // Its error is foreign, too.
            let outcome = panics::catch(|| initializer().map_err(|error| error.to_string()));
            let reason = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("initializer of `{}` failed: {error}", self.name())),
                Err(error) => Some(format!("initializer of `{}` failed: {error}", self.name())),
            };
            if let Some(reason) = reason {
                self.break_down(reason);
                return;
            }
        }
        lock(&self.state).starting -= 1;
        let mut done = None;
        while let Some(job) = self.next(place, parker, done) {
            let caught = panics::caught();
            // Its task's panics are caught before; what is left are those of a callback, or of the destructor of a
            // result that nobody wanted: they end here, and the worker goes on.
            panics::contain(|| job.run());
            if fork::is_elsewhere(self.number) {
                // The task has forked, and this is the child: the tasks are the parent's, and its locks in any state.
                std::mem::forget(job);
                return;
            }
            panics::contain(|| drop(job));
            done = Some(Done { panicked: panics::caught() - caught });
        }
    }

    /// The next task; `None` if there will be none for this worker.
    fn next(self: &Arc<Self>, place: usize, parker: &Parker, done: Option<Done>) -> Option<Arc<dyn Job>> {
        let mut ready = lock(&self.ready.state);
        if let Some(Done { panicked }) = done {
            ready.finished += 1;
            ready.panicked += panicked;
        }
        if let Some(job) = ready.tasks.pop_front() {
            // Relaxed: a hint, as `incoming`.
            self.ready.len.store(ready.tasks.len(), Ordering::Relaxed);
            return Some(job);
        }
        let mut searching = false;
        loop {
            let mut state = lock(&self.state);
            if ready.tasks.is_empty() {
                let State { tasks, ready_at_most, .. } = &mut *state;
                std::mem::swap(&mut ready.tasks, tasks);
                *ready_at_most = ready.tasks.len();
            }
            if let Some(job) = ready.tasks.pop_front() {
                let left = ready.tasks.len() + state.tasks.len();
                self.ready.len.store(ready.tasks.len(), Ordering::Relaxed);
                // Release: whoever sees that they have left this half sees them in the other.
                self.incoming.store(state.tasks.len(), Ordering::Release);
                drop(ready);
                state.searching -= usize::from(searching);
                let next = if left > 0 { state.summon() } else { None };
                if next.is_none()
                    && searching
                    && state.idle.is_empty()
                    && state.live < self.builder.workers
                    && left > state.starting
                {
                    // Without it, the task waits until one of those that there are is free.
                    let _ = self.start_worker(&mut state);
                }
                drop(state);
                if let Some(parker) = next {
                    parker.unpark();
                }
                return Some(job);
            }
            // It stays empty: to move tasks there takes the other lock, too.
            drop(ready);
            if !matches!(state.phase, Phase::Open) {
                state.searching -= usize::from(searching);
                self.leave(state);
                return None;
            }
            if !searching && state.searching == 0 {
                state.searching += 1;
                drop(state);
                park::yield_until(|| self.queued() > 0);
            } else {
                state.searching -= usize::from(searching);
                state.idle.push(place);
                self.sleep(state, place, parker)?;
            }
            searching = true;
            ready = lock(&self.ready.state);
        }
    }

    /// Sleeps until summoned; `None` if it was idle for too long and has left.
    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, State>, place: usize, parker: &Parker) -> Option<()> {
        let deadline = self.builder.keep_alive.and_then(park::deadline_after);
        loop {
            drop(state);
            let in_time = parker.park_deadline(deadline);
            state = lock(&self.state);
            // A token may be left over from a summons that came just when the time was up.
            if std::mem::take(&mut state.workers[place].summoned) {
                return Some(());
            }
            if !in_time {
                state.idle.retain(|idle| *idle != place);
                state.counts.retired += 1;
                let worker = std::mem::take(&mut state.workers[place]);
                self.leave(state);
                drop(worker);
                return None;
            }
        }
    }

    fn leave(&self, mut state: MutexGuard<'_, State>) {
        state.live -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Takes nothing more, and lets go of what waits, since an initializer has failed.
    fn break_down(&self, reason: String) {
        let (tasks, mut state) = self.take_all();
        let error = TaskError::Broken { message: reason.clone() };
        state.starting -= 1;
        state.phase = Phase::Broken(reason);
        let sleepers = state.summon_all();
        drop(state);
        sleepers.iter().for_each(|parker| parker.unpark());
        Self::end_all(tasks, || error.clone());
        self.leave(lock(&self.state));
    }

    /// Empties the queue, whose lock is handed on.
    fn take_all(&self) -> (VecDeque<Arc<dyn Job>>, MutexGuard<'_, State>) {
        let mut ready = lock(&self.ready.state);
        let mut state = lock(&self.state);
        let mut tasks = std::mem::take(&mut ready.tasks);
        tasks.append(&mut state.tasks);
        self.ready.len.store(0, Ordering::Relaxed);
        self.incoming.store(0, Ordering::Relaxed);
        (tasks, state)
    }

    /// Tasks that wait.
    fn queued(&self) -> usize {
        // Acquire: with the store that says that tasks have gone to the front.
        self.incoming.load(Ordering::Acquire) + self.ready.len.load(Ordering::Relaxed)
    }

    /// Ends tasks that nobody will run. They are foreign: what panics in one is not to keep the others.
    fn end_all(tasks: VecDeque<Arc<dyn Job>>, error: impl Fn() -> TaskError) {
        for job in tasks {
            panics::contain(|| job.end(error()));
            panics::contain(|| drop(job));
        }
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Instant>) -> bool {
        if fork::is_elsewhere(self.number) {
            return false;
        }
        let inside = is_worker_of(self.number);
        let (tasks, mut state) = match how {
            Shutdown::Drain => (VecDeque::new(), lock(&self.state)),
            Shutdown::CancelPending => self.take_all(),
        };
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closed;
        }
        let sleepers = state.summon_all();
        drop(state);
        sleepers.iter().for_each(|parker| parker.unpark());
        Self::end_all(tasks, || TaskError::Cancelled);

        let mut state = lock(&self.state);
        if inside {
            state.leaving += 1;
            self.ended.notify_all();
        }
        let mut ended = true;
        // A worker does not wait for itself, nor two that shut the pool down for each other.
        while state.live > if inside { state.leaving } else { 0 } {
            state = match deadline {
                None => self.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        ended = false;
                        break;
                    }
                    self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if inside {
            state.leaving -= 1;
            return ended;
        }
        if ended {
            let threads: Vec<_> =
                state.workers.iter_mut().filter_map(|worker| worker.thread.take()).collect();
            drop(state);
            for thread in threads {
                // It is past its last look at the pool. It does not panic: all that is foreign runs guarded.
                let _ = thread.join();
            }
        }
        ended
    }
}

impl ThreadPoolExecutor {
    /// A pool with as many workers as the process may use cores, unless told otherwise.
    #[must_use]
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            name: "worker".to_owned(),
            stack_bytes: None,
            keep_alive: Some(Duration::from_secs(10)),
            start_all: false,
            initializer: None,
        }
    }

    /// Number of threads at the most.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool.builder.workers
    }

    /// Name of the pool.
    #[must_use]
    pub fn name(&self) -> &str {
        self.pool.name()
    }

    /// Tasks that wait for a worker.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.pool.queued()
    }

    /// The figures at this moment.
    #[must_use]
    pub fn stats(&self) -> ThreadPoolStats {
        if fork::is_elsewhere(self.pool.number) {
            return ThreadPoolStats {
                threads: 0,
                idle: 0,
                queued: 0,
                queued_peak: 0,
                submitted: 0,
                finished: 0,
                panicked: 0,
                threads_started: 0,
                threads_retired: 0,
            };
        }
        let ready = lock(&self.pool.ready.state);
        let state = lock(&self.pool.state);
        ThreadPoolStats {
            threads: state.live,
            idle: state.idle.len(),
            queued: ready.tasks.len() + state.tasks.len(),
            queued_peak: state.counts.queued_peak,
            submitted: state.counts.submitted,
            finished: ready.finished,
            panicked: ready.panicked,
            threads_started: state.counts.started,
            threads_retired: state.counts.retired,
        }
    }

    /// Has `task` run by a worker. Never blocks.
    ///
    /// After [`shutdown`](Self::shutdown) the future fails with [`TaskError::Rejected`].
    pub fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let core = Arc::new(Core {
            slot: Slot::new(),
            work: Task { pool: self.pool.number, closure: Mutex::new(Some(task)) },
        });
        if let Err(error) = self.pool.push(Arc::clone(&core) as Arc<dyn Job>) {
            core.end(error);
        }
        Future::of(core)
    }

    /// Calls `function` with every item, on the workers; the results come in the order of the items.
    ///
    /// Lazy and bounded: items are taken from `items` by the thread that takes the results, never more than a
    /// [`window`](Map::window) ahead (by default four for each worker), so a million items need no more memory than a few.
    /// A result is the value or the error of its item; one that fails does not end the others. Dropping the map
    /// cancels what has not started.
    ///
    /// # Examples
    ///
    /// ```
    /// use tricorne_exec::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().workers(2).build()?;
    /// let squares: Result<Vec<u64>, _> = pool.map(1..=4, |n: u64| n * n).collect();
    /// assert_eq!(squares?, [1, 4, 9, 16]);
    ///
    /// // Endless input is no problem: only what is asked for is computed, and a few more.
    /// let first = pool.map(1_u64.., |n| n * n).find(|square| square.as_ref().is_ok_and(|n| *n > 1000));
    /// assert_eq!(first, Some(Ok(1024)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<I, F, R>(&self, items: I, function: F) -> Map<I::IntoIter, impl FnMut(I::Item) -> Future<R>, R>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let function = Arc::new(function);
        let submit = move |item| {
            let function = Arc::clone(&function);
            self.submit(move || function(item))
        };
        Map::new(items.into_iter(), submit, window_for(self.workers()))
    }

    /// Runs `body`, whose tasks may borrow from outside of it, and returns when all of them have ended.
    ///
    /// A task's panic is in its future only: the scope returns as ever. If nobody asks for it there, the program's panic hook
    /// is told.
    ///
    /// Called by a worker of this pool it runs those tasks of the scope itself that no other has begun. If `body`
    /// panics, the tasks that it has submitted still run to their end before the panic goes on.
    ///
    /// # Examples
    ///
    /// ```
    /// use tricorne_exec::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().workers(2).build()?;
    /// let text = "borrowed by both tasks".to_owned();
    /// let mut upper = String::new();
    /// let words = pool.scope(|scope| {
    ///     drop(scope.submit(|| upper = text.to_uppercase()));
    ///     let words = scope.submit(|| text.split(' ').count());
    ///     words.result()
    /// });
    /// assert_eq!((words?, upper.as_str()), (4, "BORROWED BY BOTH TASKS"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<'env, R>(&'env self, body: impl for<'scope> FnOnce(&Scope<'scope, 'env>) -> R) -> R {
        scope::run(&self.pool, body)
    }

    /// Takes no more tasks, deals with those that wait as `how` says, and waits until the running ones have ended.
    ///
    /// Called by one of its own workers it does not wait for that one. Calling it again is allowed, and may turn
    /// [`Shutdown::Drain`] into [`Shutdown::CancelPending`].
    pub fn shutdown(&self, how: Shutdown) {
        self.pool.shutdown(how, None);
    }

    /// [`shutdown`](Self::shutdown), waiting for at most `timeout`; whether all threads have ended by then. Those that
    /// have not go on, and end when their task lets go.
    pub fn shutdown_timeout(&self, how: Shutdown, timeout: Duration) -> bool {
        self.pool.shutdown(how, park::deadline_after(timeout))
    }
}

impl Executor for ThreadPoolExecutor {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn parallelism(&self) -> usize {
        self.workers()
    }

    fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Self::submit(self, task)
    }

    fn shutdown_timeout(&self, how: Shutdown, timeout: Option<Duration>) -> bool {
        self.pool.shutdown(how, timeout.and_then(park::deadline_after))
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        if fork::is_elsewhere(self.pool.number) {
            // What is in the queue may have been half written when the fork came: it is not even dropped.
            std::mem::forget(Arc::clone(&self.pool));
            return;
        }
        self.shutdown(if std::thread::panicking() { Shutdown::CancelPending } else { Shutdown::Drain });
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolExecutor")
            .field("name", &self.name())
            .field("workers", &self.workers())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

/// What the queue holds: a task that is run or ended, whichever comes first.
pub(crate) trait Job: Send + Sync {
    fn run(&self);
    fn end(&self, error: TaskError);
}

/// A closure for a pool.
struct Task<F> {
    pool: u64,
    /// Whoever takes it has the say over the slot: to run it (a worker from the queue, or one that waits for the result), to
    /// end it, or to cancel it.
    closure: Mutex<Option<F>>,
}

impl<F> Task<F> {
    fn take(&self) -> Option<F> {
        lock(&self.closure).take()
    }

    fn run<T>(&self, slot: &Slot<T>)
    where
        F: FnOnce() -> T,
    {
        if let Some(closure) = self.take() {
            slot.deliver(panics::catch(closure));
        }
    }

    /// Whether it had not begun.
    fn end<T>(&self, slot: &Slot<T>, error: TaskError) -> bool {
        let Some(closure) = self.take() else { return false };
        slot.deliver(Err(error));
        // Last: what it holds is foreign, and may panic when it goes.
        drop(closure);
        true
    }
}

impl<T, F> Job for Core<T, Task<F>>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&self) {
        self.work.run(&self.slot);
    }

    fn end(&self, error: TaskError) {
        self.work.end(&self.slot, error);
    }
}

impl<T, F> Work<T> for Task<F>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn help(&self, slot: &Slot<T>) {
        if is_worker_of(self.pool) {
            self.run(slot);
        }
    }

    fn cancel(&self, slot: &Slot<T>) -> bool {
        self.end(slot, TaskError::Cancelled)
    }

    fn lost(&self) -> Option<TaskError> {
        fork::is_elsewhere(self.pool).then_some(TaskError::Forked)
    }
}
