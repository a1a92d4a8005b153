//! Threads that run tasks: for native work that keeps a core busy, and for calls that block.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tricorne_sync::Queue;

use crate::error::{ExecError, TaskError};
use crate::executor::Shutdown;
use crate::future::{Future, Inline, Promise, promise};
use crate::panics;

thread_local! {
    /// The pool that this thread works for; no pool has the number 0.
    static POOL: Cell<u64> = const { Cell::new(0) };
}

/// Runs tasks on a fixed number of named threads, in the order in which they were submitted.
///
/// The queue of tasks has no bound: whoever may submit faster than the workers work bounds it, with a
/// [`Semaphore`](tricorne_sync::Semaphore) say. A task that panics fails alone. A task that waits for another one of
/// the same pool, with [`Future::result`], runs it itself if no worker has begun it, so a pool does not wait for
/// itself. (Awaiting it there, in a runtime of the task's own, has no such help.)
///
/// Dropping the pool finishes all tasks that were submitted, like [`Shutdown::Drain`]; while the thread panics, it
/// cancels those that have not started, so that the panic is not held up by them.
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
    name: String,
    number: u64,
    tasks: Arc<Queue<Arc<dyn Job>>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    worker_count: usize,
}

/// How a [`ThreadPoolExecutor`] is made.
#[derive(Debug, Clone)]
pub struct ThreadPoolBuilder {
    workers: usize,
    name: String,
    stack_bytes: Option<usize>,
}

impl ThreadPoolBuilder {
    /// Number of threads; at least 1. By default as many as the process may use cores.
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

    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`ExecError::Start`] if the system refuses one; those that were started end again.
    pub fn build(self) -> Result<ThreadPoolExecutor, ExecError> {
        static NEXT_POOL: AtomicU64 = AtomicU64::new(1);
        panics::install_hook();
        let pool = ThreadPoolExecutor {
            name: self.name,
            // Relaxed: only the numbers' being different matters.
            number: NEXT_POOL.fetch_add(1, Ordering::Relaxed),
            tasks: Arc::new(Queue::bounded(usize::MAX)),
            workers: Mutex::new(Vec::with_capacity(self.workers)),
            worker_count: self.workers,
        };
        for index in 0..self.workers {
            let thread = format!("{}-{index}", pool.name);
            let mut builder = thread::Builder::new().name(thread.clone());
            if let Some(bytes) = self.stack_bytes {
                builder = builder.stack_size(bytes);
            }
            let tasks = Arc::clone(&pool.tasks);
            let number = pool.number;
            let worker = builder
                .spawn(move || work(&tasks, number))
                .map_err(|source| ExecError::Start { thread, source })?;
            pool.lock_workers().push(worker);
        }
        Ok(pool)
    }
}

/// What a worker does until the queue is closed and empty.
fn work(tasks: &Queue<Arc<dyn Job>>, pool: u64) {
    POOL.set(pool);
    while let Ok(job) = tasks.get() {
        run_guarded(&*job);
        drop_guarded(job);
    }
}

/// Runs a job. Its task's panics are caught before; what is left are those of a callback, or of the destructor of a
/// result that nobody wanted: they end here, and the worker goes on.
fn run_guarded(job: &dyn Job) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| job.run()));
}

fn drop_guarded(job: Arc<dyn Job>) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(job)));
}

impl ThreadPoolExecutor {
    /// A pool with as many workers as the process may use cores, unless told otherwise.
    #[must_use]
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder {
            workers: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            name: "worker".to_owned(),
            stack_bytes: None,
        }
    }

    /// Number of threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.worker_count
    }

    /// Tasks that wait for a worker.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.tasks.len()
    }

    /// Has `task` run by a worker. Never blocks.
    ///
    /// After [`shutdown`](Self::shutdown) the future fails with [`TaskError::Rejected`].
    pub fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (promise, future) = promise();
        let job = Arc::new(Task { pool: self.number, parts: Mutex::new(Some((promise, task))) });
        let future = future.with_inline(Arc::clone(&job) as Arc<dyn Inline>);
        if self.tasks.put(Arc::clone(&job) as Arc<dyn Job>).is_err() {
            job.end(TaskError::Rejected { executor: self.name.clone() });
        }
        future
    }

    /// Takes no more tasks, deals with those that wait as `how` says, and waits until the running ones have ended.
    ///
    /// Called by one of its own workers it does not wait for that one. Calling it again is allowed, and may turn
    /// [`Shutdown::Drain`] into [`Shutdown::CancelPending`].
    pub fn shutdown(&self, how: Shutdown) {
        match how {
            Shutdown::Drain => self.tasks.close(),
            Shutdown::CancelPending => {
                for job in self.tasks.close_now() {
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| job.end(TaskError::Cancelled)));
                    drop_guarded(job);
                }
            }
        }
        let workers = std::mem::take(&mut *self.lock_workers());
        for worker in workers {
            if worker.thread().id() != thread::current().id() {
                // Workers do not panic: all that is foreign runs guarded.
                let _ = worker.join();
            }
        }
    }

    fn lock_workers(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.shutdown(if thread::panicking() { Shutdown::CancelPending } else { Shutdown::Drain });
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolExecutor")
            .field("name", &self.name)
            .field("workers", &self.worker_count)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

/// What the queue holds: a task that is run or ended, whichever comes first.
trait Job: Send + Sync {
    fn run(&self);
    fn end(&self, error: TaskError);
}

struct Task<T, F> {
    pool: u64,
    /// Whoever takes it runs it: a worker from the queue, or a worker that waits for the result.
    parts: Mutex<Option<(Promise<T>, F)>>,
}

impl<T, F> Task<T, F> {
    fn take(&self) -> Option<(Promise<T>, F)> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T, F> Job for Task<T, F>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&self) {
        if let Some((promise, task)) = self.take() {
            promise.run(task);
        }
    }

    fn end(&self, error: TaskError) {
        if let Some((promise, _task)) = self.take() {
            promise.fail(error);
        }
    }
}

impl<T, F> Inline for Task<T, F>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run_inline(&self) {
        if POOL.get() == self.pool {
            self.run();
        }
    }
}
