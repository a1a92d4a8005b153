//! `tricorne.threading.Lock`.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictMethods, PyTuple, PyType};
use tricorne::sync::raw::RawLock;

use super::{Patience, WaitStats, lock_repr, lost, no_copies};
use crate::awaiting::Awaiting;
use crate::timeout::{self, Truth};
use crate::wait;

/// Excludes threads and asyncio tasks from one another.
///
/// A drop-in for `threading.Lock`: it has no owner, so any thread may release it, and a thread that acquires it twice waits for ever.
/// `with lock:` is for threads, `async with lock:` for asyncio tasks; both stand in one line. A thread that runs may overtake a waiter
/// that is just waking up, but only once.
#[pyclass(frozen, subclass, weakref, module = "tricorne.threading")]
pub(crate) struct Lock {
    raw: RawLock,
}

impl Lock {
    pub(super) fn raw(&self) -> &RawLock {
        &self.raw
    }

    /// Takes it, waiting without limit.
    pub(crate) fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().raw.try_lock() {
            return Ok(());
        }
        wait::wait(slf.py(), taken(slf.clone().unbind()), None).map(|_| ())
    }

    /// Takes it whatever signal handlers raise meanwhile; that is given back.
    pub(super) fn enter_regardless(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().raw.try_lock() {
            return Ok(());
        }
        wait::Wait::new(taken(slf.clone().unbind())).regardless(slf.py()).1
    }

    pub(crate) fn leave(&self) -> PyResult<()> {
        self.raw.unlock().map_err(|_| PyRuntimeError::new_err("release unlocked lock"))
    }
}

/// The lock, once it is taken.
async fn taken(lock: Py<Lock>) {
    lock.get().raw.lock_async().await;
}

#[pymethods]
impl Lock {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn new(
        cls: &Bound<'_, PyType>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        refuse_arguments::<Self>(cls, args, kwargs)?;
        Ok(Self { raw: RawLock::new() })
    }

    /// Take the lock and return True; False if that was not possible without waiting, or in time.
    ///
    /// ``timeout`` is in seconds; -1 waits without limit. Raises ``ValueError`` for another negative number, or for a timeout with
    /// ``blocking=False``, and ``OverflowError`` above ``threading.TIMEOUT_MAX``.
    #[pyo3(signature = (blocking = Truth(true), timeout = None), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(slf: &Bound<'_, Self>, blocking: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = Patience::of_lock(blocking, timeout)?;
        if slf.get().raw.try_lock() {
            return Ok(true);
        }
        match patience {
            Patience::None => Ok(false),
            Patience::Wait(limit) => {
                let taken = taken(slf.clone().unbind());
                wait::wait(slf.py(), taken, limit.and_then(timeout::after)).map(|taken| taken.is_some())
            }
        }
    }

    /// Let the lock go. Any thread may do that. Raises ``RuntimeError`` if nobody holds it.
    fn release(slf: &Bound<'_, Self>) -> PyResult<()> {
        if lost::was_it(slf.py(), slf.as_ptr() as usize) {
            return Ok(());
        }
        slf.get().leave()
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
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.leave()
    }

    /// Take the lock in an asyncio task: ``await lock.acquire_async()``. True, or False if that was not possible within ``timeout`` seconds.
    #[pyo3(signature = (timeout = None))]
    pub(super) fn acquire_async(slf: Py<Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        Ok(Awaiting::new(async move {
            taken(slf).await;
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
        slf.get().leave().map(|()| Awaiting::over())
    }

    /// How much has been waited for it so far.
    fn stats(&self) -> WaitStats {
        self.raw.stats().into()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        lock_repr(slf, slf.get().raw.is_locked(), "")
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// Make it free in the child of a fork, whatever the parent did with it.
    fn _at_fork_reinit(&self) {
        self.raw.reinit_after_fork();
    }
}

/// The class itself takes no arguments; what a subclass takes is for its `__init__`.
pub(super) fn refuse_arguments<T: pyo3::PyTypeInfo>(
    cls: &Bound<'_, PyType>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    if cls.is(cls.py().get_type::<T>()) && !(args.is_empty() && kwargs.is_none_or(PyDictMethods::is_empty)) {
        return Err(PyTypeError::new_err(format!("{}() takes no arguments", cls.name()?)));
    }
    Ok(())
}
