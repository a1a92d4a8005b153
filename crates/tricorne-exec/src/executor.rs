//! What all executors have in common.

/// What becomes of tasks that have not ended when an executor is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// All that were submitted are run to their end.
    Drain,
    /// Those that have not started are cancelled; asynchronous ones are cancelled at their next `.await` as well.
    CancelPending,
}
