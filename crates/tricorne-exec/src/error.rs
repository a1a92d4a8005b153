//! What can go wrong with a task, and with the executor that should run it.

use std::io;
#[cfg(target_os = "linux")]
use std::sync::Arc;
use std::time::Duration;

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
    /// It took longer than its time-out, and its worker process was killed.
    #[error("task was killed after its time-out of `{after:?}`")]
    TimedOut {
        /// The time-out.
        after: Duration,
    },
    /// The worker process that ran it ended.
    #[cfg(target_os = "linux")]
    #[error("{0}")]
    WorkerCrashed(Arc<crate::process::WorkerCrashed>),
    /// Its argument or its result could not be sent to another process, or not be read there.
    #[error("argument or result of a task could not be sent: {message}")]
    Transport {
        /// What went wrong.
        message: String,
    },
    /// Its executor can run nothing: the initializer failed, or workers cannot be started.
    #[error("executor is broken: {message}")]
    Broken {
        /// Why.
        message: String,
    },
    /// Its executor belongs to the process that this one was forked from, and has no threads here.
    #[error("executor was made before a fork, in the parent process")]
    Forked,
}

impl TaskError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Rejected { .. } => Some("submit before `shutdown`, or make a new executor"),
            Self::Broken { .. } => Some("mend what the message says, and make a new executor"),
            Self::Forked => Some("make executors in the child, after the fork"),
            _ => None,
        }
    }
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
    /// The program that should become the template of worker processes did not.
    #[cfg(target_os = "linux")]
    #[error("the program that was started for worker processes did not serve as one: {reason}")]
    Template {
        /// What happened instead.
        reason: String,
    },
    /// The system refused what a process pool needs.
    #[cfg(target_os = "linux")]
    #[error("cannot start a process pool")]
    Process {
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
            #[cfg(target_os = "linux")]
            Self::Template { .. } => {
                "call `tricorne_exec::process::worker_main` first in `main`, and return if it says so"
            }
            #[cfg(target_os = "linux")]
            Self::Process { .. } => {
                "raise the limits for processes and open files (`ulimit -u`, `ulimit -n`), or free memory"
            }
        }
    }
}
