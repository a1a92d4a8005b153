//! Waiting for several futures, ours and the standard library's mixed: `wait` and `as_completed`.
//!
//! A [`Watch`] is left with each future. Ours tell it natively; those of the standard library are given a [`StdWaiter`], which looks like
//! the waiters that they know.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PySet, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::future::FutureCore;
use super::worker::{self, AttemptWatch};
use crate::once::intern;
use crate::{error, timeout, wait};

/// When a watch is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    First,
    FirstException,
    All,
    /// Each is handed out as it comes.
    Each,
}

/// How a wait ended.
enum Waited {
    /// There is something to see.
    Seen,
    /// There may be another attempt of a task with options, for this worker to run.
    Attempt,
    /// The time is up.
    InVain,
}

/// What somebody who watches several futures has seen.
pub(crate) struct Watch {
    rule: Rule,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Those that were settled and not handed out yet, under [`Rule::Each`].
    settled: VecDeque<Py<PyAny>>,
    /// How many are not settled yet.
    left: usize,
    over: bool,
    /// Those who wait to see more.
    wakers: Vec<Waker>,
}

impl Watch {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            seen: Mutex::new(Seen { settled: VecDeque::new(), left: 0, over: false, wakers: Vec::new() }),
        }
    }

    /// A watch that hands out each future as it is settled.
    pub(crate) fn each() -> Arc<Self> {
        Arc::new(Self::new(Rule::Each))
    }

    /// For the one object that hands out what was seen.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(seen) = self.seen.try_lock() else { return Ok(()) };
        seen.settled.iter().try_for_each(|future| visit.call(future))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A future was settled. Says whether there is somebody to wake.
    pub(crate) fn note(&self, future: &Bound<'_, PyAny>, failed: bool) -> bool {
        let mut seen = self.lock();
        match self.rule {
            Rule::Each => {
                seen.settled.push_back(future.clone().unbind());
                true
            }
            Rule::First => {
                seen.over = true;
                true
            }
            Rule::FirstException | Rule::All => {
                seen.left = seen.left.saturating_sub(1);
                seen.over |= seen.left == 0 || (failed && self.rule == Rule::FirstException);
                seen.over
            }
        }
    }

    pub(crate) fn wake(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        for waker in wakers {
            waker.wake();
        }
    }

    /// The next one that was settled.
    pub(crate) fn pop(&self) -> Option<Py<PyAny>> {
        self.lock().settled.pop_front()
    }

    /// Waits until there is something to see; false if the time is up before.
    pub(crate) fn wait(self: &Arc<Self>, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        Ok(!matches!(self.wait_or_attempt(py, deadline, None)?, Waited::InVain))
    }

    /// Waits until there is something to see, or to run for a worker that has an [`AttemptWatch`].
    fn wait_or_attempt(
        self: &Arc<Self>,
        py: Python<'_>,
        deadline: Option<Instant>,
        attempts: Option<AttemptWatch>,
    ) -> PyResult<Waited> {
        let watch = Arc::clone(self);
        let changed = poll_fn(move |context| {
            if watch.poll_changed(context.waker()).is_ready() {
                return Poll::Ready(Waited::Seen);
            }
            let attempt = attempts.as_ref().map(|attempts| attempts.poll(context.waker()));
            attempt.map_or(Poll::Pending, |attempt| attempt.map(|()| Waited::Attempt))
        });
        Ok(wait::wait(py, changed, deadline)?.unwrap_or(Waited::InVain))
    }

    fn poll_changed(&self, waker: &Waker) -> Poll<()> {
        let mut seen = self.lock();
        if seen.over || !seen.settled.is_empty() {
            return Poll::Ready(());
        }
        if !seen.wakers.iter().any(|known| known.will_wake(waker)) {
            seen.wakers.push(waker.clone());
        }
        Poll::Pending
    }
}

/// A waiter as the standard library's futures know them.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct StdWaiter {
    watch: Arc<Watch>,
}

impl StdWaiter {
    fn note(&self, future: &Bound<'_, PyAny>, failed: bool) {
        if self.watch.note(future, failed) {
            self.watch.wake();
        }
    }
}

#[pymethods]
impl StdWaiter {
    fn add_result(&self, future: &Bound<'_, PyAny>) {
        self.note(future, false);
    }

    fn add_exception(&self, future: &Bound<'_, PyAny>) {
        self.note(future, true);
    }

    fn add_cancelled(&self, future: &Bound<'_, PyAny>) {
        self.note(future, false);
    }
}

/// What is left with the futures, so that it can be taken back.
struct Watching {
    watch: Arc<Watch>,
    waiter: Option<Py<StdWaiter>>,
}

