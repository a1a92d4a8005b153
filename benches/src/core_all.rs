//! Core: what locks, queues and executors cost by themselves, against the well-known crates.
//!
//! Costs without contention are instruction counts, which a busy machine does not change. What goes on between threads is measured by
//! time, contenders in turns.

use crate::instructions::Subject;
use crate::{Options, core_executors, core_locks, core_queues, instructions};

/// All that can be counted.
const SUBJECTS: &[&[Subject]] = &[core_executors::SUBJECTS, core_locks::SUBJECTS, core_queues::SUBJECTS];

pub(crate) fn run(_: &Options) -> Result<(), String> {
    if instructions::can_count() {
        core_locks::count()?;
        core_queues::count()?;
        core_executors::count()?;
    }
    core_locks::time();
    core_queues::time();
    core_executors::time()
}

/// Runs one subject, for callgrind to count.
pub(crate) fn run_subject(words: &[String]) -> Result<(), String> {
    instructions::run_subject(SUBJECTS, words)
}
