//! Who holds a re-entrant lock.

use std::fmt;
use std::num::NonZeroU64;

use crate::prim::atomic::{AtomicU64, Ordering};
use crate::prim::thread_slot;

/// Names a holder of an [`RLock`](crate::RLock): a thread, or a handle that a task carries with it.
///
/// A thread is an owner by itself. An async task is not tied to a thread, so it has to say who it is: it makes a handle with
/// [`unique`](Self::unique) and shows it each time it locks.
///
/// # Examples
///
/// ```
/// use tricorne_sync::Owner;
///
/// assert_eq!(Owner::current_thread(), Owner::current_thread());
/// assert_ne!(Owner::unique(), Owner::unique());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(NonZeroU64);

/// Set in the names that a caller chose.
const FOREIGN: u64 = 1 << 63;

impl Owner {
    /// The thread that calls. No other thread is ever given the same name, not even after this one has ended.
    #[inline]
    pub fn current_thread() -> Self {
        thread_slot(|name| match NonZeroU64::new(name.get()) {
            Some(known) => Self(known),
            None => {
                let fresh = Self::unique();
                name.set(fresh.0.get());
                fresh
            }
        })
    }

    /// A name that nobody else has.
    pub fn unique() -> Self {
        // Not of `prim`: the order in which names are given is nothing that a model could check.
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(NonZeroU64::new(next).expect("2^63 names do not run out"))
    }

    /// The owner that the caller knows by `name`, such as the identifier of a thread in another language.
    ///
    /// Such names are a space of their own: none is equal to a thread or a handle.
    ///
    /// # Panics
    ///
    /// If `name` is 2^63 or more.
    pub fn from_raw(name: NonZeroU64) -> Self {
        assert!(name.get() < FOREIGN, "an owner is named by less than 2^63: `{name}`");
        Self(name | FOREIGN)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = if self.0.get() & FOREIGN == 0 {
            ("own", self.0.get())
        } else {
            ("raw", self.0.get() & !FOREIGN)
        };
        write!(f, "Owner({kind} {name})")
    }
}

/// Where a lock keeps its owner: an owner, or nobody.
pub(crate) struct OwnerCell(AtomicU64);

impl OwnerCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Relaxed suffices: a thread that asks whether it is the owner itself sees its own stores, and to all others any
    /// answer but their own name means the same.
    #[inline]
    pub(crate) fn get(&self) -> Option<Owner> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed)).map(Owner)
    }

    #[inline]
    pub(crate) fn is(&self, owner: Owner) -> bool {
        self.0.load(Ordering::Relaxed) == owner.0.get()
    }

    #[inline]
    pub(crate) fn set(&self, owner: Option<Owner>) {
        self.0.store(owner.map_or(0, |owner| owner.0.get()), Ordering::Relaxed);
    }
}
