//! `tricorne.threading.Condition`.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyDeprecationWarning, PyRuntimeError, PyTypeError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tricorne::sync::raw::{Enrolled, Owner, WaitSet};

use super::{Lock, RLock, WaitStats, lost, no_copies, owner};
use crate::awaiting::{Awaiting, Keeps, Outcome};
use crate::once::intern;
use crate::timeout;
use crate::wait::Wait;

/// Lets threads and asyncio tasks wait until something they look at under a lock has changed.
///
/// A drop-in for `threading.Condition`. ``lock`` is any lock, also one of the standard library; without one it is an `RLock` of its own.
/// `with condition:` and `async with condition:` hold the lock. Waiters are notified in the order in which they began to wait, and none
/// wakes without having been notified.
#[pyclass(frozen, subclass, weakref, dict, module = "tricorne.threading")]
pub(crate) struct Condition {
    waiters: WaitSet,
    /// There once `__init__` has run.
    lock: OnceLock<Guard>,
}

/// The lock of a condition. Ours are worked on directly; of others we know no more than Python does.
enum Guard {
    Lock(Py<Lock>),
    RLock(Py<RLock>),
    Foreign(Py<PyAny>),
}

/// What a lock has to be told to be again as it was.
enum Released {
    Lock,
    RLock(Owner, usize),
    /// What `_release_save` gave, if the lock has that.
    Foreign(Option<Py<PyAny>>),
}

fn not_acquired(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("cannot {what} on un-acquired lock"))
}

impl Guard {
    fn of(lock: &Bound<'_, PyAny>) -> Self {
        // A subclass may do things its own way, so it is asked like a foreign lock.
        if let Ok(lock) = lock.cast_exact::<Lock>() {
            Self::Lock(lock.clone().unbind())
        } else if let Ok(lock) = lock.cast_exact::<RLock>() {
            Self::RLock(lock.clone().unbind())
        } else {
            Self::Foreign(lock.clone().unbind())
        }
    }

    fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        match self {
            Self::Lock(lock) => lock.bind(py),
            Self::RLock(lock) => lock.bind(py),
            Self::Foreign(lock) => lock.bind(py),
        }
    }

    fn enter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Lock(lock) => Lock::enter(lock.bind(py))?,
            Self::RLock(lock) => RLock::enter(lock.bind(py))?,
            Self::Foreign(lock) => return lock.bind(py).call_method0(intern!(py, "__enter__")),
        }
        true.into_bound_py_any(py)
    }

    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Lock(lock) => lock.get().leave(),
            Self::RLock(lock) => lock.get().leave(py),
            Self::Foreign(lock) => lock.call_method0(py, intern!(py, "release")).map(drop),
        }
    }

    /// Whether the caller holds the lock; of a lock without an owner, whether somebody does.
    fn is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Lock(lock) => Ok(lock.get().raw().is_locked()),
            Self::RLock(lock) => {
                let raw = lock.get().raw();
                Ok(raw.is_owned_by(Owner::current_thread()) || raw.is_owned_by(owner::here(py, raw)))
            }
            Self::Foreign(lock) => {
                let lock = lock.bind(py);
                match lock.getattr_opt(intern!(py, "_is_owned"))? {
                    Some(is_owned) => is_owned.call0()?.is_truthy(),
                    None => held_by_anybody(lock),
                }
            }
        }
    }

    fn is_locked(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Lock(lock) => Ok(lock.get().raw().is_locked()),
            Self::RLock(lock) => Ok(lock.get().raw().is_locked()),
            Self::Foreign(lock) => {
                let lock = lock.bind(py);
                if let Some(locked) = lock.getattr_opt(intern!(py, "locked"))? {
                    return locked.call0()?.is_truthy();
                }
                // An RLock before Python 3.14 does not say; it would let its owner in again.
                match lock.getattr_opt(intern!(py, "_is_owned"))? {
                    Some(is_owned) if is_owned.call0()?.is_truthy()? => Ok(true),
                    _ => held_by_anybody(lock),
                }
            }
        }
    }

    /// Releases all levels.
    fn release_all(&self, py: Python<'_>) -> PyResult<Released> {
        match self {
            Self::Lock(lock) => lock.get().leave().map(|()| Released::Lock),
            Self::RLock(lock) => {
                let raw = lock.get().raw();
                let owner = owner::here(py, raw);
                let levels = raw.release_all(owner).map_err(|_| super::rlock::not_owned())?;
                Ok(Released::RLock(owner, levels))
            }
            Self::Foreign(lock) => {
                let lock = lock.bind(py);
                if let Some(save) = lock.getattr_opt(intern!(py, "_release_save"))? {
                    return Ok(Released::Foreign(Some(save.call0()?.unbind())));
                }
                lock.call_method0(intern!(py, "release"))?;
                Ok(Released::Foreign(None))
            }
        }
    }

    /// Takes the lock back. It must be held when an exception leaves, so what a signal handler raises waits until then.
    fn restore(&self, py: Python<'_>, released: Released) -> PyResult<()> {
        match (self, released) {
            (Self::Lock(lock), _) => Lock::enter_regardless(lock.bind(py)),
            (Self::RLock(lock), Released::RLock(owner, levels)) => {
                RLock::restore(lock.bind(py), owner, levels)
            }
            (Self::RLock(lock), _) => RLock::enter(lock.bind(py)),
            (Self::Foreign(lock), Released::Foreign(Some(saved))) => {
                lock.call_method1(py, intern!(py, "_acquire_restore"), (saved,)).map(drop)
            }
            (Self::Foreign(lock), _) => lock.call_method0(py, intern!(py, "acquire")).map(drop),
        }
    }
}

