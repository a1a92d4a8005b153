//! An open queue: a Python container, worked on through the hooks under a lock that Python code sees.
//!
//! This is how the standard library's queue works, so code that relies on that finds what it expects. The lock and its conditions are our
//! primitives, held while hooks run: they are locks for Python code, not locks of Rust.
//!
//! The async forms are coroutines in `tricorne._open_queue`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::fifo::Patience;
use super::{Empty, Full, Queue, QueueStats, ShutDown};
use crate::once::{Once, intern};
use crate::threading::{Condition, Lock};

/// What an open queue has instead of native memory.
#[pyclass(frozen, name = "OpenQueue", module = "tricorne._native")]
pub(crate) struct State {
    hooks: Hooks,
    #[pyo3(get)]
    pub(super) mutex: Py<Lock>,
    #[pyo3(get)]
    pub(super) not_empty: Py<Condition>,
    #[pyo3(get)]
    pub(super) not_full: Py<Condition>,
    #[pyo3(get)]
    pub(super) all_tasks_done: Py<Condition>,
    // The rest is changed under `mutex`, but for assignments by Python code, which does as it likes.
    container: Mutex<Py<PyAny>>,
    maxsize: AtomicIsize,
    unfinished: AtomicI64,
    is_shutdown: AtomicBool,
    counts: Counts,
}

/// What went through an open queue.
#[derive(Default)]
struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    /// Items that should be in it: a hook may have dropped some.
    held: AtomicU64,
    most_held: AtomicU64,
}

impl Counts {
    fn hold(&self, more: u64) {
        let held = self.held.fetch_add(more, Ordering::Relaxed) + more;
        self.most_held.fetch_max(held, Ordering::Relaxed);
    }

    fn let_go(&self) {
        let held = self.held.load(Ordering::Relaxed);
        self.held.store(held.saturating_sub(1), Ordering::Relaxed);
    }
}

/// How the container is worked on.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Hooks {
    /// By methods that a subclass overrides.
    Overridden,
    /// As a deque, the oldest item first.
    Oldest,
    /// As a list, the newest item first.
    Newest,
    /// As a heap, the smallest item first.
    Smallest,
}

impl State {
    /// The state of a queue that is about to be opened.
    pub(super) fn new(py: Python<'_>, hooks: Hooks, maxsize: isize) -> PyResult<Bound<'_, Self>> {
        let mutex = py.get_type::<Lock>().call0()?;
        let condition = || -> PyResult<Py<Condition>> {
            Ok(py.get_type::<Condition>().call1((&mutex,))?.cast_into::<Condition>()?.unbind())
        };
        let state = Self {
            hooks,
            not_empty: condition()?,
            not_full: condition()?,
            all_tasks_done: condition()?,
            container: Mutex::new(py.None()),
            maxsize: AtomicIsize::new(maxsize),
            unfinished: AtomicI64::new(0),
            is_shutdown: AtomicBool::new(false),
            counts: Counts::default(),
            mutex: mutex.cast_into::<Lock>()?.unbind(),
        };
        Bound::new(py, state)
    }

    /// Runs `work` with the mutex held.
    pub(super) fn locked<T>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        Lock::enter(self.mutex.bind(py))?;
        let result = work();
        self.mutex.get().leave()?;
        result
    }

    /// Takes over what was in native memory. The mutex is held.
    pub(super) fn take_over(
        &self,
        queue: &Bound<'_, Queue>,
        items: Vec<Py<PyAny>>,
        unfinished: u64,
        closed: bool,
    ) -> PyResult<()> {
        let py = queue.py();
        queue.call_method1(intern!(py, "_init"), (self.maxsize(),))?;
        self.counts.hold(items.len() as u64);
        if !items.is_empty() {
            // Not through `_put`: these were put already.
            self.container(py).call_method1(intern!(py, "extend"), (PyList::new(py, items)?,))?;
        }
        self.set_unfinished_tasks(i64::try_from(unfinished).unwrap_or(i64::MAX));
        self.set_is_shutdown(closed);
        Ok(())
    }

    pub(super) fn put(
        &self,
        queue: &Bound<'_, Queue>,
        item: &Bound<'_, PyAny>,
        patience: Patience,
    ) -> PyResult<()> {
        self.locked(queue.py(), || {
            self.refuse_if_shut_down()?;
            while self.is_full(queue)? {
                self.wait(queue.py(), &self.not_full, patience)?.ok_or_else(|| Full::new_err(()))?;
                self.refuse_if_shut_down()?;
            }
            self.add(queue, item)
        })
    }

