//! Waiting for the first of several things: a cancel token, an event, an item in a queue.
//!
//! Use it where a thread must react to whatever comes first, say work or the request to stop. Nothing polls: each thing
//! wakes the waiter. Async code can select between the futures of this crate instead; they lose nothing when dropped.
//!
//! ```
//! use tricorne_sync::{CancelToken, Queue, wait_any};
//!
//! let (stop, work) = (CancelToken::new(), Queue::bounded(4));
//! work.put("hat").unwrap();
//! let mut done = Vec::new();
//! loop {
//!     match wait_any(&[&stop, &work]) {
//!         0 => break,
//!         _ => {
//!             // Somebody else may have been quicker: look, do not wait.
//!             if let Ok(item) = work.try_get() {
//!                 done.push(item);
//!                 stop.cancel();
//!             }
//!         }
//!     }
//! }
//! assert_eq!(done, ["hat"]);
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::block::block_deadline;
use crate::cancel::CancelToken;
use crate::event::Event;
use crate::queue::{Order, OrderedQueue};
use crate::wait::deadline_after;

/// Something that can be waited for together with other things, by [`wait_any`] and its relatives.
///
/// Being ready is a state, not a message: it says that an operation would not have to wait now, and takes nothing.
///
/// # Examples
///
/// A type of your own, built on an event:
///
/// ```
/// use tricorne_sync::{Event, Ready, Waitable, wait_any};
///
/// struct Answer {
///     arrived: Event,
/// }
///
/// impl Waitable for Answer {
///     fn ready(&self) -> Ready<'_> {
///         self.arrived.ready()
///     }
/// }
///
/// let answers = [Answer { arrived: Event::new() }, Answer { arrived: Event::new() }];
/// answers[1].arrived.set();
/// assert_eq!(wait_any(&[&answers[0], &answers[1]]), 1);
/// ```
pub trait Waitable {
    /// A future that is ready once this is. It must be cancel-safe: most are dropped before that.
    fn ready(&self) -> Ready<'_>;

    /// When it becomes ready by itself, if it does. A blocking wait looks at it then.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// The future of [`Waitable::ready`].
pub type Ready<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Waits until one of `things` is ready, and says which: the first of those that are.
///
/// # Panics
///
/// If `things` is empty.
pub fn wait_any(things: &[&dyn Waitable]) -> usize {
    match wait_until(things, None) {
        Some(index) => index,
        None => unreachable!("a wait without a deadline does not give up"),
    }
}

/// [`wait_any`], for at most `timeout`; `None` if nothing was ready by then.
///
/// # Panics
///
/// If `things` is empty.
pub fn wait_any_timeout(things: &[&dyn Waitable], timeout: Duration) -> Option<usize> {
    wait_until(things, deadline_after(timeout))
}

/// [`wait_any`], until `deadline` at most; `None` if nothing was ready by then.
///
/// # Panics
///
/// If `things` is empty.
pub fn wait_any_deadline(things: &[&dyn Waitable], deadline: Instant) -> Option<usize> {
    wait_until(things, Some(deadline))
}

/// [`wait_any`] from async code. It does not wake up for the [deadlines](Waitable::deadline) of things by itself.
///
/// # Panics
///
/// If `things` is empty.
pub fn wait_any_async<'a>(things: &[&'a dyn Waitable]) -> impl Future<Output = usize> + Send + use<'a> {
    First::new(things)
}

fn wait_until(things: &[&dyn Waitable], deadline: Option<Instant>) -> Option<usize> {
    let mut first = First::new(things);
    let mut looks: Vec<Instant> = things.iter().filter_map(|thing| thing.deadline()).collect();
    looks.retain(|look| deadline.is_none_or(|deadline| *look < deadline));
    looks.sort_unstable();
    // A thing may say that it is ready at a moment, and not be: then the others still have theirs.
    let ready = looks.into_iter().find_map(|look| block_deadline(&mut first, Some(look)));
    ready.or_else(|| block_deadline(&mut first, deadline))
}

/// The first of several futures.
struct First<'a> {
    waits: Vec<Ready<'a>>,
}

impl<'a> First<'a> {
    fn new(things: &[&'a dyn Waitable]) -> Self {
        assert!(!things.is_empty(), "a wait for the first of no things would not end");
        Self { waits: things.iter().map(|thing| thing.ready()).collect() }
    }
}

impl Future for First<'_> {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let ready = self.waits.iter_mut().position(|wait| wait.as_mut().poll(context).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Waitable for Event {
    /// Ready when it is set.
    fn ready(&self) -> Ready<'_> {
        Box::pin(self.wait_async())
    }
}

impl Waitable for CancelToken {
    /// Ready when it is cancelled or its deadline has passed.
    fn ready(&self) -> Ready<'_> {
        Box::pin(self.cancelled_async())
    }

    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
}

impl<T: Send, O: Order<T>> Waitable for OrderedQueue<T, O>
where
    O::Store: Send,
{
    /// Ready when there is an item that is not promised to somebody, or when the queue is closed and empty.
    fn ready(&self) -> Ready<'_> {
        Box::pin(self.ready())
    }
}
