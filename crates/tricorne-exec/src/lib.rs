//! Futures, executors, retry and limits: how work is run, waited for, repeated and held back.
//!
//! | for | use |
//! | --- | --- |
//! | native work that keeps a core busy, and calls that block | [`ThreadPoolExecutor`] |
//! | the same with tasks that borrow from the caller | [`ThreadPoolExecutor::scope`] |
//! | work that waits: requests, timers | [`AsyncExecutor`] |
//! | work that may crash, or needs a process of its own | [`process`] (Linux) |
//! | a function over many items, more than fit into memory | `map` of each executor: [`Map`] |
//! | code that should not care where its tasks run | [`Executor`], [`InlineExecutor`] |
//! | a result that is not there yet | [`Future`], made by an executor or by [`promise`] |
//! | one result for many | [`Future::shared`] |
//! | several results: the first, all, until one fails, or as they come | [`wait`], [`as_completed`] |
//! | not asking more of a server than it can do at once | [`limit::Limiter`] |
//! | not asking more of it than is allowed in a time | [`limit::RateLimiter`] |
//! | ending an async wait when a token is cancelled, or at its deadline | [`cancelled`] |
//! | trying again, a bounded number of times | [`retry::RetryPolicy`], [`retry::RetryBudget`] |
//! | finding out which task blocks the event loop | [`AsyncExecutorBuilder::watchdog`] |
//! | what all this costs | [`sys`] |
//!
//! Every executor returns the same [`Future`], and a `Future` can be waited for from everywhere: a thread blocks in
//! [`result`](Future::result), async code awaits it on any runtime, and [`on_done`](Future::on_done) leaves a
//! callback. A panic is an error value, [`TaskError::Panicked`], that names message and place. An executor that came along
//! with a fork says so, [`TaskError::Forked`], instead of hanging. Nothing here prints, reads the environment or opens a
//! connection.
//!
//! # Examples
//!
//! An event loop waits, a pool of threads computes, and each awaits the other's result.
//!
//! ```
//! use std::sync::Arc;
//! use tricorne_exec::{AsyncExecutor, Shutdown, TaskError, ThreadPoolExecutor};
//!
//! let pool = Arc::new(ThreadPoolExecutor::builder().workers(2).name("count").build()?);
//! let event_loop = AsyncExecutor::builder().name("fetch").build()?;
//!
//! let workers = Arc::clone(&pool);
//! let words = event_loop.spawn(async move {
//!     let page = async { "three words here" }.await;
//!     workers.submit(move || page.split_whitespace().count()).await
//! });
//! assert_eq!(words.result()??, 3);
//!
//! let broken = pool.submit(|| [1, 2, 3].iter().position(|n| *n == 4).expect("no four"));
//! assert!(matches!(broken.result(), Err(TaskError::Panicked { message, .. }) if message == "no four"));
//! pool.shutdown(Shutdown::Drain);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

pub mod limit;
#[cfg(target_os = "linux")]
pub mod process;
pub mod retry;
pub mod sys;

mod async_executor;
mod cancelled;
mod error;
mod executor;
mod future;
mod map;
mod panics;
mod park;
mod scope;
mod shared_future;
mod thread_pool;
mod wait;
mod watchdog;

pub use async_executor::{AsyncExecutor, AsyncExecutorBuilder};
pub use cancelled::cancelled;
pub use error::{ExecError, TaskError};
pub use executor::{Executor, InlineExecutor, Shutdown};
pub use future::{Future, Promise, TaskResult, promise};
pub use map::{Map, UnorderedMap};
pub use scope::Scope;
pub use shared_future::SharedFuture;
pub use thread_pool::{ThreadPoolBuilder, ThreadPoolExecutor, ThreadPoolStats};
pub use wait::{
    AnyFuture, AsCompleted, TimedOut, WaitFor, Waited, as_completed, wait, wait_async, wait_deadline,
};
pub use watchdog::Blockage;