/// Whether a lock is held, by trying to take it.
fn held_by_anybody(lock: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = lock.py();
    if lock.call_method1(intern!(py, "acquire"), (false,))?.is_truthy()? {
        lock.call_method0(intern!(py, "release"))?;
        return Ok(false);
    }
    Ok(true)
}

impl Condition {
    fn guard(&self) -> PyResult<&Guard> {
        self.lock.get().ok_or_else(|| PyRuntimeError::new_err("Condition.__init__() not called"))
    }

    pub(crate) fn wait_until(
        slf: &Bound<'_, Self>,
        deadline: Option<Instant>,
        may_wait: bool,
    ) -> PyResult<bool> {
        let py = slf.py();
        let condition = slf.get();
        let guard = condition.guard()?;
        if !guard.is_owned(py)? {
            return Err(not_acquired("wait"));
        }
        // In line before the lock is released, so that no notification is missed.
        let mut wait = Wait::new(notified(slf.clone().unbind()));
        wait.start(py);
        let released = guard.release_all(py)?;
        let notified = if may_wait { wait.until(py, deadline) } else { Ok(wait.start(py).then_some(())) };
        drop(wait);
        let restored = guard.restore(py, released);
        // What ended the wait comes before what came up while the lock was taken back.
        let notified = notified?;
        restored.map(|()| notified.is_some())
    }

    fn tell(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        if !self.guard()?.is_owned(py)? {
            return Err(not_acquired("notify"));
        }
        self.waiters.notify(count);
        Ok(())
    }

    fn owned_in_task(&self, py: Python<'_>) -> PyResult<()> {
        match self.guard()? {
            Guard::Foreign(_) => Err(no_async_form()),
            guard if guard.is_owned(py)? => Ok(()),
            _ => Err(not_acquired("wait")),
        }
    }
}

fn no_async_form() -> PyErr {
    PyTypeError::new_err("the async forms of a condition need a lock of tricorne.threading")
}

/// Ends once it was notified; in line from the first poll.
async fn notified(condition: Py<Condition>) {
    condition.get().waiters.enroll().await;
}

/// The lock of a condition while a task waits: what has to be taken back, if it was released.
type Lent = Mutex<Option<Released>>;

/// One wait of a task, in all that is done for it.
struct Part {
    condition: Py<Condition>,
    predicate: Option<Py<PyAny>>,
    lent: Lent,
}

impl Keeps for Part {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.condition)?;
        visit.call(&self.predicate)
    }
}

impl Part {
    fn awaiting(part: Arc<Self>, work: impl Future<Output = Outcome> + Send + 'static) -> Awaiting {
        let (of_cleanup, of_close) = (Arc::clone(&part), Arc::clone(&part));
        Awaiting::new(work)
            .cleanup(async move { of_cleanup.take_back().await })
            .closed(move || of_close.lose())
            .keeping(part)
    }

    fn lent(&self) -> MutexGuard<'_, Option<Released>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the predicate says.
    fn look(&self, py: Python<'_>) -> Outcome {
        match &self.predicate {
            Some(predicate) => predicate.call0(py),
            None => Ok(py.None()),
        }
    }

