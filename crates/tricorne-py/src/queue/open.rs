//! The open way of working of a queue, which is written in Python: `tricorne._open_queue`.

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyString};

/// The functions of `tricorne._open_queue`.
pub(super) fn call<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    arguments: impl PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    module(py)?.getattr(name)?.call1(arguments)
}

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    MODULE
        .get_or_try_init(py, || py.import("tricorne._open_queue").map(Bound::unbind))
        .map(|module| module.bind(py))
}

/// A new state, for a queue that is about to be opened.
pub(super) fn state<'py>(py: Python<'py>, maxsize: isize) -> PyResult<Bound<'py, PyAny>> {
    call(py, intern!(py, "State"), (maxsize,))
}

/// An empty container of the standard library's kind.
pub(super) fn deque(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static DEQUE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DEQUE.import(py, "collections", "deque")?.call0()
}
