//! Calls that are made later, for the whole process; the first one starts a thread.
//!
//! Calls may run callbacks of the user, such as those of a future whose time is up, and these may block. So a thread that takes a call sees
//! to it that another one waits for the next call (leader and followers): one that blocks delays no other.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

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
    /// It is made as soon as the end begins: somebody waits to go on.
    Hurried,
    /// It is made if its time comes while the last tasks run, and otherwise not at all.
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
    /// The interpreter has begun to end: nobody waits longer than he must.
    hurried: bool,
    /// Nothing is kept for later any more.
    ending: bool,
    /// Those that are alive, and those of them that wait for the next call.
    threads: usize,
    waiting: usize,
    joining: Vec<Waker>,
}

/// More than so many need not wait for the next call: the second one is there so that threads do not come and go with each call.
const MOST_WAITING: usize = 2;

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
        fresh
            .start()
            .map_err(|refused| PyRuntimeError::new_err(format!("can't start new thread: {refused}")))?;
        // What a forked child inherits is the parent's, with its lock in any state.
        mem::forget(timer.replace(Arc::clone(&fresh)));
        Ok(fresh)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that waits for the next call.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        let timer = Arc::clone(self);
        {
            let mut state = self.lock();
            state.threads += 1;
            state.waiting += 1;
        }
        let started = thread::Builder::new().name("tricorne-timer".to_owned()).spawn(move || timer.run());
        if started.is_err() {
            let mut state = self.lock();
            state.threads -= 1;
            state.waiting -= 1;
        }
        started.map(drop)
    }

    fn run(self: &Arc<Self>) {
        // Attached for good: Python sees one thread with one state.
        let _ = Python::try_attach(|py| {
            while let Some(call) = py.detach(|| self.next_call()) {
                // If there can be no other thread, the calls to come wait for this one.
                let nobody_waits = self.lock().waiting == 0;
                let _ = if nobody_waits { self.start() } else { Ok(()) };
                make(py, &call);
                drop(call);
                let mut state = self.lock();
                if state.waiting >= MOST_WAITING {
                    return;
                }
                state.waiting += 1;
            }
        });
        let joining = {
            let mut state = self.lock();
            state.threads -= 1;
            if state.threads == 0 { mem::take(&mut state.joining) } else { Vec::new() }
        };
        for waker in joining {
            waker.wake();
        }
    }

    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.lock();
        if state.threads == 0 {
            return Poll::Ready(());
        }
        state.joining.push(waker.clone());
        Poll::Pending
    }

    /// Waits for the next call that is due; `None` at the end. From then on the thread does not count as waiting.
    fn next_call(&self) -> Option<Py<PyAny>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let first = state.calls.first_key_value().map(|(&(due, _), _)| due);
            match first {
                Some(due) if due <= now || state.ending => {
                    state.waiting -= 1;
                    return state.calls.pop_first().map(|(_, call)| call.function);
                }
                None if state.ending => {
                    state.waiting -= 1;
                    return None;
                }
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

impl TimerHandle {
    /// Calls are made in the process in which they were left only, not in a forked child.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.timer.process == wait::process()
    }
}

#[pymethods]
impl TimerHandle {
    /// Take the call back, unless it is being made.
    pub(crate) fn cancel(&self) {
        if self.is_of_this_process() {
            let call = self.timer.lock().calls.remove(&self.key);
            drop(call);
        }
    }
}

/// Has `function()` called by the timer's thread in so many seconds, unless the interpreter ends before.
#[pyfunction]
pub(crate) fn call_later(seconds: f64, function: Py<PyAny>) -> PyResult<TimerHandle> {
    call_at(in_seconds(seconds), function, AtEnd::Dropped)
}

/// Has `function()` called by the timer's thread after a pause of so many seconds, which the end of the interpreter cuts short.
#[pyfunction]
pub(crate) fn call_after_pause(seconds: f64, function: Py<PyAny>) -> PyResult<TimerHandle> {
    call_at(in_seconds(seconds), function, AtEnd::Hurried)
}

/// Further than the clock goes is as good as never.
fn in_seconds(seconds: f64) -> Instant {
    timeout::after(seconds).unwrap_or_else(|| Instant::now() + Duration::from_secs(u32::MAX.into()))
}

/// Has `function()` called at a moment, and at the end of the interpreter as `at_end` says.
pub(crate) fn call_at(due: Instant, function: Py<PyAny>, at_end: AtEnd) -> PyResult<TimerHandle> {
    let timer = Timer::of_process()?;
    let mut state = timer.lock();
    if state.ending {
        drop(state);
        drop(function);
        return Err(PyRuntimeError::new_err("the interpreter ends"));
    }
    let due = if state.hurried && at_end == AtEnd::Hurried { Instant::now() } else { due };
    let key = (due, state.next_number);
    state.next_number += 1;
    state.calls.insert(key, Call { function, at_end });
    drop(state);
    timer.changed.notify_all();
    Ok(TimerHandle { timer, key })
}

/// The interpreter begins to end: ends all pauses, those to come included. Their calls are made in this thread before it returns.
#[pyfunction]
pub(crate) fn hurry_timer(py: Python<'_>) -> PyResult<()> {
    let timer = TIMER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(timer) = timer.filter(|timer| timer.process == wait::process()) else { return Ok(()) };
    let hurried: Calls = {
        let mut state = timer.lock();
        state.hurried = true;
        let (hurried, others) =
            mem::take(&mut state.calls).into_iter().partition(|(_, call)| call.at_end == AtEnd::Hurried);
        state.calls = others;
        hurried
    };
    for call in hurried.into_values() {
        make(py, &call.function);
    }
    Ok(())
}

/// Makes a call; what it raises is logged.
fn make(py: Python<'_>, function: &Py<PyAny>) {
    if let Err(raised) = function.call0(py) {
        let logged = log::error(py, "exception in a call of the timer", &[], &raised);
        logged.unwrap_or_else(|raised| raised.write_unraisable(py, None));
    }
}

/// Drops the calls that are to come, and ends the thread once it has made those that are due.
pub(crate) fn finish(py: Python<'_>) -> PyResult<()> {
    let timer = TIMER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(timer) = timer.filter(|timer| timer.process == wait::process()) else { return Ok(()) };
    let dropped: Calls = {
        let mut state = timer.lock();
        state.ending = true;
        let (dropped, made) =
            mem::take(&mut state.calls).into_iter().partition(|(_, call)| call.at_end == AtEnd::Dropped);
        state.calls = made;
        dropped
    };
    drop(dropped);
    timer.changed.notify_all();
    wait::wait(py, poll_fn(move |context| timer.poll_ended(context.waker())), None)?;
    Ok(())
}