    /// One wait of a task that holds the lock.
    async fn wait_once(&self) -> PyResult<()> {
        let condition = self.condition.get();
        let place: Enrolled<'_> = condition.waiters.enroll();
        let released = Python::attach(|py| condition.guard()?.release_all(py))?;
        *self.lent() = Some(released);
        place.await;
        self.take_back().await;
        Ok(())
    }

    /// Takes the lock back if it was released.
    async fn take_back(&self) {
        // Whoever gives up here leaves the note that the lock is still to be taken back.
        let owner = match &*self.lent() {
            None => return,
            Some(Released::RLock(owner, levels)) => Some((*owner, *levels)),
            Some(_) => None,
        };
        match (self.condition.get().lock.get(), owner) {
            (Some(Guard::Lock(lock)), _) => lock.get().raw().lock_async().await,
            (Some(Guard::RLock(lock)), Some((owner, levels))) => {
                lock.get().raw().restore_async(owner, levels).await;
            }
            _ => {}
        }
        self.lent().take();
    }

    /// The task was closed: there is no waiting for the lock that it released. If it is free it is taken back; otherwise the way out of
    /// the block must not release it.
    fn lose(&self) {
        if self.lent().take().is_none() {
            return;
        }
        match self.condition.get().lock.get() {
            Some(Guard::Lock(lock)) if !lock.get().raw().try_lock() => lost::note(lock.as_ptr() as usize),
            // By its owner, the task, which will not run again.
            Some(Guard::RLock(lock)) => lost::note(lock.as_ptr() as usize),
            _ => {}
        }
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(lock=None)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self { waiters: WaitSet::new(), lock: OnceLock::new() }
    }

    #[pyo3(signature = (lock = None))]
    fn __init__(&self, py: Python<'_>, lock: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        // Two bases of a class may both call it.
        if let Some(made) = self.lock.get()
            && lock.is_none_or(|lock| lock.is(made.object(py)))
        {
            return Ok(());
        }
        let guard = match lock {
            Some(lock) => Guard::of(lock),
            None => Guard::of(&py.get_type::<RLock>().call0()?),
        };
        self.lock.set(guard).map_err(|_| PyRuntimeError::new_err("a condition is made only once"))
    }

