//! The engine: moves opaque messages to worker processes and supervises them. It knows nothing of what they mean.
//!
//! ```text
//!                   submit: lock, queue, and if a worker is free, send         batch (socket)
//!  calling thread ─────────────────────────────────────────────────────────────────────────▶ worker
//!                                                                                              │ results (board)
//!  job.finish ◀── manager thread: epoll over sockets, pidfds, output ◀─────────────────────────┘ done (socket)
//! ```
//!
//! One mutex guards all that is known of tasks and workers; foreign code (jobs, sinks) runs outside of it. The manager
//! thread alone reads sockets, starts and buries workers, and looks at clocks; whoever has the mutex may send a batch.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::process::{Signal, pidfd_send_signal};
use tricorne_sync::Event;

use super::dispatch::{Cause, State};
use super::launch::Launch;
use super::lead::{self, Lead};
use super::manager::Manager;
use super::message::Message;
use super::output::Output;
use super::parcel::Parcel;
use super::segment::SegmentPool;
use super::stats::ProcessPoolStats;
use crate::error::{ExecError, TaskError};
use crate::executor::Shutdown;
use crate::sys::fork;

/// A function that workers are to know, in the form that the codec gave it. Sent once to each worker that needs it, then
/// named by its number.
#[derive(Debug)]
pub struct Definition {
    pub(crate) id: u64,
    pub(crate) message: Message,
    /// How long one task takes, as far as it was measured; 0 before.
    pub(crate) run_nanos: AtomicU64,
    /// How many tasks the next batch may have: it grows from 1, so that the first result is not held up.
    pub(crate) max_items: AtomicU32,
}

impl Definition {
    /// Gives the function a number.
    #[must_use]
    pub fn new(message: Message) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            // Relaxed, here and for the two below: only their own values matter.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            message,
            run_nanos: AtomicU64::new(0),
            max_items: AtomicU32::new(1),
        })
    }

    /// How many tasks of this function a batch holds at present.
    #[must_use]
    pub fn batch_items(&self) -> u32 {
        self.max_items.load(Ordering::Relaxed)
    }

    pub(crate) fn measured(&self, nanos: u64, items: u32, target_nanos: u64) {
        let new = (nanos / u64::from(items.max(1))).max(1);
        let old = self.run_nanos.load(Ordering::Relaxed);
        // Longer than expected is believed at once: a batch that is too long holds up results.
        let next = if new >= old { new } else { (3 * old + new) / 4 };
        self.run_nanos.store(next, Ordering::Relaxed);
        if nanos > 2 * target_nanos {
            self.max_items.store((items / 2).max(1), Ordering::Relaxed);
        } else {
            self.max_items.fetch_max(items.saturating_mul(2), Ordering::Relaxed);
        }
    }
}

/// How a task ended, for its [`Job`].
#[derive(Debug)]
pub enum Outcome {
    /// The worker's [`Reply`](super::Reply) with `failed = false`.
    Done(Message),
    /// The worker's [`Reply`](super::Reply) with `failed = true`.
    Failed(Message),
    /// There is no reply.
    Lost(TaskError),
}

/// Who waits for a task.
pub trait Job: Send {
    /// Called once, before the task is sent; `false` if it is no longer wanted: then it is dropped. It must be short and
    /// must not call foreign code: the engine is locked.
    fn start(&mut self) -> bool;

    /// Called once if `start` said `true`, or if the task is lost before. On the manager thread, or on the one that
    /// submits or shuts down; it should be short.
    fn finish(self: Box<Self>, outcome: Outcome);
}

/// A task to be submitted.
pub struct Call {
    /// What to call.
    pub function: Arc<Definition>,
    /// With what.
    pub argument: Message,
    /// How long it may run; then its worker is killed.
    pub timeout: Option<Duration>,
    /// Tasks of one chunk, submitted together, go to a worker in one batch, whatever was measured.
    pub chunk: Option<u64>,
    /// Who waits for it.
    pub job: Box<dyn Job>,
}

/// What becomes of a pool when a worker crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCrash {
    /// The task that ran fails, the worker is replaced, everything else goes on.
    #[default]
    Replace,
    /// All tasks fail and the pool takes no more, as the one of Python's standard library does.
    Break,
}

