//! Ctrl-C: the first one stops after a checkpoint, the second one ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tricorne_pipeline::CancelToken;

use super::EXIT_INTERRUPTED;
use super::fail::Failure;

static RUNNING: Mutex<Option<CancelToken>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// A token that the next Ctrl-C (or SIGTERM) cancels.
pub(super) fn token(quiet: bool) -> Result<CancelToken, Failure> {
    let token = CancelToken::new();
    INTERRUPTED.store(false, Ordering::SeqCst);
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    let installed = INSTALLED.get_or_init(|| {
        ctrlc::set_handler(move || {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
            if !quiet {
                eprintln!("\nstopping after a checkpoint; Ctrl-C again to stop at once");
            }
            if let Some(token) = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                token.cancel();
            }
        })
        .map_err(|error| error.to_string())
    });
    match installed {
        Ok(()) => Ok(token),
        Err(error) => Err(Failure::new(format!("cannot listen for Ctrl-C: {error}"), None)),
    }
}
