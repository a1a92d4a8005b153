//! The process pool for Rust functions.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{decode, encode};
use super::engine::{Call, Engine, EngineConfig, Job, OnCrash, Outcome, Shared};
use super::function::{Function, TEMPLATE_ARGUMENT, THIS_PROGRAM, failure, hook_was_missed};
use super::launch::Launch;
use super::lead;
use super::map::Map;
use super::output::Output;
use super::stats::ProcessPoolStats;
use crate::error::{ExecError, TaskError};
use crate::executor::Shutdown;
use crate::future::{Future, Promise, Slot, TaskResult, Work, pair};

/// Runs functions in worker processes: for code that may crash, leak, or hold a lock that others need.
///
/// A task that kills its process, or is killed with it, fails alone, with [`TaskError::WorkerCrashed`]; the worker is
/// replaced and everything else goes on. A panic is no crash: the worker stays. Small tasks travel many at once, by what
/// was measured of the function, and still a crash costs the one that ran.
///
/// Workers are started when there is work. They are copies of a template process, which is this program, started again:
/// its `main` calls [`worker_main`](super::worker_main) first. They ignore Ctrl-C, so that the pool decides, and die with this
/// process, however that ends.
///
/// Dropping the pool finishes all tasks, like [`Shutdown::Drain`]; while the thread panics, it cancels those that have not
/// started. Linux only.
///
/// # Examples
///
/// ```no_run
/// use tricorne_exec::process::{Function, ProcessPoolExecutor};
/// # use std::time::{Duration, Instant};
///
/// static WORDS: Function<String, usize> = Function::new("words", |text| text.split_whitespace().count());
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = ProcessPoolExecutor::builder().workers(2).task_timeout(Duration::from_secs(10)).build()?;
/// let future = pool.submit(&WORDS, "all for one".to_owned());
/// assert_eq!(future.result()?, 3);
/// let lines = ["one for all", "", "tout est bien"].map(str::to_owned);
/// let counts: Result<Vec<usize>, _> = pool.map(&WORDS, lines).collect();
/// assert_eq!(counts?, [3, 0, 3]);
/// # Ok(()) }
/// ```
pub struct ProcessPoolExecutor {
    engine: Arc<Engine>,
    workers: usize,
    task_timeout: Option<Duration>,
}

/// How a [`ProcessPoolExecutor`] is made.
#[derive(Debug, Clone)]
pub struct ProcessPoolBuilder {
    config: EngineConfig,
    task_timeout: Option<Duration>,
    wrong: Option<String>,
}

