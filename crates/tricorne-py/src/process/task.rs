//! One task in a process pool, seen from its future and from the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tricorne::exec::process::{Job, Outcome};

use super::engine::Pool;
use super::inbox::Inbox;
use crate::futures::future::FutureCore;
use crate::{timeout, wait};

/// How long a thread listens at most before it looks for signals.
const SLICE: Duration = Duration::from_millis(40);

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Whether a task may still be withdrawn; of its future and of the engine.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(WAITING)))
    }

    /// Relaxed, here and below: the word alone decides, and what belongs to the task is guarded by other means.
    fn change(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITING, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The engine's end of a task.
pub(crate) struct PyJob {
    pub(crate) future: Py<FutureCore>,
    pub(crate) ticket: Ticket,
    pub(crate) inbox: Arc<Inbox>,
}

impl Job for PyJob {
    fn start(&mut self) -> bool {
        self.ticket.change(BEGUN)
    }

    fn finish(self: Box<Self>, outcome: Outcome) {
        self.inbox.put(self.future, outcome);
    }
}

/// A task in a process pool, for its future.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct ProcessTask {
    pub(crate) ticket: Ticket,
    pub(crate) number: u64,
    pub(crate) pool: Arc<Pool>,
}

impl ProcessTask {
    /// Whether its pool is one of this process.
    fn is_own(&self) -> bool {
        self.pool.process() == wait::process()
    }
}

#[pymethods]
impl ProcessTask {
    /// Number of the task within its pool.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }

    /// True if no worker has begun the task, and none will.
    fn withdraw(&self) -> bool {
        // A worker that was sent it may not have begun it.
        self.ticket.change(WITHDRAWN) || (self.is_own() && self.pool.engine().cancel(self.number))
    }

    /// True if a worker runs the task.
    fn is_running(&self) -> bool {
        self.ticket.0.load(Ordering::Relaxed) == BEGUN
            && self.is_own()
            && self.pool.engine().is_running(self.number)
    }

    /// End the task, if need be with its worker process. Returns False if it has ended.
    fn kill(&self, py: Python<'_>) -> bool {
        py.detach(|| self.pool.engine().kill(self.number))
    }

    /// For a thread that is about to wait for `future`, the one of this task: it may listen to the workers itself, for a moment.
    #[pyo3(signature = (future, timeout))]
    fn attend(
        &self,
        py: Python<'_>,
        future: &Bound<'_, FutureCore>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.is_own() {
            return Ok(());
        }
        let slice = Instant::now() + SLICE;
        let deadline = timeout::deadline(timeout)?.map_or(slice, |deadline| deadline.min(slice));
        let own = future.clone().unbind();
        let core = own.clone_ref(py);
        let pool = Arc::clone(&self.pool);
        self.pool.inbox().attend(py, &own, move || {
            pool.engine().help(&|| core.get().is_done(), Some(deadline));
            drop(core);
        });
        Ok(())
    }
}
