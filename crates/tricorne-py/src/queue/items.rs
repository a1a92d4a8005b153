//! Python objects in native memory: a queue of either order.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use tricorne::sync::{self, Closed, PutError, TryGetError};

type Item = Py<PyAny>;

/// The items of a queue, in the order in which they are to come out.
pub(super) enum Items {
    Fifo(sync::Queue<Item>),
    Lifo(sync::LifoQueue<Item>),
}

/// The same for either order.
macro_rules! either {
    ($items:expr, $queue:ident => $result:expr) => {
        match $items {
            Items::Fifo($queue) => $result,
            Items::Lifo($queue) => $result,
        }
    };
}

impl Items {
    /// A queue that hands out the oldest item, for at most `capacity` items if there is a number.
    pub(super) fn fifo(capacity: Option<usize>) -> Self {
        Self::Fifo(capacity.map_or_else(sync::Queue::unbounded, sync::Queue::bounded))
    }

    /// A queue that hands out the newest item, for at most `capacity` items if there is a number.
    pub(super) fn lifo(capacity: Option<usize>) -> Self {
        Self::Lifo(capacity.map_or_else(sync::LifoQueue::unbounded, sync::LifoQueue::bounded))
    }

    pub(super) fn try_put(&self, item: Item) -> Result<(), PutError<Item>> {
        either!(self, queue => queue.try_put(item))
    }

    pub(super) async fn put(&self, item: Item) -> Result<(), Closed<Item>> {
        either!(self, queue => queue.put_async(item).await)
    }

    pub(super) fn try_get(&self) -> Result<Item, TryGetError> {
        either!(self, queue => queue.try_get())
    }

    pub(super) async fn get(&self) -> Result<Item, Closed> {
        either!(self, queue => queue.get_async().await)
    }

    /// False if more were done than put.
    pub(super) fn task_done(&self) -> bool {
        either!(self, queue => queue.task_done().is_ok())
    }

    pub(super) fn unfinished(&self) -> u64 {
        either!(self, queue => queue.unfinished())
    }

    pub(super) async fn join(&self) {
        either!(self, queue => queue.join_async().await);
    }

    pub(super) fn len(&self) -> usize {
        either!(self, queue => queue.len())
    }

    pub(super) fn close(&self) {
        either!(self, queue => queue.close());
    }

    /// Closes it and takes out what is in it, oldest first.
    pub(super) fn close_now(&self) -> Vec<Item> {
        match self {
            Self::Fifo(queue) => queue.close_now(),
            Self::Lifo(queue) => {
                let mut items = queue.close_now();
                items.reverse();
                items
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        either!(self, queue => queue.is_closed())
    }

    pub(super) fn stats(&self) -> sync::QueueStats {
        either!(self, queue => queue.stats())
    }

    /// For the garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let mut result = Ok(());
        either!(self, queue => queue.for_each(|item| {
            if result.is_ok() {
                result = visit.call(item);
            }
        }));
        result
    }
}