impl Watching {
    fn new(watch: Arc<Watch>) -> Self {
        Self { watch, waiter: None }
    }

    /// Leaves the watch with a future; says whether an exception has settled it if it is settled already.
    fn leave_with(&mut self, future: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let py = future.py();
        if let Ok(core) = future.cast::<FutureCore>() {
            core.get().check_process()?;
            return Ok(core.get().watch(&self.watch));
        }
        let waiter = match &self.waiter {
            Some(waiter) => waiter,
            None => self.waiter.insert(Py::new(py, StdWaiter { watch: Arc::clone(&self.watch) })?),
        };
        with_condition(future, || {
            let settled = std_settled(future)?;
            if settled.is_none() {
                future.getattr(intern!(py, "_waiters"))?.call_method1(intern!(py, "append"), (waiter,))?;
            }
            Ok(settled)
        })
    }

    /// Takes it back from a future; it may have been forgotten there already.
    fn take_from(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        if let Ok(core) = future.cast::<FutureCore>() {
            core.get().unwatch(&self.watch);
            return Ok(());
        }
        let Some(waiter) = &self.waiter else { return Ok(()) };
        with_condition(future, || {
            let waiters = future.getattr(intern!(py, "_waiters"))?;
            if waiters.contains(waiter)? {
                waiters.call_method1(intern!(py, "remove"), (waiter,))?;
            }
            Ok(())
        })
    }
}

/// Runs `body` with the condition of one of the standard library's futures held.
fn with_condition<T>(future: &Bound<'_, PyAny>, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let py = future.py();
    let condition = future.getattr(intern!(py, "_condition"))?;
    condition.call_method0(intern!(py, "acquire"))?;
    let value = body();
    condition.call_method0(intern!(py, "release"))?;
    value
}

/// Whether one of the standard library's futures is settled, and if so whether by an exception.
fn std_settled(future: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    let py = future.py();
    let state = future.getattr(intern!(py, "_state"))?;
    if state.eq("CANCELLED_AND_NOTIFIED")? {
        return Ok(Some(false));
    }
    if state.eq("FINISHED")? {
        return Ok(Some(!future.getattr(intern!(py, "_exception"))?.is_none()));
    }
    Ok(None)
}

fn settled(future: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    match future.cast::<FutureCore>() {
        Ok(core) => Ok(core.get().settled()),
        Err(_) => std_settled(future),
    }
}

/// Each future once.
fn distinct<'py>(futures: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = futures.py();
    let set = PySet::empty(py)?;
    let mut distinct = Vec::new();
    for future in futures.try_iter()? {
        let future = future?;
        let before = set.len();
        set.add(&future)?;
        if set.len() > before {
            distinct.push(future);
        }
    }
    Ok(distinct)
}

/// Waits for futures; returns the sets of those done and those not done.
#[pyfunction]
#[pyo3(signature = (fs, timeout, return_when))]
pub(crate) fn wait_futures<'py>(
    py: Python<'py>,
    fs: &Bound<'py, PyAny>,
    timeout: Option<&Bound<'py, PyAny>>,
    return_when: &str,
) -> PyResult<Bound<'py, PyTuple>> {
    let rule = match return_when {
        "FIRST_COMPLETED" => Rule::First,
        "FIRST_EXCEPTION" => Rule::FirstException,
        "ALL_COMPLETED" => Rule::All,
        _ => return Err(PyValueError::new_err(format!("invalid return condition: `{return_when}`"))),
    };
    let deadline = timeout::deadline(timeout)?;
    let futures = distinct(fs)?;
    let watch = Arc::new(Watch::new(rule));
    // One more than there are, until all have the watch: it is not over before.
    watch.lock().left = futures.len() + 1;
    let mut watching = Watching::new(Arc::clone(&watch));
    let waited: PyResult<()> = (|| {
        for future in &futures {
            if let Some(failed) = watching.leave_with(future)? {
                watch.note(future, failed);
            }
        }
        {
            let mut seen = watch.lock();
            seen.left = seen.left.saturating_sub(1);
            seen.over |= seen.left == 0;
        }
        loop {
            // A worker that waits for tasks of its own pool runs them, and each attempt of those with options.
            let attempts = AttemptWatch::new(&futures)?;
            for future in &futures {
                if watch.lock().over {
                    break;
                }
                if let Ok(core) = future.cast::<FutureCore>() {
                    worker::run_inline_until(core, deadline)?;
                }
            }
            match watch.wait_or_attempt(py, deadline, attempts)? {
                Waited::Attempt => {}
                Waited::Seen | Waited::InVain => return Ok(()),
            }
        }
    })();
    for future in &futures {
        watching.take_from(future)?;
    }
    waited?;
    let (done, not_done) = (PySet::empty(py)?, PySet::empty(py)?);
    for future in &futures {
        if settled(future)?.is_some() { &done } else { &not_done }.add(future)?;
    }
    (done, not_done).into_pyobject(py)
}

