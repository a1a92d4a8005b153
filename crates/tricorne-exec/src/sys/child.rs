//! Making processes, and having them end: what the template and the workers of a process pool need from the system.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, getpid};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As `wait` reports it.
    pub(crate) status: i32,
    /// The most memory that was resident at once, in bytes.
    pub(crate) peak_bytes: u64,
}

/// Makes a copy of this process, in which it returns `None`.
///
/// # Errors
/// The system's reason, or that this process has more than one thread: of a copy of it, only the memory allocator and
/// a few system calls could be used, since other threads may have held locks.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot make workers"));
    }
    // SAFETY: this is the only thread (checked), so the copy has all that belongs to the process in a consistent state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Pid::from_raw(pid).map(Some).ok_or_else(|| io::Error::other("a process without a number")),
    }
}

/// How a child has ended, which is forgotten with this call; `None` if it runs.
pub(crate) fn reap(child: Pid) -> io::Result<Option<Ended>> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let child = child.as_raw_nonzero().get();
    // SAFETY: both targets are writable for the time of the call, and big enough.
    let pid = unsafe { libc::wait4(child, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    // SAFETY: zeroes are a valid `rusage`, and so is what the call has written.
    let usage = unsafe { usage.assume_init() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(Ended { status, peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024 })),
    }
}

/// Closes all descriptors from 3 on, except `keep`.
///
/// To be called first in `main`, in a program that was just started: what is open then was inherited, and nobody in
/// this process owns it.
pub(crate) fn close_inherited(keep: impl AsFd) {
    let keep = keep.as_fd().as_raw_fd();
    let close = |first: RawFd, last: u32| {
        let first = u32::try_from(first).unwrap_or(3);
        if first <= last {
            // SAFETY: takes numbers only. Nobody owns these descriptors, as the documentation above demands; on a
            // system without the call (before Linux 5.9) they stay open, which does no harm here.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    if keep < 3 {
        return close(3, u32::MAX);
    }
    close(3, u32::try_from(keep - 1).unwrap_or(0));
    close(keep + 1, u32::MAX);
}

/// A copy of a descriptor that this process was given as a number; the original stays as it is.
///
/// # Errors
/// There is none of that number, or there are too many.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers, and fails for one that is not open.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it is new, so nobody else has it.
        copy => Ok(unsafe { OwnedFd::from_raw_fd(copy) }),
    }
}

/// From now on Ctrl-C does nothing to this process and to those that it starts: whoever started it decides.
pub(crate) fn ignore_interrupt() {
    // SAFETY: no handler is installed, so no code runs at odd times.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// From now on children that have ended wait to be asked how. Whoever started this process may have had it otherwise, and that is
/// inherited.
pub(crate) fn keep_ended_children() {
    // SAFETY: no handler is installed, so no code runs at odd times.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// From now on this process is killed, whatever it does, when the last writing end of the pipe `lifeline` is closed.
///
/// `lifeline` must be an open file of this process alone (a descriptor that was opened here, not inherited).
///
/// # Errors
/// The system's reason.
pub(crate) fn die_with(lifeline: impl AsFd) -> io::Result<()> {
    let file = lifeline.as_fd();
    let set = |what, value: libc::c_int| {
        // SAFETY: `file` is open, and both commands take a number.
        match unsafe { libc::fcntl(file.as_raw_fd(), what, value) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    set(libc::F_SETOWN, getpid().as_raw_nonzero().get())?;
    set(F_SETSIG, libc::SIGKILL)?;
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned()))?;
    Ok(())
}

/// A descriptor that copies of this process do not keep: whoever forks without `exec` closes it in the child.
///
/// It is only held, never used. There is room for [`PLACES`] of them; what has no place is inherited as usual.
pub(crate) struct NotForCopies {
    file: ManuallyDrop<OwnedFd>,
    place: Option<usize>,
}

const PLACES: usize = 256;
const EMPTY: RawFd = -1;
static NOT_FOR_COPIES: [AtomicI32; PLACES] = [const { AtomicI32::new(EMPTY) }; PLACES];

impl NotForCopies {
    pub(crate) fn new(file: OwnedFd) -> Self {
        static WATCHED: Once = Once::new();
        WATCHED.call_once(|| {
            // SAFETY: the handler lives as long as the program, and does only what is allowed between `fork` and `exec` in a
            // child of a program with threads: atomic accesses and `close`.
            unsafe { libc::pthread_atfork(None, None, Some(close_in_child)) };
        });
        let number = file.as_raw_fd();
        let free = |place: &&AtomicI32| {
            place.compare_exchange(EMPTY, number, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let place = NOT_FOR_COPIES.iter().position(|place| free(&place));
        Self { file: ManuallyDrop::new(file), place }
    }
}

impl Drop for NotForCopies {
    fn drop(&mut self) {
        let is_ours = match self.place {
            // First forgotten, then closed: a child made in between has it, and none closes a descriptor of somebody else.
            Some(place) => NOT_FOR_COPIES[place]
                .compare_exchange(self.file.as_raw_fd(), EMPTY, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok(),
            None => true,
        };
        if is_ours {
            // SAFETY: it is not used after this, being dropped itself. In a copy of the process, where the handler has closed
            // it, its place was empty, and this is not reached.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

extern "C" fn close_in_child() {
    for place in &NOT_FOR_COPIES {
        let file = place.swap(EMPTY, Ordering::AcqRel);
        if file != EMPTY {
            // SAFETY: the number is that of an open file which this process, being a copy, owns as well; its owner finds its
            // place empty and does not close it again.
            unsafe { libc::close(file) };
        }
    }
}

/// "Which signal to send when the file becomes readable"; the `libc` crate does not have it for every C library.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `check` in a forked child, and says whether it was true there.
    fn in_child(check: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child only makes system calls, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork failed");
        if child == 0 {
            let code = i32::from(!check());
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: `child` is ours and was not waited for; `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    #[test]
    fn a_copy_of_the_process_does_not_keep_it() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let number = writer.as_raw_fd();
        // SAFETY: takes numbers; an unknown one is an error.
        let is_open = move |number| unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
        let kept = NotForCopies::new(writer);
        assert!(in_child(|| !is_open(number)), "closed in the child");
        assert!(is_open(number), "and open here");
        drop(kept);
        let mut end = [0; 1];
        assert_eq!(rustix::io::read(&reader, &mut end), Ok(0), "dropping it closes it");
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv().is_err());
        assert!(fork().is_err());
        drop(send);
        assert!(other.join().expect("it ends"));
    }
}
