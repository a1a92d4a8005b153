//! Futures, executors, retry and limits

pub mod limit;
pub mod retry;
