//! The queues of `tricorne.queue`: those of `tricorne-sync` with the conduct of their namesakes in the standard library.

mod fifo;
mod items;
mod lifo;
mod open;
mod priority;
mod simple;
mod stats;

pub(crate) use fifo::Queue;
pub(crate) use lifo::LifoQueue;
pub(crate) use priority::PriorityQueue;
pub(crate) use simple::SimpleQueue;
pub(crate) use stats::QueueStats;

crate::once::exception!("queue", Empty);
crate::once::exception!("queue", Full);
crate::once::exception!("tricorne.queue", ShutDown);
