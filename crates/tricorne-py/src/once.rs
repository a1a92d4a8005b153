//! What is made once and kept: values, names, and the exceptions that are defined in Python.
//!
//! PyO3 has all of this (`PyOnceLock`, `intern!`, `import_exception!`), but not for programs that fork. Its cell detaches, is marked as
//! being filled, and attaches again with that mark set: the thread then waits for the interpreter, very likely while another one is about
//! to fork. In the child the mark stays for ever, and so does whoever asks the cell there. Here a value is made first and stored
//! afterwards, in a step that the interpreter is not given away in. So a fork, which runs attached, finds the cell empty or full. The price
//! is that two threads may both make the value; the first one that stores it wins.
//!
//! `clippy.toml` keeps PyO3's out of this crate.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyType};

use crate::futures::timer;

/// Fills the cells inside of PyO3 that this crate comes by, while nobody else can use the module yet.
pub(crate) fn fill_those_of_pyo3(py: Python<'_>) -> PyResult<()> {
    // Whether the interpreter has started: the first attach of a thread that is not Python's asks.
    py.detach(|| Python::try_attach(|_| ()));
    // The name of the attribute `__module__`.
    py.get_type::<PyInt>().module()?;
    // The name of the method that notes which argument was wrong.
    let wrong = wrap_pyfunction!(timer::call_later, py)?.call1((py.None(), py.None()));
    debug_assert!(wrong.is_err(), "not a number of seconds");
    Ok(())
}

/// A value that is made when it is first asked for.
pub(crate) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value; `make` may run Python code, also in several threads, of which one has its value kept.
    ///
    /// # Errors
    ///
    /// That of `make`. The next one who asks tries again.
    pub(crate) fn get_or_try_init(
        &self,
        _attached: Python<'_>,
        make: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<&T> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let value = make()?;
        let mut spare = Some(value);
        // Only a move, and attached all the while. A value that came too late is dropped below, outside of the cell.
        let kept =
            self.0.get_or_init(|| spare.take().unwrap_or_else(|| unreachable!("a cell is filled once")));
        drop(spare);
        Ok(kept)
    }
}

impl Once<Py<PyAny>> {
    /// An attribute of a module.
    ///
    /// # Errors
    ///
    /// What importing raises.
    pub(crate) fn import<'py>(
        &self,
        py: Python<'py>,
        module: &str,
        name: &str,
    ) -> PyResult<&Bound<'py, PyAny>> {
        self.get_or_try_init(py, || Ok(py.import(module)?.getattr(name)?.unbind()))
            .map(|value| value.bind(py))
    }
}

/// A name that Python looks up often; see [`intern`].
pub(crate) struct Name {
    text: &'static str,
    interned: OnceLock<Py<PyString>>,
}

impl Name {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, interned: OnceLock::new() }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        // Made inside of the cell, for interning runs no Python code and never gives the interpreter away.
        self.interned.get_or_init(|| PyString::intern(py, self.text).unbind()).bind(py)
    }
}

/// The Python string of a literal, made once.
macro_rules! intern {
    ($py:expr, $text:literal) => {{
        static NAME: $crate::once::Name = $crate::once::Name::new($text);
        NAME.get($py)
    }};
}
pub(crate) use intern;

/// An exception class that is defined in Python; see [`exception`].
pub(crate) struct Class {
    module: &'static str,
    name: &'static str,
    class: Once<Py<PyType>>,
}

impl Class {
    pub(crate) const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, class: Once::new() }
    }

    /// # Errors
    ///
    /// What importing raises.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        let import = || Ok(py.import(self.module)?.getattr(self.name)?.cast_into::<PyType>()?.unbind());
        self.class.get_or_try_init(py, import).map(|class| class.bind(py))
    }
}

/// Defines `NAME::new_err(args)` and `NAME::is(py, &error)` for an exception class of a Python module.
macro_rules! exception {
    ($module:literal, $name:ident) => {
        pub(crate) struct $name;

        #[allow(dead_code, reason = "some are only raised, others only recognised")]
        impl $name {
            fn class(py: pyo3::Python<'_>) -> pyo3::PyResult<&pyo3::Bound<'_, pyo3::types::PyType>> {
                static CLASS: $crate::once::Class = $crate::once::Class::new($module, stringify!($name));
                CLASS.get(py)
            }

            /// The exception, or what kept its class from being imported.
            pub(crate) fn new_err(args: impl pyo3::PyErrArguments + 'static) -> pyo3::PyErr {
                pyo3::Python::attach(|py| match Self::class(py) {
                    Ok(class) => pyo3::PyErr::from_type(class.clone(), args),
                    Err(raised) => raised,
                })
            }

            /// Whether `error` is one.
            pub(crate) fn is(py: pyo3::Python<'_>, error: &pyo3::PyErr) -> bool {
                Self::class(py).is_ok_and(|class| error.is_instance(py, class))
            }
        }
    };
}
pub(crate) use exception;
