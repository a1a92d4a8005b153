//! Who makes the worker processes: a template of the pool's own, or somebody else, one by one.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::time::Timespec;

use super::worker::{self, Handler};
use crate::sys::child;

/// Who makes the worker processes of an [`Engine`](super::Engine).
#[derive(Clone)]
pub enum Launch {
    /// A template: program and arguments of a process that calls [`serve_template`](super::serve_template).
    Template(Vec<OsString>),
    /// Somebody else, for whom the engine only makes what the worker has to be given.
    By(Arc<dyn Launcher>),
}

/// Starts worker processes in a way of its own. Each has to call [`serve_worker`].
pub trait Launcher: Send + Sync {
    /// Whether all workers are to be launched by [`Engine::start`](super::Engine::start), on the thread that calls it and before
    /// the engine has a thread. Otherwise it is done on the manager thread, when there is work.
    fn at_once(&self) -> bool;

    /// Starts the worker of that number, which has to get these descriptors; here they are closed when this returns.
    ///
    /// # Errors
    /// Why it cannot be started. After ten in a row the pool is broken.
    fn launch(&self, worker: u64, ends: &WorkerEnds) -> io::Result<()>;

    /// How a worker has ended, as `wait` reports it. Called once for each that was launched, on the manager thread, when
    /// its process has ended.
    fn ended(&self, worker: u64) -> Option<i32>;
}

/// What a worker process is given.
#[derive(Debug)]
pub struct WorkerEnds {
    /// Its end of the socket pair.
    pub socket: OwnedFd,
    /// Its board of shared memory.
    pub board: OwnedFd,
    /// The reading end of the pipe at whose end it is killed.
    pub lifeline: OwnedFd,
}

impl WorkerEnds {
    /// Copies of descriptors that this process was given as numbers.
    ///
    /// # Errors
    /// They are none, or there are too many.
    pub fn duplicate(socket: RawFd, board: RawFd, lifeline: RawFd) -> io::Result<Self> {
        Ok(Self {
            socket: child::duplicate(socket)?,
            board: child::duplicate(board)?,
            lifeline: child::duplicate(lifeline)?,
        })
    }
}

/// Serves the pool whose [`Launcher`] has started this process: runs its tasks until it needs the worker no longer.
///
/// From here on the process ignores Ctrl-C, and is killed when the pool's process has ended, however that came about.
///
/// # Errors
/// The system's, or a pool that cannot be understood; the process should end then.
pub fn serve_worker(ends: WorkerEnds, handler: &mut dyn Handler) -> io::Result<()> {
    child::ignore_interrupt();
    let lifeline = reopen(&ends.lifeline)?;
    drop(ends.lifeline);
    if !tie_to(&lifeline)? {
        return Ok(());
    }
    worker::serve(ends.socket, &ends.board, handler)
    // The lifeline is closed last, when there is nothing to end any more.
}

/// An open file of its own for the same pipe: who is killed at its end is a property of the open file.
pub(crate) fn reopen(lifeline: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", lifeline.as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// From now on this process is killed when the pool's process ends; `false` if that has ended already.
pub(crate) fn tie_to(lifeline: &OwnedFd) -> io::Result<bool> {
    child::die_with(lifeline)?;
    // It may have ended before the system knew whom to kill.
    let mut waiting = [PollFd::new(lifeline, PollFlags::IN)];
    Ok(poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0)
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(command) => f.debug_tuple("Template").field(command).finish(),
            Self::By(_) => f.debug_tuple("By").finish_non_exhaustive(),
        }
    }
}
