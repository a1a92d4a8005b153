//! Waiting on behalf of a Python thread: the one place where the bindings block.
//!
//! What is waited for is a Rust future, as every primitive, queue and task of the crates below gives one. [`Wait`] polls it **only while
//! the thread is attached** to the interpreter and sleeps detached in between. From that one rule follows what Python needs:
//!
//! - **No lock over Python code.** A poll takes and leaves the locks below; the thread never sleeps and never re-attaches with one.
//! - **Signals.** The main thread sleeps in slices of [`SLICE`], runs the handlers in between and goes on with the time that is left; its
//!   future keeps the place in line. If a handler raises, the future is dropped, which hands on what it was granted meanwhile.
//! - **Fork.** `os.fork` runs attached, so no other thread is inside a poll, and the locks below are free in the child. The threads that
//!   wait are not there any more, so their futures are dropped in the child before Python code runs ([`after_fork_in_child`]).
//! - **Interpreter exit.** A daemon thread that wakes up too late stays where it re-attaches, as in CPython from 3.14 on, and holds nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::once::intern;

/// How long the main thread sleeps before it looks for signals: Ctrl-C feels immediate, and 25 looks a second cost nothing.
const SLICE: Duration = Duration::from_millis(40);

/// Waits for `future`: its output, or `None` once `deadline` has passed. `None` as the deadline waits without limit.
///
/// The future is polled before the clock is looked at, so that one which is ready never times out.
///
/// # Errors
///
/// What a signal handler raised, such as `KeyboardInterrupt`. The future is dropped then, as it is at the deadline.
pub(crate) fn wait<F>(py: Python<'_>, future: F, deadline: Option<Instant>) -> PyResult<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Wait::new(future).until(py, deadline)
}

/// A future that a Python thread waits for, with its place among the [waits of this process](after_fork_in_child).
pub(crate) struct Wait<F: Future> {
    slot: Arc<Slot<F>>,
    number: u64,
    sleeper: Arc<Sleeper>,
    waker: Waker,
    output: Option<F::Output>,
}

impl<F> Wait<F>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    /// Prepares the wait; nothing is polled yet.
    pub(crate) fn new(future: F) -> Self {
        let slot = Arc::new(Slot(Mutex::new(Some(Box::pin(future)))));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&WAITS).insert(number, (thread::current().id(), Arc::clone(&slot) as Arc<dyn Abandon>));
        let sleeper = Sleeper::take();
        let waker = Waker::from(Arc::clone(&sleeper));
        Self { slot, number, sleeper, waker, output: None }
    }

    /// Polls once, which takes the place in line; true if the output is there. The thread is attached.
    pub(crate) fn start(&mut self, _attached: Python<'_>) -> bool {
        // Out of the slot while it runs: what a poll wakes may be Python code, and no lock of ours is held over that.
        let Some(mut future) = lock(&self.slot.0).take() else { return self.output.is_some() };
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(output) => self.output = Some(output),
            Poll::Pending => *lock(&self.slot.0) = Some(future),
        }
        self.output.is_some()
    }

    /// Sleeps until the output is there, at most until `deadline`; see [`wait`]. The place in line is kept, so it can be called again.
    pub(crate) fn until(&mut self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Option<F::Output>> {
        loop {
            if self.start(py) {
                return Ok(self.output.take());
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(None);
            }
            let until = if runs_handlers(py)? {
                let slice = now + SLICE;
                Some(deadline.map_or(slice, |deadline| deadline.min(slice)))
            } else {
                deadline
            };
            let sleeper = &self.sleeper;
            py.detach(|| sleeper.sleep_until(until));
            py.check_signals()?;
        }
    }

    /// [`until`](Self::until) without limit, for what must be done before an exception may leave: handlers run meanwhile, and the first
    /// exception that one raises is given back beside the output.
    pub(crate) fn regardless(&mut self, py: Python<'_>) -> (F::Output, PyResult<()>) {
        let mut raised = Ok(());
        loop {
            match self.until(py, None) {
                Ok(Some(output)) => return (output, raised),
                Ok(None) => unreachable!("a wait without a deadline does not give up"),
                Err(error) => raised = raised.and(Err(error)),
            }
        }
    }
}

