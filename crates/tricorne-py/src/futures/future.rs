//! The future: a result that is not there yet.
//!
//! `tricorne.futures.Future` has [`FutureCore`] as its first base and the standard library's class as its second. So it is an instance
//! of `concurrent.futures.Future`, which asyncio insists on, while every method comes from here.
//!
//! # The standard library's `wait` and `as_completed`
//!
//! They lock a future by its `_condition`, read its `_state` and leave a waiter in its `_waiters`. The first one to ask for any of these
//! *opens* the future: from then on every change of state is made with that condition held, and tells those waiters. Whether a future is
//! open is decided under its mutex, so a change either comes before the opening, and is seen by whoever opened it, or it sees that the
//! future is open. A future that nobody opens never pays for a condition.
//!
//! # Locks
//!
//! The mutex is held for moments in which no Python code can run: what is dropped or called is taken out first. It is only taken by
//! threads that are attached to the interpreter, so a fork finds it free.

use std::ffi::CStr;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use pyo3::exceptions::{PyBaseException, PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::log;
use super::watch::Watch;
use super::work::Work;
use super::worker::{self, AttemptWatch};
use crate::once::intern;
use crate::{error, timeout, wait};

/// What has become of a future; the names are those of `concurrent.futures`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    /// Cancelled, but `set_running_or_notify_cancel` has not yet told those who watch several futures.
    Cancelled,
    CancelledAndNotified,
    Finished,
}

impl Phase {
    fn is_done(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancelled | Self::CancelledAndNotified)
    }

    /// Done, and everybody has been told: what `wait` counts.
    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::CancelledAndNotified | Self::Finished)
    }

    fn name(self) -> &'static CStr {
        match self {
            Self::Pending => c"PENDING",
            Self::Running => c"RUNNING",
            Self::Cancelled => c"CANCELLED",
            Self::CancelledAndNotified => c"CANCELLED_AND_NOTIFIED",
            Self::Finished => c"FINISHED",
        }
    }

    fn text(self) -> &'static str {
        self.name().to_str().unwrap_or_default()
    }

    fn description(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelled | Self::CancelledAndNotified => "cancelled",
            Self::Finished => "finished",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Cancelled, Self::CancelledAndNotified, Self::Finished]
            .into_iter()
            .find(|phase| phase.text() == text)
    }
}

/// How a task ended.
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    Raised(Py<PyAny>),
}

impl Outcome {
    pub(crate) fn of(py: Python<'_>, result: PyResult<Py<PyAny>>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(error) => Self::Raised(error.into_value(py).into_any()),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Value(value) => Self::Value(value.clone_ref(py)),
            Self::Raised(exception) => Self::Raised(exception.clone_ref(py)),
        }
    }

    fn into_result(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Raised(exception) => Err(PyErr::from_value(exception.into_bound(py))),
        }
    }
}

/// Who is told when the future is done, in the order in which they came.
enum Listener {
    /// A callback of `add_done_callback`.
    Callback(Py<PyAny>),
    /// A thread in `result` or `exception`.
    Waker(Waker),
    /// Somebody who watches several futures.
    Watch(Arc<Watch>),
}

/// What the standard library's `wait` works with.
struct Opened {
    condition: Py<PyAny>,
    waiters: Py<PyList>,
}

struct State {
    phase: Phase,
    outcome: Option<Outcome>,
    /// The task, until somebody runs it or it is cancelled.
    work: Option<Work>,
    listeners: Vec<Listener>,
    opened: Option<Box<Opened>>,
    /// The process whose threads end this future, if it is that of a pool.
    owner: Option<u64>,
}

/// A thread to wake. It can be done later, when the interpreter is free for it.
pub(crate) enum Wake {
    Waker(Waker),
    Watch(Arc<Watch>),
}

impl Wake {
    pub(crate) fn wake(self) {
        match self {
            Self::Waker(waker) => waker.wake(),
            Self::Watch(watch) => watch.wake(),
        }
    }
}

/// A change of state that the mutex guards.
enum Change {
    Finish(Outcome),
    Cancel,
    /// Cancels and tells everybody at once.
    CancelAndNotify,
    NotifyCancel,
    Start,
}

