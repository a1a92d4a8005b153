//! The native half of the Python package `tricorne`: conversion, and detaching from the interpreter. No logic lives here.
//!
//! The module is `tricorne._native`. Users import what `python/tricorne` makes of it, and its stub is `python/tricorne/_native.pyi`.

use std::sync::OnceLock;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

mod awaiting;
mod cancel;
mod command;
mod error;
mod futures;
mod once;
mod pipeline;
#[cfg(target_os = "linux")]
mod process;
mod queue;
mod threading;
mod timeout;
mod wait;

/// The module. It keeps no Python state that the interpreter's lock would have to guard.
#[pymodule(gil_used = false)]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::awaiting::Awaiting;
    #[pymodule_export]
    use super::cancel::{CancelGuard, CancelToken};
    #[pymodule_export]
    use super::command::main;
    #[pymodule_export]
    use super::pipeline::Pipeline;
    #[pymodule_export]
    use super::queue::{LifoQueue, PriorityQueue, Queue, QueueStats, SimpleQueue};
    #[pymodule_export]
    use super::threading::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore, WaitStats};

    #[pymodule_export]
    use super::futures::future::FutureCore;
    #[pymodule_export]
    use super::futures::map::MapIterator;
    #[pymodule_export]
    use super::futures::thread_pool::{ThreadPool, finish_pools};
    #[pymodule_export]
    use super::futures::timer::{TimerHandle, call_after_pause, call_later, hurry_timer};
    #[pymodule_export]
    use super::futures::watch::{AsCompleted, StdWaiter, wait_futures};
    #[pymodule_export]
    use super::futures::worker::{run_if_own, usable_cores};

    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use super::process::{
        engine::{ProcessEngine, ProcessFunction},
        memory::SharedBytes,
        task::ProcessTask,
        worker::{serve_process_template, serve_process_worker},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        refuse_subinterpreters(py)?;
        once::fill_those_of_pyo3(py)?;
        wait::watch_forks(py)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// The module belongs to the first interpreter that imports it: its classes and what it remembers exist once in a process.
fn refuse_subinterpreters(py: Python<'_>) -> PyResult<()> {
    // Each interpreter has a module `builtins` of its own, which lives as long as it does.
    static FIRST: OnceLock<usize> = OnceLock::new();
    let builtins = py.import("builtins")?.as_ptr() as usize;
    if *FIRST.get_or_init(|| builtins) == builtins {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "tricorne cannot be used in a subinterpreter: import it in the main interpreter",
    ))
}
