//! Waiting on behalf of an asyncio task: a Rust future as a Python awaitable.
//!
//! The task sleeps on an asyncio future of its own loop. The waker sets that future by `loop.call_soon_threadsafe`, from whichever thread
//! it is called, so nothing polls. A task that is cancelled drops the Rust future, which leaves the line or hands on what it was granted.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::once::{Once, intern};

/// What an operation gives to Python: its result, or what it raises.
pub(crate) type Outcome = PyResult<Py<PyAny>>;

/// An operation under way in asyncio: await it, once.
///
/// It stands in line from the moment it is first awaited. To be cancelled loses nothing: what was meant for it goes to the next.
#[pyclass(frozen, module = "tricorne.threading")]
pub(crate) struct Awaiting(Arc<Mutex<Phase>>);

enum Phase {
    Ready(Box<Operation>),
    /// A Python coroutine goes on with it.
    Python(Py<PyAny>),
    /// The operation is out, being polled; or it is over.
    Out,
}

/// Python objects that an operation refers to.
pub(crate) trait Keeps: Send + Sync {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), pyo3::PyTraverseError>;
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an operation gives once its time is over.
type TimedOut = Box<dyn FnOnce(Python<'_>) -> Outcome + Send>;

struct Operation {
    work: Work<Outcome>,
    limit: Option<(Instant, TimedOut)>,
    /// What is still to be done if the work does not come to its own end.
    cleanup: Option<Work<()>>,
    /// How the operation ends after the cleanup.
    ending: Option<TimedOut>,
    /// What the work refers to, for the collector.
    kept: Option<Arc<dyn Keeps>>,
    /// What is done if it is closed, once the work was dropped.
    closed: Option<Box<dyn FnOnce() + Send>>,
    /// What the task was given to sleep on; kept so that the waker outlives the sleep.
    waker: Option<Arc<AsyncioWaker>>,
    /// What `loop.call_later` gave for the deadline.
    timer: Option<Py<PyAny>>,
}

impl Awaiting {
    /// An awaitable that ends as `work` does, which is polled attached.
    pub(crate) fn new(work: impl Future<Output = Outcome> + Send + 'static) -> Self {
        let work = Box::pin(work);
        let operation = Operation {
            work,
            limit: None,
            cleanup: None,
            ending: None,
            kept: None,
            closed: None,
            waker: None,
            timer: None,
        };
        Self(Arc::new(Mutex::new(Phase::Ready(Box::new(operation)))))
    }

    /// An awaitable that gives `None` at once.
    pub(crate) fn over() -> Self {
        Self::new(async { Python::attach(|py| Ok(py.None())) })
    }

    /// Once `deadline` has passed, the work is dropped and the awaitable ends as `timed_out` says.
    pub(crate) fn until(
        self,
        deadline: Option<Instant>,
        timed_out: impl FnOnce(Python<'_>) -> Outcome + Send + 'static,
    ) -> Self {
        self.with(|operation| {
            operation.limit = deadline.map(|deadline| (deadline, Box::new(timed_out) as TimedOut));
        })
    }

    /// If the work is dropped, by time or because the task was cancelled, `cleanup` is done before the awaitable ends.
    pub(crate) fn cleanup(self, cleanup: impl Future<Output = ()> + Send + 'static) -> Self {
        self.with(|operation| operation.cleanup = Some(Box::pin(cleanup)))
    }

    /// If the coroutine that awaits is closed, which leaves no time for a cleanup, `closed` is called in its thread.
    pub(crate) fn closed(self, closed: impl FnOnce() + Send + 'static) -> Self {
        self.with(|operation| operation.closed = Some(Box::new(closed)))
    }

    /// Shows the collector what the work refers to, which must refer to it through this alone.
    pub(crate) fn keeping(self, kept: Arc<dyn Keeps>) -> Self {
        self.with(|operation| operation.kept = Some(kept))
    }

    fn with(self, change: impl FnOnce(&mut Operation)) -> Self {
        if let Phase::Ready(operation) = &mut *self.phase() {
            change(operation);
        }
        self
    }

    fn take(&self) -> Phase {
        take(&self.0)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        lock(&self.0)
    }

    /// Goes on with a coroutine that was taken out.
    fn send_to(&self, py: Python<'_>, coroutine: Py<PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let sent = coroutine.call_method1(py, intern!(py, "send"), (value,));
        if sent.is_ok() {
            *self.phase() = Phase::Python(coroutine);
        }
        sent
    }

    /// Goes on with an operation that was taken out.
    fn go_on(&self, py: Python<'_>, mut operation: Box<Operation>) -> PyResult<Py<PyAny>> {
        match operation.step(py, &self.0) {
            Ok(Step::Sleep(future)) => {
                *self.phase() = Phase::Ready(operation);
                Ok(future)
            }
            Ok(Step::Over(outcome)) => {
                operation.cancel_timer(py);
                let value = outcome?;
                match value.cast_bound::<GoOn>(py) {
                    Ok(go_on) => {
                        let coroutine = go_on.get().coroutine.clone_ref(py);
                        self.send_to(py, coroutine, py.None().bind(py))
                    }
                    Err(_) => Err(PyStopIteration::new_err((value,))),
                }
            }
            Err(error) => {
                operation.cancel_timer(py);
                Err(error)
            }
        }
    }
}

#[pymethods]
impl Awaiting {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Goes on; raises `StopIteration` with the result at the end.
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.take() {
            Phase::Ready(operation) => self.go_on(py, operation),
            Phase::Python(coroutine) => self.send_to(py, coroutine, py.None().bind(py)),
            Phase::Out => {
                Err(PyRuntimeError::new_err("cannot await this again: it is over, or awaited elsewhere"))
            }
        }
    }

    /// Goes on; the value is ignored.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _ = value;
        self.__next__(py)
    }

    /// Gives up, and raises what was thrown.
    #[pyo3(signature = (typ, val = None, tb = None, /))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = tb;
        let raised = match val {
            Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => value.clone(),
            _ if typ.is_instance_of::<pyo3::exceptions::PyBaseException>() => typ,
            Some(value) => typ.call1((value,))?,
            None => typ.call0()?,
        };
        let error = PyErr::from_value(raised);
        match self.take() {
            Phase::Ready(mut operation) => {
                operation.give_up(Box::new(|_| Err(error)));
                self.go_on(py, operation)
            }
            Phase::Python(coroutine) => {
                let thrown = coroutine.call_method1(py, intern!(py, "throw"), (error,));
                if thrown.is_ok() {
                    *self.phase() = Phase::Python(coroutine);
                }
                thrown
            }
            Phase::Out => Err(error),
        }
    }

    /// Gives up at once.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.take() {
            Phase::Ready(mut operation) => {
                operation.cancel_timer(py);
                let closed = operation.closed.take();
                // It leaves its line, or hands on what it was granted.
                drop(operation);
                if let Some(closed) = closed {
                    closed();
                }
            }
            Phase::Python(coroutine) => drop(coroutine.call_method0(py, intern!(py, "close"))?),
            Phase::Out => {}
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // Never blocks: whoever holds this lock is in Rust code that makes no Python objects.
        match self.0.try_lock().as_deref() {
            Ok(Phase::Ready(operation)) => {
                visit.call(&operation.timer)?;
                // Not what its waker refers to: that is in the line of the primitive as well, which the collector does not see. A task
                // that waits is alive as long as it can be woken.
                operation.kept.as_ref().map_or(Ok(()), |kept| kept.traverse(&visit))
            }
            Ok(Phase::Python(coroutine)) => visit.call(coroutine),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let phase = self.take();
        drop(phase);
    }
}

