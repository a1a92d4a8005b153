//! The threads of a pool, and when each of them asks for the interpreter.
//!
//! ```text
//!             a task, and nobody else asks            attached
//!   idle ──────────────────────────────────▶ asking ──────────▶ running tasks, one after the other
//!    ▲                                                             │
//!    └─────────────────────────────────────────────────────────────┘
//!          the queue is empty, or the interpreter was kept for a switch interval
//! ```
//!
//! A worker takes a task only once it holds the interpreter: a task that was taken is a task that runs. While the queue has work it
//! keeps the interpreter from task to task, but hardly longer than a switch interval: tasks that never get to the interpreter's own loop,
//! such as `len`, would otherwise keep everybody else out. At most one worker asks for the interpreter at a time; once it has it, it
//! calls the next one if there is more to do. So a thousand tasks that hold the interpreter wake one thread, and a thousand that sleep
//! wake as many as there are. Where there is no lock to ask for, on free-threaded builds, all come at once.
//!
//! Who waits for a future is woken after the interpreter was given up if there is no further task, so that the woken thread finds it free.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::future::{FutureCore, Outcome, Phase, Wake};
use super::log;
use super::map::MapState;
use super::work::{self, Work};
use crate::once::intern;
use crate::{error, wait};

thread_local! {
    /// The pool that this thread works for.
    static POOL: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

/// The pool that this thread works for.
fn own_pool() -> Option<Arc<Shared>> {
    POOL.with_borrow(Option::clone)
}

/// Whether this thread is a worker of a pool.
pub(crate) fn is_worker() -> bool {
    POOL.with_borrow(Option::is_some)
}

/// Runs the task of `future` if it waits in the pool that this thread works for: nobody else might ever come to it. Of a task with
/// options, one attempt after the other is run.
pub(crate) fn run_inline(future: &Bound<'_, FutureCore>) -> PyResult<bool> {
    let Some(pool) = own_pool() else { return Ok(false) };
    if run_inline_in(&pool, future)? {
        return Ok(true);
    }
    let mut ran = false;
    while let Some(attempt) = attempt_of(future)? {
        if !run_inline_in(&pool, &attempt)? {
            break;
        }
        ran = true;
    }
    Ok(ran)
}

/// The attempt that is under way if this is the future of a task with options (`_options.py`), which has no work of its own.
fn attempt_of<'py>(future: &Bound<'py, FutureCore>) -> PyResult<Option<Bound<'py, FutureCore>>> {
    let py = future.py();
    if future.get().phase() != Phase::Pending {
        return Ok(None);
    }
    let Some(task) = future.getattr_opt(intern!(py, "_task"))? else { return Ok(None) };
    let attempt = task.getattr_opt(intern!(py, "attempt"))?;
    Ok(attempt.and_then(|attempt| attempt.cast_into::<FutureCore>().ok()))
}

/// Whether this is the future of a task with options that has not ended.
pub(crate) fn has_options(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Ok(core) = future.cast::<FutureCore>() else { return Ok(false) };
    if core.get().phase() != Phase::Pending {
        return Ok(false);
    }
    Ok(core.getattr_opt(intern!(core.py(), "_task"))?.is_some_and(|task| !task.is_none()))
}

/// How many workers wait for a task with options.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// A worker that waits for a task with options, whose next attempt it may have to run.
pub(crate) struct AttemptWatch {
    pool: Arc<Shared>,
    /// How many attempts the pool had been told of when the worker last looked for one.
    seen: u64,
}

impl AttemptWatch {
    /// To be made before the worker looks for an attempt; nothing if it waits for no task with options.
    pub(crate) fn new(futures: &[Bound<'_, PyAny>]) -> PyResult<Option<Self>> {
        let Some(pool) = own_pool() else { return Ok(None) };
        for future in futures {
            if has_options(future)? {
                WATCHING.fetch_add(1, Ordering::SeqCst);
                let seen = pool.queue().attempts;
                return Ok(Some(Self { pool, seen }));
            }
        }
        Ok(None)
    }

    /// Ready once there may be another attempt.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut queue = self.pool.queue();
        if queue.attempts != self.seen {
            return Poll::Ready(());
        }
        if !queue.watching.iter().any(|known| known.will_wake(waker)) {
            queue.watching.push(waker.clone());
        }
        Poll::Pending
    }
}

