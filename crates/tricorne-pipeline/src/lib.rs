//! URLs or files in, a clean data set out: plan, runner, journal, shards

pub mod error;
pub mod expr;
pub mod files;
mod journal;
pub mod plan;
pub mod record;
pub mod sink;
