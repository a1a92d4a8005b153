//! Errors as Python exceptions: ours are defined in `tricorne.errors`, those of the system stay `OSError`.

use std::error::Error;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tricorne::pipeline::error::RunError as RunFailure;
use tricorne::pipeline::plan::PlanErrors;

crate::once::exception!("tricorne.errors", PlanError);
crate::once::exception!("tricorne.errors", RunError);
crate::once::exception!("tricorne.errors", BrokenExecutor);
crate::once::exception!("tricorne.errors", BrokenThreadPool);
crate::once::exception!("tricorne.errors", CancelledError);
crate::once::exception!("tricorne.errors", InvalidStateError);
crate::once::exception!("tricorne.errors", TimeoutError);

/// All mistakes of a plan, as the command shows them.
pub(crate) fn of_plan(errors: &PlanErrors) -> PyErr {
    PlanError::new_err(errors.to_string())
}

/// The message with its causes; the hint is a note, which Python prints below the traceback.
pub(crate) fn of_run(py: Python<'_>, failure: &RunFailure) -> PyErr {
    let exception = match failure {
        RunFailure::Io { path, source, .. } if let Some(code) = source.raw_os_error() => {
            // Python picks the subclass, such as `PermissionError`, by the code.
            match py.import("os").and_then(|os| os.call_method1("strerror", (code,))?.extract::<String>()) {
                Ok(text) => PyOSError::new_err((code, text, path.clone().into_os_string())),
                Err(error) => error,
            }
        }
        _ => RunError::new_err(with_causes(failure)),
    };
    match failure.hint() {
        Some(hint) => with_note(py, exception, &format!("hint: {hint}")),
        None => exception,
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn with_note(py: Python<'_>, exception: PyErr, note: &str) -> PyErr {
    match exception.value(py).call_method1("add_note", (note,)) {
        Ok(_) => exception,
        Err(error) => error,
    }
}