impl ProcessPoolBuilder {
    /// The most worker processes; at least 1. By default as many as the process may use cores.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers.max(1);
        self
    }

    /// Name of the pool, for messages. By default `process-pool`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// A function that each worker runs before its first task. If it panics, the pool is broken: all tasks fail with
    /// [`TaskError::Broken`].
    #[must_use]
    pub fn initializer<A: Serialize>(mut self, function: &Function<A, ()>, argument: &A) -> Self {
        match encode(argument) {
            Ok(argument) => self.config.initializer = Some((Arc::clone(function.definition()), argument)),
            Err(error) => self.wrong = Some(error),
        }
        self
    }

    /// After so many tasks, at least 1, a worker is replaced: for code that leaks. By default never.
    #[must_use]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.config.max_tasks_per_worker = Some(tasks.max(1));
        self
    }

    /// A worker with more memory of its own than so many bytes is killed, and its task fails with
    /// [`TaskError::WorkerCrashed`]. Counted is what is resident and anonymous; buffers that were sent to it do not count until
    /// it changes them. Looked at 20 times a second. By default there is no limit.
    #[must_use]
    pub fn max_memory_bytes(mut self, bytes: u64) -> Self {
        self.config.max_memory_bytes = Some(bytes);
        self
    }

    /// How long each task may run, from the moment when its worker begins it; then the worker is killed, and the task fails
    /// with [`TaskError::TimedOut`]. By default for ever. [`TaskOptions::timeout`] is for one task.
    #[must_use]
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.task_timeout = Some(timeout);
        self
    }

    /// What a crash does to the pool. By default the worker is replaced.
    #[must_use]
    pub fn on_crash(mut self, on_crash: OnCrash) -> Self {
        self.config.on_crash = on_crash;
        self
    }

    /// What becomes of what workers write to stdout. By default it is [`Output::Inherit`].
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.config.stdout = output;
        self
    }

    /// What becomes of what workers write to stderr. By default it is [`Output::Forward`], so that the report of a crash
    /// has their last lines.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.config.stderr = output;
        self
    }

    /// How long a worker may take to start, its initializer included. By default a minute.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.config.start_limit = limit;
        self
    }

    /// How long workers may take to end when the pool is shut down and they have nothing to do; then they are killed. By default
    /// 5 seconds.
    #[must_use]
    pub fn exit_limit(mut self, limit: Duration) -> Self {
        self.config.exit_limit = limit;
        self
    }

    /// Starts the pool.
    ///
    /// # Errors
    ///
    /// [`ExecError::Template`] if `main` does not call [`worker_main`](super::worker_main); the system's reasons; and an argument
    /// of the initializer that cannot be sent.
    pub fn build(self) -> Result<ProcessPoolExecutor, ExecError> {
        if hook_was_missed() {
            let reason = "this process was started to make workers, and `main` went on".to_owned();
            return Err(ExecError::Template { reason });
        }
        if let Some(wrong) = self.wrong {
            return Err(ExecError::Process { source: std::io::Error::other(wrong) });
        }
        Ok(ProcessPoolExecutor {
            workers: self.config.workers,
            engine: Arc::new(Engine::start(self.config)?),
            task_timeout: self.task_timeout,
        })
    }
}

impl Default for EngineConfig {
    /// This program as the template, as many workers as cores, no limits but those in time.
    fn default() -> Self {
        Self {
            name: "process-pool".to_owned(),
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            launch: Launch::Template(vec![THIS_PROGRAM.into(), TEMPLATE_ARGUMENT.into()]),
            initializer: None,
            max_tasks_per_worker: None,
            max_memory_bytes: None,
            on_crash: OnCrash::Replace,
            stdout: Output::Inherit,
            stderr: Output::Forward,
            start_limit: Duration::from_secs(60),
            exit_limit: Duration::from_secs(5),
        }
    }
}

/// What one task has of its own.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// How long it may run, instead of [`ProcessPoolBuilder::task_timeout`].
    pub timeout: Option<Duration>,
}

impl TaskOptions {
    /// A task that may run for so long.
    #[must_use]
    pub fn timeout(timeout: Duration) -> Self {
        Self { timeout: Some(timeout) }
    }
}

/// A task that was submitted, to end it whether it runs or not.
#[derive(Debug, Clone)]
pub struct TaskHandle {
    id: u64,
    engine: Weak<Engine>,
}

impl TaskHandle {
    /// Number of the task within its pool.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Ends the task: if it waits, it is cancelled; if it runs, its worker process is killed and replaced. Its future gets
    /// [`TaskError::Cancelled`], other tasks do not notice. `false` if it has ended already.
    pub fn kill(&self) -> bool {
        self.engine.upgrade().is_some_and(|engine| engine.kill(self.id))
    }
}

