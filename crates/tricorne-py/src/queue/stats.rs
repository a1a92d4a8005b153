//! What a queue has seen.

use pyo3::prelude::*;
use tricorne::sync;

/// What went through a queue, and how long callers waited for it, at one moment.
#[pyclass(frozen, get_all, module = "tricorne.queue")]
pub(crate) struct QueueStats {
    /// Items in the queue now.
    pub(super) size: usize,
    /// Items put in so far.
    pub(super) puts: u64,
    /// Items taken out so far.
    pub(super) gets: u64,
    /// Seconds that callers waited for room, all together, waits under way included.
    pub(super) put_wait_secs: f64,
    /// Seconds that callers waited for items, all together, waits under way included.
    pub(super) get_wait_secs: f64,
    /// The most items that were in the queue at once.
    pub(super) high_water: usize,
}

#[pymethods]
impl QueueStats {
    fn __repr__(&self) -> String {
        let Self { size, puts, gets, put_wait_secs, get_wait_secs, high_water } = self;
        format!(
            "QueueStats(size={size}, puts={puts}, gets={gets}, put_wait_secs={put_wait_secs:?}, \
             get_wait_secs={get_wait_secs:?}, high_water={high_water})"
        )
    }
}

impl From<sync::QueueStats> for QueueStats {
    fn from(stats: sync::QueueStats) -> Self {
        Self {
            size: stats.len,
            puts: stats.puts,
            gets: stats.gets,
            put_wait_secs: stats.put_wait.as_secs_f64(),
            get_wait_secs: stats.get_wait.as_secs_f64(),
            high_water: stats.high_water_items,
        }
    }
}
