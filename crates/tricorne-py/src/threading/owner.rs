//! Who holds an RLock: a thread, or an asyncio task.

use std::num::NonZeroU64;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tricorne::sync::raw::{Owner, RawRLock};

use crate::once::intern;

/// The owner as which the calling code holds `lock`: the task that runs here if that is who holds it, otherwise the thread.
///
/// So within a task that took the lock with `async with`, the plain operations act for that task.
pub(super) fn here(py: Python<'_>, lock: &RawRLock) -> Owner {
    let thread = Owner::current_thread();
    match lock.owner() {
        Some(owner) if owner != thread => current_task(py).filter(|task| *task == owner).unwrap_or(thread),
        _ => thread,
    }
}

/// The asyncio task that runs in this thread, if any.
pub(super) fn current_task(py: Python<'_>) -> Option<Owner> {
    // Without asyncio there is no task, and looking for one must not import it.
    let modules = py.import(intern!(py, "sys")).ok()?.getattr(intern!(py, "modules")).ok()?;
    let asyncio = modules.cast::<PyDict>().ok()?.get_item(intern!(py, "asyncio")).ok()??;
    let running = asyncio.call_method0(intern!(py, "_get_running_loop")).ok()?;
    if running.is_none() {
        return None;
    }
    let task = asyncio.call_method1(intern!(py, "current_task"), (running,)).ok()?;
    if task.is_none() {
        return None;
    }
    // Its address: a task that holds a lock is alive, for the code that will release it is a part of it.
    NonZeroU64::new(task.as_ptr() as u64).map(Owner::from_raw)
}
