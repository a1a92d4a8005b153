//! `tricorne.threading.Semaphore` and `BoundedSemaphore`.

use std::sync::OnceLock;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tricorne::sync::raw::RawSemaphore;

use super::{WaitStats, no_copies, short_repr};
use crate::awaiting::Awaiting;
use crate::once::intern;
use crate::timeout::{self, Truth};
use crate::wait;

/// Holds a number of permits: `acquire` takes one, waiting for it if there is none, and `release` adds some.
///
/// A drop-in for `threading.Semaphore`, with `async with` for asyncio tasks. First come, first served. ``value`` is the number of permits
/// in the beginning; a negative one raises ``ValueError``.
#[pyclass(frozen, subclass, weakref, dict, module = "tricorne.threading")]
pub(crate) struct Semaphore {
    /// There once `__init__` has run.
    permits: OnceLock<Permits>,
}

struct Permits {
    raw: RawSemaphore,
    initial: usize,
}

impl Semaphore {
    fn permits(&self) -> PyResult<&Permits> {
        self.permits.get().ok_or_else(|| PyRuntimeError::new_err("Semaphore.__init__() not called"))
    }

    fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().permits()?.raw.try_acquire(1).is_ok() {
            return Ok(());
        }
        wait::wait(slf.py(), acquired(slf.clone().unbind()), None).map(|_| ())
    }

    fn add(&self, n: isize) -> PyResult<()> {
        let n = positive(n)?;
        let too_many = |_| PyOverflowError::new_err("a semaphore cannot hold that many permits");
        self.permits()?.raw.release_bounded(n, RawSemaphore::MAX_PERMITS).map_err(too_many)
    }
}

/// Ends once a permit was taken.
async fn acquired(semaphore: Py<Semaphore>) {
    if let Some(permits) = semaphore.get().permits.get() {
        // It is never closed, so this is `Ok`.
        let _ = permits.raw.acquire_async(1).await;
    }
}

fn positive(n: isize) -> PyResult<usize> {
    usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| PyValueError::new_err("n must be one or more"))
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(value=1)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self { permits: OnceLock::new() }
    }

    #[pyo3(signature = (value = 1))]
    fn __init__(&self, value: isize) -> PyResult<()> {
        let initial = usize::try_from(value)
            .map_err(|_| PyValueError::new_err("semaphore initial value must be >= 0"))?;
        if initial > RawSemaphore::MAX_PERMITS {
            return Err(PyOverflowError::new_err("a semaphore cannot hold that many permits"));
        }
        let permits = Permits { raw: RawSemaphore::new(initial), initial };
        match self.permits.set(permits) {
            Ok(()) => Ok(()),
            // Two bases of a class may both call it.
            Err(again) if self.permits()?.initial == again.initial => Ok(()),
            Err(_) => Err(PyRuntimeError::new_err("a semaphore is made only once")),
        }
    }

    /// Take a permit and return True; False if that was not possible without waiting, or within ``timeout`` seconds.
    ///
    /// Raises ``ValueError`` for a timeout with ``blocking=False``.
    #[pyo3(signature = (blocking = Truth(true), timeout = None), text_signature = "($self, blocking=True, timeout=None)")]
    fn acquire(slf: &Bound<'_, Self>, blocking: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if !blocking.0 && timeout.is_some() {
            return Err(PyValueError::new_err("can't specify timeout for non-blocking acquire"));
        }
        if slf.get().permits()?.raw.try_acquire(1).is_ok() {
            return Ok(true);
        }
        let limit = timeout.map(timeout::seconds).transpose()?;
        if !blocking.0 || limit.is_some_and(|limit| limit <= 0.0) {
            return Ok(false);
        }
        let acquired = acquired(slf.clone().unbind());
        wait::wait(slf.py(), acquired, limit.and_then(timeout::after)).map(|acquired| acquired.is_some())
    }

    /// Add ``n`` permits, which wakes as many waiters. Raises ``ValueError`` if ``n`` is less than 1.
    #[pyo3(signature = (n = 1))]
    fn release(&self, n: isize) -> PyResult<()> {
        self.add(n)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::enter(slf).map(|()| true)
    }

    #[pyo3(signature = (exc_type = None, exc_value = None, traceback = None, /))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        give_back(slf)
    }

    /// Take a permit in an asyncio task: True, or False if that was not possible within ``timeout`` seconds.
    #[pyo3(signature = (timeout = None))]
    fn acquire_async(slf: Py<Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        slf.get().permits()?;
        let deadline = timeout::deadline(timeout)?;
        Ok(Awaiting::new(async move {
            acquired(slf).await;
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
        give_back(slf).map(|()| Awaiting::over())
    }

    /// How much has been waited for it so far.
    fn stats(&self) -> PyResult<WaitStats> {
        Ok(self.permits()?.raw.stats().into())
    }

    /// The permits there are now.
    #[getter]
    fn _value(&self) -> PyResult<usize> {
        Ok(self.permits()?.raw.available())
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let permits = slf.get().permits()?;
        let value = permits.raw.available();
        if slf.is_instance_of::<BoundedSemaphore>() {
            return short_repr(slf, &format!("value={value}/{}", permits.initial));
        }
        short_repr(slf, &format!("value={value}"))
    }
}

/// Gives back one permit, as `release` of the object's class does.
fn give_back(semaphore: &Bound<'_, Semaphore>) -> PyResult<()> {
    let py = semaphore.py();
    if semaphore.is_exact_instance_of::<Semaphore>() {
        semaphore.get().add(1)
    } else if let Ok(bounded) = semaphore.cast_exact::<BoundedSemaphore>() {
        BoundedSemaphore::release(bounded, 1)
    } else {
        semaphore.call_method0(intern!(py, "release")).map(drop)
    }
}

/// A semaphore that refuses to hold more permits than in the beginning, which finds a `release` too many.
///
/// A drop-in for `threading.BoundedSemaphore`.
#[pyclass(frozen, subclass, extends = Semaphore, module = "tricorne.threading")]
pub(crate) struct BoundedSemaphore;

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(value=1)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Semaphore::new(args, kwargs)).add_subclass(Self)
    }

    /// Add ``n`` permits. Raises ``ValueError``, and adds none, if there would be more than in the beginning.
    #[pyo3(signature = (n = 1))]
    fn release(slf: &Bound<'_, Self>, n: isize) -> PyResult<()> {
        let n = positive(n)?;
        let permits = slf.as_super().get().permits()?;
        let too_many = |_| PyValueError::new_err("Semaphore released too many times");
        permits.raw.release_bounded(n, permits.initial).map_err(too_many)
    }
}