/// Why a change cannot be made; what was brought along goes back, to be dropped outside the lock.
struct Refused {
    phase: Phase,
    _change: Change,
}

/// What is left to do after a change, with the lock released.
#[must_use]
pub(crate) struct Effects {
    pub(crate) wakes: Vec<Wake>,
    callbacks: Vec<Py<PyAny>>,
    /// The method of the standard library's waiters to call.
    tell: Option<&'static CStr>,
    watches: Vec<(Arc<Watch>, bool)>,
    _work: Option<Work>,
    /// An outcome that was written by hand before.
    _before: Option<Outcome>,
}

impl Effects {
    pub(crate) fn has_callbacks(&self) -> bool {
        !self.callbacks.is_empty()
    }

    /// Tells everybody.
    ///
    /// # Errors
    ///
    /// What a callback raises that is not an `Exception`; the callbacks behind it are not called, as in the standard library.
    pub(crate) fn run(mut self, future: &Bound<'_, FutureCore>) -> PyResult<()> {
        for wake in self.wakes.drain(..) {
            wake.wake();
        }
        self.call_back(future)
    }

    /// Only the callbacks; the caller has taken the wakes.
    pub(crate) fn call_back(self, future: &Bound<'_, FutureCore>) -> PyResult<()> {
        for callback in self.callbacks {
            call_back(future, callback.bind(future.py()))?;
        }
        Ok(())
    }
}

/// Calls a callback; its exceptions are logged.
fn call_back(future: &Bound<'_, FutureCore>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    match callback.call1((future,)) {
        Ok(_) => Ok(()),
        Err(raised) if raised.is_instance_of::<PyException>(py) => {
            log::error(py, "exception calling callback for %r", &[future.as_any()], &raised)
        }
        Err(raised) => Err(raised),
    }
}

impl State {
    /// Whether the threads that could end it did not survive a fork.
    fn is_of_another_process(&self) -> bool {
        !self.phase.is_done() && self.owner.is_some_and(|owner| owner != wait::process())
    }

    fn apply(&mut self, py: Python<'_>, change: Change) -> Result<Effects, Refused> {
        let mut effects = Effects {
            wakes: Vec::new(),
            callbacks: Vec::new(),
            tell: None,
            watches: Vec::new(),
            _work: None,
            _before: None,
        };
        match (change, self.phase) {
            (Change::Finish(outcome), Phase::Pending | Phase::Running) => {
                let failed = matches!(outcome, Outcome::Raised(_));
                effects._before = self.outcome.replace(outcome);
                self.phase = Phase::Finished;
                effects._work = self.work.take();
                effects.tell = Some(if failed { c"add_exception" } else { c"add_result" });
                self.take_listeners(&mut effects, Some(failed));
            }
            (change @ (Change::Cancel | Change::CancelAndNotify), Phase::Pending) => {
                effects._work = self.work.take();
                // The task of a pool: nobody else will notify, so it is done here.
                let notify = effects._work.is_some() || matches!(change, Change::CancelAndNotify);
                self.phase = if notify { Phase::CancelledAndNotified } else { Phase::Cancelled };
                effects.tell = notify.then_some(c"add_cancelled");
                self.take_listeners(&mut effects, notify.then_some(false));
            }
            (Change::NotifyCancel, Phase::Cancelled) => {
                self.phase = Phase::CancelledAndNotified;
                effects.tell = Some(c"add_cancelled");
                self.take_listeners(&mut effects, Some(false));
            }
            (Change::Start, Phase::Pending) => self.phase = Phase::Running,
            (change, phase) => return Err(Refused { phase, _change: change }),
        }
        let _ = py;
        Ok(effects)
    }

    /// Takes out who is to be told; those who watch several futures only if `watches` says with what.
    fn take_listeners(&mut self, effects: &mut Effects, watches: Option<bool>) {
        if self.listeners.is_empty() {
            return;
        }
        for listener in std::mem::take(&mut self.listeners) {
            match (listener, watches) {
                (Listener::Callback(callback), _) => effects.callbacks.push(callback),
                (Listener::Waker(waker), _) => effects.wakes.push(Wake::Waker(waker)),
                (Listener::Watch(watch), Some(failed)) => effects.watches.push((watch, failed)),
                (listener @ Listener::Watch(_), None) => self.listeners.push(listener),
            }
        }
    }
}

