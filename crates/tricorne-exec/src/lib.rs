//! Futures, executors, retry and limits
