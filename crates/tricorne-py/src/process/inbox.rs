//! What tasks gave, on its way into their futures.
//!
//! The engine finishes tasks on threads that are not attached to the interpreter, and must not wait for it: it would not hear its workers
//! meanwhile. So outcomes are left here. A thread of the pool, the deliverer, takes all that there are at once, attaches and ends their
//! futures. A thread that listens to the workers itself, because it waits for a task, takes the outcome of that task.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};

use pyo3::prelude::*;
use tricorne::exec::TaskError;
use tricorne::exec::process::{CrashCause, Engine, Outcome, ProcessEnd, WorkerCrashed};

use super::message;
use crate::futures::future::{self, FutureCore};
use crate::once::{Once, intern};

pub(crate) struct Inbox {
    items: Mutex<Vec<Delivery>>,
    deliverer: OnceLock<Thread>,
    /// The object of `tricorne.futures.process` that makes exceptions.
    handler: Py<PyAny>,
}

struct Delivery {
    future: Py<FutureCore>,
    outcome: Outcome,
}

thread_local! {
    /// Whether this thread looks into the inbox itself.
    static ATTENDS: Cell<bool> = const { Cell::new(false) };
}

impl Inbox {
    pub(crate) fn new(handler: Py<PyAny>) -> Arc<Self> {
        Arc::new(Self { items: Mutex::default(), deliverer: OnceLock::new(), handler })
    }

    fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From a thread that need not be attached.
    pub(crate) fn put(&self, future: Py<FutureCore>, outcome: Outcome) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.push(Delivery { future, outcome });
        drop(items);
        if !ATTENDS.get() {
            self.call();
        }
    }

    /// Whether this thread is the one that ends futures.
    pub(crate) fn is_deliverer(&self) -> bool {
        self.deliverer.get().is_some_and(|deliverer| deliverer.id() == thread::current().id())
    }

    fn call(&self) {
        if let Some(deliverer) = self.deliverer.get() {
            deliverer.unpark();
        }
    }

    /// Runs `listen`, in which this thread may finish tasks of the pool, and ends `own` if it is among them. Others are left to the
    /// deliverer, and so is a future that has callbacks: whoever waits may hold a lock that they need.
    pub(crate) fn attend(&self, py: Python<'_>, own: &Py<FutureCore>, listen: impl FnOnce() + Send) {
        ATTENDS.set(true);
        py.detach(listen);
        ATTENDS.set(false);
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let found = items.iter().position(|item| item.future.is(own) && !own.get().has_callbacks());
        let found = found.map(|index| items.swap_remove(index));
        let others = !items.is_empty();
        drop(items);
        if others {
            self.call();
        }
        if let Some(delivery) = found {
            self.deliver(py, delivery);
        }
    }

    /// The thread that ends futures, until the engine has ended.
    pub(crate) fn serve(&self, engine: &Engine) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let _ = self.deliverer.set(thread::current());
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut ended = pin!(engine.ended());
        let mut is_over = false;
        loop {
            // Looked at before the inbox: what is put there is put before the end.
            is_over = is_over || ended.as_mut().poll(&mut context).is_ready();
            let items = self.take();
            if !items.is_empty() {
                // Once the interpreter ends nobody waits for them, and they cannot be dropped.
                let mut items = Some(items);
                let delivered = Python::try_attach(|py| {
                    for item in items.take().into_iter().flatten() {
                        self.deliver(py, item);
                    }
                });
                if delivered.is_none() {
                    std::mem::forget(items);
                    return;
                }
            } else if is_over {
                return;
            } else {
                thread::park();
            }
        }
    }

    fn deliver(&self, py: Python<'_>, delivery: Delivery) {
        let future = delivery.future.bind(py);
        if let Err(raised) = self.end(future, delivery.outcome) {
            // Of a callback, and no `Exception`: there is no caller to tell.
            raised.write_unraisable(py, Some(future.as_any()));
        }
    }

    fn end(&self, future: &Bound<'_, FutureCore>, outcome: Outcome) -> PyResult<()> {
        let py = future.py();
        let handler = self.handler.bind(py);
        let ended = match outcome {
            Outcome::Done(message) => load(py, message).or_else(|unread| {
                handler.call_method1(intern!(py, "unread"), (unread.into_value(py),)).and_then(raise)
            }),
            Outcome::Failed(message) => message::to_python(py, message)
                .and_then(|(payload, buffers)| {
                    handler.call_method1(intern!(py, "failed"), (payload, buffers))
                })
                .and_then(raise),
            Outcome::Lost(TaskError::Cancelled) => {
                FutureCore::_cancel_and_notify(future)?;
                return Ok(());
            }
            Outcome::Lost(error) => lost(handler, &error).and_then(raise),
        };
        let ended = future::Outcome::of(py, ended.map(Bound::unbind));
        match FutureCore::finish(future, ended)? {
            Some(effects) => effects.run(future),
            None => Ok(()),
        }
    }
}

/// An exception that was made, as one that is raised.
fn raise(exception: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    Err(PyErr::from_value(exception))
}

fn load(py: Python<'_>, message: tricorne::exec::process::Message) -> PyResult<Bound<'_, PyAny>> {
    static LOADS: Once<Py<PyAny>> = Once::new();
    let loads = LOADS.import(py, "tricorne.futures._codec", "load_result")?;
    let is_plain = message.buffers.is_empty();
    let (payload, buffers) = message::to_python(py, message)?;
    if is_plain { loads.call1((payload,)) } else { loads.call1((payload, buffers)) }
}

/// Has an exception made of what the engine says.
fn lost<'py>(handler: &Bound<'py, PyAny>, error: &TaskError) -> PyResult<Bound<'py, PyAny>> {
    let py = handler.py();
    if let TaskError::WorkerCrashed(crash) = error {
        return crashed(handler, crash);
    }
    let kind = match error {
        TaskError::Rejected { .. } => "rejected",
        TaskError::TimedOut { .. } => "timed_out",
        TaskError::Transport { .. } => "transport",
        TaskError::Forked => "forked",
        _ => "broken",
    };
    handler.call_method1(intern!(py, "lost"), (kind, error.to_string()))
}

fn crashed<'py>(handler: &Bound<'py, PyAny>, crash: &WorkerCrashed) -> PyResult<Bound<'py, PyAny>> {
    let py = handler.py();
    let (exit_code, signal) = match crash.end {
        ProcessEnd::Exit(code) => (Some(code), None),
        ProcessEnd::Signal(signal) => (None, Some(signal)),
        _ => (None, None),
    };
    let cause = match crash.cause {
        CrashCause::ProbablyOutOfMemory => Some("out_of_memory"),
        CrashCause::MemoryLimit { .. } => Some("memory_limit"),
        CrashCause::Garbage => Some("garbage"),
        CrashCause::Ended => Some("ended"),
        CrashCause::ExitLimit { .. } => Some("exit_limit"),
        _ => None,
    };
    let (peak, stderr) = (crash.peak_memory_bytes, crash.stderr.clone());
    handler.call_method1(
        intern!(py, "crashed"),
        (crash.to_string(), crash.task, crash.pid, exit_code, signal, peak, cause, stderr),
    )
}
