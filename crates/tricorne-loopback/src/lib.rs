//! An HTTP/1.1 server on the loopback address that misbehaves on request, for the demo and for tests.
//!
//! A [`Server`] runs on a thread of its own. For each [`Request`] it calls the handler it was started with and sends the
//! [`Reply`] that comes back: after a delay, cut short, in drips, or not at all. It keeps connections alive, answers
//! pipelined requests in order, counts what it did ([`Stats`]), and can pretend that it serves only so many requests at a
//! time ([`Server::set_capacity`]). A [`DeadPort`] is the opposite: an address where nobody listens.
//!
//! The request number [`Request::attempt`] makes faults deterministic: "503 on the first try" does not depend on which
//! request came first.
//!
//! ```
//! use std::io::{Read, Write};
//! use tricorne_loopback::{Reply, Server};
//!
//! let server = Server::start(|request| match (request.path.as_str(), request.attempt) {
//!     ("/flaky", 1) => Reply::new(503),
//!     ("/flaky", _) => Reply::html("<p>hello"),
//!     _ => Reply::new(404),
//! })?;
//!
//! let mut answers = String::new();
//! for _ in 0..2 {
//!     let mut client = std::net::TcpStream::connect(server.addr())?;
//!     client.write_all(b"GET /flaky HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
//!     client.read_to_string(&mut answers)?;
//! }
//! assert!(answers.starts_with("HTTP/1.1 503 "));
//! assert!(answers.ends_with("<p>hello"));
//! assert_eq!(server.requests("/flaky"), 2);
//! # Ok::<(), std::io::Error>(())
//! ```

mod connection;
mod dead_port;
mod reply;
mod request;
mod server;
mod stats;

pub use dead_port::DeadPort;
pub use reply::Reply;
pub use request::Request;
pub use server::Server;
pub use stats::Stats;
