//! Defects that a review has found, and that stay away.
#![expect(unsafe_code, reason = "forks of a process with threads, and signals")]

use std::cell::Cell;

use tricorne_exec::TaskError;
use tricorne_exec::process::Buffer;

use crate::Test;
use crate::functions::*;
use crate::support::{Facts, eventually, pool};

pub(crate) const TESTS: &[Test] = &[
    ("forked_child_drops_a_result", forked_child_drops_a_result),
    ("forked_child_submits_a_large_argument", forked_child_submits_a_large_argument),
];

/// Forks; the child does `what` and leaves.
fn fork(what: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `what` alone and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: takes a number, returns a number.
        unsafe { libc::alarm(20) };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_ok();
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    child
}

fn wait(child: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn forked_child_drops_a_result(_: &mut Facts) {
    let pool = pool(1);
    let kept = Cell::new(Some(pool.submit(&MAKE, (200_000, 1)).result().expect("made")));
    assert!(wait(fork(|| drop(kept.take()))));
    let other = pool.submit(&MAKE, (200_000, 2)).result().expect("made");
    let kept = kept.take().expect("ours");
    assert!(other.iter().all(|byte| *byte == 2));
    assert!(kept.iter().all(|byte| *byte == 1), "the buffer has changed: {}", kept[0]);
}

fn forked_child_submits_a_large_argument(_: &mut Facts) {
    let pool = pool(1);
    let argument = |byte: u8| vec![Buffer::from(vec![byte; 200_000])];
    assert_eq!(pool.submit(&SUM, argument(1)).result(), Ok(200_000));
    eventually("the segment is free", || {
        // It is taken back when one is needed.
        pool.submit(&SUM, argument(1)).result().is_ok()
            && pool.stats().segments_free + pool.stats().segments_lent > 0
    });
    let (ours, its) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let child = fork(|| {
        use std::io::Read;
        (&its).read_exact(&mut [0]).expect("told to go on");
        assert_eq!(pool.submit(&SUM, argument(9)).result(), Err(TaskError::Forked));
    });
    let slow = pool.submit(&SLEEP, 500);
    let sum = pool.submit(&SUM, argument(1));
    std::io::Write::write_all(&mut (&ours), &[1]).expect("the child reads");
    assert!(wait(child));
    assert_eq!(slow.result(), Ok(()));
    assert_eq!(sum.result(), Ok(200_000));
}
