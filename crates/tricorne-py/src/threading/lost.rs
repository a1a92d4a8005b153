//! Locks that a coroutine released in `wait_async` and could not take back, because it was closed there.
//!
//! Closing throws `GeneratorExit` into the coroutine, and its `async with` then releases a lock that it no longer holds, and that somebody
//! else may hold by now. All of that happens in one go in the thread that closes, which is how the two are brought together.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::PyGeneratorExit;
use pyo3::prelude::*;

/// More than can be lost and not yet be told of, unless a coroutine does not release what it had acquired.
const MOST: usize = 64;

thread_local! {
    /// The addresses of the locks.
    static LOST: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// Whether there are any: every release asks.
    static ANY: Cell<bool> = const { Cell::new(false) };
}

/// The lock at that address was lost by a coroutine that is being closed by this thread.
pub(super) fn note(lock: usize) {
    LOST.with_borrow_mut(|lost| {
        if lost.len() == MOST {
            lost.remove(0);
        }
        lost.push(lock);
    });
    ANY.set(true);
}

/// Whether a coroutine that is being closed is about to release a lock that it has lost; each loss is told once.
pub(super) fn was_it(py: Python<'_>, lock: usize) -> bool {
    if !ANY.get() {
        return false;
    }
    let place = LOST.with_borrow(|lost| lost.iter().rposition(|other| *other == lock));
    let Some(place) = place.filter(|_| is_closing(py)) else { return false };
    LOST.with_borrow_mut(|lost| {
        lost.remove(place);
        ANY.set(!lost.is_empty());
    });
    true
}

/// Whether `GeneratorExit` is being handled.
fn is_closing(py: Python<'_>) -> bool {
    let handled = py.import("sys").and_then(|sys| sys.call_method0("exc_info")?.get_item(1));
    handled.is_ok_and(|handled| handled.is_instance_of::<PyGeneratorExit>())
}
