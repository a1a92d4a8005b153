//! What is known about a host: its limit, its gate, its addresses and its idle connections; and the bounded map of
//! all hosts.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tricorne_exec::limit::{Limiter, RateLimiter};
use tricorne_sync::Semaphore;
use url::Host as Name;

use crate::{
    config::ClientConfig,
    connection::Connection,
    error::{AttemptError, FailureKind},
    target::Origin,
};

/// One host (scheme, name and port).
pub(crate) struct Host {
    pub(crate) origin: Arc<Origin>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) rate: Option<RateLimiter>,
    /// One look-up at a time: the first of many requests resolves the name for all.
    resolving: Semaphore,
    dns_ttl: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing is sent before this moment: the server asked for it by `Retry-After`.
    closed_until: Option<Instant>,
    addresses: Option<(Arc<[SocketAddr]>, Instant)>,
    /// Longest idle first; taken from the end, so that few connections carry the load and the others may expire.
    idle: Vec<Idle>,
}

struct Idle {
    connection: Connection,
    since: Instant,
    _count: Counted,
}

impl Host {
    fn new(origin: Arc<Origin>, config: &ClientConfig) -> Self {
        Host {
            origin,
            limiter: config.per_host.limiter(),
            rate: config.rate_per_host.map(RateLimiter::new),
            resolving: Semaphore::new(1),
            dns_ttl: config.dns_ttl,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The moment from which requests are welcome again, if it is not yet reached.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        let mut state = self.state();
        if state.closed_until.is_some_and(|until| until <= Instant::now()) {
            state.closed_until = None;
        }
        state.closed_until
    }

    /// Closes the host for `wait` from now; never shortens what was asked for before.
    pub(crate) fn close_for(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        state.closed_until = Some(state.closed_until.map_or(until, |earlier| earlier.max(until)));
    }

    /// The addresses of the name, the one that worked last first.
    pub(crate) async fn addresses(&self) -> Result<Arc<[SocketAddr]>, AttemptError> {
        let name = match &self.origin.host {
            Name::Ipv4(ip) => return Ok(Arc::new([SocketAddr::new(IpAddr::V4(*ip), self.origin.port)])),
            Name::Ipv6(ip) => return Ok(Arc::new([SocketAddr::new(IpAddr::V6(*ip), self.origin.port)])),
            Name::Domain(name) => name,
        };
        if let Some(known) = self.known_addresses() {
            return Ok(known);
        }
        // The semaphore is never closed, so that an error cannot occur; without the permit we only look up twice.
        let _permit = self.resolving.acquire_async(1).await.ok();
        if let Some(known) = self.known_addresses() {
            return Ok(known);
        }
        let failed = |reason: &str| {
            AttemptError::new(FailureKind::Dns, format!("host name `{name}` cannot be resolved: {reason}"))
        };
        let found: Arc<[SocketAddr]> = tokio::net::lookup_host((name.as_str(), self.origin.port))
            .await
            .map_err(|error| failed(&error.to_string()))?
            .collect();
        if found.is_empty() {
            return Err(failed("it has no address"));
        }
        self.state().addresses = Some((found.clone(), Instant::now() + self.dns_ttl));
        Ok(found)
    }

    fn known_addresses(&self) -> Option<Arc<[SocketAddr]>> {
        let state = self.state();
        let (addresses, expires) = state.addresses.as_ref()?;
        (*expires > Instant::now()).then(|| addresses.clone())
    }

    /// Tries `address` first the next time.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        if let Some((addresses, _)) = &mut self.state().addresses
            && let Some(index) = addresses.iter().position(|known| *known == address)
            && index > 0
        {
            let mut reordered = addresses.to_vec();
            reordered.swap(0, index);
            *addresses = reordered.into();
        }
    }

    pub(crate) fn forget_addresses(&self) {
        self.state().addresses = None;
    }

