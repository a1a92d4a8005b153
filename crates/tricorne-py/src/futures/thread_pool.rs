//! The thread pool as Python sees it; `tricorne.futures.ThreadPoolExecutor` is its subclass.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::future::FutureCore;
use super::map::{MapIterator, Options};
use super::timer;
use super::work::{Call, Context, Work};
use super::worker::{self, Initializer, Settings, Shared};
use crate::once::Once;
use crate::{timeout, wait};

/// What the figures of a pool are in Python.
type StatsTuple = (usize, usize, usize, u64, u64);

/// The native base of `tricorne.futures.ThreadPoolExecutor`.
#[pyclass(frozen, subclass, weakref, module = "tricorne._native")]
pub(crate) struct ThreadPool {
    /// Only taken while attached, so a fork finds it free.
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    /// `None` before `__init__`.
    shared: Option<Arc<Shared>>,
    initializer: Option<Initializer>,
}

impl ThreadPool {
    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it shares with its workers, made anew in a forked child: threads do not survive a fork, and one of them may have held a lock.
    fn shared(&self) -> PyResult<Arc<Shared>> {
        let mut parts = self.lock();
        let Some(shared) = &parts.shared else {
            return Err(PyRuntimeError::new_err("ThreadPoolExecutor.__init__() was not called"));
        };
        if shared.process == wait::process() {
            return Ok(Arc::clone(shared));
        }
        let fresh = Shared::new(shared.settings.clone());
        if let Some(stale) = parts.shared.replace(Arc::clone(&fresh)) {
            // It is the parent's, with locks in any state: it is never touched again.
            std::mem::forget(stale);
        }
        Ok(fresh)
    }

    fn initializer(&self, py: Python<'_>) -> Option<Initializer> {
        self.lock().initializer.as_ref().map(|initializer| initializer.clone_ref(py))
    }
}