impl<F: Future> Drop for Wait<F> {
    fn drop(&mut self) {
        // Each value leaves its lock before it is dropped: what runs then may be Python code.
        let registered = lock(&WAITS).remove(&self.number);
        let future = lock(&self.slot.0).take();
        drop((registered, future));
        Sleeper::give_back(&self.sleeper);
    }
}

/// The future of a wait, where a forked child finds it.
struct Slot<F>(Mutex<Option<Pin<Box<F>>>>);

/// A wait of which only one thing matters: that it can be ended for a thread that is no longer there.
trait Abandon: Send + Sync {
    /// Drops the future, which leaves the line or hands on what it was granted.
    fn abandon(&self);
}

impl<F: Send> Abandon for Slot<F> {
    fn abandon(&self) {
        let future = lock(&self.0).take();
        drop(future);
    }
}

/// By number, each with the thread that waits.
type Waits = BTreeMap<u64, (ThreadId, Arc<dyn Abandon>)>;

/// The waits that are under way.
static WAITS: Mutex<Waits> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Has Python call [`after_fork_in_child`] where processes fork.
pub(crate) fn watch_forks(py: Python<'_>) -> PyResult<()> {
    static WATCHING: OnceLock<()> = OnceLock::new();
    // From here on they are counted.
    process();
    // It learns first which thread is the main one of the child.
    py.import(intern!(py, "threading"))?;
    if let Some(register) = py.import("os")?.getattr_opt(intern!(py, "register_at_fork"))?
        && WATCHING.set(()).is_ok()
    {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(after_fork_in_child, py)?)?;
        register.call((), Some(&hooks))?;
    }
    Ok(())
}

/// The number of this process among its forks: what belongs to threads of another one is not to be touched. It has changed before any
/// Python code runs in a child, fork hooks and what the interpreter itself clears away included.
pub(crate) fn process() -> u64 {
    tricorne::exec::sys::forks()
}

/// In the child of a fork, before other Python code runs in it: ends the waits of the threads that exist in the parent only.
///
/// The forking thread itself may be inside a wait, if a signal handler forks: that one goes on.
#[pyfunction]
fn after_fork_in_child() {
    let here = thread::current().id();
    let (own, gone): (Waits, Waits) =
        std::mem::take(&mut *lock(&WAITS)).into_iter().partition(|(_, (thread, _))| *thread == here);
    *lock(&WAITS) = own;
    for (_, wait) in gone.into_values() {
        wait.abandon();
    }
}

/// Whether this is the thread in which Python runs signal handlers: the main thread of this process.
fn runs_handlers(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        static KNOWN: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    }
    let process = process();
    match KNOWN.get() {
        Some((of, known)) if of == process => Ok(known),
        _ => {
            let threading = py.import(intern!(py, "threading"))?;
            let main = threading.call_method0(intern!(py, "main_thread"))?.getattr(intern!(py, "ident"))?;
            let is_main = main.eq(threading.call_method0(intern!(py, "get_ident"))?)?;
            KNOWN.set(Some((process, is_main)));
            Ok(is_main)
        }
    }
}

/// Where one thread sleeps until its waker is called.
///
/// It may wake up without reason, so whoever sleeps looks again. Waking takes no lock, which is what makes it safe to wake a thread that a
/// fork left behind.
struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

thread_local! {
    /// The sleeper of this thread while no wait uses it. (A signal handler may wait inside a wait; it gets another one, so that it cannot
    /// take the wake-up that was meant for the outer.)
    static SPARE: RefCell<Option<Arc<Sleeper>>> = const { RefCell::new(None) };
}

impl Sleeper {
    fn take() -> Arc<Self> {
        SPARE
            .take()
            .unwrap_or_else(|| Arc::new(Self { thread: thread::current(), woken: AtomicBool::new(false) }))
    }

    fn give_back(sleeper: &Arc<Self>) {
        SPARE.set(Some(Arc::clone(sleeper)));
    }

    fn sleep_until(&self, deadline: Option<Instant>) {
        // Acquire: pairs with the release of the waker; what was done before the wake-up is visible.
        while !self.woken.swap(false, Ordering::Acquire) {
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
