//! The client against servers on the loopback address, well-behaved and not.

mod adaptive;
mod common;
mod encoding;
mod faults;
mod get;
mod limits;
mod redirects;
mod tls;