#[pymethods]
impl ThreadPool {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = None)]
    fn new(args: &Bound<'_, PyAny>, kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        // They are for `__init__` of a subclass.
        let _ = (args, kwargs);
        Self { parts: Mutex::default() }
    }

    /// Sets the pool up, for `__init__`. `stack_bytes` is for each worker.
    #[pyo3(signature = (max_workers, name, initializer, initargs, stack_bytes))]
    fn _set_up(
        &self,
        py: Python<'_>,
        max_workers: usize,
        name: String,
        initializer: Option<Py<PyAny>>,
        initargs: Py<PyTuple>,
        stack_bytes: usize,
    ) -> PyResult<()> {
        let sys = py.import("sys")?;
        let gil = match sys.getattr_opt("_is_gil_enabled")? {
            Some(enabled) => enabled.call0()?.extract()?,
            None => true,
        };
        let shared = Shared::new(Settings { max_workers, name, stack_bytes, gil });
        let fresh = Parts {
            shared: Some(shared),
            initializer: initializer.map(|function| Initializer { function, args: initargs }),
        };
        let before = std::mem::replace(&mut *self.lock(), fresh);
        if let Some(shared) = &before.shared {
            shared.close();
        }
        Ok(())
    }

    /// Have `fn(*args, **kwargs)` called by a worker, in a copy of the context of this call, and return its future.
    ///
    /// Raises RuntimeError after `shutdown` and when the interpreter ends, and BrokenThreadPool once an initializer has failed.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, fn, /, *args, **kwargs)")]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if args.is_empty() {
            return Err(PyTypeError::new_err("submit() missing 1 required positional argument: 'fn'"));
        }
        let (shared, initializer) = (self.shared()?, self.initializer(py));
        let future = future_class(py)?.call0()?;
        let core = future.cast::<FutureCore>()?;
        let work = Work::new(Call::new(args, kwargs)?, Context::current(py)?, shared.number());
        core.get().give_work(work, shared.process);
        shared.submit(py, core.clone().unbind(), initializer.as_ref())?;
        Ok(future)
    }

    /// Starts a map over an iterator of argument tuples.
    #[pyo3(signature = (r#fn, input, timeout, buffersize, ordered, return_exceptions))]
    fn _map(
        slf: &Bound<'_, Self>,
        r#fn: Py<PyAny>,
        input: Bound<'_, PyIterator>,
        timeout: Option<&Bound<'_, PyAny>>,
        buffersize: Option<usize>,
        ordered: bool,
        return_exceptions: bool,
    ) -> PyResult<MapIterator> {
        let pool = slf.get();
        let options = Options {
            deadline: timeout::deadline(timeout)?,
            buffer_size: buffersize,
            ordered,
            return_exceptions,
        };
        let (shared, initializer) = (pool.shared()?, pool.initializer(slf.py()));
        MapIterator::start(slf, shared, r#fn, input.unbind(), initializer, options)
    }

    /// Take no more tasks. Those that were submitted are run, and so are the rest of maps that were not iterated to their end.
    ///
    /// `wait` waits until all have ended and the workers are gone. `cancel_futures` cancels the tasks that have not begun, and the rest of
    /// maps. Calling it again is allowed. What the input of a map raises is raised when all is done. An interrupt, such as that of Ctrl-C,
    /// while the rest of a map is run comes at once: the pool then stays open.
    #[pyo3(signature = (wait = true, *, cancel_futures = false))]
    fn shutdown(&self, py: Python<'_>, wait: bool, cancel_futures: bool) -> PyResult<()> {
        let shared = self.shared()?;
        let mut failure = None;
        if cancel_futures {
            for map in shared.maps() {
                map.end_input();
            }
        } else {
            run_out(py, &shared, wait, &mut failure)?;
        }
        shared.close();
        if cancel_futures {
            for task in shared.take_unbegun() {
                FutureCore::cancel(task.bind(py))?;
            }
        }
        if wait {
            shared.join(py)?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Runs the rest of maps that were not iterated to their end; what the input of one raises is raised when all is done.
    fn _run_out(&self, py: Python<'_>) -> PyResult<()> {
        let mut failure = None;
        run_out(py, &*self.shared()?, true, &mut failure)?;
        failure.map_or(Ok(()), Err)
    }

    /// Workers, tasks being run, tasks waiting, tasks submitted so far, tasks ended so far.
    fn _stats(&self) -> PyResult<StatsTuple> {
        let stats = self.shared()?.stats();
        Ok((stats.workers, stats.running, stats.queued, stats.submitted, stats.finished))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(parts) = self.parts.try_lock() else { return Ok(()) };
        if let Some(initializer) = &parts.initializer {
            visit.call(&initializer.function)?;
            visit.call(&initializer.args)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let initializer = self.lock().initializer.take();
        drop(initializer);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        let parts = std::mem::take(&mut *self.lock());
        let Some(shared) = parts.shared else { return };
        if shared.process != wait::process() {
            std::mem::forget(shared);
            return;
        }
        // Of maps that nobody iterated the rest is run: the standard library has submitted it long ago.
        let maps = shared.maps();
        if !maps.is_empty() {
            let _ = Python::try_attach(|py| {
                for map in maps {
                    if let Err(raised) = map.run_out(py, false) {
                        raised.write_unraisable(py, None);
                    }
                }
            });
        }
        shared.close();
    }
}

fn future_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: Once<Py<PyAny>> = Once::new();
    CLASS
        .get_or_try_init(py, || Ok(py.import("tricorne.futures")?.getattr("Future")?.unbind()))
        .map(|class| class.bind(py))
}

/// Runs the rest of the maps of a pool. The first `Exception` that an input raises is kept in `failure`.
///
/// # Errors
///
/// What is raised that is not an `Exception`: at once.
fn run_out(py: Python<'_>, pool: &Shared, wait: bool, failure: &mut Option<PyErr>) -> PyResult<()> {
    for map in pool.maps() {
        match map.run_out(py, wait) {
            Err(raised) if raised.is_instance_of::<PyException>(py) => {
                failure.get_or_insert(raised);
            }
            ended => ended?,
        }
    }
    Ok(())
}

/// For `threading._register_atexit`: no pool takes tasks any more, and what was submitted is run to its end.
#[pyfunction]
pub(crate) fn finish_pools(py: Python<'_>) -> PyResult<()> {
    let pools = worker::pools();
    let pools = pools.iter().filter(|pool| pool.process == wait::process());
    let mut failure = None;
    for pool in pools.clone() {
        run_out(py, pool, true, &mut failure)?;
        pool.close_at_exit();
    }
    worker::end_of_interpreter();
    for pool in pools {
        pool.join(py)?;
    }
    // The limits of tasks hold until these have ended. Those that wait for another attempt learn that there is none.
    timer::finish(py)?;
    // Not raised: it would keep `threading` from what others have left with it.
    if let Some(raised) = failure {
        raised.write_unraisable(py, None);
    }
    Ok(())
}
