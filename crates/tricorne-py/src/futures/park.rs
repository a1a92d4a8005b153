//! Waiting as Python wants it: the interpreter is released, signals are seen, and the wait goes on with what is left of its time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::fork;

/// How often the main thread looks for signals while it waits: a handler runs within this time, and Ctrl-C feels immediate.
const SIGNAL_CHECK: Duration = Duration::from_millis(40);

/// Until when to wait, from a Python timeout in seconds: `None` waits for ever, zero or less does not wait.
///
/// # Errors
///
/// `ValueError` for NaN.
pub(crate) fn deadline_after(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    match timeout {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("timeout is not a number")),
        Some(seconds) if seconds <= 0.0 => Ok(Some(Instant::now())),
        // Longer than the clock goes is for ever.
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|duration| Instant::now().checked_add(duration))),
    }
}

/// Waits with the interpreter released until `wait` says true or the deadline passes; `wait` blocks until the moment it is given, or for
/// as long as it takes if there is none. Returns what `wait` said last.
///
/// In the main thread it looks for signals in between. A handler that raises ends the wait; one that returns does not.
pub(crate) fn wait_until(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Option<Instant>) -> bool + Sync,
) -> PyResult<bool> {
    if !is_main_thread(py)? {
        return Ok(py.detach(|| wait(deadline)));
    }
    loop {
        let look = Instant::now() + SIGNAL_CHECK;
        let until = deadline.map_or(look, |deadline| deadline.min(look));
        if py.detach(|| wait(Some(until))) {
            return Ok(true);
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
    }
}

/// Whether this is the thread that runs signal handlers.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        /// The answer, and the process it holds for: a fork makes its thread the main one.
        static ANSWER: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    }
    if let Some((generation, answer)) = ANSWER.get()
        && generation == fork::generation()
    {
        return Ok(answer);
    }
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let answer = threading.call_method0("get_ident")?.eq(main)?;
    ANSWER.set(Some((fork::generation(), answer)));
    Ok(answer)
}
