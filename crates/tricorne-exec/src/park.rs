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

/// Lets others run for a moment before a sleep, until `done`: they are probably about to make work for this thread. On a
/// busy machine it gives the core to whoever does that; on an idle one it costs less than falling asleep and waking up.
///
/// Turns that only spin were measured as well: with the other side on the same core, they delay what they wait for.
pub(crate) fn yield_until(done: impl Fn() -> bool) {
    // Under a model checker a turn is only one more schedule to try.
    let turns = if cfg!(any(tricorne_loom, tricorne_shuttle)) { 0 } else { 2 };
    for _ in 0..turns {
        if done() {
            return;
        }
        std::thread::yield_now();
    }
}

/// The deadline that is `timeout` from now; `None` if that is further than the clock goes.
pub(crate) fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
