//! Primitives that work from blocking threads and from async code alike
