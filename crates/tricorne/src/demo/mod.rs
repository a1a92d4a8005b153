//! A small web site inside the command: real pages behind real HTTP, with the latency and the faults of the real web.
//!
//! [`corpus`] holds the pages, [`site`] decides what stands at which URL and what goes wrong there, [`DemoServer`] serves
//! it on the loopback address. All of it follows from [`DemoOptions`]: two servers with the same options behave alike,
//! whatever the order of the requests.

pub mod corpus;
mod server;
pub mod site;

pub use server::{DemoOptions, DemoServer, DemoUrl};
