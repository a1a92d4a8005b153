//! Waiting for a future from a blocking thread: to its end, or in slices.
//!
//! Use it where a thread has to wait for something that this crate offers as a future, or has to look up from a wait
//! now and then (for signals, for progress) without losing its place in line.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tricorne_sync::{Queue, block_deadline};
//!
//! let queue = Queue::bounded(1);
//! let item = std::thread::scope(|scope| {
//!     scope.spawn(|| queue.put("hat"));
//!     let mut get = queue.get_async();
//!     loop {
//!         // Between two slices the place in line is kept.
//!         match block_deadline(&mut get, Some(Instant::now() + Duration::from_millis(50))) {
//!             Some(item) => break item,
//!             None => { /* look for signals; to give up, drop `get` */ }
//!         }
//!     }
//! });
//! assert_eq!(item, Ok("hat"));
//! ```

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::prim::{Arc, Parker};

/// Runs `future` to its end on this thread, which sleeps while there is nothing to do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match block_deadline(&mut future, None) {
        Some(output) => output,
        None => unreachable!("a wait without a deadline does not give up"),
    }
}

/// Runs `future` on this thread until `deadline` at most; `None` if it has not finished by then.
///
/// The future is not given up by that: it keeps its place in whatever line it stands. Call again to wait on, or drop it
/// to leave. It is polled before the clock is looked at and once more after the deadline, so one that is ready never
/// times out. Without a deadline it waits without limit.
pub fn block_deadline<F: Future + Unpin>(future: &mut F, deadline: Option<Instant>) -> Option<F::Output> {
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    let mut in_time = true;
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        if !in_time {
            return None;
        }
        in_time = parker.park_deadline(deadline);
    }
}
