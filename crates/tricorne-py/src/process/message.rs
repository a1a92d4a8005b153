//! Between a pickle with its buffers and a message of the engine.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};
use tricorne::exec::process::{Buffer, Message};

use super::memory::{Held, SharedBytes};

/// From so many bytes on a pickle is not copied into a vector first.
const LARGE_BYTES: usize = 32 * 1024;

/// A pickle and the buffers that were left out of it.
///
/// # Errors
///
/// One of the buffers is none.
pub(crate) fn from_python(payload: Bound<'_, PyBytes>, buffers: &Bound<'_, PyList>) -> PyResult<Message> {
    let mut message = if payload.as_bytes().len() < LARGE_BYTES {
        Message::new(payload.as_bytes().to_vec())
    } else {
        Message { payload: Buffer::from_owner(PyBackedBytes::from(payload)), buffers: Vec::new() }
    };
    for buffer in buffers {
        message.buffers.push(Buffer::from_owner(Held::new(&buffer)?));
    }
    Ok(message)
}

/// How many bytes are to be copied.
pub(crate) fn bytes(message: &Message) -> usize {
    message.payload.len() + message.buffers.iter().map(|buffer| buffer.len()).sum::<usize>()
}

/// The pickle, `bytes` or something like it, and its buffers.
pub(crate) fn to_python(py: Python<'_>, message: Message) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyList>)> {
    let payload = if message.payload.len() < LARGE_BYTES {
        PyBytes::new(py, &message.payload).into_any()
    } else {
        Bound::new(py, SharedBytes::new(message.payload))?.into_any()
    };
    let buffers = PyList::empty(py);
    for buffer in message.buffers {
        buffers.append(Bound::new(py, SharedBytes::new(buffer))?)?;
    }
    Ok((payload, buffers))
}
