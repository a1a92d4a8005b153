//! `tricorne.queue.SimpleQueue`.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use tricorne::sync::TryGetError;

use super::fifo::{Patience, generic_alias};
use super::items::Items;
use super::{Empty, QueueStats};
use crate::awaiting::Awaiting;
use crate::threading::no_copies;
use crate::timeout::Truth;
use crate::wait;

/// An unbounded queue without tasks to be done and without an end; the oldest item first.
///
/// A drop-in for `queue.SimpleQueue`. ``put`` may be called from a finalizer or a signal handler, also one that interrupts ``put``.
#[pyclass(frozen, subclass, weakref, module = "tricorne.queue")]
pub(crate) struct SimpleQueue {
    items: Items,
}

/// Takes an item once there is one.
async fn taken(queue: Py<SimpleQueue>) -> Option<Py<PyAny>> {
    // Nobody closes it but the garbage collector, once nobody can wait for it.
    queue.get().items.get().await.ok()
}

#[pymethods]
impl SimpleQueue {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self { items: Items::fifo(None) }
    }

    #[pyo3(signature = ())]
    fn __init__(&self) {}

    /// Put an item in. It never waits: ``block`` and ``timeout`` are there for those who know `Queue.put`.
    #[pyo3(signature = (item, block = Truth(true), timeout = None), text_signature = "($self, item, block=True, timeout=None)")]
    fn put(&self, item: Py<PyAny>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) {
        let _ = (block, timeout);
        // It is refused only if it is garbage.
        let _ = self.items.try_put(item);
    }

    /// Put an item in.
    fn put_nowait(&self, item: Py<PyAny>) {
        let _ = self.items.try_put(item);
    }

    /// Take an item out, waiting for one.
    ///
    /// With ``block=False`` it does not wait; ``timeout`` is in seconds. Raises ``Empty`` if there was no item in time.
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get(slf: &Bound<'_, Self>, block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let patience = Patience::new(block, timeout)?;
        match slf.get().items.try_get() {
            Ok(item) => return Ok(item),
            Err(TryGetError::Empty | TryGetError::Closed) => {}
        }
        let Some(deadline) = patience.deadline() else { return Err(Empty::new_err(())) };
        let item = wait::wait(slf.py(), taken(slf.clone().unbind()), deadline)?;
        item.flatten().ok_or_else(|| Empty::new_err(()))
    }

    /// Take an item out if there is one now; otherwise raise ``Empty``.
    fn get_nowait(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::get(slf, Truth(false), None)
    }

    /// `get` for an asyncio task. ``timeout`` is in seconds.
    #[pyo3(signature = (timeout = None))]
    fn get_async(slf: Py<Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = super::fifo::async_deadline(timeout)?;
        Ok(Awaiting::new(async move { taken(slf).await.ok_or_else(|| Empty::new_err(())) })
            .until(deadline, |_| Err(Empty::new_err(()))))
    }

    /// Whether the queue is empty. Other threads may change that at once.
    fn empty(&self) -> bool {
        self.items.len() == 0
    }

    /// How many items are in the queue. Other threads may change that at once.
    fn qsize(&self) -> usize {
        self.items.len()
    }

    /// What went through the queue, and how long callers waited.
    fn stats(&self) -> QueueStats {
        self.items.stats().into()
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// `SimpleQueue[int]` in annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        generic_alias(cls, item)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.items.traverse(&visit)
    }

    fn __clear__(&self) {
        drop(self.items.close_now());
    }
}
