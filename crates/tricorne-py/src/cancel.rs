//! `tricorne.CancelToken`: the Python face of the cancel token.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tricorne::sync;

use crate::awaiting::Awaiting;
use crate::futures::timer::{self, AtEnd, TimerHandle};
use crate::{error, timeout, wait};

/// Asks a tree of work to stop: by request, or because its time is up.
///
/// Cancelling asks, it does not force: the work looks with `is_cancelled`, calls `raise_if_cancelled`, waits with `wait` instead of
/// sleeping, or leaves a callback. A child is cancelled with its parent, but not the other way round, and has its parent's deadline if
/// that is earlier. `timeout` is in seconds from now.
#[pyclass(frozen, weakref, module = "tricorne", name = "CancelToken")]
pub(crate) struct CancelToken {
    token: sync::CancelToken,
    /// Cancels it at its deadline, once somebody relies on that.
    timer: Mutex<Option<TimerHandle>>,
}

impl CancelToken {
    fn of(token: sync::CancelToken) -> Self {
        Self { token, timer: Mutex::new(None) }
    }

    /// Sees to it that the deadline takes effect without anybody looking.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let Some(deadline) = self.token.deadline() else { return Ok(()) };
        let armed = |timer: &Option<TimerHandle>| timer.as_ref().is_some_and(TimerHandle::is_of_this_process);
        if armed(&self.timer.lock().unwrap_or_else(PoisonError::into_inner)) || self.token.is_cancelled() {
            return Ok(());
        }
        let call = Py::new(py, Expire { token: self.token.clone() })?.into_any();
        let handle = timer::call_at(deadline, call, AtEnd::Dropped)?;
        let unneeded = {
            let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
            if armed(&timer) { Some(handle) } else { timer.replace(handle) }
        };
        if let Some(handle) = unneeded {
            handle.cancel();
        }
        Ok(())
    }
}

impl Drop for CancelToken {
    fn drop(&mut self) {
        let timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(timer) = timer {
            timer.cancel();
        }
    }
}

thread_local! {
    /// The first interrupt that a callback raised in this thread.
    static INTERRUPT: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// Cancels, and raises what a callback has raised that is not an `Exception`.
fn cancel(token: &sync::CancelToken) -> PyResult<()> {
    token.cancel();
    INTERRUPT.take().map_or(Ok(()), Err)
}

/// What the timer calls. It keeps the native token only.
#[pyclass(frozen, module = "tricorne._native")]
struct Expire {
    token: sync::CancelToken,
}

#[pymethods]
impl Expire {
    fn __call__(&self) -> PyResult<()> {
        cancel(&self.token)
    }
}

/// A callback of a token; `remove` takes it back.
#[pyclass(frozen, weakref, module = "tricorne")]
pub(crate) struct CancelGuard {
    guard: Mutex<Option<sync::CancelGuard>>,
    /// Here, and not in what the native token keeps, so that the collector sees it.
    callback: Arc<Mutex<Option<Py<PyAny>>>>,
    /// The token and its timer live as long as the callback.
    _token: Py<CancelToken>,
}

#[pymethods]
impl CancelGuard {
    /// Take the callback back, unless a cancel has taken it up already.
    fn remove(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(guard);
        let callback = take(&self.callback);
        drop(callback);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.callback.try_lock() {
            Ok(callback) => visit.call(&*callback),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.remove();
    }
}

/// Takes a callback out; only the one who gets it calls it.
fn take(callback: &Mutex<Option<Py<PyAny>>>) -> Option<Py<PyAny>> {
    callback.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[pymethods]
impl CancelToken {
    #[new]
    #[pyo3(signature = (timeout = None))]
    fn new(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self::of(match timeout::deadline(timeout)? {
            None => sync::CancelToken::new(),
            Some(deadline) => sync::CancelToken::with_deadline(deadline),
        }))
    }

    /// A token that is cancelled when this one is, and after `timeout` seconds if that is given.
    #[pyo3(signature = (timeout = None))]
    fn child(&self, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self::of(match timeout::deadline(timeout)? {
            None => self.token.child(),
            Some(deadline) => self.token.child_with_deadline(deadline),
        }))
    }

    /// Cancel this token and all below it, and run their callbacks in this thread. Again, it does nothing.
    ///
    /// What a callback raises goes to `sys.unraisablehook`, but for an interrupt, such as KeyboardInterrupt, which is raised here once all
    /// have run.
    fn cancel(&self) -> PyResult<()> {
        cancel(&self.token)
    }

    /// Whether it was cancelled or its time is up.
    fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Raise CancelledError if it was cancelled or its time is up.
    fn raise_if_cancelled(&self) -> PyResult<()> {
        if self.token.is_cancelled() { Err(error::CancelledError::new_err(())) } else { Ok(()) }
    }

    /// Seconds until its time is up, zero if it is; None if it has no deadline.
    fn remaining_secs(&self) -> Option<f64> {
        let deadline = self.token.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Wait until it is cancelled, for at most `timeout` seconds. Return whether it is: the way to sleep in work that can be cancelled.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = timeout::deadline(timeout)?;
        let deadline = [limit, self.token.deadline()].into_iter().flatten().min();
        let cancelled = wait::wait(py, self.token.cancelled_async(), deadline)?.is_some();
        Ok(cancelled || self.token.is_cancelled())
    }

    /// Wait in an asyncio task until it is cancelled: True, or False if that took longer than `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn wait_async(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let deadline = timeout::deadline(timeout)?;
        slf.get().arm(slf.py())?;
        let token = slf.clone().unbind();
        let cancelled = slf.get().token.cancelled_async();
        Ok(Awaiting::new(async move {
            cancelled.await;
            // It keeps the timer of the deadline until then.
            drop(token);
            Python::attach(|py| true.into_py_any(py))
        })
        .until(deadline, |py| false.into_py_any(py)))
    }

    /// Have `callback()` called when it is cancelled, by the thread that cancels, or by one of Tricorne's at the deadline; at once if it
    /// is cancelled already. What the callback raises goes to `sys.unraisablehook`, but for an interrupt, such as KeyboardInterrupt.
    ///
    /// The callback is taken back when what this returns is dropped. A forked child makes none of the calls at a deadline that were left in
    /// its parent.
    fn on_cancel(slf: &Bound<'_, Self>, callback: Py<PyAny>) -> PyResult<CancelGuard> {
        slf.get().arm(slf.py())?;
        let callback = Arc::new(Mutex::new(Some(callback)));
        let weak = Arc::downgrade(&callback);
        let guard = slf.get().token.on_cancel(move || {
            let _ = Python::try_attach(|py| {
                let Some(callback) = weak.upgrade().and_then(|callback| take(&callback)) else { return };
                match callback.call0(py) {
                    Ok(_) => {}
                    Err(raised) if !raised.is_instance_of::<PyException>(py) => {
                        let first = INTERRUPT.take();
                        INTERRUPT.set(first.or(Some(raised)));
                    }
                    Err(raised) => raised.write_unraisable(py, Some(callback.bind(py))),
                }
            });
        });
        // It may have been called at once.
        if let Some(raised) = INTERRUPT.take() {
            return Err(raised);
        }
        Ok(CancelGuard { guard: Mutex::new(Some(guard)), callback, _token: slf.clone().unbind() })
    }

    fn __repr__(&self) -> String {
        let state = if self.token.is_cancelled() { "cancelled" } else { "not cancelled" };
        format!("<tricorne.CancelToken {state}>")
    }
}
