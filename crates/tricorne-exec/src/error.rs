//! What can go wrong with a task, and with the executor that should run it.

use std::io;

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It was cancelled before it started or, if it is asynchronous, before it ended.
    #[error("task was cancelled")]
    Cancelled,
    /// It panicked; only the task ended, not its worker.
    #[error("task panicked{}: `{message}`", at(location.as_ref()))]
    Panicked {
        /// What the panic said.
        message: String,
        /// File, line and column; unknown if the program has replaced the panic hook in the meantime.
        location: Option<String>,
    },
    /// Its promise was dropped without a result: whoever should have delivered one is gone.
    #[error("task was abandoned without a result")]
    Abandoned,
    /// Its executor was shut down already.
    #[error("executor `{executor}` is shut down")]
    Rejected {
        /// Name of the executor.
        executor: String,
    },
}

fn at(location: Option<&String>) -> String {
    location.map_or_else(String::new, |location| format!(" at {location}"))
}

/// Why an executor could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The system refused a thread or what its event loop needs.
    #[error("cannot start thread `{thread}`")]
    Start {
        /// Name of the thread.
        thread: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl ExecError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Start { .. } => {
                "use fewer workers or a smaller stack, or raise the limits for processes and open files \
                 (`ulimit -u`, `ulimit -n`)"
            }
        }
    }
}
