//! `tricorne.threading.Barrier`.

use std::sync::OnceLock;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use tricorne::sync::{self, Arrival};

use super::{WaitStats, no_copies, short_repr};
use crate::awaiting::Awaiting;
use crate::timeout;
use crate::wait;

crate::once::exception!("threading", BrokenBarrierError);

/// Lets a fixed number of threads or asyncio tasks wait for each other.
///
/// A drop-in for `threading.Barrier`. ``parties`` is how many, at least 1, otherwise it raises ``ValueError``. ``action`` is called by one
/// of them when all have arrived, before any goes on. ``timeout`` in seconds is for waits that name none.
#[pyclass(frozen, subclass, weakref, dict, module = "tricorne.threading")]
pub(crate) struct Barrier {
    /// There once `__init__` has run.
    inner: OnceLock<Inner>,
}

struct Inner {
    raw: sync::Barrier,
    action: Option<Py<PyAny>>,
    timeout: Option<f64>,
}

impl Barrier {
    fn inner(&self) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| PyRuntimeError::new_err("Barrier.__init__() not called"))
    }

    fn limit(&self, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
        match timeout {
            Some(timeout) => timeout::seconds(timeout).map(Some),
            None => Ok(self.inner()?.timeout),
        }
    }
}

/// Arrives and goes through: gives the index.
async fn crossed(barrier: Py<Barrier>) -> PyResult<usize> {
    let inner = barrier.get().inner()?;
    let crossing = match inner.raw.arrive().await.map_err(|_| broken())? {
        Arrival::Through(crossing) => crossing,
        Arrival::Leads(leader) => {
            if let Some(action) = &inner.action {
                // If it raises, the leader is dropped, which breaks the barrier.
                Python::attach(|py| action.call0(py))?;
            }
            leader.release().map_err(|_| broken())?
        }
    };
    Ok(crossing.index())
}

fn broken() -> PyErr {
    BrokenBarrierError::new_err(())
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(parties, action=None, timeout=None)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self { inner: OnceLock::new() }
    }

    #[pyo3(signature = (parties, action = None, timeout = None))]
    fn __init__(
        &self,
        parties: isize,
        action: Option<Py<PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let parties = usize::try_from(parties)
            .ok()
            .filter(|parties| *parties > 0)
            .ok_or_else(|| PyValueError::new_err("parties must be > 0"))?;
        let timeout = timeout.map(timeout::seconds).transpose()?;
        let inner = Inner { raw: sync::Barrier::new(parties), action, timeout };
        match self.inner.set(inner) {
            Ok(()) => Ok(()),
            // Two bases of a class may both call it.
            Err(again)
                if again.action.is_none()
                    && again.timeout.is_none()
                    && again.raw.parties() == self.inner()?.raw.parties() =>
            {
                Ok(())
            }
            Err(_) => Err(PyRuntimeError::new_err("a barrier is made only once")),
        }
    }

    /// Wait until all have arrived. Return a number from 0 to ``parties - 1``, another one for each.
    ///
    /// ``timeout`` is in seconds; once it has passed, the barrier is broken. Raises ``BrokenBarrierError`` if the barrier is broken or
    /// reset, before or meanwhile, and what the action raises in the thread that calls it.
    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let limit = slf.get().limit(timeout)?;
        match wait::wait(slf.py(), crossed(slf.clone().unbind()), limit.and_then(timeout::after))? {
            Some(index) => index,
            None => {
                slf.get().inner()?.raw.abort();
                Err(broken())
            }
        }
    }

    /// `wait` for an asyncio task.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(slf: Py<Self>, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = slf.get().limit(timeout)?.and_then(timeout::after);
        let barrier = slf.clone_ref(py);
        Ok(Awaiting::new(async move {
            let index = crossed(slf).await?;
            Python::attach(|py| index.into_py_any(py))
        })
        .until(deadline, move |_| {
            barrier.get().inner()?.raw.abort();
            Err(broken())
        }))
    }

    /// Make the barrier as new. Those who wait get ``BrokenBarrierError``.
    fn reset(&self) -> PyResult<()> {
        self.inner()?.raw.reset();
        Ok(())
    }

    /// Break the barrier: those who wait, and all who come later, get ``BrokenBarrierError``.
    fn abort(&self) -> PyResult<()> {
        self.inner()?.raw.abort();
        Ok(())
    }

    /// How many have to arrive.
    #[getter]
    fn parties(&self) -> PyResult<usize> {
        Ok(self.inner()?.raw.parties())
    }

    /// How many have arrived and wait.
    #[getter]
    fn n_waiting(&self) -> PyResult<usize> {
        Ok(self.inner()?.raw.waiting())
    }

    /// Whether the barrier is broken.
    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.inner()?.raw.is_broken())
    }

    /// How much has been waited here so far.
    fn stats(&self) -> PyResult<WaitStats> {
        Ok(self.inner()?.raw.stats().into())
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let raw = &slf.get().inner()?.raw;
        if raw.is_broken() {
            return short_repr(slf, "broken");
        }
        short_repr(slf, &format!("waiters={}/{}", raw.waiting(), raw.parties()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self.inner.get() {
            Some(inner) => visit.call(&inner.action),
            None => Ok(()),
        }
    }
}