/// How an [`Engine`] is made.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Name of the pool, for messages and for its thread.
    pub name: String,
    /// The most worker processes. They are started when there is work for them.
    pub workers: usize,
    /// Who makes the worker processes.
    pub launch: Launch,
    /// Run by each worker before its first task. If it fails, the pool is broken.
    pub initializer: Option<(Arc<Definition>, Message)>,
    /// After so many tasks a worker is replaced.
    pub max_tasks_per_worker: Option<u64>,
    /// A worker with more memory of its own (resident, anonymous) than this is killed.
    pub max_memory_bytes: Option<u64>,
    /// What a crash does to the pool.
    pub on_crash: OnCrash,
    /// What becomes of the workers' stdout.
    pub stdout: Output,
    /// What becomes of the workers' stderr.
    pub stderr: Output,
    /// How long a worker may take from its start to its first task.
    pub start_limit: Duration,
    /// How long workers may take to end once they have nothing to do and are told so.
    pub exit_limit: Duration,
}

/// A pool of worker processes. Dropping it is [`shutdown`](Self::shutdown) with [`Shutdown::Drain`].
pub struct Engine {
    shared: Arc<Shared>,
    manager: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    /// Its number, for `sys::fork`: in a copy of the process the pool is of no use.
    number: u64,
    /// Wakes whoever listens.
    pub(crate) wake: OwnedFd,
    pub(crate) lead: Lead,
    pub(crate) segments: SegmentPool,
    pub(crate) ended: Event,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked {
            shared: self,
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner),
            deferred: Deferred::default(),
        }
    }

    /// Whether it was made by a process that this one was forked from. Its manager does not exist here, and may hold its lock.
    pub(crate) fn is_elsewhere(&self) -> bool {
        fork::is_elsewhere(self.number)
    }

    pub(crate) fn wake(&self) {
        // It can only fail when it has been written 2^64 - 2 times without being read.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        self.lead.wake_manager();
    }
}

/// The state, and what is to be done when it is unlocked again.
pub(crate) struct Locked<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) state: MutexGuard<'a, State>,
    pub(crate) deferred: Deferred,
}

impl Locked<'_> {
    /// Unlocks, then calls those who wait.
    pub(crate) fn unlock(self) {
        let Locked { state, deferred, .. } = self;
        drop(state);
        deferred.run();
    }
}

/// Foreign code, to be called without the lock.
#[derive(Default)]
pub(crate) struct Deferred {
    pub(crate) finished: Vec<(Box<dyn Job>, Outcome)>,
    pub(crate) unwanted: Vec<Box<dyn Job>>,
}

impl Deferred {
    pub(crate) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.unwanted.is_empty()
    }

    fn run(self) {
        for (job, outcome) in self.finished {
            // What a callback panics with ends here, as in the other executors.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| job.finish(outcome)));
        }
        for job in self.unwanted {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(job)));
        }
    }
}

/// A task that waits for a worker, or that a worker has.
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) function: Arc<Definition>,
    pub(crate) parcel: Parcel,
    pub(crate) timeout: Option<Duration>,
    pub(crate) chunk: Option<u64>,
    pub(crate) job: Box<dyn Job>,
    /// Whether the job was told.
    pub(crate) started: bool,
}

impl Engine {
    /// Starts the manager thread and the template. Workers are started when there is work, unless the launcher wants them
    /// [at once](super::Launcher::at_once).
    ///
    /// # Errors
    /// [`ExecError::Template`] if the program is none, and the reasons of the system or of the launcher.
    pub fn start(config: EngineConfig) -> Result<Self, ExecError> {
        let process = |source| ExecError::Process { source };
        let thread = format!("{}-manager", config.name);
        let shared = Arc::new(Shared {
            number: fork::new_number(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|error| process(error.into()))?,
            lead: Lead::new(
                epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| process(error.into()))?,
            ),
            segments: SegmentPool::default(),
            ended: Event::new(),
            state: Mutex::new(State::new()),
            config,
        });
        let (report, started) = mpsc::channel();
        let mut manager = Manager::new(Arc::clone(&shared))?;
        let manager = thread::Builder::new()
            .name(thread.clone())
            .spawn(move || match manager.begin() {
                Ok(()) => {
                    let _ = report.send(Ok(()));
                    manager.run();
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            })
            .map_err(|source| ExecError::Start { thread, source })?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { shared, manager: Mutex::new(Some(manager)) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(process(io::Error::other("the manager thread has panicked"))),
        }
    }

