//! Tricorne for Rust users: one name for its crates, and the command.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`sync`] | primitives that work from blocking threads and from async code alike |
//! | [`exec`] | futures, thread and async executors, retry, limits |
//! | [`http`] | one HTTP client: pools, limits, time-outs, retries |
//! | [`text`] | from the bytes of a page to clean, measured text |
//! | [`pipeline`] | URLs or files in, a clean data set out |
//! | [`cli`] | the `tricorne` command as a function |
//! | [`demo`] | the pages that the command carries, and the server that serves them with faults |

pub use {
    tricorne_exec as exec, tricorne_http as http, tricorne_pipeline as pipeline, tricorne_sync as sync,
    tricorne_text as text,
};

pub mod cli;
pub mod demo;
