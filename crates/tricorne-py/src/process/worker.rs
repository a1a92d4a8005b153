//! The side of the worker processes.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tricorne::exec::process::{self as engine, Handler, Host, Message, Reply, WorkerEnds};

use super::message;
use crate::once::intern;

/// The program of a template: `fork` makes a copy of it, `worker` what runs the tasks in one.
struct PyHost {
    fork: Py<PyAny>,
    worker: Py<PyAny>,
}

fn of_python(py: Python<'_>, raised: &PyErr) -> io::Error {
    let errno = raised.value(py).getattr("errno").and_then(|errno| errno.extract::<i32>());
    errno.map_or_else(|_| io::Error::other(raised.to_string()), io::Error::from_raw_os_error)
}

impl Host for PyHost {
    fn fork(&mut self) -> io::Result<Option<u32>> {
        Python::attach(|py| {
            let pid: u32 = self
                .fork
                .call0(py)
                .and_then(|pid| pid.extract(py))
                .map_err(|raised| of_python(py, &raised))?;
            Ok((pid != 0).then_some(pid))
        })
    }

    fn worker(&mut self) -> Box<dyn Handler + '_> {
        // If there is none, every call of it fails, the initializer first, which breaks the pool.
        let object = Python::attach(|py| {
            self.worker.call0(py).unwrap_or_else(|raised| raised.into_value(py).into_any())
        });
        Box::new(PyHandler { object })
    }
}

/// An object with `define`, `run` and `explain`; see `tricorne._worker`.
struct PyHandler {
    object: Py<PyAny>,
}

impl Handler for PyHandler {
    fn define(&mut self, function: u64, definition: Message) {
        Python::attach(|py| {
            let defined = message::to_python(py, definition).and_then(|(payload, buffers)| {
                self.object.call_method1(py, intern!(py, "define"), (function, payload, buffers))
            });
            if let Err(raised) = defined {
                raised.write_unraisable(py, None);
            }
        });
    }

    fn run(&mut self, function: u64, argument: Message) -> Reply {
        Python::attach(|py| {
            let reply = message::to_python(py, argument).and_then(|(payload, buffers)| {
                let run = self.object.bind(py).getattr(intern!(py, "run"))?;
                let (failed, payload, buffers): (bool, Bound<'_, PyBytes>, Bound<'_, PyList>) =
                    run.call1((function, payload, buffers))?.extract()?;
                Ok(Reply { failed, message: message::from_python(payload, &buffers)? })
            });
            reply.unwrap_or_else(|raised| {
                // What runs tasks catches what they raise, so this is want of memory, or a fault of ours: in words.
                Reply { failed: true, message: Message::new(format!("T{raised}").into_bytes()) }
            })
        })
    }

    fn explain(&self, failure: &Message) -> String {
        Python::attach(|py| {
            let (payload, buffers) = message::to_python(py, failure.clone())?;
            self.object.call_method1(py, intern!(py, "explain"), (payload, buffers))?.extract(py)
        })
        .unwrap_or_else(|raised: PyErr| raised.to_string())
    }
}

/// For the program of a template, whose standard input is the pool: makes workers. Returns in the template and in each worker, when the
/// pool needs it no longer.
#[pyfunction]
pub(crate) fn serve_process_template(py: Python<'_>, fork: Py<PyAny>, worker: Py<PyAny>) -> PyResult<()> {
    let mut host = PyHost { fork, worker };
    // Detached, so that other threads of a task can run while the worker waits for the next one.
    py.detach(|| engine::serve_template(&mut host)).map_err(|error| PyOSError::new_err(error.to_string()))
}

/// For a process that somebody else has started: runs tasks until the pool needs it no longer. Of the descriptors it
/// makes its own copies.
#[pyfunction]
pub(crate) fn serve_process_worker(
    py: Python<'_>,
    socket: RawFd,
    board: RawFd,
    lifeline: RawFd,
    worker: Py<PyAny>,
) -> PyResult<()> {
    let mut handler = PyHandler { object: worker };
    py.detach(|| engine::serve_worker(WorkerEnds::duplicate(socket, board, lifeline)?, &mut handler))
        .map_err(|error| PyOSError::new_err(error.to_string()))
}
