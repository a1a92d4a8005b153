//! Memory of Python objects on its way to another process, and memory that came from there for Python objects to live in: of arrays, or
//! whatever else left its bytes out of a pickle.
//!
//! One of the few places of this crate that need `unsafe`: Python's buffer protocol works with addresses.
#![allow(unsafe_code, reason = "the buffer protocol hands out addresses")]

use std::ffi::c_int;
use std::ptr::NonNull;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use tricorne::exec::process::Buffer;

/// Bytes of a Python object, held until they were sent.
pub(crate) struct Held(PyBuffer<u8>);

impl Held {
    /// # Errors
    ///
    /// It has no bytes, or they are not contiguous.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if buffer.is_c_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(PyBufferError::new_err("a buffer is not contiguous"))
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        let len = self.0.len_bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: the object keeps the bytes in place and alive for as long as the view is held, and they are contiguous (checked when it
        // was made). If another thread writes to them meanwhile, what is sent is a mixture, as with any copy of such an object; the
        // engine only copies them.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), len) }
    }
}

/// Writable bytes; what is written stays in this process. The memory goes back to its sender when nothing refers to it any more.
#[pyclass(frozen, module = "tricorne._native")]
pub(crate) struct SharedBytes {
    start: NonNull<u8>,
    len: usize,
    /// Only held: the bytes are reached through `start` from here on.
    _owner: Buffer,
}

// SAFETY: the memory is bound to no thread. Who writes to it are users of Python's buffer protocol, for whom it is like that of a
// `bytearray`: they see to it that they do not write at the same time.
unsafe impl Send for SharedBytes {}
// SAFETY: as above; nothing in here looks into the bytes.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    pub(crate) fn new(mut owner: Buffer) -> Self {
        // Exclusive from here on: the engine gives every buffer a mapping of its own, and what is shared is copied.
        let bytes: &mut [u8] = &mut owner;
        let len = bytes.len();
        // The address stays as it is when the buffer moves: the bytes are in a mapping or on the heap.
        let start = NonNull::from(bytes).cast();
        Self { start, len, _owner: owner }
    }
}

#[pymethods]
impl SharedBytes {
    fn __len__(&self) -> usize {
        self.len
    }

    /// # Safety
    ///
    /// `view` is one that the interpreter wants to have filled.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let len = this.len.cast_signed();
        // SAFETY: `view` is to be filled, as the caller promises. The bytes stay where they are for as long as `slf` lives, to which
        // the view holds a reference.
        let done =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), this.start.as_ptr().cast(), len, 0, flags) };
        if done == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
