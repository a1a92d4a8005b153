//! The primitives of `tricorne.threading`: each is one of `tricorne-sync` with the conduct of its namesake in the standard library.
//!
//! Every operation first tries without waiting, attached to the interpreter; only what must wait goes through [`crate::wait`] (threads) or
//! [`crate::awaiting`] (tasks of asyncio).

mod barrier;
mod condition;
mod event;
mod lock;
mod lost;
mod owner;
mod rlock;
mod semaphore;
mod stats;

pub(crate) use barrier::Barrier;
pub(crate) use condition::Condition;
pub(crate) use event::Event;
pub(crate) use lock::Lock;
pub(crate) use rlock::RLock;
pub(crate) use semaphore::{BoundedSemaphore, Semaphore};
pub(crate) use stats::WaitStats;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::timeout::{self, Truth};

/// The arguments of `Lock.acquire(blocking=True, timeout=-1)`, checked as the standard library does.
enum Patience {
    /// Do not wait.
    None,
    /// Wait; for so many seconds if there is a number.
    Wait(Option<f64>),
}

impl Patience {
    fn of_lock(blocking: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let limit = timeout.map(timeout::seconds).transpose()?.filter(|limit| *limit != -1.0);
        match (blocking.0, limit) {
            (false, Some(_)) => Err(PyValueError::new_err("can't specify a timeout for a non-blocking call")),
            (true, Some(limit)) if limit < 0.0 => {
                Err(PyValueError::new_err("timeout value must be a non-negative number"))
            }
            (false, None) => Ok(Self::None),
            (true, limit) => Ok(Self::Wait(limit)),
        }
    }
}

/// `<unlocked tricorne.threading.Lock object at 0x7f…>`
fn lock_repr(object: &Bound<'_, PyAny>, locked: bool, details: &str) -> PyResult<String> {
    let state = if locked { "locked" } else { "unlocked" };
    let name = object.get_type().fully_qualified_name()?;
    Ok(format!("<{state} {name} object{details} at {:p}>", object.as_ptr()))
}

/// `<tricorne.Event at 0x7f…: set>`, with the one dot that the standard library's own form has.
fn short_repr(object: &Bound<'_, PyAny>, state: &str) -> PyResult<String> {
    let class = object.get_type();
    let module = class.module()?;
    let module = module.to_str()?;
    let package = module.split_once('.').map_or(module, |(package, _)| package);
    Ok(format!("<{package}.{} at {:p}: {state}>", class.qualname()?, object.as_ptr()))
}

/// The error of who would pickle or copy an object that stands for itself.
pub(crate) fn no_copies(object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().fully_qualified_name() {
        Ok(name) => PyTypeError::new_err(format!("cannot pickle '{name}' object")),
        Err(error) => error,
    }
}
