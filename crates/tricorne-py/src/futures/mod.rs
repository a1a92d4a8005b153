//! Futures and the thread pool of `tricorne.futures`.

pub(crate) mod future;
pub(crate) mod map;
pub(crate) mod thread_pool;
pub(crate) mod timer;
pub(crate) mod watch;

mod log;
mod work;
pub(crate) mod worker;
