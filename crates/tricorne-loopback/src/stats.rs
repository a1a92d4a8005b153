//! What the server counts, and the guard that keeps the number of requests in flight right.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A snapshot of the server's counters, taken at one moment.
///
/// A request is *admitted* when it has been read in full and there was capacity for it. It is *in flight* from then until
/// its answer is written, or given up because the answer was to fail or the client went away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Admitted requests.
    pub requests: u64,
    /// Answers written to the last byte, error answers included. The client may see that byte before the counter moves.
    pub completed: u64,
    /// Requests answered with 429 because [`capacity`](crate::Server::set_capacity) was used up.
    pub refused: u64,
    /// Admitted requests that are being answered now.
    pub in_flight: usize,
    /// The highest value `in_flight` had.
    pub max_in_flight: usize,
    /// Connections accepted.
    pub connections: u64,
}

/// Counters shared between the server's thread and whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stats: Stats,
    per_path: HashMap<String, u32>,
    capacity: Option<usize>,
}

/// What became known when a request was admitted.
pub(crate) struct Admission<'a> {
    pub(crate) attempt: u32,
    pub(crate) in_flight: usize,
    pub(crate) permit: Permit<'a>,
}

/// One request in flight; it ends when this is dropped.
pub(crate) struct Permit<'a> {
    counters: &'a Counters,
    completed: bool,
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, so the state is whole even if the mutex says otherwise.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) {
        self.lock().stats.connections += 1;
    }

    /// Admits a request for `path`, or counts it as refused.
    pub(crate) fn admit(&self, path: &str) -> Option<Admission<'_>> {
        let mut state = self.lock();
        if state.capacity.is_some_and(|capacity| state.stats.in_flight >= capacity) {
            state.stats.refused += 1;
            return None;
        }
        state.stats.requests += 1;
        state.stats.in_flight += 1;
        state.stats.max_in_flight = state.stats.max_in_flight.max(state.stats.in_flight);
        let in_flight = state.stats.in_flight;
        let attempt = match state.per_path.get_mut(path) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                state.per_path.insert(path.to_owned(), 1);
                1
            }
        };
        drop(state);
        Some(Admission { attempt, in_flight, permit: Permit { counters: self, completed: false } })
    }

    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.lock().capacity = capacity;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    pub(crate) fn requests(&self, path: &str) -> u32 {
        self.lock().per_path.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn path_counts(&self) -> HashMap<String, u32> {
        self.lock().per_path.clone()
    }

    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        let in_flight = state.stats.in_flight;
        state.stats = Stats { in_flight, max_in_flight: in_flight, ..Stats::default() };
        state.per_path.clear();
    }

    pub(crate) fn wait_idle(&self, timeout: Duration) -> bool {
        let started = Instant::now();
        let mut state = self.lock();
        while state.stats.in_flight > 0 {
            let Some(left) = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return false;
            };
            state = self.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Permit<'_> {
    /// Ends the request and counts its answer as written in full.
    pub(crate) fn complete(mut self) {
        self.completed = true;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.counters.lock();
        state.stats.in_flight -= 1;
        state.stats.completed += u64::from(self.completed);
        if state.stats.in_flight == 0 {
            self.counters.idle.notify_all();
        }
    }
}
