//! Primitives that work from blocking threads and from async code alike.
//!
//! | to | use |
//! | --- | --- |
//! | hand items from producers to consumers, with back-pressure | [`Queue`]; newest first [`LifoQueue`], smallest first [`PriorityQueue`] |
//! | let one at a time change a value | [`Lock`]; [`RLock`] where the holder locks again |
//! | wait for a change of a value that a lock guards | [`Condition`] |
//! | limit how many things happen, or how many bytes are in use, at once | [`Semaphore`]; [`BoundedSemaphore`] where permits are given back by hand |
//! | tell waiters that something has happened | [`Event`] |
//! | let several wait for each other | [`Barrier`] |
//! | stop a tree of work, by request or at a deadline | [`CancelToken`] |
//! | wait for the first of several of these | [`wait_any`] |
//! | look up from a wait now and then without losing the place in line | [`block_deadline`] |
//! | build other primitives, or bind them to another language | [`raw`] |
//!
//! Each operation that may wait comes in the same forms: `op` waits, `try_op` does not, `op_timeout` waits for a
//! [`Duration`](std::time::Duration), `op_deadline` until an [`Instant`](std::time::Instant), and `op_async` is a
//! future for any runtime. Threads and tasks stand in one line. A wait that ends early, by time or because its future was
//! dropped, loses nothing: what was meant for it goes to the next.
//!
//! # Fairness
//!
//! Whoever comes later goes behind. Permits, notifications and room in a queue are handed to the first in line, and nobody
//! overtakes. Locks and items are different, because there a strict order would let everybody wait for sleepers to wake up: a
//! thread that runs may take what the first in line was woken for. Once that has happened to a waiter, it is served before all
//! who do not wait: with `n` waiters before it, by the unlock, or the item, `n + 1` after that at the latest. So a waiter is
//! woken in vain once at the most. The bound is counted in what is handed over, not in time, and tests check it so.
//!
//! # Cost
//!
//! While nobody waits, a lock or a semaphore is taken by one compare-and-swap and given back by another. Statistics are kept
//! where somebody has to wait, and nowhere else; no clock is read before that.
//!
//! # How it is made
//!
//! All of them stand on one waiter queue; the model checkers loom and shuttle check it and every primitive through
//! the [`prim`] module, which is the only way to locks and threads. There is no poisoning. There is unsafe code in two files:
//! [`Lock`] makes references to what it guards, and [`RLock`] says that what it guards may be shared; the reasons stand there.
//!
//! # Examples
//!
//! Two workers read what the main thread puts into a queue, and never more than 3 units are in use at once.
//!
//! ```
//! use std::thread;
//! use tricorne_sync::{Queue, Semaphore};
//!
//! let queue = Queue::bounded(2);
//! let memory = Semaphore::new(3);
//! let mut lengths = thread::scope(|scope| {
//!     let worker = || {
//!         let mut lengths = Vec::new();
//!         while let Ok(word) = queue.get() {
//!             let word: &str = word;
//!             let _in_use = memory.acquire(word.len().min(3)).expect("nobody closes it");
//!             lengths.push(word.len());
//!         }
//!         lengths
//!     };
//!     let workers = [scope.spawn(worker), scope.spawn(worker)];
//!     for word in ["a", "tricorne", "is", "a", "hat"] {
//!         queue.put(word).expect("closed only below");
//!     }
//!     queue.close();
//!     workers.map(|worker| worker.join().expect("it does not panic")).concat()
//! });
//! lengths.sort_unstable();
//! assert_eq!(lengths, [1, 1, 2, 3, 8]);
//! assert_eq!(memory.available(), 3);
//! ```

#![deny(unsafe_code)]

pub mod prim;
pub mod raw;

mod any;
mod barrier;
mod block;
mod bounded_semaphore;
mod cancel;
mod condition;
mod error;
mod event;
#[allow(unsafe_code, reason = "makes references to what a lock guards; explained and modelled there")]
mod lock;
mod queue;
#[allow(unsafe_code, reason = "says that what it guards may be shared; explained there")]
mod rlock;
mod semaphore;
mod wait;

pub use any::{Ready, Waitable, wait_any, wait_any_async, wait_any_deadline, wait_any_timeout};
pub use barrier::{Arrival, Arrive, Barrier, BarrierError, BrokenBarrier, Crossing, Leader};
pub use block::{block_deadline, block_on};
pub use bounded_semaphore::BoundedSemaphore;
pub use cancel::{CancelGuard, CancelToken};
pub use condition::{Condition, ConditionGuard, TaskGuard};
pub use error::{Closed, PutError, TryAcquireError, TryGetError, WaitError};
pub use event::{Event, EventWait};
pub use lock::{Lock, LockGuard};
pub use queue::{
    Fifo, Get, GetBatch, Iter, Joining, Lifo, LifoQueue, Order, OrderedQueue, Priority, PriorityQueue, Put,
    PutMany, Queue, QueueStats, TooManyDone,
};
pub use raw::{OverReleased, Owner};
pub use rlock::{RLock, RLockGuard, RLockOwnerGuard};
pub use semaphore::{OwnedPermit, Permit, Semaphore};
pub use wait::WaitStats;
