//! Calls that are made later: one thread for the whole process, started with the first.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::log;
use crate::{timeout, wait};

/// The calls that are to come, by their time and a number.
type Calls = BTreeMap<(Instant, u64), Call>;

struct Call {
    function: Py<PyAny>,
    at_end: AtEnd,
}

/// What becomes of a call that is still to come when the interpreter ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// It is made at once: somebody waits to go on.
    Made,
    /// It is not made: its time has not come.
    Dropped,
}

/// The timer of one process.
struct Timer {
    process: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: Calls,
    next_number: u64,
    /// Nothing is kept for later any more.
    ending: bool,
    ended: bool,
    joining: Vec<Waker>,
}

/// Only taken while attached.
static TIMER: Mutex<Option<Arc<Timer>>> = Mutex::new(None);

impl Timer {
    /// The timer of this process; its thread is started with the first call.
    fn of_process() -> PyResult<Arc<Self>> {
        let mut timer = TIMER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timer) = &*timer
            && timer.process == wait::process()
        {
            return Ok(Arc::clone(timer));
        }
        let fresh =
            Arc::new(Self { process: wait::process(), state: Mutex::default(), changed: Condvar::new() });
        let runner = Arc::clone(&fresh);
        thread::Builder::new()
            .name("tricorne-timer".to_owned())
            .spawn(move || runner.run())
            .map_err(|refused| PyRuntimeError::new_err(format!("can't start new thread: {refused}")))?;
        // What a forked child inherits is the parent's, with its lock in any state.
        std::mem::forget(timer.replace(Arc::clone(&fresh)));
        Ok(fresh)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Attached for good: Python sees one thread with one state.
        let _ = Python::try_attach(|py| {
            while let Some(call) = py.detach(|| self.next_call()) {
                if let Err(raised) = call.call0(py) {
                    let logged = log::error(py, "exception in a call of the timer", &[], &raised);
                    logged.unwrap_or_else(|raised| raised.write_unraisable(py, None));
                }
            }
        });
        let joining = {
            let mut state = self.lock();
            state.ended = true;
            std::mem::take(&mut state.joining)
        };
        for waker in joining {
            waker.wake();
        }
    }

    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.lock();
        if state.ended {
            return Poll::Ready(());
        }
        state.joining.push(waker.clone());
        Poll::Pending
    }

    /// Waits for the next call that is due; `None` at the end.
    fn next_call(&self) -> Option<Py<PyAny>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let first = state.calls.first_key_value().map(|(&(due, _), _)| due);
            match first {
                Some(due) if due <= now || state.ending => {
                    return state.calls.pop_first().map(|(_, call)| call.function);
                }
                None if state.ending => return None,
                Some(due) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// A call that is to come.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct TimerHandle {
    timer: Arc<Timer>,
    key: (Instant, u64),
}

#[pymethods]
impl TimerHandle {
    /// Take the call back, unless it is being made.
    pub(crate) fn cancel(&self) {
        if self.timer.process == wait::process() {
            let call = self.timer.lock().calls.remove(&self.key);
            drop(call);
        }
    }
}

/// Has `function()` called by the timer's thread in so many seconds; at the end of the interpreter at once.
#[pyfunction]
pub(crate) fn call_later(seconds: f64, function: Py<PyAny>) -> PyResult<TimerHandle> {
    // Further than the clock goes is as good as never.
    let never = || Instant::now() + Duration::from_secs(u32::MAX.into());
    call_at(timeout::after(seconds).unwrap_or_else(never), function, AtEnd::Made)
}

/// Like [`call_later`], at a moment, and at the end of the interpreter as `at_end` says.
pub(crate) fn call_at(due: Instant, function: Py<PyAny>, at_end: AtEnd) -> PyResult<TimerHandle> {
    let timer = Timer::of_process()?;
    let mut state = timer.lock();
    if state.ending {
        drop(state);
        drop(function);
        return Err(PyRuntimeError::new_err("the interpreter ends"));
    }
    let key = (due, state.next_number);
    state.next_number += 1;
    state.calls.insert(key, Call { function, at_end });
    drop(state);
    timer.changed.notify_all();
    Ok(TimerHandle { timer, key })
}

/// Makes the calls that are to come at once, or drops them, and ends the thread.
pub(crate) fn finish(py: Python<'_>) -> PyResult<()> {
    let timer = TIMER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(timer) = timer.filter(|timer| timer.process == wait::process()) else { return Ok(()) };
    let dropped: Calls = {
        let mut state = timer.lock();
        state.ending = true;
        let (dropped, made) =
            std::mem::take(&mut state.calls).into_iter().partition(|(_, call)| call.at_end == AtEnd::Dropped);
        state.calls = made;
        dropped
    };
    drop(dropped);
    timer.changed.notify_all();
    wait::wait(py, poll_fn(move |context| timer.poll_ended(context.waker())), None)?;
    Ok(())
}
