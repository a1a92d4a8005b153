//! Whether an executor was made in this process, or is a picture of one in the process that this one was forked from.
//!
//! A forked child has a copy of the memory and none of the threads: an executor in it has workers that do not exist,
//! and locks that they may hold for ever. So every executor has a number, and the child's fork handler writes down
//! which numbers were given away before; an executor touches nothing of itself where its number is one of those. To
//! ask is a load, where asking for the process id would be a system call for each task.
//!
//! Mapped memory that goes back to its sender has a number for the same reason: what the child drops, the parent still has.
//!
//! A child made by a bare `clone` system call does not run the handler and is not recognised.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the next executor or mapping; 0 is nobody's.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The first number that was given away in this process.
static FIRST_HERE: AtomicU64 = AtomicU64::new(1);
static FORKS: AtomicU64 = AtomicU64::new(0);
static WATCHED: Once = Once::new();

/// How many forks lie between this process and the one that asked first: what belongs to the threads of another process has another
/// number. It counts before anything else runs in the child. Where processes cannot fork it is always 0.
///
/// The first call has forks watched. A fork of another thread in that moment is not allowed, so a program calls it early.
pub fn forks() -> u64 {
    WATCHED.call_once(watch);
    // Relaxed: it changes only in a fork, while the child has a single thread.
    FORKS.load(Ordering::Relaxed)
}

