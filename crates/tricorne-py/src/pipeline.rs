//! A plan that can be run from Python.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tricorne::pipeline::observer::Silent;
use tricorne::pipeline::plan::Plan;
use tricorne::pipeline::{CancelToken, RunOptions, run};
use tricorne::sync::Event;

use crate::error;

/// How often a waiting thread looks for signals: often enough that Ctrl-C feels immediate, seldom enough to cost nothing.
const SIGNAL_CHECK: Duration = Duration::from_millis(40);

/// A checked plan. Immutable: threads may share it, and it may be run again.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct Pipeline {
    plan: Plan,
}

#[pymethods]
impl Pipeline {
    /// Reads and checks a plan file.
    #[staticmethod]
    fn from_toml(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let plan = py.detach(move || Plan::load(&path)).map_err(|errors| error::of_plan(&errors))?;
        Ok(Self { plan })
    }

    /// Runs the plan to its end and returns its `run.json` as text.
    ///
    /// The run has a thread of its own, detached from the interpreter. A signal whose Python handler raises, such as Ctrl-C, cancels it;
    /// the exception leaves this method when the run has saved its checkpoint, or at once with the second such signal.
    #[pyo3(signature = (*, retry_failed = false, serial = false))]
    fn run(&self, py: Python<'_>, retry_failed: bool, serial: bool) -> PyResult<String> {
        let cancel = CancelToken::new();
        let done = Arc::new(Event::new());
        let job = {
            let (plan, cancel, done) = (self.plan.clone(), cancel.clone(), SetOnDrop(Arc::clone(&done)));
            let options = RunOptions { retry_failed, serial };
            thread::Builder::new().name("tricorne-run".to_owned()).spawn(move || {
                let _done = done;
                run(&plan, &options, Arc::new(Silent), &cancel)
            })?
        };
        let mut interrupted = None;
        while !py.detach(|| done.wait_timeout(SIGNAL_CHECK)) {
            if let Err(raised) = py.check_signals() {
                if interrupted.is_some() {
                    return Err(raised);
                }
                cancel.cancel();
                interrupted = Some(raised);
            }
        }
        let outcome = py.detach(|| job.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if let Some(raised) = interrupted {
            return Err(raised);
        }
        let report = outcome.map_err(|failure| error::of_run(py, &failure))?;
        serde_json::to_string(&report).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }
}

/// Says that the thread has ended, in whichever way.
struct SetOnDrop(Arc<Event>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