/// Hands out futures as they are settled.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct AsCompleted {
    watch: Arc<Watch>,
    deadline: Option<Instant>,
    rest: Mutex<Rest>,
}

struct Rest {
    watching: Watching,
    /// Those not handed out yet, by address.
    futures: HashMap<usize, Py<PyAny>>,
    total: usize,
    /// Addresses of those that this thread may have to run, see [`worker::run_inline_until`].
    to_run: Vec<usize>,
}

impl AsCompleted {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If this thread is a worker and there are tasks with options: watches for their attempts, and has it look at each of them.
    fn watch_attempts(&self, py: Python<'_>) -> PyResult<Option<AttemptWatch>> {
        if !worker::is_worker() {
            return Ok(None);
        }
        let futures: Vec<_> = self.rest().futures.values().map(|future| future.bind(py).clone()).collect();
        let attempts = AttemptWatch::new(&futures)?;
        if attempts.is_some() {
            let with_options = futures.iter().filter(|future| worker::has_options(future).unwrap_or(false));
            let to_run = with_options.map(|future| future.as_ptr() as usize).collect();
            self.rest().to_run = to_run;
        }
        Ok(attempts)
    }
}

#[pymethods]
impl AsCompleted {
    #[new]
    fn new(fs: &Bound<'_, PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let deadline = timeout::deadline(timeout)?;
        let watch = Watch::each();
        let mut watching = Watching::new(Arc::clone(&watch));
        let mut futures = HashMap::new();
        let mut to_run = Vec::new();
        let distinct = distinct(fs)?;
        for future in &distinct {
            if let Some(failed) = watching.leave_with(future)? {
                watch.note(future, failed);
            }
            if worker::is_worker() && future.is_instance_of::<FutureCore>() {
                to_run.push(future.as_ptr() as usize);
            }
            futures.insert(future.as_ptr() as usize, future.clone().unbind());
        }
        let total = futures.len();
        Ok(Self { watch, deadline, rest: Mutex::new(Rest { watching, futures, total, to_run }) })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut attempts = None;
        loop {
            if let Some(future) = self.watch.pop() {
                let kept = self.rest().futures.remove(&(future.as_ptr() as usize));
                if kept.is_some() {
                    drop(kept);
                    return Ok(Some(future));
                }
                continue;
            }
            let (left, total, to_run) = {
                let mut rest = self.rest();
                let to_run = rest.to_run.pop();
                let to_run =
                    to_run.map(|address| rest.futures.get(&address).map(|future| future.clone_ref(py)));
                (rest.futures.len(), rest.total, to_run)
            };
            if left == 0 {
                return Ok(None);
            }
            if let Some(future) = to_run {
                if let Some(future) = future {
                    worker::run_inline_until(future.bind(py).cast::<FutureCore>()?, self.deadline)?;
                }
                continue;
            }
            if attempts.is_none() {
                attempts = self.watch_attempts(py)?;
                if attempts.is_some() {
                    // An attempt may have come before it was watched for.
                    continue;
                }
            }
            match self.watch.wait_or_attempt(py, self.deadline, attempts.take())? {
                Waited::Seen | Waited::Attempt => {}
                Waited::InVain => {
                    self.close(py)?;
                    let unfinished = format!("{left} (of {total}) futures unfinished");
                    return Err(error::TimeoutError::new_err(unfinished));
                }
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(rest) = self.rest.try_lock() else { return Ok(()) };
        rest.futures.values().try_for_each(|future| visit.call(future))?;
        self.watch.traverse(&visit)
    }

    fn __clear__(&self) {
        let futures = std::mem::take(&mut self.rest().futures);
        let settled = std::mem::take(&mut self.watch.lock().settled);
        drop((futures, settled));
    }

    /// Hand out no more.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let (futures, watching) = {
            let mut rest = self.rest();
            let watching = std::mem::replace(&mut rest.watching, Watching::new(Arc::clone(&self.watch)));
            rest.to_run.clear();
            (std::mem::take(&mut rest.futures), watching)
        };
        for future in futures.values() {
            watching.take_from(future.bind(py))?;
        }
        while let Some(future) = self.watch.pop() {
            drop(future);
        }
        Ok(())
    }
}

impl Drop for AsCompleted {
    fn drop(&mut self) {
        if self.rest().futures.is_empty() {
            return;
        }
        let closed =
            Python::try_attach(|py| self.close(py).map_err(|raised| raised.write_unraisable(py, None)));
        // Not attached: the interpreter ends, and everything with it.
        let _ = closed;
    }
}
