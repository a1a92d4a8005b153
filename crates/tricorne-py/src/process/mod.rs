//! The process pool of `tricorne.futures`: Python's codec on the engine of `tricorne::exec::process`.
//!
//! What is called and with what, results and exceptions are pickles, made and read by `tricorne.futures._codec`. Here they are moved
//! between Python and the engine's messages, and futures are ended.

pub(crate) mod engine;
mod inbox;
mod launcher;
pub(crate) mod memory;
mod message;
pub(crate) mod task;
pub(crate) mod worker;
