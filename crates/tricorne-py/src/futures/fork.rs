//! Forked processes: which one this is. Threads do not survive a fork, so what belongs to them has to know.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

static GENERATION: AtomicU32 = AtomicU32::new(1);

/// A number that every forked child changes, never zero.
pub(crate) fn generation() -> u32 {
    // Relaxed: it changes only in a child that has a single thread.
    GENERATION.load(Ordering::Relaxed)
}

/// For `os.register_at_fork(after_in_child=…)`.
#[pyfunction]
pub(crate) fn futures_after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