    /// Take the lock: its `acquire`, with the arguments of that.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, *args, **kwargs)")]
    fn acquire<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.object(py).getattr(intern!(py, "acquire"))?.call(args, kwargs)
    }

    /// Release the lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let guard = self.guard()?;
        if lost::was_it(py, guard.object(py).as_ptr() as usize) {
            return Ok(());
        }
        guard.leave(py)
    }

    /// Whether somebody holds the lock.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        self.guard()?.is_locked(py)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.enter(py)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None, /))]
    fn __exit__<'py>(
        &self,
        py: Python<'py>,
        exc_type: Option<&Bound<'py, PyAny>>,
        exc_value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.guard()? {
            Guard::Foreign(lock) => {
                let arguments = (exc_type, exc_value, traceback);
                lock.bind(py).call_method1(intern!(py, "__exit__"), arguments).map(Some)
            }
            guard => guard.leave(py).map(|()| None),
        }
    }

    /// Release the lock, wait to be notified, for at most ``timeout`` seconds, and take the lock again.
    ///
    /// Return True, or False if the time was up. Raises ``RuntimeError`` if the caller does not hold the lock.
    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = timeout.map(timeout::seconds).transpose()?;
        Self::wait_until(slf, limit.and_then(timeout::after), limit.is_none_or(|limit| limit > 0.0))
    }

    /// Wait until ``predicate()`` is true, for at most ``timeout`` seconds. Return its last value.
    ///
    /// The predicate is called with the lock held.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for<'py>(
        slf: &Bound<'py, Self>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = timeout::deadline(timeout)?;
        loop {
            let value = predicate.call0()?;
            if value.is_truthy()? || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(value);
            }
            Self::wait_until(slf, deadline, true)?;
        }
    }

    /// Notify the ``n`` that have waited longest, or as many as wait. Raises ``RuntimeError`` if the caller does not hold the lock.
    #[pyo3(signature = (n = 1))]
    pub(crate) fn notify(&self, py: Python<'_>, n: isize) -> PyResult<()> {
        self.tell(py, usize::try_from(n).unwrap_or(0))
    }

    /// Notify all who wait. Raises ``RuntimeError`` if the caller does not hold the lock.
    pub(crate) fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.tell(py, usize::MAX)
    }

    /// The old name of `notify_all`.
    #[pyo3(name = "notifyAll")]
    fn notify_all_by_its_old_name(&self, py: Python<'_>) -> PyResult<()> {
        let category = py.get_type::<PyDeprecationWarning>();
        PyErr::warn(py, &category, c"notifyAll() is deprecated, use notify_all() instead", 1)?;
        self.notify_all(py)
    }

    /// Take the lock in an asyncio task: True, or False if that was not possible within ``timeout`` seconds.
    ///
    /// Raises ``TypeError`` if the lock is not one of `tricorne.threading`.
    #[pyo3(signature = (timeout = None))]
    fn acquire_async(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        match self.guard()? {
            Guard::Lock(lock) => Lock::acquire_async(lock.clone_ref(py), timeout),
            Guard::RLock(lock) => RLock::acquire_async(lock.clone_ref(py), timeout),
            Guard::Foreign(_) => Err(no_async_form()),
        }
    }

    fn __aenter__(&self, py: Python<'_>) -> PyResult<Awaiting> {
        self.acquire_async(py, None)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None, /))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Awaiting> {
        let _ = (exc_type, exc_value, traceback);
        let guard = self.guard()?;
        if lost::was_it(py, guard.object(py).as_ptr() as usize) {
            return Ok(Awaiting::over());
        }
        guard.leave(py).map(|()| Awaiting::over())
    }

    /// `wait` for an asyncio task that holds the lock by `async with`.
    ///
    /// A task that is cancelled meanwhile takes the lock again before ``CancelledError`` leaves. If its coroutine is closed instead and
    /// somebody else holds the lock by then, what the coroutine does on its way out is done without it.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        let part = Arc::new(Part { condition: slf.clone().unbind(), predicate: None, lent: Lent::default() });
        let of_work = Arc::clone(&part);
        Ok(Part::awaiting(part, async move {
            Python::attach(|py| of_work.condition.get().owned_in_task(py))?;
            of_work.wait_once().await?;
            Python::attach(|py| true.into_py_any(py))
        })
        .until(deadline, |py| false.into_py_any(py)))
    }

    /// `wait_for` for an asyncio task that holds the lock by `async with`. The predicate is a plain function.
    #[pyo3(signature = (predicate, timeout = None))]
    fn wait_for_async(
        slf: &Bound<'_, Self>,
        predicate: Py<PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        let part =
            Part { condition: slf.clone().unbind(), predicate: Some(predicate), lent: Lent::default() };
        let part = Arc::new(part);
        let (of_work, of_end) = (Arc::clone(&part), Arc::clone(&part));
        Ok(Part::awaiting(part, async move {
            Python::attach(|py| of_work.condition.get().owned_in_task(py))?;
            loop {
                let value = Python::attach(|py| {
                    let value = of_work.look(py)?;
                    Ok::<_, PyErr>(value.is_truthy(py)?.then_some(value))
                })?;
                match value {
                    Some(value) => return Ok(value),
                    None => of_work.wait_once().await?,
                }
            }
        })
        .until(deadline, move |py| of_end.look(py)))
    }

    /// How much has been waited for notifications so far.
    pub(crate) fn stats(&self) -> WaitStats {
        self.waiters.stats().into()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let condition = slf.get();
        let lock = condition.guard()?.object(slf.py()).repr()?;
        Ok(format!("<{}({lock}, {})>", slf.get_type().name()?, condition.waiters.waiting()))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// The lock.
    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.guard()?.object(py).clone())
    }

    /// The lock's own, if it has that.
    #[getter]
    fn _release_save<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.object(py).getattr(intern!(py, "_release_save"))
    }

    /// The lock's own, if it has that.
    #[getter]
    fn _acquire_restore<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.guard()?.object(py).getattr(intern!(py, "_acquire_restore"))
    }

    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        self.guard()?.is_owned(py)
    }

    /// Make the lock free and forget those who wait, in the child of a fork.
    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        self.waiters.reinit_after_fork();
        self.guard()?.object(py).call_method0(intern!(py, "_at_fork_reinit")).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self.lock.get() {
            Some(Guard::Lock(lock)) => visit.call(lock),
            Some(Guard::RLock(lock)) => visit.call(lock),
            Some(Guard::Foreign(lock)) => visit.call(lock),
            None => Ok(()),
        }
    }
}
