//! Time limits as Python callers give them: seconds, as any real number.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// `threading.TIMEOUT_MAX`: the longest limit, in seconds.
const TIMEOUT_MAX: f64 = 9_223_372_036.0;

/// Reads seconds.
///
/// # Errors
///
/// `TypeError` for what is no number, `ValueError` for NaN, `OverflowError` above `threading.TIMEOUT_MAX`.
pub(crate) fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds: f64 = timeout.extract()?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("invalid value NaN (not a number)"));
    }
    if seconds > TIMEOUT_MAX {
        return Err(PyOverflowError::new_err("timeout value is too large"));
    }
    Ok(seconds)
}

/// The moment that is `seconds` from now; what is not after now has passed already. `None` if it is further than the clock goes.
pub(crate) fn after(seconds: f64) -> Option<Instant> {
    Instant::now().checked_add(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// The limit of an operation that waits for ever by default: `None` in Python, or seconds.
///
/// # Errors
///
/// As for [`seconds`].
pub(crate) fn deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    Ok(timeout.map(seconds).transpose()?.and_then(after))
}

/// A flag such as `blocking`: any object, by its truth.
#[derive(Clone, Copy)]
pub(crate) struct Truth(pub(crate) bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}
