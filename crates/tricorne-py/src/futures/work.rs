//! A task that waits: what to call, in which context, and whose it is.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

/// A call and the context to make it in.
pub(crate) struct Work {
    /// The function and its arguments, as `Context.run` takes them.
    call: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    context: Py<PyAny>,
    /// The number of the pool that it waits in.
    pool: u64,
}

impl Work {
    pub(crate) fn new(call: Py<PyTuple>, kwargs: Option<Py<PyDict>>, context: Py<PyAny>, pool: u64) -> Self {
        Self { call, kwargs, context, pool }
    }

    pub(crate) fn pool(&self) -> u64 {
        self.pool
    }

    /// Makes the call. When this returns, nothing of the task is kept any more.
    pub(crate) fn run(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let kwargs = self.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        self.context
            .bind(py)
            .getattr(intern!(py, "run"))?
            .call(self.call.bind(py), kwargs)
            .map(Bound::unbind)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.call)?;
        visit.call(&self.kwargs)?;
        visit.call(&self.context)
    }
}

/// A copy of the context of this thread.
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let copy = COPY.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("contextvars")?.getattr("copy_context")?.unbind())
    })?;
    copy.call0(py)
}