impl ProcessPoolExecutor {
    /// A pool with as many workers as the process may use cores, unless told otherwise.
    #[must_use]
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder { config: EngineConfig::default(), task_timeout: None, wrong: None }
    }

    /// The most worker processes.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Has a worker call `function`. Blocks only to copy large buffers.
    ///
    /// [`Future::cancel`] cancels it until it is sent to a worker, which for small tasks is a little before it runs.
    /// After [`shutdown`](Self::shutdown) the future fails with [`TaskError::Rejected`].
    pub fn submit<A, R>(&self, function: &Function<A, R>, argument: A) -> Future<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        self.submit_with(function, argument, TaskOptions::default()).1
    }

    /// [`submit`](Self::submit) with options; the handle can end it while it runs.
    pub fn submit_with<A, R>(
        &self,
        function: &Function<A, R>,
        argument: A,
        options: TaskOptions,
    ) -> (TaskHandle, Future<R>)
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        let (promise, future) = pair(InWorker { pool: Arc::downgrade(self.engine.shared()) });
        let handle = |id| TaskHandle { id, engine: Arc::downgrade(&self.engine) };
        let encoded = encode(&argument);
        drop(argument);
        match encoded {
            Ok(message) => {
                let id = self.engine.submit(Call {
                    function: Arc::clone(function.definition()),
                    argument: message,
                    timeout: options.timeout.or(self.task_timeout),
                    chunk: None,
                    job: Box::new(Promised { promise: Some(promise) }),
                });
                (handle(id), future)
            }
            Err(message) => {
                promise.fail(TaskError::Transport { message });
                (handle(0), future)
            }
        }
    }

    /// Calls `function` with each input and gives the results in their order, as they are asked for.
    ///
    /// It is lazy: inputs are taken, in the thread that asks for results, some batches ahead of the results that were taken.
    /// See [`Map`] for the size of batches. Dropping it cancels what no worker has.
    pub fn map<'p, A, R, I>(&'p self, function: &'p Function<A, R>, inputs: I) -> Map<'p, A, R, I::IntoIter>
    where
        I: IntoIterator<Item = A>,
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        Map::new(&self.engine, self.workers, self.task_timeout, function, inputs.into_iter())
    }

    /// Takes no more tasks, deals with those that wait as `how` says, waits for those that run, and ends the workers.
    ///
    /// Called in a callback of one of its futures it does not wait.
    pub fn shutdown(&self, how: Shutdown) {
        self.engine.shutdown(how);
    }

    /// Ends the pool with SIGTERM for all its workers, and SIGKILL for those that do not end in time. What runs fails with
    /// [`TaskError::WorkerCrashed`], what waits with [`TaskError::Cancelled`].
    pub fn terminate_workers(&self) {
        self.engine.end_workers(false);
    }

    /// Ends the pool with SIGKILL for all its workers. What runs fails with [`TaskError::WorkerCrashed`], what waits with
    /// [`TaskError::Cancelled`].
    pub fn kill_workers(&self) {
        self.engine.end_workers(true);
    }

    /// What the pool is doing, and has done.
    #[must_use]
    pub fn stats(&self) -> ProcessPoolStats {
        self.engine.stats()
    }

    /// The process ids of the workers that are there.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.engine.worker_pids()
    }

    /// The process id of the template; `None` while it is being replaced.
    #[must_use]
    pub fn template_pid(&self) -> Option<u32> {
        self.engine.template_pid()
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolExecutor").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// What a reply means for a Rust function.
pub(crate) fn read<R: DeserializeOwned>(outcome: Outcome) -> TaskResult<R> {
    match outcome {
        Outcome::Done(message) => decode(message).map_err(|message| TaskError::Transport { message }),
        Outcome::Failed(message) => Err(failure(message)),
        Outcome::Lost(error) => Err(error),
    }
}

/// Who waits for a task may listen to the workers meanwhile.
struct InWorker {
    pool: Weak<Shared>,
}

impl<T> Work<T> for InWorker {
    fn help(&self, _: &Slot<T>) {}

    fn attend(&self, slot: &Slot<T>, deadline: Option<Instant>) {
        if let Some(pool) = self.pool.upgrade() {
            lead::help(&pool, &|| slot.is_done(), deadline);
        }
    }

    fn discard(&self) {}

    fn lost(&self) -> Option<TaskError> {
        self.pool.upgrade()?.is_elsewhere().then_some(TaskError::Forked)
    }
}

struct Promised<R> {
    promise: Option<Promise<R>>,
}

impl<R: DeserializeOwned + Send + 'static> Job for Promised<R> {
    fn start(&mut self) -> bool {
        self.promise.as_ref().is_some_and(Promise::start)
    }

    fn finish(mut self: Box<Self>, outcome: Outcome) {
        if let Some(promise) = self.promise.take() {
            promise.deliver(read(outcome));
        }
    }
}
