//! Turns a panic of a task into an error value with message and location.
//!
//! The payload of a panic has its message but not its place, which only the panic hook is told. So the first executor
//! puts a hook in front of the one that is there: on a thread that is just running a task it keeps the place and stays
//! silent, since the panic becomes an error that the caller sees; everywhere else it calls the former hook.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::TaskError;

enum Capture {
    /// No task runs on this thread: panics are not ours.
    Off,
    /// A task runs; the place of its panic, once there was one.
    On(Option<String>),
}

thread_local! {
    static CAPTURE: RefCell<Capture> = const { RefCell::new(Capture::Off) };
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
            // A thread that is ending has no such variable any more.
            let captured = CAPTURE.try_with(|capture| match &mut *capture.borrow_mut() {
                Capture::Off => false,
                Capture::On(location) => {
                    *location = info.location().map(ToString::to_string);
                    true
                }
            });
            if !captured.unwrap_or(false) {
                former(info);
            }
        }));
    });
}

/// Runs `work`; a panic comes back as [`TaskError::Panicked`].
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, TaskError> {
    let outer = CAPTURE.replace(Capture::On(None));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    let inner = CAPTURE.replace(outer);
    outcome.map_err(|payload| {
        let message = message(&*payload);
        // A payload may panic in its own drop; what it says then is of no interest.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)));
        let location = match inner {
            Capture::On(location) => location,
            Capture::Off => None,
        };
        TaskError::Panicked { message, location }
    })
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
