//! `tricorne.queue.PriorityQueue`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::Queue;
use super::open::{Hooks, pop, push};

/// A queue that hands out the smallest item first, by ``<``.
///
/// A drop-in for `queue.PriorityQueue`. Items are typically tuples ``(priority, data)``. The comparisons run Python code, so the items are in
/// a Python list from the start.
#[pyclass(frozen, subclass, extends = Queue, module = "tricorne.queue")]
pub(crate) struct PriorityQueue;

#[pymethods]
impl PriorityQueue {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(maxsize=0)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        let _ = (args, kwargs);
        PyClassInitializer::from(Queue::unmade()).add_subclass(Self)
    }

    #[pyo3(signature = (maxsize = 0))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: isize) -> PyResult<()> {
        Queue::make(slf.as_super(), maxsize, Hooks::Smallest)
    }

    /// Hook: make the container. Called with the mutex held, as the other hooks.
    fn _init(slf: &Bound<'_, Self>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        Queue::set_queue(slf.as_super(), PyList::empty(slf.py()).into_any().unbind())
    }

    /// Hook: put an item into the container.
    fn _put(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        push(&Queue::queue(slf.as_super())?, item)
    }

    /// Hook: take an item out of the container.
    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        pop(&Queue::queue(slf.as_super())?)
    }
}
