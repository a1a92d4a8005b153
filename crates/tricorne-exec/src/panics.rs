//! Turns a panic of a task into an error value with message and location.
//!
//! The payload of a panic has its message but not its place, which only the panic hook is told. So the first executor
//! puts a hook in front of the one that is there: on a thread that is just running a task it keeps the place and stays
//! silent, since the panic becomes an error that the caller sees; everywhere else it calls the former hook. An error that
//! nobody has asked for when the last of its future goes is [told](unseen) to the former hook after all: no panic vanishes.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::TaskError;

thread_local! {
    /// Whether a task runs on this thread: its panics are ours.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of a task was.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Panics that were caught on this thread.
    static CAUGHT: Cell<u64> = const { Cell::new(0) };
}

/// Puts our hook in front of the present one, once per process.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    // A hook cannot be changed by a thread that is panicking; locations are then unknown until the next executor.
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IN_TASK.get() {
                former(info);
                return;
            }
            let location = info.location().map(ToString::to_string);
            // A thread that is ending has no such variable any more.
            let _ = LOCATION.try_with(|last| last.replace(location));
        }));
    });
}

/// Runs `work`; a panic comes back as [`TaskError::Panicked`].
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, TaskError> {
    let outer = IN_TASK.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    IN_TASK.set(outer);
    outcome.map_err(error_of)
}

#[cold]
fn error_of(payload: Box<dyn Any + Send>) -> TaskError {
    let message = message(&*payload);
    let location = LOCATION.try_with(RefCell::take).unwrap_or_default();
    CAUGHT.set(CAUGHT.get() + 1);
    discard(payload);
    TaskError::Panicked { message, location }
}

/// How many panics of tasks this thread has caught.
pub(crate) fn caught() -> u64 {
    CAUGHT.get()
}

/// Runs foreign code whose panics are nobody's, such as the destructor of something that nobody wants.
pub(crate) fn contain(work: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(work)) {
        discard(payload);
    }
}

/// A payload may panic in its own drop; what it panics with then is left alone.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// A task's panic that nobody has asked for: the program's panic hook is told, as of the panic of a thread that nobody
/// joins.
#[cold]
pub(crate) fn unseen(error: &TaskError) {
    let outer = IN_TASK.replace(false);
    contain(|| panic!("{error}, and nobody has asked for its result"));
    IN_TASK.set(outer);
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}
