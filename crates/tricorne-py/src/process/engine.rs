//! The engine as Python sees it; `tricorne.futures.ProcessPoolExecutor` has one.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use tricorne::exec::process::{
    Call, Definition, Engine, EngineConfig, Launch, OnCrash, Output, OutputLine, Stream,
};
use tricorne::exec::{ExecError, Shutdown, TaskError};
use tricorne::sync::Event;

use super::inbox::Inbox;
use super::launcher::PyLauncher;
use super::message;
use super::task::{ProcessTask, PyJob, Ticket};
use crate::futures::future::FutureCore;
use crate::{timeout, wait};

/// From so many bytes on they are copied without the interpreter.
const DETACH_BYTES: usize = 256 * 1024;

/// An engine, and who delivers what it has finished.
pub(crate) struct Pool {
    engine: Engine,
    inbox: Arc<Inbox>,
    /// Which process it is of.
    process: u64,
    /// All that it had is done, and has been delivered.
    over: Arc<Event>,
}

/// Sets the event, whatever happens.
struct Over(Arc<Event>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Pool {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    pub(crate) fn process(&self) -> u64 {
        self.process
    }
}

/// A function that the workers of an engine are sent once.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct ProcessFunction(Arc<Definition>);

#[pymethods]
impl ProcessFunction {
    #[new]
    fn new(payload: Bound<'_, PyBytes>, buffers: &Bound<'_, PyList>) -> PyResult<Self> {
        message::from_python(payload, buffers).map(|message| Self(Definition::new(message)))
    }

    /// How many tasks of it go to a worker at a time, as far as it was measured.
    fn batch_items(&self) -> u32 {
        self.0.batch_items()
    }
}

/// Moves tasks to worker processes. It is told in Python how its workers are started.
///
/// When it is dropped, what was submitted is still run.
#[pyclass(frozen, weakref, module = "tricorne._native")]
pub(crate) struct ProcessEngine {
    pool: Mutex<Option<Arc<Pool>>>,
}

/// What becomes of an output: left alone, passed on, or handed line by line to a function.
fn output(how: &Bound<'_, PyAny>) -> PyResult<Output> {
    if how.is_callable() {
        let sink = how.clone().unbind();
        return Ok(Output::capture(move |line: OutputLine| {
            let stream = if line.stream == Stream::Stdout { "stdout" } else { "stderr" };
            // Without an interpreter there is nobody to give it to.
            Python::try_attach(|py| {
                if let Err(raised) = sink.call1(py, (line.pid, stream, line.text)) {
                    raised.write_unraisable(py, Some(sink.bind(py)));
                }
            });
        }));
    }
    match how.extract()? {
        "inherit" => Ok(Output::Inherit),
        "forward" => Ok(Output::Forward),
        other => Err(PyValueError::new_err(format!("`{other}` is neither inherit nor forward"))),
    }
}

fn with_causes(error: &ExecError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl ProcessEngine {
    fn pool(&self) -> PyResult<Arc<Pool>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.as_ref().map(Arc::clone).ok_or_else(|| PyRuntimeError::new_err("the engine has ended"))
    }
}

#[pymethods]
impl ProcessEngine {
    /// Starts it. `launch` is the command of a template, or an object with `at_once`, `launch(worker, socket, board, lifeline)` and
    /// `ended(worker)`. `handler` makes exceptions; see `tricorne.futures.process`.
    #[new]
    #[pyo3(signature = (name, workers, launch, handler, initializer, *, max_tasks, max_memory, break_on_crash, stdout, stderr))]
    #[expect(clippy::too_many_arguments, reason = "called in one place, by name")]
    fn new(
        py: Python<'_>,
        name: String,
        workers: usize,
        launch: &Bound<'_, PyAny>,
        handler: Py<PyAny>,
        initializer: (PyRef<'_, ProcessFunction>, Bound<'_, PyBytes>, Bound<'_, PyList>),
        max_tasks: Option<u64>,
        max_memory: Option<u64>,
        break_on_crash: bool,
        stdout: &Bound<'_, PyAny>,
        stderr: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let launch = match launch.cast::<PyList>() {
            Ok(words) => Launch::Template(
                words.iter().map(|word| word.extract::<std::ffi::OsString>()).collect::<PyResult<_>>()?,
            ),
            Err(_) => Launch::By(Arc::new(PyLauncher::new(launch)?)),
        };
        let at_once = matches!(&launch, Launch::By(launcher) if launcher.at_once());
        let (function, payload, buffers) = initializer;
        let config = EngineConfig {
            name,
            workers,
            launch,
            initializer: Some((Arc::clone(&function.0), message::from_python(payload, &buffers)?)),
            max_tasks_per_worker: max_tasks,
            max_memory_bytes: max_memory,
            on_crash: if break_on_crash { OnCrash::Break } else { OnCrash::Replace },
            stdout: output(stdout)?,
            stderr: output(stderr)?,
            // As long as an initializer takes, which may load a model.
            start_limit: Duration::from_secs(24 * 3600),
            exit_limit: Duration::from_secs(5),
        };
        let thread = format!("{}-deliverer", config.name);
        let failed = |error: ExecError| match &error {
            ExecError::Template { .. } => PyRuntimeError::new_err(error.to_string()),
            other => PyOSError::new_err(with_causes(other)),
        };
        // A launcher that forks does so with the interpreter, and before there are other threads.
        let engine = if at_once { Engine::start(config) } else { py.detach(|| Engine::start(config)) };
        let pool = Arc::new(Pool {
            engine: engine.map_err(failed)?,
            inbox: Inbox::new(handler),
            process: wait::process(),
            over: Arc::new(Event::new()),
        });
        let for_thread = Arc::clone(&pool);
        thread::Builder::new()
            .name(thread)
            .spawn(move || {
                let _over = Over(Arc::clone(&for_thread.over));
                for_thread.inbox.serve(&for_thread.engine);
            })
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { pool: Mutex::new(Some(pool)) })
    }

    /// Has a worker call it with what the pickle says, and ends `future` with what comes of it.
    #[pyo3(signature = (future, function, payload, buffers, timeout))]
    fn submit(
        &self,
        py: Python<'_>,
        future: Bound<'_, FutureCore>,
        function: &ProcessFunction,
        payload: Bound<'_, PyBytes>,
        buffers: &Bound<'_, PyList>,
        timeout: Option<f64>,
    ) -> PyResult<ProcessTask> {
        let pool = self.pool()?;
        future.get().set_owner(pool.process);
        let ticket = Ticket::new();
        let argument = message::from_python(payload, buffers)?;
        let bytes = message::bytes(&argument);
        let call = Call {
            function: Arc::clone(&function.0),
            argument,
            timeout: duration(timeout),
            chunk: None,
            job: Box::new(PyJob {
                future: future.unbind(),
                ticket: ticket.clone(),
                inbox: Arc::clone(&pool.inbox),
            }),
        };
        let number = if bytes < DETACH_BYTES {
            pool.engine.submit(call)
        } else {
            py.detach(|| pool.engine.submit(call))
        };
        Ok(ProcessTask { ticket, number, pool })
    }

    /// [`submit`](Self::submit) for the tasks of one chunk, which go to a worker together: future, pickle and buffers of each.
    #[pyo3(signature = (calls, function, timeout, chunk))]
    fn submit_many(
        &self,
        py: Python<'_>,
        calls: Vec<(Bound<'_, FutureCore>, Bound<'_, PyBytes>, Bound<'_, PyList>)>,
        function: &ProcessFunction,
        timeout: Option<f64>,
        chunk: Option<u64>,
    ) -> PyResult<Vec<ProcessTask>> {
        let pool = self.pool()?;
        let mut tickets = Vec::with_capacity(calls.len());
        let mut bytes = 0;
        let mut made = Vec::with_capacity(calls.len());
        for (future, payload, buffers) in calls {
            let argument = message::from_python(payload, &buffers)?;
            bytes += message::bytes(&argument);
            future.get().set_owner(pool.process);
            let ticket = Ticket::new();
            tickets.push(ticket.clone());
            made.push(Call {
                function: Arc::clone(&function.0),
                argument,
                timeout: duration(timeout),
                chunk,
                job: Box::new(PyJob { future: future.unbind(), ticket, inbox: Arc::clone(&pool.inbox) }),
            });
        }
        let numbers = if bytes < DETACH_BYTES {
            pool.engine.submit_many(made)
        } else {
            py.detach(|| pool.engine.submit_many(made))
        };
        let task = |(number, ticket)| ProcessTask { ticket, number, pool: Arc::clone(&pool) };
        Ok(numbers.zip(tickets).map(task).collect())
    }

    /// Why it takes no task: `(kind, text)`, or None if it takes one.
    fn refusal(&self) -> PyResult<Option<(&'static str, String)>> {
        Ok(self.pool()?.engine.refusal().map(|error| {
            let kind = match error {
                TaskError::Rejected { .. } => "closed",
                TaskError::Forked => "forked",
                _ => "broken",
            };
            (kind, error.to_string())
        }))
    }

    /// Ends everything with an error of this text.
    fn break_pool(&self, message: String) -> PyResult<()> {
        self.pool()?.engine.break_pool(message);
        Ok(())
    }

    /// Takes no more tasks, and ends the workers when those that it has are done, or cancelled: those
    /// that no worker was started for. Does not wait.
    fn close(&self, py: Python<'_>, cancel: bool) -> PyResult<()> {
        let pool = self.pool()?;
        py.detach(|| {
            if cancel {
                pool.engine.close_and_cancel_unassigned();
            } else {
                pool.engine.close(Shutdown::Drain);
            }
        });
        Ok(())
    }

    /// Ends the workers at once, with SIGKILL or SIGTERM, and takes no more tasks. Does not wait.
    fn end_workers(&self, py: Python<'_>, force: bool) -> PyResult<()> {
        let pool = self.pool()?;
        py.detach(|| pool.engine.close_and_end_workers(force));
        Ok(())
    }

    /// Waits until it has ended and all futures are done, for so many seconds; False if not, or if it is called by one of the futures'
    /// callbacks.
    #[pyo3(signature = (timeout))]
    fn join(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let pool = self.pool()?;
        if pool.process != wait::process() {
            return Ok(true);
        }
        if pool.inbox.is_deliverer() {
            return Ok(false);
        }
        let over = Arc::clone(&pool.over);
        let ended = async move { over.wait_async().await };
        Ok(wait::wait(py, ended, timeout::deadline(timeout)?)?.is_some())
    }

    /// The process ids of the workers.
    fn worker_pids(&self) -> PyResult<Vec<u32>> {
        Ok(self.pool()?.engine.worker_pids())
    }

    /// The process id of the template, if there is one.
    fn template_pid(&self) -> PyResult<Option<u32>> {
        Ok(self.pool()?.engine.template_pid())
    }

    /// Its figures, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.pool()?.engine.stats();
        let figures = PyDict::new(py);
        figures.set_item("workers", stats.workers)?;
        figures.set_item("idle", stats.idle)?;
        figures.set_item("queued", stats.queued)?;
        figures.set_item("in_flight", stats.in_flight)?;
        figures.set_item("running", stats.running)?;
        figures.set_item("completed", stats.completed)?;
        figures.set_item("crashed", stats.crashed)?;
        figures.set_item("timed_out", stats.timed_out)?;
        figures.set_item("cancelled", stats.cancelled)?;
        figures.set_item("batches", stats.batches)?;
        figures.set_item("sent_again", stats.sent_again)?;
        figures.set_item("workers_started", stats.workers_started)?;
        figures.set_item("workers_ended", stats.workers_ended)?;
        Ok(figures)
    }
}

impl Drop for ProcessEngine {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pool) = pool else { return };
        if pool.process == wait::process() {
            // The deliverer has it until all is done.
            pool.engine.close(Shutdown::Drain);
        } else {
            // It is the parent's, with locks in any state: it is never touched again.
            std::mem::forget(pool);
        }
    }
}

fn duration(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}
