//! What a primitive has seen of waiting.

use pyo3::prelude::*;

/// How much has been waited for a primitive, at one moment.
#[pyclass(frozen, get_all, module = "tricorne.threading")]
pub(crate) struct WaitStats {
    /// Threads and tasks that wait now.
    waiting: usize,
    /// Waits so far, those under way included.
    waits: u64,
    /// Seconds spent waiting by all together, waits under way included.
    pub(crate) wait_secs: f64,
}

#[pymethods]
impl WaitStats {
    fn __repr__(&self) -> String {
        let Self { waiting, waits, wait_secs } = self;
        format!("WaitStats(waiting={waiting}, waits={waits}, wait_secs={wait_secs:?})")
    }
}

impl From<tricorne::sync::WaitStats> for WaitStats {
    fn from(stats: tricorne::sync::WaitStats) -> Self {
        Self { waiting: stats.waiting, waits: stats.waits, wait_secs: stats.wait.as_secs_f64() }
    }
}