/// What an operation gives that is to be gone on with by a Python coroutine; see [`go_on_with`].
#[pyclass(frozen)]
struct GoOn {
    coroutine: Py<PyAny>,
}

/// An outcome by which the awaitable becomes this coroutine.
pub(crate) fn go_on_with(coroutine: Bound<'_, PyAny>) -> Outcome {
    let py = coroutine.py();
    Ok(Py::new(py, GoOn { coroutine: coroutine.unbind() })?.into_any())
}

enum Step {
    /// Yield this asyncio future to the loop.
    Sleep(Py<PyAny>),
    Over(Outcome),
}

impl Operation {
    fn step(&mut self, py: Python<'_>, phase: &Arc<Mutex<Phase>>) -> PyResult<Step> {
        loop {
            // A waker for each round: what the last one wakes is over.
            let waker = Arc::new(AsyncioWaker { target: OnceLock::new(), phase: Arc::downgrade(phase) });
            let polled = self.work.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker))));
            if let Poll::Ready(outcome) = polled {
                return Ok(Step::Over(match self.ending.take() {
                    Some(ending) => ending(py),
                    None => outcome,
                }));
            }
            if let Some((_, timed_out)) = self.limit.take_if(|(deadline, _)| *deadline <= Instant::now()) {
                self.give_up(timed_out);
                continue;
            }
            let Some(target) = waker.target(py)? else { continue };
            self.arm_timer(py, target)?;
            if let Some(sleep) = target.future.bind(py).try_iter()?.next() {
                let sleep = sleep?.unbind();
                self.waker = Some(waker);
                return Ok(Step::Sleep(sleep));
            }
        }
    }

    /// Drops the work, does the cleanup instead, and then ends like this. A cleanup that has begun goes on.
    fn give_up(&mut self, ending: TimedOut) {
        self.limit = None;
        if self.ending.replace(ending).is_none() {
            let cleanup = self.cleanup.take();
            self.work = Box::pin(async move {
                if let Some(cleanup) = cleanup {
                    cleanup.await;
                }
                Python::attach(|py| Ok(py.None()))
            });
        }
    }

    /// Lets the loop wake the task at the deadline.
    fn arm_timer(&mut self, py: Python<'_>, target: &Target) -> PyResult<()> {
        self.cancel_timer(py);
        if let Some((deadline, _)) = &self.limit {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
            let arguments = (left, finish(py)?, &target.future);
            self.timer = Some(target.event_loop.call_method1(py, intern!(py, "call_later"), arguments)?);
        }
        Ok(())
    }

    fn cancel_timer(&self, py: Python<'_>) {
        if let Some(timer) = &self.timer {
            // It cannot fail, and if it did: a timer that fires late finds its future done.
            let _ = timer.call_method0(py, intern!(py, "cancel"));
        }
    }
}

