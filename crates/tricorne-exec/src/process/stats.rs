//! What a process pool is doing, and has done.

/// A snapshot of a process pool's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProcessPoolStats {
    /// Worker processes that are there, those included that start or end.
    pub workers: usize,
    /// Workers that have nothing to do.
    pub idle: usize,
    /// Tasks that wait for a worker.
    pub queued: usize,
    /// Tasks that were sent to a worker and have not ended.
    pub in_flight: usize,
    /// Those of them that run.
    pub running: usize,
    /// Tasks that have a reply.
    pub completed: u64,
    /// Tasks that were lost because their worker crashed.
    pub crashed: u64,
    /// Tasks whose time-out has ended them.
    pub timed_out: u64,
    /// Tasks that were cancelled before they ran, or killed.
    pub cancelled: u64,
    /// Batches that were sent.
    pub batches: u64,
    /// Tasks that were sent again, since their worker died or was too slow to begin them.
    pub sent_again: u64,
    /// Workers that were started so far.
    pub workers_started: u64,
    /// Workers that have ended so far, for whatever reason.
    pub workers_ended: u64,
    /// Templates that were started so far.
    pub templates_started: u64,
    /// Segments of shared memory that are kept for the next large buffer.
    pub segments_free: usize,
    /// Segments of shared memory that workers have.
    pub segments_lent: usize,
}
