//! An open shard: its journal, and how much of it has ended.
//!
//! The source adds its records in order and seals it; whoever ends a record says so; the committer is
//! told when there is a stretch worth writing, or all of it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tricorne_sync::OwnedPermit;

use crate::journal::Journal;
use crate::layout::CommitRecord;

/// The committer is woken for so many new rows at a time, or for the end of the shard.
const STRETCH: u32 = 256;

pub(super) struct OpenShard {
    pub(super) number: u64,
    pub(super) first_id: u64,
    pub(super) journal: Journal,
    /// The generation that a retry starts from.
    pub(super) before: Option<CommitRecord>,
    /// In a retry, the records that failed before: only these run again.
    pub(super) retried: Option<BTreeSet<u64>>,
    state: Mutex<State>,
    /// One of the places for open shards; given back when the shard is dropped.
    _place: OwnedPermit,
}

#[derive(Default)]
struct State {
    ended: Vec<bool>,
    /// All records before this index have ended.
    prefix: u32,
    /// The prefix that the committer has been told of.
    told: u32,
    sealed: Option<String>,
    queued: bool,
}

/// What the committer may do now.
pub(super) struct Ready {
    pub(super) end: u32,
    /// The hash of the shard's input, once all its records have ended.
    pub(super) complete: Option<String>,
}

impl OpenShard {
    pub(super) fn new(
        number: u64,
        first_id: u64,
        journal: Journal,
        before: Option<CommitRecord>,
        retried: Option<BTreeSet<u64>>,
        place: OwnedPermit,
    ) -> Self {
        OpenShard { number, first_id, journal, before, retried, state: Mutex::default(), _place: place }
    }

    /// The next record of the input belongs here.
    pub(super) fn add(&self) {
        self.lock().ended.push(false);
    }

    /// A record has ended and its outcome is journalled (or stands in the generation before).
    /// True if the committer is to be told.
    #[must_use]
    pub(super) fn end(&self, id: u64) -> bool {
        let mut state = self.lock();
        state.ended[(id - self.first_id) as usize] = true;
        while state.ended.get(state.prefix as usize) == Some(&true) {
            state.prefix += 1;
        }
        state.tell()
    }

    /// No more records will be added. True if the committer is to be told.
    #[must_use]
    pub(super) fn seal(&self, input: String) -> bool {
        let mut state = self.lock();
        state.sealed = Some(input);
        state.tell()
    }

    /// What the committer, having been told, may write.
    pub(super) fn ready(&self) -> Ready {
        let mut state = self.lock();
        state.queued = false;
        state.told = state.prefix;
        let complete = state.is_complete().then(|| state.sealed.clone()).flatten();
        Ready { end: state.prefix, complete }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_complete(&self) -> bool {
        self.sealed.is_some() && self.prefix as usize == self.ended.len()
    }

    fn tell(&mut self) -> bool {
        let tell = !self.queued && (self.is_complete() || self.prefix - self.told >= STRETCH);
        self.queued |= tell;
        tell
    }
}
