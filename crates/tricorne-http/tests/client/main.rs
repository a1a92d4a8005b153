//! The client against servers on the loopback address, well-behaved and not.

mod common;
mod get;
