//! The primitives without guards and without data, for bindings to other languages and for building other primitives.
//!
//! A guard ties "taken" to a scope. Where another language, or another primitive, decides when to give back, that is in
//! the way: these types are taken by one call and given back by another, from any thread. All else is as with the types
//! of the crate's root: one line for threads and tasks, waits that can be given up, no poisoning.
//!
//! | to build | use |
//! | --- | --- |
//! | a lock that anybody may unlock | [`RawLock`] |
//! | a lock that its owner may lock again | [`RawRLock`] with an [`Owner`] |
//! | permits that are counted by hand | [`RawSemaphore`] |
//! | a condition for any lock | [`WaitSet`] |
//! | an event, a barrier | [`Event`](crate::Event), [`Barrier`](crate::Barrier): they have no guards |
//!
//! # Waiting in slices
//!
//! A thread that has to look up from a wait now and then keeps its place in line with
//! [`block_deadline`](crate::block_deadline):
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tricorne_sync::{block_deadline, raw::RawLock};
//!
//! let lock = RawLock::new();
//! let mut wait = lock.lock_async();
//! while block_deadline(&mut wait, Some(Instant::now() + Duration::from_millis(50))).is_none() {
//!     // Look for signals. To give up, drop `wait`.
//! }
//! lock.unlock().unwrap();
//! ```
//!
//! # Fork
//!
//! Each of these (not the queues, nor a cancel token) has a `reinit_after_fork`, to be called in the child of a forked process while it has one thread. It works even if
//! another thread of the parent was inside the primitive in the moment of the fork.

mod lock;
mod owner;
mod rlock;
mod semaphore;
mod wait_set;

pub use lock::{LockWait, NotLocked, RawLock};
pub use owner::Owner;
pub use rlock::{NotOwner, RLockWait, RawRLock};
pub use semaphore::{AcquireWait, OverReleased, RawSemaphore};
pub use wait_set::{Enrolled, WaitSet};