    /// Has a worker do it. Returns the number of the task.
    ///
    /// Large buffers are copied here, by the calling thread. The job always hears of it: if the pool takes nothing more,
    /// before this returns.
    pub fn submit(&self, call: Call) -> u64 {
        self.submit_many(std::iter::once(call)).start
    }

    /// [`submit`](Self::submit) for many, which go to the workers in this order. Returns their numbers.
    pub fn submit_many(&self, calls: impl IntoIterator<Item = Call>) -> std::ops::Range<u64> {
        if self.shared.is_elsewhere() {
            // Nothing of the pool is touched: its locks may be held by threads that this copy of the process does not have, and
            // its segments are the memory of the other process.
            let lost = |call: Call| (call.job, Outcome::Lost(TaskError::Forked));
            Deferred { finished: calls.into_iter().map(lost).collect(), unwanted: Vec::new() }.run();
            return 0..0;
        }
        let mut unsent = Vec::new();
        let mut tasks: VecDeque<Task> = VecDeque::new();
        for call in calls {
            let Call { function, argument, timeout, chunk, job } = call;
            match Parcel::pack(&argument, &self.shared.segments) {
                Ok(parcel) => {
                    tasks.push_back(Task { id: 0, function, parcel, timeout, chunk, job, started: false });
                }
                Err(error) => {
                    unsent.push((job, Outcome::Lost(TaskError::Transport { message: error.to_string() })));
                }
            }
        }
        let mut locked = self.shared.lock();
        locked.deferred.finished.append(&mut unsent);
        let first = locked.state.next_task;
        locked.state.next_task += tasks.len() as u64;
        let numbers = first..locked.state.next_task;
        for (id, task) in numbers.clone().zip(&mut tasks) {
            task.id = id;
        }
        if let Some(error) = locked.state.refusal(|| self.rejected()) {
            for task in tasks {
                locked.lose(task, error.clone());
            }
        } else {
            locked.state.queue.append(&mut tasks);
            let sent = locked.dispatch();
            if locked.state.to_start > 0 || locked.state.is_earlier_than_planned(sent) {
                self.shared.wake();
            }
        }
        locked.unlock();
        numbers
    }

    fn rejected(&self) -> TaskError {
        TaskError::Rejected { executor: self.shared.config.name.clone() }
    }

    /// Cancels one task if no worker has begun it; `false` if one has, or if it has ended.
    pub fn cancel(&self, task: u64) -> bool {
        if self.shared.is_elsewhere() {
            return false;
        }
        let mut locked = self.shared.lock();
        let cancelled = locked.end_task(task, false);
        locked.dispatch();
        locked.unlock();
        self.shared.wake();
        cancelled
    }

    /// Whether a worker runs the task at this moment.
    pub fn is_running(&self, task: u64) -> bool {
        !self.shared.is_elsewhere() && self.shared.lock().state.is_running(task)
    }

    /// Ends one task: one that waits is cancelled, the worker of one that runs is killed. `false` if it has ended.
    ///
    /// It fails with [`TaskError::Cancelled`], and no other task is lost.
    pub fn kill(&self, task: u64) -> bool {
        if self.shared.is_elsewhere() {
            return false;
        }
        let mut locked = self.shared.lock();
        let killed = locked.end_task(task, true);
        locked.dispatch();
        locked.unlock();
        if killed {
            self.shared.wake();
        }
        killed
    }

    /// Takes no more tasks, deals with those that wait as `how` says, waits for those that run, and ends the workers.
    ///
    /// Workers that have nothing to do have [`exit_limit`](EngineConfig::exit_limit) to end. Called on the manager thread (by
    /// a job), it does not wait.
    pub fn shutdown(&self, how: Shutdown) {
        if self.shared.is_elsewhere() {
            return;
        }
        self.close(how);
        self.join();
    }

    /// [`shutdown`](Self::shutdown) without waiting for anything; see [`ended`](Self::ended).
    pub fn close(&self, how: Shutdown) {
        if self.shared.is_elsewhere() {
            return;
        }
        let mut locked = self.shared.lock();
        locked.state.close();
        if how == Shutdown::CancelPending {
            locked.cancel_pending();
        }
        locked.unlock();
        self.shared.wake();
    }

    /// [`close`](Self::close) with [`Shutdown::CancelPending`], except that a worker that is being started, or that was sent a task
    /// and has not begun it, still runs one: so many of the oldest tasks are not cancelled.
    pub fn close_and_cancel_unassigned(&self) {
        if self.shared.is_elsewhere() {
            return;
        }
        let mut locked = self.shared.lock();
        locked.state.close();
        let assigned = locked.state.about_to_begin();
        locked.cancel_pending_behind(assigned);
        locked.unlock();
        self.shared.wake();
    }

