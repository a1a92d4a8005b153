//! A task that waits: what to call, in which context, and whose it is.
//!
//! The garbage collector goes through every object that waits in a long queue, several times. So what a task keeps is taken apart: no
//! tuple for a function with one argument or none, and no object for a context in which no variable is set.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::once::{Once, intern};

/// A call and the context to make it in.
pub(crate) struct Work {
    call: Call,
    context: Context,
    /// The number of the pool that it waits in.
    pool: u64,
}

/// What is called.
pub(crate) enum Call {
    Bare(Py<PyAny>),
    WithOne(Py<PyAny>, Py<PyAny>),
    /// The function and its arguments, as `Context.run` takes them.
    WithMany(Py<PyTuple>, Option<Py<PyDict>>),
}

impl Call {
    /// From a function with its arguments behind it, at least the function.
    pub(crate) fn new(call: Bound<'_, PyTuple>, kwargs: Option<Bound<'_, PyDict>>) -> PyResult<Self> {
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
        Ok(match (call.len(), kwargs) {
            (1, None) => Self::Bare(call.get_item(0)?.unbind()),
            (2, None) => Self::WithOne(call.get_item(0)?.unbind(), call.get_item(1)?.unbind()),
            (_, kwargs) => Self::WithMany(call.unbind(), kwargs.map(Bound::unbind)),
        })
    }

    /// Makes the call by means of `run`, which is the method of a context.
    fn make<'py>(self, run: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = run.py();
        match self {
            Self::Bare(function) => run.call1((function,)),
            Self::WithOne(function, argument) => run.call1((function, argument)),
            Self::WithMany(call, kwargs) => {
                run.call(call.bind(py), kwargs.as_ref().map(|kwargs| kwargs.bind(py)))
            }
        }
    }
}

/// A snapshot of the context variables.
pub(crate) enum Context {
    /// No variable is set.
    Empty,
    Set(Py<PyAny>),
}

impl Context {
    /// As it is on this thread.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Self> {
        static COPY: Once<Py<PyAny>> = Once::new();
        let copy = COPY.get_or_try_init(py, || attribute(py, "copy_context"))?.bind(py).call0()?;
        Ok(if copy.len()? == 0 { Self::Empty } else { Self::Set(copy.unbind()) })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Empty => Ok(()),
            Self::Set(context) => visit.call(context),
        }
    }

    /// Another one with the same variables: what is set in one is not seen in the other.
    pub(crate) fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        match self {
            Self::Empty => Ok(Self::Empty),
            Self::Set(context) => Ok(Self::Set(context.call_method0(py, intern!(py, "copy"))?)),
        }
    }
}

thread_local! {
    /// A context without variables, as the last task has left it, and its method `run`.
    static EMPTY: RefCell<Option<(Py<PyAny>, Py<PyAny>)>> = const { RefCell::new(None) };
}

fn attribute(py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
    Ok(py.import("contextvars")?.getattr(name)?.unbind())
}

impl Work {
    pub(crate) fn new(call: Call, context: Context, pool: u64) -> Self {
        Self { call, context, pool }
    }

    pub(crate) fn pool(&self) -> u64 {
        self.pool
    }

    /// Makes the call. When this returns, nothing of the task is kept any more.
    pub(crate) fn run(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        static CONTEXT: Once<Py<PyAny>> = Once::new();
        let run = |context: &Bound<'_, PyAny>| context.getattr(intern!(py, "run")).map(Bound::unbind);
        if let Context::Set(context) = self.context {
            return self.call.make(run(context.bind(py))?.bind(py)).map(Bound::unbind);
        }
        let (context, run) = match EMPTY.take() {
            Some(kept) => kept,
            None => {
                let context = CONTEXT.get_or_try_init(py, || attribute(py, "Context"))?.bind(py).call0()?;
                let run = run(&context)?;
                (context.unbind(), run)
            }
        };
        let outcome = self.call.make(run.bind(py));
        if context.bind(py).len()? == 0 {
            // Not kept beyond the thread: its end drops it while it is attached, see `worker`.
            drop(EMPTY.replace(Some((context, run))));
        }
        outcome.map(Bound::unbind)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.call {
            Call::Bare(function) => visit.call(function)?,
            Call::WithOne(function, argument) => {
                visit.call(function)?;
                visit.call(argument)?;
            }
            Call::WithMany(call, kwargs) => {
                visit.call(call)?;
                visit.call(kwargs)?;
            }
        }
        self.context.traverse(visit)
    }
}

/// Lets go of what this thread keeps from task to task.
pub(crate) fn forget_context() {
    drop(EMPTY.take());
}
