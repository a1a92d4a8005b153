//! `tricorne.threading.RLock`.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use tricorne::sync::raw::{Owner, RawRLock};

use super::lock::refuse_arguments;
use super::{Patience, WaitStats, lock_repr, lost, no_copies, owner};
use crate::awaiting::Awaiting;
use crate::timeout::{self, Truth};
use crate::wait;

/// A lock that its owner may take again; it is free once it was released as often.
///
/// A drop-in for `threading.RLock`. The owner is a thread, or with `async with` and `acquire_async` an asyncio task: two tasks of one
/// thread exclude each other. Within such a task the plain operations act for the task.
#[pyclass(frozen, subclass, weakref, module = "tricorne.threading")]
pub(crate) struct RLock {
    raw: RawRLock,
}

impl RLock {
    pub(super) fn raw(&self) -> &RawRLock {
        &self.raw
    }

    /// Takes one level, waiting without limit.
    #[inline]
    pub(super) fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().raw.try_lock(Owner::current_thread()) {
            return Ok(());
        }
        Self::enter_slowly(slf, None).map(|_| ())
    }

    #[cold]
    fn enter_slowly(slf: &Bound<'_, Self>, limit: Option<f64>) -> PyResult<bool> {
        let owner = owner::here(slf.py(), &slf.get().raw);
        let taken = taken(slf.clone().unbind(), owner);
        wait::wait(slf.py(), taken, limit.and_then(timeout::after)).map(|taken| taken.is_some())
    }

    /// Gives back one level.
    #[inline]
    pub(super) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        if self.raw.unlock(Owner::current_thread()).is_ok() {
            return Ok(());
        }
        self.raw.unlock(owner::here(py, &self.raw)).map_err(|_| not_owned())
    }

    /// Takes all levels back, whatever signal handlers raise meanwhile; that is given back.
    pub(super) fn restore(slf: &Bound<'_, Self>, owner: Owner, levels: usize) -> PyResult<()> {
        let lock = slf.clone().unbind();
        let restored = async move { lock.get().raw.restore_async(owner, levels).await };
        wait::Wait::new(restored).regardless(slf.py()).1
    }
}

/// One level more, once the lock is free for `owner`.
async fn taken(lock: Py<RLock>, owner: Owner) {
    lock.get().raw.lock_async(owner).await;
}

/// The error of who is not the owner.
pub(super) fn not_owned() -> PyErr {
    PyRuntimeError::new_err("cannot release un-acquired lock")
}

#[pymethods]
impl RLock {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn new(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        refuse_arguments::<Self>(cls, args, kwargs)?;
        Ok(Self { raw: RawRLock::new() })
    }

    /// Take the lock, once more if it is one's own, and return True; False if that was not possible without waiting, or in time.
    ///
    /// ``timeout`` is in seconds; -1 waits without limit. Raises ``ValueError`` for another negative number, or for a timeout with
    /// ``blocking=False``, and ``OverflowError`` above ``threading.TIMEOUT_MAX``.
    #[pyo3(signature = (blocking = Truth(true), timeout = None), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(slf: &Bound<'_, Self>, blocking: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = Patience::of_lock(blocking, timeout)?;
        let raw = &slf.get().raw;
        if raw.try_lock(Owner::current_thread()) {
            return Ok(true);
        }
        match patience {
            Patience::None => Ok(raw.try_lock(owner::here(slf.py(), raw))),
            Patience::Wait(limit) => Self::enter_slowly(slf, limit),
        }
    }

    /// Give back one level. Raises ``RuntimeError`` if the caller does not own the lock.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if lost::was_it(slf.py(), slf.as_ptr() as usize) {
            return Ok(());
        }
        slf.get().leave(slf.py())
    }

    /// Whether somebody holds the lock.
    fn locked(&self) -> bool {
        self.raw.is_locked()
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::enter(slf).map(|()| true)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.leave(py)
    }

    /// Take the lock for the asyncio task that awaits this: True, or False if that was not possible within ``timeout`` seconds.
    #[pyo3(signature = (timeout = None))]
    pub(super) fn acquire_async(slf: Py<Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        Ok(Awaiting::new(async move {
            let owner = Python::attach(owner::current_task).unwrap_or_else(Owner::current_thread);
            taken(slf, owner).await;
            Python::attach(|py| true.into_py_any(py))
        })
        .until(deadline, |py| false.into_py_any(py)))
    }

    fn __aenter__(slf: Py<Self>) -> PyResult<Awaiting> {
        Self::acquire_async(slf, None)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None, /))]
    fn __aexit__(
        slf: &Bound<'_, Self>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Awaiting> {
        let _ = (exc_type, exc_value, traceback);
        if lost::was_it(slf.py(), slf.as_ptr() as usize) {
            return Ok(Awaiting::over());
        }
        slf.get().leave(slf.py()).map(|()| Awaiting::over())
    }

    /// How much has been waited for it so far.
    fn stats(&self) -> WaitStats {
        self.raw.stats().into()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let raw = &slf.get().raw;
        let levels = raw.owner().map_or(0, |owner| raw.levels(owner));
        lock_repr(slf, raw.is_locked(), &format!(" count={levels}"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    // What `threading.Condition` asks of a lock, and the forks of the standard library's own modules.

    fn _is_owned(&self, py: Python<'_>) -> bool {
        self.raw.is_owned_by(owner::here(py, &self.raw))
    }

    fn _recursion_count(&self, py: Python<'_>) -> usize {
        self.raw.levels(owner::here(py, &self.raw))
    }

    fn _release_save(&self, py: Python<'_>) -> PyResult<usize> {
        self.raw.release_all(owner::here(py, &self.raw)).map_err(|_| not_owned())
    }

    fn _acquire_restore(slf: &Bound<'_, Self>, levels: usize) -> PyResult<()> {
        // A thread restores for itself. (A task cannot be here: it does not wait with a blocking call.)
        Self::restore(slf, Owner::current_thread(), levels)
    }

    fn _at_fork_reinit(&self) {
        self.raw.reinit_after_fork();
    }
}