    /// The connection used last, if it still works.
    pub(crate) async fn take_idle(&self, idle_timeout: Duration) -> Option<Connection> {
        loop {
            let mut connection = self.state().pop_idle(idle_timeout)?;
            if connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// Whether nobody would notice if this host were forgotten.
    fn is_unused(&self) -> bool {
        self.limiter.in_flight() == 0
            && self.closed_until().is_none()
            && self.rate.as_ref().is_none_or(RateLimiter::is_rested)
    }
}

impl State {
    fn pop_idle(&mut self, idle_timeout: Duration) -> Option<Connection> {
        let idle = self.idle.pop()?;
        if idle.since.elapsed() > idle_timeout {
            // All others have been idle longer still.
            self.idle.clear();
            return None;
        }
        Some(idle.connection)
    }
}

/// All hosts in use or used lately.
pub(crate) struct Hosts {
    table: Mutex<Table>,
    /// Idle connections over all hosts; each holds one count.
    idle: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Table {
    hosts: HashMap<Arc<Origin>, Entry>,
    swept: Option<Instant>,
}

struct Entry {
    host: Arc<Host>,
    used: Instant,
}

/// How often idle connections are looked through; there is no timer, only the next connection that becomes idle.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Hosts {
    pub(crate) fn new() -> Self {
        Hosts { table: Mutex::default(), idle: Arc::default() }
    }

    pub(crate) fn get(&self, origin: &Arc<Origin>, config: &ClientConfig) -> Arc<Host> {
        let now = Instant::now();
        let mut table = lock(&self.table);
        if let Some(entry) = table.hosts.get_mut(origin) {
            entry.used = now;
            return entry.host.clone();
        }
        if table.hosts.len() >= config.max_hosts {
            table.forget_unused(config.max_hosts);
        }
        let host = Arc::new(Host::new(origin.clone(), config));
        table.hosts.insert(origin.clone(), Entry { host: host.clone(), used: now });
        host
    }

    /// Keeps a connection for the next request to its host, within the bounds of `config`.
    pub(crate) fn put_idle(&self, host: &Host, connection: Connection, config: &ClientConfig) {
        let since = Instant::now();
        {
            let mut state = host.state();
            if state.idle.len() >= config.idle_per_host {
                return;
            }
            state.idle.push(Idle { connection, since, _count: Counted::new(&self.idle) });
        }
        let full = self.idle() > config.idle_total;
        let mut table = lock(&self.table);
        if full || table.swept.is_none_or(|swept| since - swept >= SWEEP_INTERVAL) {
            table.swept = Some(since);
            table.close_idle(since, config, full);
        }
    }

    /// Idle connections over all hosts.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Hosts remembered.
    pub(crate) fn len(&self) -> usize {
        lock(&self.table).hosts.len()
    }

    /// The sum of the limits of the hosts that have requests in flight.
    pub(crate) fn limit(&self) -> usize {
        let table = lock(&self.table);
        let busy =
            table.hosts.values().map(|entry| &entry.host.limiter).filter(|limiter| limiter.in_flight() > 0);
        busy.map(|limiter| limiter.limit()).sum()
    }
}

impl Table {
    /// Makes room for a quarter of `max_hosts` at once, so that a wide crawl does not sort for every new host.
    fn forget_unused(&mut self, max_hosts: usize) {
        let mut unused: Vec<_> = self
            .hosts
            .iter()
            .filter(|(_, entry)| Arc::strong_count(&entry.host) == 1 && entry.host.is_unused())
            .map(|(origin, entry)| (entry.used, origin.clone()))
            .collect();
        unused.sort_unstable_by_key(|(used, _)| *used);
        for (_, origin) in unused.iter().take((max_hosts / 4).max(1)) {
            self.hosts.remove(origin);
        }
    }

    /// Closes connections that were idle too long and, when there are too many, the longest idle quarter of all.
    fn close_idle(&mut self, now: Instant, config: &ClientConfig, full: bool) {
        let mut oldest_kept = now.checked_sub(config.idle_timeout);
        if full {
            let mut ages = Vec::new();
            for entry in self.hosts.values() {
                ages.extend(entry.host.state().idle.iter().map(|idle| idle.since));
            }
            ages.sort_unstable();
            oldest_kept = oldest_kept.max(ages.get(ages.len() / 4 + 1).or(ages.last()).copied());
        }
        let Some(oldest_kept) = oldest_kept else { return };
        for entry in self.hosts.values() {
            entry.host.state().idle.retain(|idle| idle.since >= oldest_kept);
        }
    }
}

/// One count of a gauge, given back when it is dropped.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn new(gauge: &Arc<AtomicUsize>) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A panic of another user leaves maps and stacks whole, so that there is nothing to recover.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
