//! What the operations report besides success: closed, timed out, or not at once.
//!
//! Use them to tell what can be tried again from what cannot: an operation that is refused gives back what it was to hand in.
//!
//! ```
//! use std::time::Duration;
//! use tricorne_sync::{Closed, PutError, Queue, WaitError};
//!
//! let queue = Queue::bounded(1);
//! queue.put("first")?;
//! let refused = queue.put_timeout("second", Duration::from_millis(1)).unwrap_err();
//! assert!(matches!(refused, PutError::Full(_)) && !refused.is_closed(), "it may be tried again");
//! assert_eq!(queue.get(), Ok("first"));
//! queue.put(refused.into_inner())?;
//!
//! queue.close();
//! assert_eq!(queue.put("third"), Err(Closed("third")));
//! assert_eq!((queue.get(), queue.get_timeout(Duration::ZERO)), (Ok("second"), Err(WaitError::Closed)));
//! # Ok::<(), Closed<&str>>(())
//! ```

use std::error::Error;
use std::fmt;

/// The primitive was closed; what was to be handed in comes back in field 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T = ()>(pub T);

/// Why `Queue::try_put` and its timed forms did not take an item, which comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutError<T> {
    /// There was no room, at once or until the time was up.
    Full(T),
    /// The queue was closed.
    Closed(T),
}

/// Why `Queue::try_get` gave no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryGetError {
    /// There is none now.
    Empty,
    /// The queue was closed and everything in it was taken.
    Closed,
}

/// Why `Semaphore::try_acquire` gave no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryAcquireError {
    /// Too few permits are free, or others wait for them already.
    NoPermits,
    /// The semaphore was closed.
    Closed,
}

/// Why a wait with a time limit ended without what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// The time was up.
    TimedOut,
    /// The primitive was closed, and nothing is left in it.
    Closed,
}

impl<T> PutError<T> {
    /// The item that was not put.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }

    /// Whether the queue was closed, so that trying again is useless.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

// The items need not be printable for the error to be.
impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed")
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => "the queue is closed",
        })
    }
}

impl fmt::Display for TryGetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::Closed => "the queue is closed",
        })
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPermits => "not enough permits are free",
            Self::Closed => "the semaphore is closed",
        })
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "timed out",
            Self::Closed => "closed",
        })
    }
}

impl<T> Error for Closed<T> {}
impl<T> Error for PutError<T> {}
impl Error for TryGetError {}
impl Error for TryAcquireError {}
impl Error for WaitError {}

impl From<Closed> for WaitError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}
