//! What a user may set: one struct, every field with its default and what it costs or buys.

use crate::private::PrivateAddresses;
use std::{sync::Arc, time::Duration};

use tricorne_exec::limit::{AdaptiveConfig, Limiter, Rate};

/// How many requests may be on the network at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// Finds the limit by itself, between 1 and `max`: grows while the answers stay quick, gives way when the
    /// server refuses (429, 503) or does not answer in time.
    Auto {
        /// The most requests at once, never passed.
        max: usize,
    },
    /// Exactly this many at once.
    Fixed(usize),
}

impl Concurrency {
    /// The most requests at once that this setting ever allows.
    pub fn max(self) -> usize {
        match self {
            Concurrency::Auto { max } | Concurrency::Fixed(max) => max,
        }
    }

    pub(crate) fn limiter(self) -> Arc<Limiter> {
        match self {
            Concurrency::Fixed(permits) => Limiter::fixed(permits),
            Concurrency::Auto { max } => {
                Limiter::adaptive(AdaptiveConfig { min: 1, initial: INITIAL_CONCURRENCY.min(max), max })
            }
        }
    }
}

/// Where an adaptive limit starts: low enough for a small server, and doubled quickly by a large one.
const INITIAL_CONCURRENCY: usize = 8;

/// Settings of a [`Client`](crate::Client).
///
/// Times are measured on the network only: waiting for a permit, for a host that asked for patience, or for the
/// next try is never counted.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Requests at once over all hosts. Default: `Auto { max: 256 }`. With `Auto` the client as a whole has no
    /// limit of its own below `max`: each host finds its own, see `per_host`, because one number cannot suit a slow host and a
    /// fast one.
    pub concurrency: Concurrency,
    /// Requests at once to one host (scheme, name and port). Default: `Auto { max: 64 }`.
    pub per_host: Concurrency,
    /// Requests in a time to one host, redirects and repeats included. A request waits for its turn without a place under
    /// the limits, and counts at the moment at which it is sent. Default: none.
    pub rate_per_host: Option<Rate>,
    /// Time for resolving the name, the TCP connection and the TLS handshake together. Default: 10 s.
    pub connect_timeout: Duration,
    /// Time from sending the request until the head of the answer is complete. Default: 30 s.
    pub first_byte_timeout: Duration,
    /// Longest pause between two pieces of a body. Default: 15 s.
    pub stall_timeout: Duration,
    /// Network time of one record over all its attempts and redirects. Default: 60 s.
    pub total_timeout: Duration,
    /// Repeats after a first try that failed in a way that may pass; one budget for a record, redirects included.
    /// Default: 5.
    pub retries: u32,
    /// Back-off before the first repeat, on average half of it (full jitter), doubled each time. Default: 500 ms.
    pub retry_base: Duration,
    /// Longest back-off of ours. Default: 30 s.
    pub retry_max_delay: Duration,
    /// Longest wait that a server may ask for by `Retry-After`; a longer one is cut to this. Default: 120 s.
    pub retry_after_max: Duration,
    /// Redirects followed for one record. Default: 10.
    pub max_redirects: u32,
    /// Largest body as sent, before content decoding, in bytes. Default: 32 MiB.
    pub max_body_bytes: u64,
    /// Largest body after content decoding, in bytes. Default: 64 MiB.
    pub max_decoded_bytes: u64,
    /// The `User-Agent` header. Default: `tricorne/VERSION`.
    pub user_agent: String,
    /// Further request headers, name and value. `Authorization`, `Cookie` and `Proxy-Authorization` among them are
    /// not sent to another host after a redirect. Default: none.
    pub headers: Vec<(String, String)>,
    /// Which records may reach addresses that are not part of the public internet. Default: those that were asked for
    /// there, not those that a public address redirects there.
    pub private_addresses: PrivateAddresses,
    /// Trusted root certificates besides those of the system, as PEM. Default: none.
    pub extra_root_pem: Vec<u8>,
    /// Idle connections kept for one host. Default: 64.
    pub idle_per_host: usize,
    /// Idle connections kept over all hosts; beyond it the longest idle go first. Default: 256.
    pub idle_total: usize,
    /// How long an idle connection is kept; shorter than most servers' own limit, so that few are found dead.
    /// Default: 15 s.
    pub idle_timeout: Duration,
    /// How long the addresses of a name are kept. Default: 60 s.
    pub dns_ttl: Duration,
    /// Hosts remembered with their limit, addresses and connections; beyond it hosts without work are forgotten,
    /// longest unused first. Default: 1024.
    pub max_hosts: usize,
    /// Seed of the back-off jitter: the same seed and URL give the same delays. Default: 0.
    pub seed: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            concurrency: Concurrency::Auto { max: 256 },
            per_host: Concurrency::Auto { max: 64 },
            rate_per_host: None,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(15),
            total_timeout: Duration::from_secs(60),
            retries: 5,
            retry_base: Duration::from_millis(500),
            retry_max_delay: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(120),
            max_redirects: 10,
            max_body_bytes: 32 << 20,
            max_decoded_bytes: 64 << 20,
            user_agent: concat!("tricorne/", env!("CARGO_PKG_VERSION")).to_owned(),
            headers: Vec::new(),
            private_addresses: PrivateAddresses::default(),
            extra_root_pem: Vec::new(),
            idle_per_host: 64,
            idle_total: 256,
            idle_timeout: Duration::from_secs(15),
            dns_ttl: Duration::from_secs(60),
            max_hosts: 1024,
            seed: 0,
        }
    }
}