impl Drop for AttemptWatch {
    fn drop(&mut self) {
        WATCHING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A callback was left with a task that waits in that pool. Of an attempt that is the last step of submitting it.
pub(crate) fn tell_of_attempt(pool: u64) {
    if WATCHING.load(Ordering::SeqCst) == 0 {
        return;
    }
    for pool in pools().into_iter().filter(|other| other.number == pool && other.process == wait::process()) {
        let watching = {
            let mut queue = pool.queue();
            queue.attempts += 1;
            mem::take(&mut queue.watching)
        };
        for waker in watching {
            waker.wake();
        }
    }
}

fn run_inline_in(pool: &Shared, future: &Bound<'_, FutureCore>) -> PyResult<bool> {
    let Some(work) = future.get().begin_if_of(pool.number) else { return Ok(false) };
    let outcome = Outcome::of(future.py(), work.run(future.py()));
    pool.finished.fetch_add(1, Ordering::Relaxed);
    if let Some(effects) = FutureCore::finish(future, outcome)? {
        effects.run(future)?;
    }
    Ok(true)
}

/// Like [`run_inline`], for a wait until `deadline`: a task that runs inline cannot be cut short, so another worker is waited for if there
/// can be one.
pub(crate) fn run_inline_until(future: &Bound<'_, FutureCore>, deadline: Option<Instant>) -> PyResult<bool> {
    let alone = || own_pool().is_some_and(|pool| pool.settings.max_workers == 1);
    match deadline {
        Some(deadline) if !alone() || deadline <= Instant::now() => Ok(false),
        _ => run_inline(future),
    }
}

/// Runs the task of a future if it waits in the pool that this thread works for; says whether it did.
#[pyfunction(name = "run_inline")]
pub(crate) fn run_if_own(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    match future.cast::<FutureCore>() {
        Ok(future) => run_inline(future),
        Err(_) => Ok(false),
    }
}

/// The cores that this process may use: as many as its affinity and the CPU quota of its container allow.
#[pyfunction]
pub(crate) fn usable_cores() -> usize {
    tricorne::exec::sys::usable_cores()
}

/// How a pool is set up.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) max_workers: usize,
    /// Workers are called this, an underscore and a number.
    pub(crate) name: String,
    pub(crate) stack_bytes: usize,
    /// Whether there is a lock of the interpreter to ask for.
    pub(crate) gil: bool,
}

/// What a pool and its workers share. It belongs to one process: a forked child makes a new one.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    number: u64,
    pub(crate) process: u64,
    queue: Mutex<Queue>,
    /// A worker was called, or there is nothing more to come.
    call: Condvar,
    /// Workers that have a task.
    running: AtomicUsize,
    finished: AtomicU64,
    /// Maps whose input is not used up. Only taken while attached.
    maps: Mutex<Vec<Arc<MapState>>>,
}

struct Queue {
    tasks: VecDeque<Py<FutureCore>>,
    /// Workers that are alive, and those that were started so far.
    workers: usize,
    started: usize,
    /// Asleep and not called.
    idle: usize,
    /// Called, or on the way to the interpreter.
    called: usize,
    asking: usize,
    /// Workers that run their initializer.
    initializing: usize,
    /// Workers that wait in `shutdown` for the others.
    leaving: usize,
    /// Those who wait for workers to end.
    joining: Vec<Waker>,
    /// Workers that wait for a task with options, whose next attempt they may have to run.
    watching: Vec<Waker>,
    /// How often they were woken.
    attempts: u64,
    submitted: u64,
    closed: Option<Closed>,
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    ByShutdown,
    ByExit,
}