/// The asyncio future that a task sleeps on, and its loop.
struct Target {
    event_loop: Py<PyAny>,
    future: Py<PyAny>,
}

/// Wakes a task of asyncio.
struct AsyncioWaker {
    /// `None` inside: woken before the task slept. Python code must not run while it is filled: it might wake.
    target: OnceLock<Option<Target>>,
    /// Where the operation is that waits.
    phase: Weak<Mutex<Phase>>,
}

impl AsyncioWaker {
    /// What the task is to sleep on; nothing if it was woken already.
    fn target(&self, py: Python<'_>) -> PyResult<Option<&Target>> {
        let event_loop = running_loop(py)?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let target = Some(Target { event_loop: event_loop.unbind(), future: future.unbind() });
        // Refused if it was woken meanwhile.
        let refused = self.target.set(target);
        drop(refused);
        Ok(self.target.get().and_then(Option::as_ref))
    }

    /// The loop was closed: its task never runs again. What it was granted goes to the next, by dropping the operation.
    fn let_go(&self, event_loop: &Bound<'_, PyAny>) {
        thread_local! {
            /// What is still to be dropped by this thread, while it is at it.
            static LEFT: RefCell<Option<Vec<Phase>>> = const { RefCell::new(None) };
        }
        let closed = event_loop.call_method0(intern!(event_loop.py(), "is_closed"));
        let Some(phase) =
            self.phase.upgrade().filter(|_| closed.is_ok_and(|closed| closed.is_truthy().unwrap_or(false)))
        else {
            return;
        };
        let phase = take(&phase);
        // The next may be of a closed loop as well: one after the other, not one inside the other.
        let begins = LEFT.with_borrow_mut(|left| {
            let begins = left.is_none();
            left.get_or_insert_default().push(phase);
            begins
        });
        if !begins {
            return;
        }
        loop {
            let next = LEFT.with_borrow_mut(|left| {
                let next = left.as_mut().and_then(Vec::pop);
                if next.is_none() {
                    *left = None;
                }
                next
            });
            match next {
                Some(next) => drop(next),
                None => return,
            }
        }
    }
}

fn lock(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what is there out of it.
fn take(phase: &Mutex<Phase>) -> Phase {
    std::mem::replace(&mut *lock(phase), Phase::Out)
}

impl Wake for AsyncioWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Nobody is left to be woken once the interpreter ends.
        Python::try_attach(|py| {
            if let Some(target) = self.target.get_or_init(|| None) {
                let woken = finish(py).and_then(|finish| {
                    let arguments = (finish, &target.future);
                    target.event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), arguments)
                });
                match woken {
                    Ok(_) => {}
                    // What a loop raises that was closed meanwhile.
                    Err(error) if error.is_instance_of::<PyRuntimeError>(py) => {
                        self.let_go(target.event_loop.bind(py));
                    }
                    Err(error) => error.write_unraisable(py, Some(target.event_loop.bind(py))),
                }
            }
        });
    }
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: Once<Py<PyAny>> = Once::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

fn finish(py: Python<'_>) -> PyResult<&Bound<'_, PyCFunction>> {
    static FINISH: Once<Py<PyCFunction>> = Once::new();
    FINISH
        .get_or_try_init(py, || wrap_pyfunction!(finish_future, py).map(Bound::unbind))
        .map(|function| function.bind(py))
}

/// Sets the future of a sleeping task, in its loop; it may have been cancelled meanwhile.
#[pyfunction]
fn finish_future(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