    pub(super) fn get<'py>(
        &self,
        queue: &Bound<'py, Queue>,
        patience: Patience,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.locked(queue.py(), || {
            while self.size(queue)? == 0 {
                self.refuse_if_shut_down()?;
                self.wait(queue.py(), &self.not_empty, patience)?.ok_or_else(|| Empty::new_err(()))?;
            }
            self.take(queue)
        })
    }

    pub(super) fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        self.locked(py, || {
            let left = self.unfinished_tasks() - 1;
            if left < 0 {
                return Err(PyValueError::new_err("task_done() called too many times"));
            }
            self.set_unfinished_tasks(left);
            if left == 0 { self.all_tasks_done.get().notify_all(py) } else { Ok(()) }
        })
    }

    pub(super) fn join(&self, py: Python<'_>) -> PyResult<()> {
        self.locked(py, || {
            while self.unfinished_tasks() > 0 {
                self.wait(py, &self.all_tasks_done, Patience::For(None))?;
            }
            Ok(())
        })
    }

    pub(super) fn qsize(&self, queue: &Bound<'_, Queue>) -> PyResult<usize> {
        self.locked(queue.py(), || self.size(queue))
    }

    pub(super) fn shutdown(&self, queue: &Bound<'_, Queue>, immediate: bool) -> PyResult<()> {
        let py = queue.py();
        // Freed after the mutex is: an item may use the queue when it dies.
        let mut dropped = Vec::new();
        self.locked(py, || {
            self.set_is_shutdown(true);
            if immediate {
                while self.size(queue)? > 0 {
                    dropped.push(self.take_out(queue)?);
                    self.counts.let_go();
                    self.set_unfinished_tasks((self.unfinished_tasks() - 1).max(0));
                }
                self.all_tasks_done.get().notify_all(py)?;
            }
            self.not_empty.get().notify_all(py)?;
            self.not_full.get().notify_all(py)
        })
    }

    /// Adds what happened since the queue was opened to what happened before.
    pub(super) fn add_to(&self, stats: &mut QueueStats, queue: &Bound<'_, Queue>) -> PyResult<()> {
        let Counts { puts, gets, most_held, .. } = &self.counts;
        stats.size = self.qsize(queue)?;
        stats.puts += puts.load(Ordering::Relaxed);
        stats.gets += gets.load(Ordering::Relaxed);
        stats.put_wait_secs += self.not_full.get().stats().wait_secs;
        stats.get_wait_secs += self.not_empty.get().stats().wait_secs;
        let most_held = usize::try_from(most_held.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        stats.high_water = stats.high_water.max(most_held);
        Ok(())
    }

    fn refuse_if_shut_down(&self) -> PyResult<()> {
        if self.is_shutdown() { Err(ShutDown::new_err(())) } else { Ok(()) }
    }

    fn is_full(&self, queue: &Bound<'_, Queue>) -> PyResult<bool> {
        let maxsize = self.maxsize();
        Ok(maxsize > 0 && self.size(queue)? >= maxsize.unsigned_abs())
    }

    /// Waits for one more notification; `None` if there is no time left.
    fn wait(&self, py: Python<'_>, condition: &Py<Condition>, patience: Patience) -> PyResult<Option<()>> {
        let Some(deadline) = patience.deadline() else { return Ok(None) };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
        Condition::wait_until(condition.bind(py), deadline, true).map(|_| Some(()))
    }

    fn container<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner).bind(py).clone()
    }

    fn size(&self, queue: &Bound<'_, Queue>) -> PyResult<usize> {
        let py = queue.py();
        match self.hooks {
            Hooks::Overridden => queue.call_method0(intern!(py, "_qsize"))?.extract(),
            _ => self.container(py).len(),
        }
    }

    fn put_in(&self, queue: &Bound<'_, Queue>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = queue.py();
        match self.hooks {
            Hooks::Overridden => queue.call_method1(intern!(py, "_put"), (item,)).map(drop),
            Hooks::Smallest => push(&self.container(py), item),
            Hooks::Oldest | Hooks::Newest => append(&self.container(py), item),
        }
    }

    fn take_out<'py>(&self, queue: &Bound<'py, Queue>) -> PyResult<Bound<'py, PyAny>> {
        let py = queue.py();
        match self.hooks {
            Hooks::Overridden => queue.call_method0(intern!(py, "_get")),
            Hooks::Oldest => self.container(py).call_method0(intern!(py, "popleft")),
            Hooks::Newest => self.container(py).call_method0(intern!(py, "pop")),
            Hooks::Smallest => pop(&self.container(py)),
        }
    }
}

