//! The only door to locks, condition variables, atomics and threads, so that a model checker can stand in for them.
//!
//! | build | what stands behind the names |
//! | --- | --- |
//! | normal | `std` |
//! | `--cfg tricorne_loom` | `loom`, which tries every interleaving of a small model |
//! | `--cfg tricorne_shuttle` | `shuttle`, which tries random interleavings of a larger one |
//!
//! Use it in code that is built on this crate's primitives and is to be checked by such a model, too; other code takes the
//! standard library.
//!
//! ```
//! use tricorne_sync::prim::atomic::{AtomicUsize, Ordering};
//! use tricorne_sync::prim::{Arc, Mutex, Parker, lock, thread};
//!
//! let (log, done, sleeper) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicUsize::new(0)), Arc::new(Parker::new()));
//! let worker = thread::spawn({
//!     let (log, done, sleeper) = (Arc::clone(&log), Arc::clone(&done), Arc::clone(&sleeper));
//!     move || {
//!         lock(&log).push("worked");
//!         done.store(1, Ordering::Release);
//!         sleeper.unpark();
//!     }
//! });
//! sleeper.park_deadline(None);
//! assert_eq!((done.load(Ordering::Acquire), lock(&log).as_slice()), (1, ["worked"].as_slice()));
//! worker.join().unwrap();
//! ```
//!
//! The flags are the project's own: one named plainly `loom` would change dependencies too.
//!
//! [`Arc`] and [`Weak`] are always those of `std`. Reference counts are not what the models check, `std::task::Wake`
//! wants the standard `Arc`, and loom has no `Weak`.

pub use std::sync::{Arc, Weak};

#[cfg(not(any(tricorne_loom, tricorne_shuttle)))]
pub use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread, thread_local,
};

#[cfg(tricorne_loom)]
pub use loom::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread, thread_local,
};

#[cfg(all(tricorne_shuttle, not(tricorne_loom)))]
pub use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread, thread_local,
};

use std::cell::Cell;
use std::sync::PoisonError;
use std::time::Instant;

/// The place of data that a lock guards. Reached by pointers only, so that loom can see each access: with the models it
/// reports two that nothing orders.
#[cfg(not(tricorne_loom))]
#[derive(Debug, Default)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(tricorne_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands a pointer for reading to `access`.
    #[inline(always)]
    pub(crate) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
        access(self.0.get())
    }

    /// Hands a pointer for writing to `access`.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

#[cfg(tricorne_loom)]
pub(crate) use loom::cell::UnsafeCell;

/// A number that belongs to the thread that calls, 0 at first.
#[inline]
pub(crate) fn thread_slot<R>(with: impl FnOnce(&Cell<u64>) -> R) -> R {
    #[cfg(not(any(tricorne_loom, tricorne_shuttle)))]
    std::thread_local! {
        static SLOT: Cell<u64> = const { Cell::new(0) };
    }
    #[cfg(tricorne_loom)]
    loom::thread_local! {
        static SLOT: Cell<u64> = Cell::new(0);
    }
    #[cfg(all(tricorne_shuttle, not(tricorne_loom)))]
    shuttle::thread_local! {
        static SLOT: Cell<u64> = Cell::new(0);
    }
    SLOT.with(with)
}

/// Locks `mutex`, whether or not a thread panicked while it held it.
///
/// The only foreign code that runs under the locks of this crate is the comparison of items by a priority queue, and what
/// looks at the items of a queue. If one panics, what was changed before it stands and is told, so poison says nothing worth
/// failing for.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks a few times, for well under a microsecond, whether `ready` says yes: what is held for a moment need not be slept
/// for. Never under a model checker, where nothing goes on meanwhile.
pub(crate) fn spins(mut ready: impl FnMut() -> bool) -> bool {
    let turns = if cfg!(any(tricorne_loom, tricorne_shuttle)) { 0 } else { 40 };
    (0..turns).any(|_| {
        std::hint::spin_loop();
        ready()
    })
}

/// A place for one thread to sleep until it is told to go on.
///
/// It holds at most one token: [`unpark`](Parker::unpark) leaves it, [`park_deadline`](Parker::park_deadline) takes
/// it, so a wake-up that comes before the sleep is not lost. A condition variable rather than `std::thread::park`,
/// because that token belongs to the thread: taking it here would swallow a wake-up meant for the caller's own code.
#[derive(Debug, Default)]
pub struct Parker {
    token: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    /// A parker without a token.
    pub fn new() -> Self {
        Self { token: Mutex::new(false), wake: Condvar::new() }
    }

    /// Leaves the token and wakes the thread that waits for it.
    pub fn unpark(&self) {
        *lock(&self.token) = true;
        self.wake.notify_one();
    }

    /// Sleeps until there is a token and takes it; `false` if `deadline` passed first. `None` waits without limit.
    pub fn park_deadline(&self, deadline: Option<Instant>) -> bool {
        let mut token = lock(&self.token);
        while !*token {
            token = match deadline {
                None => self.wake.wait(token).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.wake.wait_timeout(token, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *token = false;
        true
    }
}

impl std::task::Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}
