//! `tricorne.threading.Event`.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{WaitStats, no_copies, short_repr};
use crate::awaiting::Awaiting;
use crate::timeout;
use crate::wait;

/// A flag that threads and asyncio tasks can wait for.
///
/// A drop-in for `threading.Event`. It stays set until it is cleared; whoever waited when it was set is released even if it is cleared
/// at once.
#[pyclass(frozen, subclass, weakref, dict, module = "tricorne.threading")]
pub(crate) struct Event {
    raw: tricorne::sync::Event,
}

/// Ends once the event is set.
async fn set(event: Py<Event>) {
    event.get().raw.wait_async().await;
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "()")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self { raw: tricorne::sync::Event::new() }
    }

    #[pyo3(signature = ())]
    fn __init__(&self) {}

    /// Whether the event is set.
    fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// The old name of `is_set`.
    #[pyo3(name = "isSet")]
    fn is_set_by_its_old_name(&self) -> bool {
        self.raw.is_set()
    }

    /// Set the event and release all who wait for it.
    fn set(&self) {
        self.raw.set();
    }

    /// Clear the event: later waits wait again.
    fn clear(&self) {
        self.raw.clear();
    }

    /// Wait until the event is set, for at most ``timeout`` seconds. Return True, or False if the time was up.
    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if slf.get().raw.is_set() {
            return Ok(true);
        }
        let limit = timeout.map(timeout::seconds).transpose()?;
        if limit.is_some_and(|limit| limit <= 0.0) {
            return Ok(false);
        }
        wait::wait(slf.py(), set(slf.clone().unbind()), limit.and_then(timeout::after))
            .map(|set| set.is_some())
    }

    /// Wait in an asyncio task until the event is set: True, or False if that took longer than ``timeout`` seconds.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(slf: Py<Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        Ok(Awaiting::new(async move {
            set(slf).await;
            Python::attach(|py| true.into_py_any(py))
        })
        .until(deadline, |py| false.into_py_any(py)))
    }

    /// How much has been waited for it so far.
    fn stats(&self) -> WaitStats {
        self.raw.stats().into()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        short_repr(slf, if slf.get().raw.is_set() { "set" } else { "unset" })
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// Forget those who wait, in the child of a fork.
    fn _at_fork_reinit(&self) {
        self.raw.reinit_after_fork();
    }
}
