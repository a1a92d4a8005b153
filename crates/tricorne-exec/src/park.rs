//! How a thread waits: every blocking call of this crate polls what async code would poll, from a parked thread.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tricorne_sync::prim::{Arc, Parker, thread_local};

thread_local! {
    /// One for each thread, so that a wait allocates nothing. A token that an earlier wait has left behind only makes
    /// the next one look once more.
    static PARKER: (Arc<Parker>, Waker) = new_parker();
}

fn new_parker() -> (Arc<Parker>, Waker) {
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(Arc::clone(&parker));
    (parker, waker)
}

/// Looks, sleeps until woken, and looks again, until `look` has something or `deadline` has passed; it is asked a last
/// time then, since it may have come in between.
pub(crate) fn wait_until<T>(deadline: Option<Instant>, mut look: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
    let mut wait = |parker: &Parker, waker: &Waker| {
        loop {
            if let Poll::Ready(output) = look(waker) {
                return Some(output);
            }
            if !parker.park_deadline(deadline) {
                return match look(waker) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => None,
                };
            }
        }
    };
    // A thread that is ending has lost its parker.
    match PARKER.try_with(|(parker, waker)| wait(parker, waker)) {
        Ok(output) => output,
        Err(_) => {
            let (parker, waker) = new_parker();
            wait(&parker, &waker)
        }
    }
}

/// Sleeps for `time`.
pub(crate) fn sleep(time: Duration) {
    wait_until(deadline_after(time), |_| Poll::<std::convert::Infallible>::Pending);
}

/// Looks for a moment before a sleep: about as long as falling asleep and waking up would take. It pays when the other
/// side is just about to finish on another core, and costs no more than that sleep if not.
pub(crate) fn spin_until(done: impl Fn() -> bool) -> bool {
    for _ in 0..spins() {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// None on a single core, where only the sleeper's core could do the work; none under a model checker, which would try
/// every one of them.
fn spins() -> u32 {
    static SPINS: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    if cfg!(any(tricorne_loom, tricorne_shuttle)) {
        return 0;
    }
    *SPINS.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if cores > 1 { 64 } else { 0 }
    })
}

/// The deadline that is `timeout` from now; `None` if that is further than the clock goes.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
