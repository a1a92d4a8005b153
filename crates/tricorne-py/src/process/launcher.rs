//! Workers that a start method of `multiprocessing` starts.

use std::io;
use std::os::fd::AsRawFd;

use pyo3::prelude::*;
use tricorne::exec::process::{Launcher, WorkerEnds};

/// An object with `at_once`, `launch(worker, socket, board, lifeline)` and `ended(worker)`.
pub(crate) struct PyLauncher {
    object: Py<PyAny>,
    at_once: bool,
}

impl PyLauncher {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { at_once: object.getattr("at_once")?.extract()?, object: object.clone().unbind() })
    }
}

fn without_interpreter() -> io::Error {
    io::Error::other("the interpreter ends")
}

impl Launcher for PyLauncher {
    fn at_once(&self) -> bool {
        self.at_once
    }

    fn launch(&self, worker: u64, ends: &WorkerEnds) -> io::Result<()> {
        let numbers = (worker, ends.socket.as_raw_fd(), ends.board.as_raw_fd(), ends.lifeline.as_raw_fd());
        Python::try_attach(|py| {
            self.object
                .call_method1(py, "launch", numbers)
                .map(drop)
                .map_err(|raised| io::Error::other(raised.to_string()))
        })
        .unwrap_or_else(|| Err(without_interpreter()))
    }

    fn ended(&self, worker: u64) -> Option<i32> {
        Python::try_attach(|py| self.object.call_method1(py, "ended", (worker,)).ok()?.extract(py).ok()?)?
    }
}
