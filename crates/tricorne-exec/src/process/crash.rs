//! What is known about a worker that died.

use std::fmt;
use std::time::Duration;

/// A worker process ended while it ran a task; the task is lost, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerCrashed {
    /// Number of the task, as [`TaskHandle::id`](super::TaskHandle::id) gives it.
    pub task: u64,
    /// The worker's process id; 0 if it ended before it could tell.
    pub pid: u32,
    /// How the process ended.
    pub end: ProcessEnd,
    /// The most memory that it had resident at once, in bytes, where the system has told.
    pub peak_memory_bytes: Option<u64>,
    /// Why, as far as it can be known.
    pub cause: CrashCause,
    /// The last lines that it wrote to stderr; empty if its stderr is inherited.
    pub stderr: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessEnd {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody has told: the template that would have was killed.
    Unknown,
}

/// Why a worker died, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashCause {
    /// How it ended says it all.
    Unknown,
    /// The system killed processes for want of memory meanwhile, or the worker said that it got none.
    ProbablyOutOfMemory,
    /// It had more memory of its own than the pool allows.
    MemoryLimit {
        /// The limit.
        max_bytes: u64,
    },
    /// It sent something that is no frame, or closed its connection, and was killed for it.
    Garbage,
    /// [`ProcessPoolExecutor::kill_workers`](super::ProcessPoolExecutor::kill_workers) or
    /// [`terminate_workers`](super::ProcessPoolExecutor::terminate_workers) was called.
    Ended,
    /// It did not end in time when the pool was shut down.
    ExitLimit {
        /// The time it had.
        after: Duration,
    },
}

impl ProcessEnd {
    pub(crate) fn from_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Exit(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exit(code) => write!(f, "ended with exit code `{code}`"),
            Self::Signal(signal) => {
                let name = match signal {
                    libc::SIGABRT => " (SIGABRT)",
                    libc::SIGBUS => " (SIGBUS)",
                    libc::SIGFPE => " (SIGFPE)",
                    libc::SIGILL => " (SIGILL)",
                    libc::SIGKILL => " (SIGKILL)",
                    libc::SIGSEGV => " (SIGSEGV)",
                    libc::SIGTERM => " (SIGTERM)",
                    _ => "",
                };
                write!(f, "was ended by signal `{signal}`{name}")
            }
            Self::Unknown => f.write_str("ended, and nobody could tell how"),
        }
    }
}

impl fmt::Display for WorkerCrashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker process `{}` {} while it ran task `{}`", self.pid, self.end, self.task)?;
        match self.cause {
            CrashCause::Unknown => {}
            CrashCause::ProbablyOutOfMemory if self.end == ProcessEnd::Signal(libc::SIGKILL) => {
                f.write_str(": killed, probably out of memory")?;
            }
            CrashCause::ProbablyOutOfMemory => f.write_str(": probably out of memory")?,
            CrashCause::MemoryLimit { max_bytes } => {
                write!(f, ": it had more memory than the limit of `{} MiB`", max_bytes >> 20)?;
            }
            CrashCause::Garbage => f.write_str(": it sent what is no frame, or closed its connection")?,
            CrashCause::Ended => f.write_str(": the pool was told to end its workers")?,
            CrashCause::ExitLimit { after } => write!(f, ": it did not end within `{after:?}`")?,
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, " (peak memory `{} MiB`)", bytes >> 20)?;
        }
        if let Some(last) = self.stderr.last() {
            write!(f, "; its last words: `{last}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for WorkerCrashed {}

/// How often the system has killed a process for want of memory, since it was started.
pub(crate) fn oom_kills() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/vmstat").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_who_how_and_why() {
        let crash = WorkerCrashed {
            task: 37,
            pid: 4711,
            end: ProcessEnd::from_status(libc::SIGKILL),
            peak_memory_bytes: Some(12 << 20),
            cause: CrashCause::ProbablyOutOfMemory,
            stderr: vec!["loading".to_owned(), "still loading".to_owned()],
        };
        assert_eq!(
            crash.to_string(),
            "worker process `4711` was ended by signal `9` (SIGKILL) while it ran task `37`: killed, probably out of \
             memory (peak memory `12 MiB`); its last words: `still loading`"
        );
        assert_eq!(ProcessEnd::from_status(3 << 8), ProcessEnd::Exit(3));
    }
}