    /// Done when the pool has ended: after a shutdown, when there is no task and no worker any more.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move { shared.ended.wait_async().await }
    }

    /// Ends everything: what runs and what waits fails, and so does what is submitted later, with [`TaskError::Broken`] and this
    /// message. Does not wait.
    pub fn break_pool(&self, message: impl Into<String>) {
        if self.shared.is_elsewhere() {
            return;
        }
        let mut locked = self.shared.lock();
        locked.break_pool(&TaskError::Broken { message: message.into() });
        locked.unlock();
        self.shared.wake();
    }

    /// What a task that is submitted now fails with, if it does: the pool is closed, or broken.
    pub fn refusal(&self) -> Option<TaskError> {
        if self.shared.is_elsewhere() {
            return Some(TaskError::Forked);
        }
        self.shared.lock().state.refusal(|| self.rejected())
    }

    /// Ends all workers at once, the tasks that run with [`TaskError::WorkerCrashed`], those that wait with
    /// [`TaskError::Cancelled`], and takes no more. With `force` they are killed; without, they are sent SIGTERM and
    /// killed after [`exit_limit`](EngineConfig::exit_limit).
    pub fn end_workers(&self, force: bool) {
        self.close_and_end_workers(force);
        if !self.shared.is_elsewhere() {
            self.join();
        }
    }

    /// [`end_workers`](Self::end_workers) without waiting for their end; see [`ended`](Self::ended).
    pub fn close_and_end_workers(&self, force: bool) {
        if self.shared.is_elsewhere() {
            return;
        }
        let mut locked = self.shared.lock();
        locked.state.close();
        let now = Instant::now();
        let numbers: Vec<u64> = locked.state.workers.keys().copied().collect();
        for number in numbers {
            if force {
                locked.kill_worker(number, Cause::Ended);
            } else {
                locked.recall(number);
                if let Some(worker) = locked.state.workers.get_mut(&number) {
                    worker.terminated(now);
                    if let Some(pidfd) = &worker.pidfd {
                        let _ = pidfd_send_signal(pidfd, Signal::TERM);
                    }
                }
            }
        }
        locked.cancel_pending();
        locked.unlock();
        self.shared.wake();
    }

    /// Waits until the pool has ended, unless this is its own thread.
    fn join(&self) {
        let manager = self.manager.lock().unwrap_or_else(PoisonError::into_inner).take();
        match manager {
            Some(manager) if manager.thread().id() == thread::current().id() => {}
            // It does not panic; if it did, `ended` was set all the same.
            Some(manager) => drop(manager.join()),
            None if self.shared.is_manager_thread() => {}
            None => self.shared.ended.wait(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// For a thread that is about to wait for a task: it may do the manager's work meanwhile, which spares a change of threads.
    ///
    /// Returns when `is_done` says that there is nothing to wait for, at the deadline, or at once: whoever waits has to wait
    /// himself afterwards. Jobs may be finished on this thread.
    pub fn help(&self, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) {
        lead::help(&self.shared, is_done, deadline);
    }

    /// What the pool is doing, and has done.
    pub fn stats(&self) -> ProcessPoolStats {
        if self.shared.is_elsewhere() {
            return ProcessPoolStats::default();
        }
        let locked = self.shared.lock();
        let mut stats = locked.state.stats();
        (stats.segments_free, stats.segments_lent) = self.shared.segments.counts();
        locked.unlock();
        stats
    }

    /// The process ids of the workers that are there.
    pub fn worker_pids(&self) -> Vec<u32> {
        if self.shared.is_elsewhere() {
            return Vec::new();
        }
        let locked = self.shared.lock();
        let pids = locked.state.workers.values().map(|worker| worker.pid).filter(|pid| *pid != 0).collect();
        locked.unlock();
        pids
    }

    /// The process id of the template; `None` while it is being replaced.
    pub fn template_pid(&self) -> Option<u32> {
        if self.shared.is_elsewhere() { None } else { self.shared.lock().state.template_pid }
    }
}

impl Shared {
    fn is_manager_thread(&self) -> bool {
        self.lock().state.manager_thread == Some(thread::current().id())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let how = if thread::panicking() { Shutdown::CancelPending } else { Shutdown::Drain };
        self.shutdown(how);
    }
}
