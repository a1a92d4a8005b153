//! `tricorne.queue.LifoQueue`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::Queue;
use super::open::Hooks;
use crate::once::intern;

/// A queue that hands out the newest item first.
///
/// A drop-in for `queue.LifoQueue`.
#[pyclass(frozen, subclass, extends = Queue, module = "tricorne.queue")]
pub(crate) struct LifoQueue;

#[pymethods]
impl LifoQueue {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(maxsize=0)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        let _ = (args, kwargs);
        PyClassInitializer::from(Queue::unmade()).add_subclass(Self)
    }

    #[pyo3(signature = (maxsize = 0))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: isize) -> PyResult<()> {
        Queue::make(slf.as_super(), maxsize, Hooks::Newest)
    }

    /// Hook: make the container. Called with the mutex held, as the other hooks.
    fn _init(slf: &Bound<'_, Self>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        Queue::set_queue(slf.as_super(), PyList::empty(slf.py()).into_any().unbind())
    }

    /// Hook: take an item out of the container.
    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Queue::queue(slf.as_super())?.call_method0(intern!(slf.py(), "pop"))
    }
}