/// The figures of a pool at one moment.
pub(crate) struct Stats {
    pub(crate) workers: usize,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) submitted: u64,
    pub(crate) finished: u64,
}

/// All pools of this process. Only taken while attached.
static POOLS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pools that are alive.
pub(crate) fn pools() -> Vec<Arc<Shared>> {
    lock(&POOLS).iter().filter_map(Weak::upgrade).collect()
}

/// From now on no pool takes tasks: nobody would wait for them.
static AT_EXIT: AtomicBool = AtomicBool::new(false);

/// Has new pools refuse tasks; those that there are were closed.
pub(crate) fn end_of_interpreter() {
    AT_EXIT.store(true, Ordering::Relaxed);
}

const BROKEN: &str = "A thread initializer failed, the thread pool is not usable anymore";

impl Shared {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let shared = Arc::new(Self {
            settings,
            // Relaxed: only the numbers' being different matters.
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            process: wait::process(),
            queue: Mutex::new(Queue {
                tasks: VecDeque::new(),
                workers: 0,
                started: 0,
                idle: 0,
                called: 0,
                asking: 0,
                initializing: 0,
                leaving: 0,
                joining: Vec::new(),
                watching: Vec::new(),
                attempts: 0,
                submitted: 0,
                closed: AT_EXIT.load(Ordering::Relaxed).then_some(Closed::ByExit),
                broken: false,
            }),
            call: Condvar::new(),
            running: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
            maps: Mutex::default(),
        });
        let mut pools = lock(&POOLS);
        // Now and then the gone ones are swept out: what is left is at most twice what is alive.
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(Arc::downgrade(&shared));
        drop(pools);
        shared
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Puts a task into the queue and sees to it that somebody comes for it.
    pub(crate) fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        task: Py<FutureCore>,
        initializer: Option<&Initializer>,
    ) -> PyResult<()> {
        let mut queue = self.queue();
        if let Some(refusal) = queue.refusal() {
            drop(queue);
            return Err(refusal);
        }
        queue.tasks.push_back(task);
        queue.submitted += 1;
        // Relaxed: a worker counts itself as free before anybody can learn that its task has ended.
        let free = queue.workers.saturating_sub(self.running.load(Ordering::Relaxed));
        let start = queue.tasks.len() > free && queue.workers < self.settings.max_workers;
        let call = self.call_one(&mut queue);
        let index = queue.started;
        if start {
            queue.workers += 1;
            queue.started += 1;
        }
        drop(queue);
        if call {
            self.call.notify_one();
        }
        if start { self.start(py, index, initializer) } else { Ok(()) }
    }

    /// Calls a sleeping worker to the queue, unless one is on the way already. The caller then notifies, with the lock released.
    fn call_one(&self, queue: &mut Queue) -> bool {
        let enough = self.settings.gil && queue.called + queue.asking > 0;
        if enough || queue.idle == 0 || queue.tasks.is_empty() {
            return false;
        }
        queue.idle -= 1;
        queue.called += 1;
        true
    }

    /// Starts the worker that was counted already.
    fn start(
        self: &Arc<Self>,
        py: Python<'_>,
        index: usize,
        initializer: Option<&Initializer>,
    ) -> PyResult<()> {
        let shared = Arc::clone(self);
        let name = format!("{}_{index}", self.settings.name);
        let initializer = initializer.map(|initializer| initializer.clone_ref(py));
        let thread = thread::Builder::new().name(name.clone()).stack_size(self.settings.stack_bytes);
        match thread.spawn(move || work(&shared, &name, initializer)) {
            Ok(_) => Ok(()),
            Err(refused) => self.not_started(&refused),
        }
    }

    /// The system gave no thread: the task goes to another worker, or nowhere if there is none.
    fn not_started(&self, refused: &io::Error) -> PyResult<()> {
        let mut queue = self.queue();
        queue.workers -= 1;
        if queue.workers > 0 {
            return Ok(());
        }
        let task = queue.tasks.pop_back();
        drop(queue);
        drop(task);
        Err(PyRuntimeError::new_err(format!("can't start new thread: {refused}")))
    }

    /// Waits, detached, until this worker may ask for the interpreter; false once there is nothing more to come.
    fn next_call(&self) -> bool {
        let mut queue = self.queue();
        loop {
            let free = !self.settings.gil || queue.called + queue.asking == 0;
            if !queue.tasks.is_empty() && free {
                queue.asking += 1;
                return true;
            }
            if queue.tasks.is_empty() && queue.closed.is_some() {
                return false;
            }
            queue.idle += 1;
            loop {
                queue = self.call.wait(queue).unwrap_or_else(PoisonError::into_inner);
                if queue.called > 0 {
                    queue.called -= 1;
                    break;
                }
                if queue.closed.is_some() && queue.tasks.is_empty() {
                    queue.idle -= 1;
                    break;
                }
            }
        }
    }

    /// The next task; if this worker has just attached, it also calls the next worker.
    fn take(&self, just_attached: bool) -> Option<Py<FutureCore>> {
        let mut queue = self.queue();
        if just_attached {
            queue.asking -= 1;
        }
        let task = queue.tasks.pop_front();
        let call = just_attached && self.call_one(&mut queue);
        let last = task.is_some() && queue.tasks.is_empty() && queue.closed.is_some();
        if task.is_some() {
            self.running.fetch_add(1, Ordering::Relaxed);
        }
        drop(queue);
        if last {
            self.call.notify_all();
        } else if call {
            self.call.notify_one();
        }
        task
    }

    /// Runs tasks until there are none or the interpreter was kept long enough. The wakes are for when it was given up.
    fn run_tasks(&self, py: Python<'_>, switch_interval: Duration, wakes: &mut Vec<Wake>) {
        let since = Instant::now();
        // A little longer than the interval. Who waits for the interpreter asks for it after an interval, and only if that
        // was asked does giving it up mean that somebody else gets it: a worker that gives it up before takes it again
        // before the other has woken up, each time. So who begins to wait now is let in after two turns at the latest.
        let turn = switch_interval + switch_interval / 4;
        let mut just_attached = true;
        while let Some(task) = self.take(mem::take(&mut just_attached)) {
            for wake in wakes.drain(..) {
                wake.wake();
            }
            let task = task.into_bound(py);
            let outcome = match task.get().begin() {
                Some(work) => self.run_counted(&task, work, wakes),
                None => {
                    self.running.fetch_sub(1, Ordering::Relaxed);
                    Ok(())
                }
            };
            if let Err(raised) = outcome {
                report(py, "Exception in worker", &raised);
            }
            drop(task);
            if since.elapsed() >= turn || wait::process() != self.process {
                return;
            }
        }
    }

    /// Runs a task and counts this worker as free before anybody learns that it has ended.
    fn run_counted(&self, task: &Bound<'_, FutureCore>, work: Work, wakes: &mut Vec<Wake>) -> PyResult<()> {
        let py = task.py();
        let outcome = Outcome::of(py, work.run(py));
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.finished.fetch_add(1, Ordering::Relaxed);
        let Some(mut effects) = FutureCore::finish(task, outcome)? else { return Ok(()) };
        wakes.append(&mut effects.wakes);
        if !effects.has_callbacks() {
            return Ok(());
        }
        for wake in wakes.drain(..) {
            wake.wake();
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        let called = effects.call_back(task);
        self.running.fetch_sub(1, Ordering::Relaxed);
        called
    }

    /// Takes no more tasks; those that wait are run, by workers that leave afterwards.
    pub(crate) fn close(&self) {
        self.close_as(Closed::ByShutdown);
    }

    /// Like [`close`](Self::close), because the interpreter ends.
    pub(crate) fn close_at_exit(&self) {
        self.close_as(Closed::ByExit);
    }

    fn close_as(&self, how: Closed) {
        self.queue().closed.get_or_insert(how);
        self.call.notify_all();
    }

    /// Takes the tasks out of the queue, but for those that a worker is already on its way to: they count as begun. A worker that
    /// runs its initializer is not: that may take long.
    pub(crate) fn take_unbegun(&self) -> Vec<Py<FutureCore>> {
        let mut queue = self.queue();
        let coming = queue
            .workers
            .saturating_sub(queue.idle + queue.initializing + self.running.load(Ordering::Relaxed));
        let kept = coming.min(queue.tasks.len());
        let unbegun = queue.tasks.split_off(kept);
        drop(queue);
        // Those that sleep in a closed pool may have nothing more to wait for.
        self.call.notify_all();
        unbegun.into()
    }

    /// Takes all tasks out of the queue.
    fn drain(&self) -> Vec<Py<FutureCore>> {
        let tasks = mem::take(&mut self.queue().tasks);
        // Those that sleep in a closed pool have nothing more to wait for.
        self.call.notify_all();
        tasks.into()
    }

    /// Waits until all workers have ended, apart from this thread if it is one, which runs what is left.
    pub(crate) fn join(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let own = own_pool().is_some_and(|pool| pool.number == self.number);
        if own {
            while let Some(task) = self.take(false) {
                self.running.fetch_sub(1, Ordering::Relaxed);
                run_inline(task.bind(py))?;
            }
            self.queue().leaving += 1;
            self.wake_joining();
        }
        let shared = Arc::clone(self);
        let ended = poll_fn(move |context| shared.poll_ended(context.waker()));
        let waited = wait::wait(py, ended, None);
        if own {
            self.queue().leaving -= 1;
        }
        waited.map(|_| ())
    }

    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let mut queue = self.queue();
        if queue.workers <= queue.leaving {
            return Poll::Ready(());
        }
        if !queue.joining.iter().any(|known| known.will_wake(waker)) {
            queue.joining.push(waker.clone());
        }
        Poll::Pending
    }

    fn wake_joining(&self) {
        let joining = mem::take(&mut self.queue().joining);
        for waker in joining {
            waker.wake();
        }
    }

    /// Fails everything that waits, and what comes later: the initializer has failed.
    fn break_down(&self, py: Python<'_>) {
        self.queue().broken = true;
        for task in self.drain() {
            if let Err(raised) = FutureCore::fail(task.bind(py), error::BrokenThreadPool::new_err(BROKEN)) {
                report(py, "Exception in worker", &raised);
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let queue = self.queue();
        Stats {
            workers: queue.workers,
            running: self.running.load(Ordering::Relaxed),
            queued: queue.tasks.len(),
            submitted: queue.submitted,
            finished: self.finished.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add_map(&self, map: &Arc<MapState>) {
        lock(&self.maps).push(Arc::clone(map));
    }

    pub(crate) fn remove_map(&self, map: &Arc<MapState>) {
        let mut maps = lock(&self.maps);
        let place = maps.iter().position(|other| Arc::ptr_eq(other, map));
        let removed = place.map(|place| maps.swap_remove(place));
        drop(maps);
        drop(removed);
    }

    pub(crate) fn maps(&self) -> Vec<Arc<MapState>> {
        lock(&self.maps).clone()
    }

    /// Why no task can be submitted, if so.
    pub(crate) fn refusal(&self) -> Option<PyErr> {
        self.queue().refusal()
    }
}

impl Queue {
    fn refusal(&self) -> Option<PyErr> {
        if self.broken {
            return Some(error::BrokenThreadPool::new_err(BROKEN));
        }
        self.closed.map(|closed| {
            PyRuntimeError::new_err(match closed {
                Closed::ByShutdown => "cannot schedule new futures after shutdown",
                Closed::ByExit => "cannot schedule new futures after interpreter shutdown",
            })
        })
    }
}

/// What a worker calls before its first task.
pub(crate) struct Initializer {
    pub(crate) function: Py<PyAny>,
    pub(crate) args: Py<PyTuple>,
}

impl Initializer {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { function: self.function.clone_ref(py), args: self.args.clone_ref(py) }
    }
}

/// What a worker does, from its beginning to its end.
fn work(shared: &Arc<Shared>, name: &str, initializer: Option<Initializer>) {
    POOL.set(Some(Arc::clone(shared)));
    // Python need not know of a worker that is never called. An initializer is called at once: it may wait for that of another worker.
    let called = initializer.is_none();
    if !called || shared.next_call() {
        // Attached for good, so that Python sees one thread with one state; what waits is detached.
        let attached = Python::try_attach(|py| {
            work_attached(py, shared, name, initializer, called);
            if wait::process() == shared.process {
                take_leave(py);
            }
        });
        if attached.is_none() && called {
            shared.queue().asking -= 1;
        }
    }
    if wait::process() != shared.process {
        // The only thread of a forked child: the pool is not this process's.
        return;
    }
    shared.queue().workers -= 1;
    shared.wake_joining();
}

/// The attached part of [`work`]; `called` if this worker is on its way to a task.
fn work_attached(
    py: Python<'_>,
    shared: &Arc<Shared>,
    name: &str,
    initializer: Option<Initializer>,
    mut called: bool,
) {
    if let Err(raised) = introduce(py, name) {
        report(py, "Exception in worker", &raised);
    }
    if let Some(Initializer { function, args }) = initializer {
        shared.queue().initializing += 1;
        let initialized = function.call1(py, args);
        shared.queue().initializing -= 1;
        if let Err(raised) = initialized {
            report(py, "Exception in initializer:", &raised);
            shared.break_down(py);
            return;
        }
    }
    let mut wakes: Vec<Wake> = Vec::new();
    // The wakes of the last tasks come first: the interpreter is free by now.
    while wait::process() == shared.process
        && (mem::take(&mut called)
            || py.detach(|| {
                for wake in wakes.drain(..) {
                    wake.wake();
                }
                shared.next_call()
            }))
    {
        shared.run_tasks(py, switch_interval(py), &mut wakes);
    }
    work::forget_context();
}

/// Takes the thread off the books of `threading`: before Python 3.13 nobody else does that for a thread that it did not start.
fn take_leave(py: Python<'_>) {
    let left = (|| {
        let threading = py.import("threading")?;
        let lock = threading.getattr("_active_limbo_lock")?;
        lock.call_method0("acquire")?;
        let popped = threading
            .getattr("_active")
            .and_then(|active| active.call_method1("pop", (threading.call_method0("get_ident")?, py.None())));
        lock.call_method0("release")?;
        popped
    })();
    if let Err(raised) = left {
        raised.write_unraisable(py, None);
    }
}

/// Makes the thread known to `threading` under its name, with the trace and profile functions that are set for new threads.
fn introduce(py: Python<'_>, name: &str) -> PyResult<()> {
    let threading = py.import("threading")?;
    threading.call_method0("current_thread")?.setattr("name", name)?;
    let sys = py.import("sys")?;
    for (get, set) in [("gettrace", "settrace"), ("getprofile", "setprofile")] {
        let hook = threading.call_method0(get)?;
        if !hook.is_none() {
            sys.call_method1(set, (hook,))?;
        }
    }
    Ok(())
}

/// How long a thread may keep the interpreter when others want it.
fn switch_interval(py: Python<'_>) -> Duration {
    py.import(intern!(py, "sys"))
        .and_then(|sys| sys.call_method0(intern!(py, "getswitchinterval"))?.extract::<f64>())
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or(Duration::from_millis(5))
}

/// Logs what nobody can catch.
fn report(py: Python<'_>, message: &str, raised: &PyErr) {
    if let Err(also) = log::critical(py, message, &[], Some(raised)) {
        also.write_unraisable(py, None);
    }
}