/// The native base of `tricorne.futures.Future`.
#[pyclass(frozen, subclass, weakref, module = "tricorne._native")]
pub(crate) struct FutureCore {
    state: Mutex<State>,
}

impl FutureCore {
    pub(crate) fn pending() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Pending,
                outcome: None,
                work: None,
                listeners: Vec::new(),
                opened: None,
                owner: None,
            }),
        }
    }

    /// A future whose task is `work`, for a pool of the process of that generation.
    pub(crate) fn with_work(work: Work, owner: u64) -> Self {
        let future = Self::pending();
        future.give_work(work, owner);
        future
    }

    /// Makes it the future of a task.
    pub(crate) fn give_work(&self, work: Work, owner: u64) {
        let mut state = self.lock();
        state.owner = Some(owner);
        let before = state.work.replace(work);
        drop(state);
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That it is ended by threads of the process of that generation.
    pub(crate) fn set_owner(&self, process: u64) {
        self.lock().owner = Some(process);
    }

    /// Whether somebody has left a callback.
    pub(crate) fn has_callbacks(&self) -> bool {
        let state = self.lock();
        state.opened.is_some()
            || state.listeners.iter().any(|listener| matches!(listener, Listener::Callback(_)))
    }

    pub(crate) fn is_done(&self) -> bool {
        self.phase().is_done()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Takes the task in order to run it; `None` if it was cancelled, or somebody else has it.
    pub(crate) fn begin(&self) -> Option<Work> {
        let mut state = self.lock();
        if state.phase != Phase::Pending {
            return None;
        }
        let work = state.work.take()?;
        state.phase = Phase::Running;
        Some(work)
    }

    /// Like [`begin`](Self::begin), if the task waits in that pool.
    pub(crate) fn begin_if_of(&self, pool: u64) -> Option<Work> {
        if self.lock().work.as_ref()?.pool() != pool {
            return None;
        }
        self.begin()
    }

    /// Ends a future that nobody waits for and nobody has opened: no more than a few fields to write. Gives the outcome back otherwise.
    fn finish_unheard(&self, outcome: Outcome) -> Result<(), Outcome> {
        let mut state = self.lock();
        let unheard = state.listeners.is_empty()
            && state.opened.is_none()
            && state.work.is_none()
            && state.outcome.is_none();
        if state.phase.is_done() || !unheard {
            return Err(outcome);
        }
        state.outcome = Some(outcome);
        state.phase = Phase::Finished;
        Ok(())
    }

    /// Ends a future that runs; the caller sees to the effects, if there are any.
    pub(crate) fn finish(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<Option<Effects>> {
        match slf.get().finish_unheard(outcome) {
            Ok(()) => Ok(None),
            Err(outcome) => Ok(Self::change(slf, Change::Finish(outcome))?.ok()),
        }
    }

    /// Ends it on behalf of an executor.
    fn set_outcome(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        let Err(outcome) = slf.get().finish_unheard(outcome) else { return Ok(()) };
        match Self::change(slf, Change::Finish(outcome))? {
            Ok(effects) => effects.run(slf),
            Err(refused) => Err(Self::refused(slf, &refused)),
        }
    }

    /// Fails it, unless it is done.
    pub(crate) fn fail(slf: &Bound<'_, Self>, exception: PyErr) -> PyResult<()> {
        let outcome = Outcome::Raised(exception.into_value(slf.py()).into_any());
        match Self::finish(slf, outcome)? {
            Some(effects) => effects.run(slf),
            None => Ok(()),
        }
    }

    /// Makes a change, with the condition held if the future is open.
    fn change(slf: &Bound<'_, Self>, change: Change) -> PyResult<Result<Effects, Refused>> {
        let py = slf.py();
        let core = slf.get();
        let (condition, waiters) = {
            let mut state = core.lock();
            match &state.opened {
                None => {
                    let applied = state.apply(py, change);
                    drop(state);
                    return Ok(applied.map(|effects| Self::tell_watches(slf, effects)));
                }
                Some(opened) => (opened.condition.clone_ref(py), opened.waiters.clone_ref(py)),
            }
        };
        let condition = condition.bind(py);
        condition.call_method0(intern!(py, "acquire"))?;
        let applied = core.lock().apply(py, change);
        let told = match &applied {
            Ok(effects) => tell_opened(slf, condition, waiters.bind(py), effects.tell),
            Err(_) => Ok(()),
        };
        condition.call_method0(intern!(py, "release"))?;
        let applied = applied.map(|effects| Self::tell_watches(slf, effects));
        if let Err(raised) = told {
            // All others are told nevertheless.
            if let Ok(effects) = applied {
                effects.run(slf)?;
            }
            return Err(raised);
        }
        Ok(applied)
    }

    /// Enters the future in the books of those who watch it. Waking them comes later.
    fn tell_watches(slf: &Bound<'_, Self>, mut effects: Effects) -> Effects {
        for (watch, failed) in effects.watches.drain(..) {
            if watch.note(slf.as_any(), failed) {
                effects.wakes.push(Wake::Watch(watch));
            }
        }
        effects
    }

    /// Has `watch` told when it is settled; says what it is if it is settled already.
    pub(crate) fn watch(&self, watch: &Arc<Watch>) -> Option<bool> {
        let mut state = self.lock();
        if state.phase.is_settled() {
            return Some(matches!(state.outcome, Some(Outcome::Raised(_))));
        }
        state.listeners.push(Listener::Watch(Arc::clone(watch)));
        None
    }

    /// That the threads which could end it did not survive a fork, if so.
    pub(crate) fn check_process(&self) -> PyResult<()> {
        if self.lock().is_of_another_process() {
            return Err(error::BrokenExecutor::new_err(
                "the task runs in the process that this one was forked from",
            ));
        }
        Ok(())
    }

    /// Settled already, and if so whether by an exception.
    pub(crate) fn settled(&self) -> Option<bool> {
        let state = self.lock();
        state.phase.is_settled().then(|| matches!(state.outcome, Some(Outcome::Raised(_))))
    }

    /// Takes a watch back.
    pub(crate) fn unwatch(&self, watch: &Arc<Watch>) {
        self.lock()
            .listeners
            .retain(|listener| !matches!(listener, Listener::Watch(other) if Arc::ptr_eq(other, watch)));
    }

    /// The outcome, or that it was cancelled; `None` if it is not done.
    pub(crate) fn outcome(&self, py: Python<'_>) -> Option<PyResult<Outcome>> {
        let state = self.lock();
        match state.phase {
            Phase::Pending | Phase::Running => None,
            Phase::Cancelled | Phase::CancelledAndNotified => Some(Err(error::CancelledError::new_err(()))),
            Phase::Finished => Some(Ok(match &state.outcome {
                Some(outcome) => outcome.clone_ref(py),
                None => Outcome::Value(py.None()),
            })),
        }
    }

    /// Waits for the outcome, for so many seconds.
    fn outcome_within(slf: &Bound<'_, Self>, seconds: Option<&Bound<'_, PyAny>>) -> PyResult<Outcome> {
        let py = slf.py();
        let core = slf.get();
        core.let_others_finish(py)?;
        if let Some(outcome) = core.outcome(py) {
            return outcome;
        }
        if !Self::wait_until(slf, timeout::deadline(seconds)?)? {
            return Err(error::TimeoutError::new_err(()));
        }
        core.outcome(py).unwrap_or_else(|| Err(PyRuntimeError::new_err("the future was reset")))
    }

    /// Waits until it is done; false if the deadline passes before.
    pub(crate) fn wait_until(slf: &Bound<'_, Self>, deadline: Option<Instant>) -> PyResult<bool> {
        let py = slf.py();
        let core = slf.get();
        loop {
            // A worker that waits for a task of its own pool runs it, and each attempt of one with options.
            let attempts = AttemptWatch::new(std::slice::from_ref(slf.as_any()))?;
            worker::run_inline_until(slf, deadline)?;
            core.check_process()?;
            let future = slf.clone().unbind();
            let done = poll_fn(move |context| {
                if future.get().poll_done(context.waker()).is_ready() {
                    return Poll::Ready(true);
                }
                attempts
                    .as_ref()
                    .map_or(Poll::Pending, |attempts| attempts.poll(context.waker()).map(|()| false))
            });
            match wait::wait(py, done, deadline)? {
                None => return Ok(false),
                Some(true) => break,
                Some(false) => {}
            }
        }
        core.let_others_finish(py)?;
        Ok(true)
    }

    /// Whoever writes the fields of an open future by hand holds its condition until all are written.
    fn let_others_finish(&self, py: Python<'_>) -> PyResult<()> {
        let condition = self.lock().opened.as_ref().map(|opened| opened.condition.clone_ref(py));
        if let Some(condition) = condition {
            condition.call_method0(py, intern!(py, "acquire"))?;
            condition.call_method0(py, intern!(py, "release"))?;
        }
        Ok(())
    }

    /// Ready once it is done. A waker that is left behind by a wait that ended is that of a thread: it comes to nothing, and no thread
    /// leaves more than one.
    fn poll_done(&self, waker: &Waker) -> Poll<()> {
        let mut state = self.lock();
        if state.phase.is_done() {
            return Poll::Ready(());
        }
        let known =
            |listener: &Listener| matches!(listener, Listener::Waker(known) if known.will_wake(waker));
        if !state.listeners.iter().any(known) {
            state.listeners.push(Listener::Waker(waker.clone()));
        }
        Poll::Pending
    }

    /// Opens the future for the standard library's `wait`.
    fn open<'py, T>(&self, py: Python<'py>, read: impl Fn(&Opened) -> Py<T>) -> PyResult<Py<T>> {
        if let Some(opened) = &self.lock().opened {
            return Ok(read(opened));
        }
        let condition = py.import("threading")?.call_method0("Condition")?.unbind();
        let mut fresh = Some(Box::new(Opened { condition, waiters: PyList::empty(py).unbind() }));
        let mut state = self.lock();
        if state.opened.is_none() {
            state.opened = fresh.take();
        }
        let value = state.opened.as_deref().map(read);
        drop(state);
        drop(fresh);
        value.ok_or_else(|| PyRuntimeError::new_err("the future could not be opened"))
    }

    fn refused(slf: &Bound<'_, Self>, refused: &Refused) -> PyErr {
        match slf.repr() {
            Ok(text) => error::InvalidStateError::new_err(format!("{}: {text}", refused.phase.text())),
            Err(raised) => raised,
        }
    }
}

/// Tells the standard library's waiters and who waits for the condition; it is held. All are told, also if one raises.
fn tell_opened(
    future: &Bound<'_, FutureCore>,
    condition: &Bound<'_, PyAny>,
    waiters: &Bound<'_, PyList>,
    tell: Option<&'static CStr>,
) -> PyResult<()> {
    let mut failure = None;
    if let Some(method) = tell {
        let method = PyString::from_bytes(future.py(), method.to_bytes())?;
        for waiter in waiters.iter() {
            if let Err(raised) = waiter.call_method1(&method, (future,)) {
                failure.get_or_insert(raised);
            }
        }
    }
    condition.call_method0(intern!(future.py(), "notify_all"))?;
    failure.map_or(Ok(()), Err)
}

#[pymethods]
impl FutureCore {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = None)]
    fn new(args: &Bound<'_, PyAny>, kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        // They are for `__init__` of a subclass.
        let _ = (args, kwargs);
        Self::pending()
    }

    fn __init__(&self) {}

    /// Cancel the task if it has not begun. Returns False if it runs or is done, otherwise True.
    #[pyo3(name = "cancel")]
    pub(crate) fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        match Self::change(slf, Change::Cancel)? {
            Ok(effects) => {
                effects.run(slf)?;
                Ok(true)
            }
            Err(refused) => Ok(refused.phase.is_cancelled()),
        }
    }

    /// For executors: cancel, and have `set_running_or_notify_cancel` done with it.
    pub(crate) fn _cancel_and_notify(slf: &Bound<'_, Self>) -> PyResult<bool> {
        match Self::change(slf, Change::CancelAndNotify)? {
            Ok(effects) => {
                effects.run(slf)?;
                Ok(true)
            }
            Err(refused) => Ok(refused.phase.is_cancelled()),
        }
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        cls.py().import("types")?.call_method1("GenericAlias", (cls, item))
    }

    /// True if the task was cancelled.
    fn cancelled(&self) -> bool {
        self.phase().is_cancelled()
    }

    /// True if the task is being run.
    fn running(&self) -> bool {
        self.phase() == Phase::Running
    }

    /// True if the task has ended or was cancelled.
    fn done(&self) -> bool {
        self.phase().is_done()
    }

    /// Wait for the task and return what it returned.
    ///
    /// `timeout` is in seconds; None waits for ever. Raises what the task raised, TimeoutError if it is not done in time, and
    /// CancelledError if it was cancelled.
    #[pyo3(signature = (timeout = None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        if let State { phase: Phase::Finished, outcome: Some(Outcome::Value(value)), opened: None, .. } =
            &*slf.get().lock()
        {
            return Ok(value.clone_ref(slf.py()));
        }
        Self::outcome_within(slf, timeout)?.into_result(slf.py())
    }

    /// Wait for the task and return what it raised, or None if it raised nothing.
    ///
    /// `timeout` is in seconds; None waits for ever. Raises TimeoutError if it is not done in time, and CancelledError if it was
    /// cancelled.
    #[pyo3(signature = (timeout = None))]
    fn exception(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        match Self::outcome_within(slf, timeout)? {
            Outcome::Value(_) => Ok(None),
            Outcome::Raised(exception) => Ok(Some(exception)),
        }
    }

    /// Have `fn(future)` called when the task has ended or is cancelled; at once if it is done already.
    ///
    /// Callbacks are called in the order in which they were added, by the thread that ends the task. What they raise is logged.
    #[pyo3(signature = (r#fn))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let mut state = slf.get().lock();
        if !state.phase.is_done() {
            state.listeners.push(Listener::Callback(r#fn.unbind()));
            let pool = state.work.as_ref().map(Work::pool);
            drop(state);
            if let Some(pool) = pool {
                worker::tell_of_attempt(pool);
            }
            return Ok(());
        }
        drop(state);
        call_back(slf, &r#fn)
    }

    /// For executors: mark the task as running and return True, or return False if it was cancelled.
    ///
    /// Raises RuntimeError if it runs or has ended already.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if Self::change(slf, Change::Start)?.is_ok() {
            return Ok(true);
        }
        match Self::change(slf, Change::NotifyCancel)? {
            Ok(effects) => {
                effects.run(slf)?;
                Ok(false)
            }
            Err(refused) => {
                let id = (slf.as_ptr() as usize).into_pyobject(py)?;
                let state = PyString::new(py, refused.phase.text());
                let args = [id.as_any(), state.as_any()];
                log::critical(py, "Future %s in unexpected state: %s", &args, None)?;
                Err(PyRuntimeError::new_err("Future in unexpected state"))
            }
        }
    }

    /// For executors: the task has returned `result`.
    ///
    /// Raises InvalidStateError if it has ended already.
    #[pyo3(signature = (result))]
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::set_outcome(slf, Outcome::Value(result))
    }

    /// For executors: the task has raised `exception`.
    ///
    /// Raises InvalidStateError if it has ended already.
    #[pyo3(signature = (exception))]
    fn set_exception(slf: &Bound<'_, Self>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        let none = exception.is_none();
        let exception = exception.unbind();
        Self::set_outcome(slf, if none { Outcome::Value(exception) } else { Outcome::Raised(exception) })
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let (phase, outcome) = {
            let state = slf.get().lock();
            (state.phase, state.outcome.as_ref().map(|outcome| outcome.clone_ref(py)))
        };
        let end = match outcome.filter(|_| phase == Phase::Finished) {
            None => String::new(),
            Some(Outcome::Value(value)) => format!(" returned {}", value.bind(py).get_type().name()?),
            Some(Outcome::Raised(raised)) => format!(" raised {}", raised.bind(py).get_type().name()?),
        };
        let class = slf.get_type().name()?;
        Ok(format!("<{class} at {:#x} state={}{end}>", slf.as_ptr() as usize, phase.description()))
    }

    /// A future of its own in the same state: what the copied one becomes later, the copy does not.
    fn __copy__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let copy = slf.get_type().call_method1("__new__", (slf.get_type(),))?;
        let (phase, outcome) = {
            let state = slf.get().lock();
            (state.phase, state.outcome.as_ref().map(|outcome| outcome.clone_ref(py)))
        };
        {
            let mut state = copy.cast::<Self>()?.get().lock();
            state.phase = phase;
            state.outcome = outcome;
        }
        if let (Ok(from), Ok(to)) = (slf.getattr("__dict__"), copy.getattr("__dict__")) {
            to.call_method1("update", (from,))?;
        }
        Ok(copy)
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: i32) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err(format!("cannot pickle '{}' object", slf.get_type().name()?)))
    }

    /// What asyncio reads from Python 3.14 on: done, cancelled, result, exception.
    fn _get_snapshot(&self, py: Python<'_>) -> (bool, bool, Option<Py<PyAny>>, Option<Py<PyAny>>) {
        match self.outcome(py) {
            None => (false, false, None, None),
            Some(Err(_)) => (true, true, None, None),
            Some(Ok(Outcome::Value(value))) => (true, false, Some(value), None),
            Some(Ok(Outcome::Raised(exception))) => (true, false, None, Some(exception)),
        }
    }

    #[getter(_state)]
    fn read_state(&self) -> &'static str {
        self.phase().text()
    }

    #[setter(_state)]
    fn write_state(&self, text: &str) -> PyResult<()> {
        let phase = Phase::from_text(text)
            .ok_or_else(|| PyValueError::new_err(format!("`{text}` is not a state of a future")))?;
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.phase = phase;
        if phase.is_done() {
            wakers.extend(state.listeners.iter().filter_map(|listener| match listener {
                Listener::Waker(waker) => Some(waker.clone()),
                _ => None,
            }));
        }
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        Ok(())
    }

    #[getter(_result)]
    fn read_result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.lock().outcome {
            Some(Outcome::Value(value)) => Some(value.clone_ref(py)),
            _ => None,
        }
    }

    #[setter(_result)]
    fn write_result(&self, value: Py<PyAny>) {
        let before = self.lock().outcome.replace(Outcome::Value(value));
        drop(before);
    }

    #[getter(_exception)]
    fn read_exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.lock().outcome {
            Some(Outcome::Raised(exception)) => Some(exception.clone_ref(py)),
            _ => None,
        }
    }

    #[setter(_exception)]
    fn write_exception(&self, exception: Option<Bound<'_, PyBaseException>>) {
        let Some(exception) = exception else { return };
        let before = self.lock().outcome.replace(Outcome::Raised(exception.into_any().unbind()));
        drop(before);
    }

    #[getter(_condition)]
    fn read_condition(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.open(py, |opened| opened.condition.clone_ref(py))
    }

    #[getter(_waiters)]
    fn read_waiters(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        self.open(py, |opened| opened.waiters.clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A thread that holds the lock is about to change what would be visited: what is not visited counts as alive, for this time.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        match &state.outcome {
            Some(Outcome::Value(value) | Outcome::Raised(value)) => visit.call(value)?,
            None => (),
        }
        if let Some(work) = &state.work {
            work.traverse(&visit)?;
        }
        for listener in &state.listeners {
            if let Listener::Callback(callback) = listener {
                visit.call(callback)?;
            }
        }
        if let Some(opened) = &state.opened {
            visit.call(&opened.condition)?;
            visit.call(&opened.waiters)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut state = self.lock();
        let parts = (
            state.outcome.take(),
            state.work.take(),
            std::mem::take(&mut state.listeners),
            state.opened.take(),
        );
        drop(state);
        drop(parts);
    }
}
