//! URLs or files in, a clean data set out: plan, runner, journal, shards.
//!
//! [`run`] takes a [`plan::Plan`] and makes its data set: pages are fetched, made into text, measured, filtered, rid of exact
//! duplicates and written as shards, all at the same time over bounded queues, on all cores, with memory that does not
//! grow with the input. A run that is killed goes on where it stopped, and its shards are the same to the byte as those
//! of a run that was not.
//!
//! ```text
//! plan ──▶ pipeline ──▶ runner: source ▶ fetch ▶ journal ▶ text stages ▶ commit ──▶ publish (dedup, manifest)
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`plan`], [`expr`] | the plan, its errors, the filter expression |
//! | [`runner`] | the threads and queues of a run; works with any source, fetch and stages |
//! | [`record`], [`sink`] | what flows, and the files it ends in |
//! | [`files`] | the file layer under journal and commit |
//! | [`observer`], [`report`] | what a run tells while it goes on, and at its end |

pub mod error;
pub mod expr;
pub mod files;
pub mod observer;
pub mod plan;
pub mod record;
pub mod report;
pub mod runner;
pub mod sink;

mod commit;
mod fetch;
mod journal;
mod layout;
mod pipeline;
mod publish;
mod source;
mod text;

pub use pipeline::{RunOptions, run, run_on, sample_rows};
pub use tricorne_sync::CancelToken;