/// The number of a new executor or mapping; from the first one on, forks are noticed.
pub(crate) fn new_number() -> u64 {
    WATCHED.call_once(watch);
    // Relaxed: only the numbers' being different matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether what has this number lives in another process: one that this one was forked from.
pub(crate) fn is_elsewhere(number: u64) -> bool {
    // Relaxed: it changes only in a fork, while the child has a single thread.
    number < FIRST_HERE.load(Ordering::Relaxed)
}

#[cfg(unix)]
fn watch() {
    extern "C" fn in_child() {
        // Relaxed: as above.
        FIRST_HERE.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler is a function that lives as long as the program, and does what is allowed between `fork` and
    // `exec` in a child of a program with threads: atomic accesses. Without memory for the registration the call
    // fails, and forks are not recognised.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(unix))]
fn watch() {}

#[cfg(all(test, target_os = "linux", not(any(tricorne_loom, tricorne_shuttle))))]
mod tests {
    use super::*;
    use crate::{AsyncExecutor, Shutdown, TaskError, ThreadPoolExecutor, WaitFor, as_completed, wait};
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    /// Runs `check` in a forked child, and says whether it passed there. An alarm ends a child that hangs.
    fn passes_in_child(check: impl FnOnce()) -> bool {
        // SAFETY: the child runs `check` alone and leaves by `_exit`, so it never returns into the test harness. What
        // it allocates comes from glibc, which keeps `malloc` usable in a forked child.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork failed");
        if child == 0 {
            // SAFETY: takes a number, returns a number.
            unsafe { libc::alarm(20) };
            let passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!passed)) };
        }
        let mut status = 0;
        // SAFETY: `child` is ours and not waited for yet; `status` is writable.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    #[test]
    fn a_failing_check_fails() {
        let number = new_number();
        assert!(!is_elsewhere(number));
        let here = forks();
        assert!(passes_in_child(|| assert_eq!(forks(), here + 1)));
        assert_eq!(forks(), here);
        assert!(passes_in_child(|| assert!(is_elsewhere(number) && !is_elsewhere(new_number()))));
        assert!(!passes_in_child(|| assert!(!is_elsewhere(number))));
    }

    #[test]
    fn a_forked_child_recognises_its_parent_s_pool() {
        let pool = ThreadPoolExecutor::builder().workers(2).name("parent").build().expect("threads");
        let release = Arc::new(Barrier::new(2));
        let held = Arc::clone(&release);
        let running = pool.submit(move || {
            held.wait();
            1
        });
        let done = pool.submit(|| 2);
        while !done.is_done() {
            std::thread::yield_now();
        }
        let parts = Cell::new(Some((pool, running, done)));
        let passed = passes_in_child(|| {
            let (pool, running, done) = parts.take().expect("the child's copy");
            assert_eq!(pool.submit(|| 3).result(), Err(TaskError::Forked));
            assert!(!running.cancel());
            assert_eq!(running.result(), Err(TaskError::Forked));
            assert_eq!(done.result(), Ok(2));
            assert_eq!(pool.map(0..10, |n| n).next(), Some(Err(TaskError::Forked)));
            pool.shutdown(Shutdown::Drain);
            drop(pool);
            let own = ThreadPoolExecutor::builder().workers(1).build().expect("a thread");
            assert_eq!(own.submit(|| 4).result(), Ok(4));
        });
        let (pool, running, done) = parts.take().expect("the parent's own");
        release.wait();
        assert_eq!((running.result(), done.result()), (Ok(1), Ok(2)));
        drop(pool);
        assert!(passed, "see the child's panic above");
    }

    #[test]
    fn whatever_waits_for_a_parent_s_task_is_told_that_it_is_lost() {
        let pool = ThreadPoolExecutor::builder().workers(1).build().expect("threads");
        let (release, held) = std::sync::mpsc::channel::<()>();
        let running = pool.submit(move || held.recv().is_err());
        let (shared, in_set) = (pool.submit(|| 1).shared(), pool.submit(|| 2));
        let parts = Cell::new(Some((as_completed([in_set]), shared)));
        let passed = passes_in_child(|| {
            let (mut set, shared) = parts.take().expect("the child's copy");
            assert_eq!(set.next(), Some((0, Err(TaskError::Forked))));
            assert_eq!(set.next(), None);
            let waited = wait(std::slice::from_ref(&shared), WaitFor::FirstException, None);
            assert_eq!(waited.done, [0]);
            let told = std::sync::mpsc::channel();
            shared.on_done(move |outcome| told.0.send(outcome.clone()).expect("the test waits"));
            assert_eq!(told.1.try_recv(), Ok(Err(TaskError::Forked)));
            assert_eq!(shared.result(), &Err(TaskError::Forked));
        });
        let (mut set, shared) = parts.take().expect("the parent's own");
        drop(release);
        assert_eq!((running.result(), set.next(), shared.result()), (Ok(true), Some((0, Ok(2))), &Ok(1)));
        assert!(passed, "see the child's panic above");
    }

    #[test]
    fn a_child_that_is_forked_by_a_task_runs_none_of_the_tasks_behind_it() {
        let pool = ThreadPoolExecutor::builder().workers(1).name("parent").build().expect("threads");
        let (mut ran, mark) = std::io::pipe().expect("a pipe");
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let forks = pool.submit(move || {
            wait.recv().expect("the test says so");
            // SAFETY: as in `passes_in_child`, but that the child returns into the worker.
            let child = unsafe { libc::fork() };
            assert!(child >= 0, "fork failed");
            if child == 0 {
                // SAFETY: takes a number, returns a number.
                unsafe { libc::alarm(20) };
                return;
            }
            let mut status = 0;
            // SAFETY: `child` is ours and not waited for yet; `status` is writable.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFEXITED(status), "the child hangs");
        });
        let behind = pool.submit(move || std::io::Write::write_all(&mut &mark, b"x").is_ok());
        go.send(()).expect("the task waits");
        assert_eq!((forks.result(), behind.result()), (Ok(()), Ok(true)));
        drop(pool);
        let mut marks = Vec::new();
        std::io::Read::read_to_end(&mut ran, &mut marks).expect("both ends are closed by now");
        assert_eq!(marks, b"x", "it ran once, in the parent");
    }

    #[test]
    fn a_forked_child_recognises_its_parent_s_event_loop() {
        let executor = AsyncExecutor::builder().name("parent").build().expect("a thread");
        let pending = executor.spawn(std::future::pending::<()>());
        let parts = Cell::new(Some((executor, pending)));
        let passed = passes_in_child(|| {
            let (executor, pending) = parts.take().expect("the child's copy");
            assert_eq!(executor.spawn(async {}).result(), Err(TaskError::Forked));
            assert_eq!(pending.result(), Err(TaskError::Forked));
            assert_eq!(executor.live(), 0);
            assert!(!executor.shutdown(Shutdown::CancelPending, Duration::from_secs(5)));
            drop(executor);
        });
        let (executor, pending) = parts.take().expect("the parent's own");
        drop(executor);
        assert_eq!(pending.result(), Err(TaskError::Cancelled));
        assert!(passed, "see the child's panic above");
    }
}
