//! A process pool that a crash does not break.
//!
//! | for | use |
//! | --- | --- |
//! | running Rust functions in worker processes | [`ProcessPoolExecutor`], with [`Function`], [`Registry`] and [`worker_main`] |
//! | passing large bytes without copying them twice | [`Buffer`] |
//! | another language on the same engine | [`Engine`] on the side of the pool, [`serve_template`] with a [`Host`] and a [`Handler`] on the other |
//! | workers that somebody else starts | [`Launcher`] and [`serve_worker`] |
//!
//! A pool has one thread, the manager; one template process, which makes workers; and one private socket pair, one board of
//! shared memory and one pidfd for each worker. Nothing is shared between workers, so nothing can be left locked by one that
//! dies. How this holds together when anything is killed at any time is told in `docs/design/process-pool.md`; each file
//! here has its own part of it.
//!
//! # Examples
//!
//! A program that uses a pool calls [`worker_main`] first: `examples/process_pool.rs` is one.

mod board;
mod codec;
mod crash;
mod dispatch;
mod engine;
mod frame;
mod function;
mod launch;
mod lead;
mod manager;
mod map;
mod message;
mod output;
mod parcel;
mod pool;
mod segment;
mod socket;
mod stats;
mod template;
mod worker;

pub use crash::{CrashCause, ProcessEnd, WorkerCrashed};
pub use engine::{Call, Definition, Engine, EngineConfig, Job, OnCrash, Outcome};
pub use function::{Function, Registry, worker_main};
pub use launch::{Launch, Launcher, WorkerEnds, serve_worker};
pub use map::Map;
pub use message::{Buffer, Message};
pub use output::{Output, OutputLine, Stream};
pub use pool::{ProcessPoolBuilder, ProcessPoolExecutor, TaskHandle, TaskOptions};
pub use stats::ProcessPoolStats;
pub use template::{Host, serve_template};
pub use worker::{Handler, Reply};
