//! The logger `concurrent.futures`, where the standard library reports what nobody can catch.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// `LOGGER.exception(message, *args)` for an exception that was raised.
pub(crate) fn error(
    py: Python<'_>,
    message: &str,
    args: &[&Bound<'_, PyAny>],
    raised: &PyErr,
) -> PyResult<()> {
    write(py, "error", message, args, Some(raised))
}

/// `LOGGER.critical(message, *args)`, with the exception that led to it if there is one.
pub(crate) fn critical(
    py: Python<'_>,
    message: &str,
    args: &[&Bound<'_, PyAny>],
    raised: Option<&PyErr>,
) -> PyResult<()> {
    write(py, "critical", message, args, raised)
}

fn write(
    py: Python<'_>,
    level: &str,
    message: &str,
    args: &[&Bound<'_, PyAny>],
    raised: Option<&PyErr>,
) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("concurrent.futures",))?;
    let mut words = vec![message.into_pyobject(py)?.into_any()];
    words.extend(args.iter().map(|&arg| arg.clone()));
    let options = PyDict::new(py);
    if let Some(raised) = raised {
        options.set_item("exc_info", raised.clone_ref(py).into_value(py))?;
    }
    logger.call_method(level, PyTuple::new(py, words)?, Some(&options))?;
    Ok(())
}
