//! Counters of a client, and the snapshot that users see.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::FailureKind;

/// What a client has done so far and does now; a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientStats {
    /// Requests sent: first tries, repeats, redirects, and repeats on a fresh connection.
    pub requests: u64,
    /// Repeats after a failure, by the kind of that failure.
    pub retries: BTreeMap<FailureKind, u64>,
    /// Redirects followed.
    pub redirects: u64,
    /// Answers with status 429.
    pub too_many_requests: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Requests sent on a connection that had carried another one before.
    pub connections_reused: u64,
    /// Kept connections that turned out to be dead when the next request was sent; repeated on a fresh one.
    pub connections_stale: u64,
    /// Body bytes received, before content decoding.
    pub wire_bytes: u64,
    /// Body bytes of finished records, after content decoding.
    pub decoded_bytes: u64,
    /// Requests on the network now, and finished ones whose [`InFlight`](crate::InFlight) is still held.
    pub in_flight: usize,
    /// How many there may be now: the limits of the hosts in use together, at most the client's own.
    pub limit: usize,
    /// Connections kept for later requests.
    pub idle_connections: usize,
    /// Hosts remembered.
    pub hosts: usize,
}

/// The live counters. All relaxed: they are read for show, and nothing follows from their order.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) redirects: AtomicU64,
    pub(crate) too_many_requests: AtomicU64,
    pub(crate) connections_opened: AtomicU64,
    pub(crate) connections_reused: AtomicU64,
    pub(crate) connections_stale: AtomicU64,
    pub(crate) wire_bytes: AtomicU64,
    pub(crate) decoded_bytes: AtomicU64,
    retries: Mutex<BTreeMap<FailureKind, u64>>,
}

impl Counters {
    pub(crate) fn retried(&self, kind: FailureKind) {
        *self.retries.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// The counters; gauges are left at zero.
    pub(crate) fn snapshot(&self) -> ClientStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClientStats {
            requests: read(&self.requests),
            retries: self.retries.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            redirects: read(&self.redirects),
            too_many_requests: read(&self.too_many_requests),
            connections_opened: read(&self.connections_opened),
            connections_reused: read(&self.connections_reused),
            connections_stale: read(&self.connections_stale),
            wire_bytes: read(&self.wire_bytes),
            decoded_bytes: read(&self.decoded_bytes),
            ..ClientStats::default()
        }
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
