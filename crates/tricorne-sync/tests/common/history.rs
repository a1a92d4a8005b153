//! Is a history of calls on a queue linearisable? That is: can each call be given one moment between its start and its end such
//! that, done in the order of these moments, the calls of all threads give what they gave?
//!
//! The search is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993): take any call that no other one
//! preceded, try it on the specification, go on with the rest; states that were seen are not tried again (Lowe, 2017).

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// An item, and whether it went in; `None` if the queue was closed.
    Put(usize, Option<bool>),
    /// What came out: an item, nothing for the time being, or nothing any more.
    Get(Got),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Item(usize),
    Empty,
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    call: Call,
    start: u64,
    end: u64,
}

/// Collects the calls of all threads.
#[derive(Default)]
pub(crate) struct History {
    clock: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

impl History {
    /// Makes a call and writes down when it started and ended, and what it gave.
    pub(crate) fn record(&self, call: impl FnOnce() -> Call) {
        let start = self.clock.fetch_add(1, Ordering::SeqCst);
        let call = call();
        let end = self.clock.fetch_add(1, Ordering::SeqCst);
        self.entries.lock().unwrap().push(Entry { call, start, end });
    }

    /// Fails unless the calls agree with a queue, first in, first out, of that capacity.
    pub(crate) fn check(&self, capacity: usize) {
        let entries = self.entries.lock().unwrap();
        assert!(entries.len() < 64, "a set of calls is one word");
        let mut seen = HashSet::new();
        assert!(
            search(&entries, 0, &State { items: VecDeque::new(), closed: false }, capacity, &mut seen),
            "no order of these calls explains what they gave: {entries:#?}"
        );
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    items: VecDeque<usize>,
    closed: bool,
}

fn search(
    entries: &[Entry],
    done: u64,
    state: &State,
    capacity: usize,
    seen: &mut HashSet<(u64, State)>,
) -> bool {
    let rest = || (0..entries.len()).filter(|index| done & (1 << index) == 0);
    let Some(first_end) = rest().map(|index| entries[index].end).min() else { return true };
    if !seen.insert((done, state.clone())) {
        return false;
    }
    // A call may come next if no other one had ended before it started.
    rest().filter(|&index| entries[index].start < first_end).any(|index| {
        step(state, entries[index].call, capacity)
            .is_some_and(|next| search(entries, done | 1 << index, &next, capacity, seen))
    })
}

/// The specification: the state after a call that gave this; `None` if it cannot have.
fn step(state: &State, call: Call, capacity: usize) -> Option<State> {
    let mut next = state.clone();
    let possible = match call {
        Call::Put(_, None) => state.closed,
        Call::Put(item, Some(true)) => {
            next.items.push_back(item);
            !state.closed && next.items.len() <= capacity
        }
        Call::Put(_, Some(false)) => !state.closed && state.items.len() == capacity,
        Call::Get(Got::Item(item)) => next.items.pop_front() == Some(item),
        // Of a closed queue too: its last item may be promised to a consumer that has not come for it, and might come back.
        Call::Get(Got::Empty) => state.items.is_empty(),
        Call::Get(Got::Closed) => state.closed && state.items.is_empty(),
        Call::Close => {
            next.closed = true;
            true
        }
    };
    possible.then_some(next)
}

/// The check can fail.
#[cfg(not(tricorne_shuttle))]
#[test]
fn a_wrong_history_is_found() {
    let history = History::default();
    history.record(|| Call::Put(1, Some(true)));
    history.record(|| Call::Put(2, Some(true)));
    history.record(|| Call::Get(Got::Item(1)));
    history.check(2);
    history.record(|| Call::Get(Got::Empty));
    assert!(std::panic::catch_unwind(|| history.check(2)).is_err(), "there was one more");
}