// For the coroutines of the async forms, and for the attributes of the queue.
#[pymethods]
impl State {
    /// Put an item in. The mutex is held, and there is room.
    pub(super) fn add(&self, queue: &Bound<'_, Queue>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_in(queue, item)?;
        self.counts.puts.fetch_add(1, Ordering::Relaxed);
        self.counts.hold(1);
        self.set_unfinished_tasks(self.unfinished_tasks() + 1);
        self.not_empty.get().notify(queue.py(), 1)
    }

    /// Take an item out. The mutex is held, and there is one.
    pub(super) fn take<'py>(&self, queue: &Bound<'py, Queue>) -> PyResult<Bound<'py, PyAny>> {
        let item = self.take_out(queue)?;
        self.counts.gets.fetch_add(1, Ordering::Relaxed);
        self.counts.let_go();
        self.not_full.get().notify(queue.py(), 1)?;
        Ok(item)
    }

    #[getter]
    pub(super) fn queue<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.container(py)
    }

    #[setter]
    pub(super) fn set_queue(&self, container: Py<PyAny>) {
        let old =
            std::mem::replace(&mut *self.container.lock().unwrap_or_else(PoisonError::into_inner), container);
        // Out of the lock: its items may use the queue when they die.
        drop(old);
    }

    #[getter]
    pub(super) fn maxsize(&self) -> isize {
        self.maxsize.load(Ordering::Relaxed)
    }

    #[setter]
    pub(super) fn set_maxsize(&self, maxsize: isize) {
        self.maxsize.store(maxsize, Ordering::Relaxed);
    }

    #[getter]
    pub(super) fn unfinished_tasks(&self) -> i64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    #[setter]
    pub(super) fn set_unfinished_tasks(&self, count: i64) {
        self.unfinished.store(count, Ordering::Relaxed);
    }

    #[getter]
    pub(super) fn is_shutdown(&self) -> bool {
        self.is_shutdown.load(Ordering::Relaxed)
    }

    #[setter]
    pub(super) fn set_is_shutdown(&self, is_shutdown: bool) {
        self.is_shutdown.store(is_shutdown, Ordering::Relaxed);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.mutex)?;
        visit.call(&self.not_empty)?;
        visit.call(&self.not_full)?;
        visit.call(&self.all_tasks_done)?;
        // Nobody makes Python objects, which is when garbage is collected, while holding this lock.
        match self.container.try_lock() {
            Ok(container) => visit.call(&*container),
            Err(_) => Ok(()),
        }
    }
}

/// Puts an item at the end of a deque or list.
pub(super) fn append(container: &Bound<'_, PyAny>, item: &Bound<'_, PyAny>) -> PyResult<()> {
    container.call_method1(intern!(container.py(), "append"), (item,)).map(drop)
}

/// Puts an item into a heap.
pub(super) fn push(heap: &Bound<'_, PyAny>, item: &Bound<'_, PyAny>) -> PyResult<()> {
    static PUSH: Once<Py<PyAny>> = Once::new();
    PUSH.import(heap.py(), "heapq", "heappush")?.call1((heap, item)).map(drop)
}

/// Takes the smallest item out of a heap.
pub(super) fn pop<'py>(heap: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static POP: Once<Py<PyAny>> = Once::new();
    POP.import(heap.py(), "heapq", "heappop")?.call1((heap,))
}

/// An empty container of the standard library's kind.
pub(super) fn deque(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static DEQUE: Once<Py<PyAny>> = Once::new();
    DEQUE.import(py, "collections", "deque")?.call0()
}

/// A coroutine of `tricorne._open_queue`.
pub(super) fn coroutine<'py>(
    py: Python<'py>,
    name: &Bound<'py, PyString>,
    arguments: impl PyCallArgs<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "tricorne._open_queue"))?.getattr(name)?.call1(arguments)
}
