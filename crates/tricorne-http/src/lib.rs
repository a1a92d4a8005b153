//! One HTTP/1.1 client for fetching many pages from many hosts without hurting any of them.
//!
//! [`Client::get`] takes a URL to a page ([`Fetched`]) or to the reason why there is none ([`FetchFailure`]). On
//! the way it keeps to the limits of the host and of the whole client, follows redirects, repeats what may pass, obeys
//! `Retry-After`, bounds every wait and every size, and undoes content encodings.
//!
//! ```text
//!  URL ─▶ host gate ─▶ host limit ─▶ client limit ─▶ connection ─▶ request ─▶ answer ─▶ decode ─▶ page
//!           ▲  Retry-After                            (kept or new)             │
//!           └──────────── back-off, nothing held ◀──── may pass ────────────────┤
//!           └──────────── next address ◀────────────── redirect ────────────────┘
//! ```
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use tricorne_http::{Client, ClientConfig, FailureKind};
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let client = Client::new(ClientConfig { total_timeout: Duration::from_secs(20), ..ClientConfig::default() })?;
//! let failure = runtime.block_on(client.get("gopher://example.com/")).expect_err("this is not HTTP");
//! assert_eq!(failure.kind, FailureKind::UnsupportedScheme);
//! assert_eq!(failure.kind.as_str(), "unsupported_scheme");
//! assert!(!failure.retryable);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod attempt;
mod client;
mod config;
mod connect;
mod connection;
mod deadline;
mod decode;
mod error;
mod host;
mod private;
mod retry_after;
mod stats;
mod target;
mod tls;

pub use client::{Client, Fetched, InFlight};
pub use config::{ClientConfig, Concurrency};
pub use error::{FailureKind, FetchFailure, HttpError};
pub use private::PrivateAddresses;
pub use stats::ClientStats;
pub use tls::check_roots;
