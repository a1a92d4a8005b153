//! The `tricorne` command, for `python -m tricorne` and the script that the wheel installs.

use std::ffi::OsString;
use std::io::Write;

use pyo3::prelude::*;

/// Runs the command with these arguments, the first being the program's name, and returns its exit code.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| {
        let code = tricorne::cli::main(argv);
        // Rust flushes its own stdout at the end of a Rust program only, and this one is a Python program. As in the command itself,
        // a closed pipe is no error.
        let _ = std::io::stdout().flush();
        code
    })
}
