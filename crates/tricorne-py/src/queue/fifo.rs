//! `tricorne.queue.Queue`, and what the other bounded queues inherit from it.

use std::sync::OnceLock;
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use tricorne::sync::{Closed, PutError, TryGetError};

use super::items::Items;
use super::{Empty, Full, QueueStats, ShutDown, open};
use crate::awaiting::{Awaiting, go_on_with};
use crate::threading::no_copies;
use crate::timeout::{self, Truth};
use crate::wait;

/// Hands items from any number of producers to any number of consumers, threads and asyncio tasks alike; the oldest item first.
///
/// A drop-in for `queue.Queue`. ``maxsize`` is how many items it holds at most; 0 or less means without limit.
#[pyclass(frozen, subclass, weakref, dict, module = "tricorne.queue")]
pub(crate) struct Queue {
    /// There once `__init__` has run.
    inner: OnceLock<Inner>,
}

struct Inner {
    items: Items,
    maxsize: isize,
    /// The state of an open queue; from then on `items` is closed and empty.
    open: OnceLock<Py<PyAny>>,
}

/// How an operation on native memory ended.
enum Native<T> {
    Done(T),
    /// The queue was opened meanwhile, so it is to be done again, the open way.
    Opened,
}

impl Queue {
    pub(super) fn unmade() -> Self {
        Self { inner: OnceLock::new() }
    }

    fn inner(&self) -> PyResult<&Inner> {
        self.inner.get().ok_or_else(|| PyRuntimeError::new_err("Queue.__init__() not called"))
    }

    /// The state of an open queue; nothing while the items are in native memory.
    fn opened<'py>(&self, py: Python<'py>) -> PyResult<Option<&Bound<'py, PyAny>>> {
        Ok(self.inner()?.open.get().map(|state| state.bind(py)))
    }

    /// `__init__` of this class and its subclasses.
    pub(super) fn make(slf: &Bound<'_, Self>, maxsize: isize, lifo: bool) -> PyResult<()> {
        let capacity = usize::try_from(maxsize).ok().filter(|capacity| *capacity > 0);
        let items = if lifo { Items::lifo(capacity) } else { Items::fifo(capacity) };
        let inner = Inner { items, maxsize, open: OnceLock::new() };
        slf.get().inner.set(inner).map_err(|_| PyRuntimeError::new_err("a queue is made only once"))?;
        if overrides_hooks(slf)? {
            Self::open(slf)?;
        }
        Ok(())
    }

    /// Opens the queue, if that has not been done, and gives its state.
    fn open<'a, 'py>(slf: &'a Bound<'py, Self>) -> PyResult<&'a Bound<'py, PyAny>> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        if let Some(state) = inner.open.get() {
            return Ok(state.bind(py));
        }
        let state = open::state(py, inner.maxsize)?;
        let mutex = state.getattr(intern!(py, "mutex"))?;
        // Whoever finds the queue open before its items have moved waits for this mutex.
        mutex.call_method0(intern!(py, "acquire"))?;
        let moved = if inner.open.set(state.clone().unbind()).is_ok() {
            let (unfinished, closed) = (inner.items.unfinished(), inner.items.is_closed());
            // Closing wakes all who wait; they find the queue open and go on there.
            let items = PyList::new(py, inner.items.close_now())?;
            open::call(py, intern!(py, "move"), (slf, &state, items, unfinished, closed)).map(drop)
        } else {
            Ok(())
        };
        mutex.call_method0(intern!(py, "release"))?;
        moved?;
        inner
            .open
            .get()
            .map(|state| state.bind(py))
            .ok_or_else(|| PyRuntimeError::new_err("the queue is not open"))
    }

    /// An attribute of the state of an open queue. Asking for it opens the queue.
    fn open_attribute<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::open(slf)?.getattr(name)
    }

    fn put_native(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        patience: &Patience,
    ) -> PyResult<Native<()>> {
        let inner = slf.get().inner()?;
        match inner.items.try_put(item.clone().unbind()) {
            Ok(()) => return Ok(Native::Done(())),
            Err(PutError::Closed(_)) => return inner.put_refused(),
            Err(PutError::Full(_)) => {}
        }
        let Some(deadline) = patience.deadline() else { return Err(Full::new_err(())) };
        // `item` stays alive outside of the queue, so that nothing is freed under its lock if the wait is given up.
        let put = stored(slf.clone().unbind(), item.clone().unbind());
        match wait::wait(slf.py(), put, deadline)? {
            Some(Ok(())) => Ok(Native::Done(())),
            Some(Err(_)) => inner.put_refused(),
            None => Err(Full::new_err(())),
        }
    }

    fn get_native(slf: &Bound<'_, Self>, patience: &Patience) -> PyResult<Native<Py<PyAny>>> {
        let inner = slf.get().inner()?;
        match inner.items.try_get() {
            Ok(item) => return Ok(Native::Done(item)),
            Err(TryGetError::Closed) => return inner.get_refused(),
            Err(TryGetError::Empty) => {}
        }
        let Some(deadline) = patience.deadline() else { return Err(Empty::new_err(())) };
        match wait::wait(slf.py(), taken(slf.clone().unbind()), deadline)? {
            Some(Ok(item)) => Ok(Native::Done(item)),
            Some(Err(_)) => inner.get_refused(),
            None => Err(Empty::new_err(())),
        }
    }
}

impl Inner {
    /// What it means that the items are closed: the queue was opened, or shut down.
    fn put_refused<T>(&self) -> PyResult<Native<T>> {
        if self.open.get().is_some() { Ok(Native::Opened) } else { Err(ShutDown::new_err(())) }
    }

    fn get_refused<T>(&self) -> PyResult<Native<T>> {
        self.put_refused()
    }
}

/// How long an operation may wait.
pub(super) enum Patience {
    None,
    For(Option<Instant>),
}

impl Patience {
    /// The arguments `block` and `timeout`: a negative timeout is an error if there is to be a wait.
    pub(super) fn new(block: Truth, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        if !block.0 {
            return Ok(Self::None);
        }
        let Some(timeout) = timeout else { return Ok(Self::For(None)) };
        let seconds = timeout::seconds(timeout)?;
        if seconds < 0.0 {
            return Err(PyValueError::new_err("'timeout' must be a non-negative number"));
        }
        Ok(if seconds > 0.0 { Self::For(timeout::after(seconds)) } else { Self::None })
    }

    /// Until when to wait, if at all.
    pub(super) fn deadline(&self) -> Option<Option<Instant>> {
        match self {
            Self::None => None,
            Self::For(deadline) => Some(*deadline),
        }
    }

    /// The two arguments for what is left of it.
    fn arguments(&self) -> (bool, Option<f64>) {
        match self {
            Self::None => (false, None),
            Self::For(deadline) => (true, deadline.map(left)),
        }
    }
}

fn left(deadline: Instant) -> f64 {
    deadline.saturating_duration_since(Instant::now()).as_secs_f64()
}

/// Puts the item once there is room.
async fn stored(queue: Py<Queue>, item: Py<PyAny>) -> Result<(), Closed<Py<PyAny>>> {
    match queue.get().inner.get() {
        Some(inner) => inner.items.put(item).await,
        None => Err(Closed(item)),
    }
}

/// Takes an item once there is one.
async fn taken(queue: Py<Queue>) -> Result<Py<PyAny>, Closed> {
    match queue.get().inner.get() {
        Some(inner) => inner.items.get().await,
        None => Err(Closed(())),
    }
}

/// Ends once all that was put is done.
async fn joined(queue: Py<Queue>) {
    if let Some(inner) = queue.get().inner.get() {
        inner.items.join().await;
    }
}

/// Whether a subclass has hooks of its own.
fn overrides_hooks(queue: &Bound<'_, Queue>) -> PyResult<bool> {
    let py = queue.py();
    let class = queue.get_type();
    let base = py.get_type::<Queue>();
    let lifo = py.get_type::<super::LifoQueue>();
    if class.is(&base) || class.is(&lifo) {
        return Ok(false);
    }
    let base = if class.is_subclass(&lifo)? { lifo } else { base };
    for hook in [intern!(py, "_init"), intern!(py, "_put"), intern!(py, "_get"), intern!(py, "_qsize")] {
        if !class.getattr(hook)?.is(base.getattr(hook)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(maxsize=0)")]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let _ = (args, kwargs);
        Self::unmade()
    }

    #[pyo3(signature = (maxsize = 0))]
    fn __init__(slf: &Bound<'_, Self>, maxsize: isize) -> PyResult<()> {
        Self::make(slf, maxsize, false)
    }

    /// Put an item in, waiting for room.
    ///
    /// With ``block=False`` it does not wait; ``timeout`` is in seconds. Raises ``Full`` if there was no room in time, and ``ShutDown`` if the
    /// queue was shut down, before or meanwhile.
    #[pyo3(signature = (item, block = Truth(true), timeout = None), text_signature = "($self, item, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        block: Truth,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        // Without a bound there is never a wait, and the standard library does not look at the timeout.
        let patience = if inner.maxsize > 0 || inner.open.get().is_some() {
            Patience::new(block, timeout)?
        } else {
            Patience::None
        };
        if inner.open.get().is_none()
            && let Native::Done(()) = Self::put_native(slf, item, &patience)?
        {
            return Ok(());
        }
        let (block, timeout) = patience.arguments();
        open::call(py, intern!(py, "put"), (slf, slf.get().opened(py)?, item, block, timeout)).map(drop)
    }

    /// Take an item out, waiting for one.
    ///
    /// With ``block=False`` it does not wait; ``timeout`` is in seconds. Raises ``Empty`` if there was no item in time, and ``ShutDown`` if the
    /// queue was shut down and is empty.
    #[pyo3(signature = (block = Truth(true), timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Truth,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let patience = Patience::new(block, timeout)?;
        if slf.get().inner()?.open.get().is_none()
            && let Native::Done(item) = Self::get_native(slf, &patience)?
        {
            return Ok(item.into_bound(py));
        }
        let (block, timeout) = patience.arguments();
        open::call(py, intern!(py, "get"), (slf, slf.get().opened(py)?, block, timeout))
    }

    /// Put an item in if there is room now; otherwise raise ``Full``.
    fn put_nowait(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put(slf, item, Truth(false), None)
    }

    /// Take an item out if there is one now; otherwise raise ``Empty``.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get(slf, Truth(false), None)
    }

    /// Put several items in, one after the other, waiting for room. Return how many went in.
    ///
    /// ``timeout`` in seconds is for all together; once it has passed, the rest is left out, so the result may be less than all. Raises
    /// ``ShutDown`` if the queue was shut down; what went in before stays in.
    #[pyo3(signature = (items, timeout = None))]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let py = slf.py();
        let patience = Patience::new(Truth(true), timeout)?;
        let mut count = 0;
        for item in items.try_iter()? {
            let item = item?;
            let put = if slf.get().opened(py)?.is_none() {
                Self::put_native(slf, &item, &patience)
            } else {
                Ok(Native::Opened)
            };
            let put = put.and_then(|put| match put {
                Native::Done(()) => Ok(()),
                Native::Opened => {
                    let (block, timeout) = patience.arguments();
                    let arguments = (slf, slf.get().opened(py)?, item, block, timeout);
                    open::call(py, intern!(py, "put"), arguments).map(drop)
                }
            });
            match put {
                Ok(()) => count += 1,
                Err(error) if error.is_instance_of::<Full>(py) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Take up to ``max_items`` items out: wait for the first, then take what there is. Return them as a list.
    ///
    /// Raises ``Empty`` if there was no item within ``timeout`` seconds, and ``ShutDown`` if the queue was shut down and is empty.
    #[pyo3(signature = (max_items, timeout = None))]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        max_items: usize,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let list = PyList::empty(py);
        if max_items == 0 {
            return Ok(list);
        }
        list.append(Self::get(slf, Truth(true), timeout)?)?;
        while list.len() < max_items {
            match Self::get_nowait(slf) {
                Ok(item) => list.append(item)?,
                Err(error) if error.is_instance_of::<Empty>(py) || error.is_instance_of::<ShutDown>(py) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }

    /// Say that an item taken out is dealt with, so that `join` may end. Raises ``ValueError`` if there are more of these than items.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if let Some(state) = slf.get().opened(py)? {
            return open::call(py, intern!(py, "task_done"), (slf, state)).map(drop);
        }
        if slf.get().inner()?.items.task_done() {
            return Ok(());
        }
        Err(PyValueError::new_err("task_done() called too many times"))
    }

    /// Wait until every item that was put in has been dealt with.
    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if slf.get().opened(py)?.is_none() {
            if slf.get().inner()?.items.unfinished() > 0 {
                wait::wait(py, joined(slf.clone().unbind()), None)?;
            }
            if slf.get().opened(py)?.is_none() {
                return Ok(());
            }
        }
        open::call(py, intern!(py, "join"), (slf, slf.get().opened(py)?)).map(drop)
    }

    /// How many items are in the queue. Other threads may change that at once.
    fn qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        let py = slf.py();
        match slf.get().opened(py)? {
            Some(state) => open::call(py, intern!(py, "qsize"), (slf, state))?.extract(),
            None => Ok(slf.get().inner()?.items.len()),
        }
    }

    /// Whether the queue is empty. Other threads may change that at once.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(Self::qsize(slf)? == 0)
    }

    /// Whether there is no room. Other threads may change that at once.
    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let maxsize = Self::maxsize(slf)?;
        Ok(usize::try_from(maxsize)
            .is_ok_and(|maxsize| maxsize > 0 && maxsize <= Self::qsize(slf).unwrap_or(0)))
    }

    /// Shut the queue down: ``put`` raises ``ShutDown`` from now on, ``get`` does so once the queue is empty.
    ///
    /// With ``immediate=True`` what is in the queue is dropped, and counts as dealt with. All who wait are woken.
    #[pyo3(signature = (immediate = Truth(false)), text_signature = "($self, immediate=False)")]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Truth) -> PyResult<()> {
        let py = slf.py();
        if let Some(state) = slf.get().opened(py)? {
            return open::call(py, intern!(py, "shutdown"), (slf, state, immediate.0)).map(drop);
        }
        let items = &slf.get().inner()?.items;
        if immediate.0 {
            drop(items.close_now());
        } else {
            items.close();
        }
        Ok(())
    }

    /// `put` for an asyncio task. ``timeout`` is in seconds.
    #[pyo3(signature = (item, timeout = None))]
    fn put_async(
        slf: &Bound<'_, Self>,
        item: Py<PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Awaiting> {
        let py = slf.py();
        slf.get().inner()?;
        let deadline = async_deadline(timeout)?;
        let (queue, kept) = (slf.clone().unbind(), item.clone_ref(py));
        let storing = stored(queue.clone_ref(py), item);
        let work = async move {
            let opened = queue.get().inner()?.open.get().is_some();
            let put = if opened { Err(Closed(())) } else { storing.await.map_err(|_| Closed(())) };
            if put.is_ok() {
                return Python::attach(|py| Ok(py.None()));
            }
            Python::attach(|py| match queue.get().inner()?.put_refused::<()>()? {
                Native::Done(()) => Ok(py.None()),
                Native::Opened => {
                    let arguments = (&queue, queue.get().opened(py)?, kept, deadline.map(left));
                    go_on_with(open::call(py, intern!(py, "put_async"), arguments)?)
                }
            })
        };
        Ok(Awaiting::new(work).until(deadline, |_| Err(Full::new_err(()))))
    }

    /// `get` for an asyncio task. ``timeout`` is in seconds.
    #[pyo3(signature = (timeout = None))]
    fn get_async(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Awaiting> {
        let py = slf.py();
        slf.get().inner()?;
        let deadline = async_deadline(timeout)?;
        let queue = slf.clone().unbind();
        let taking = taken(queue.clone_ref(py));
        let work = async move {
            let opened = queue.get().inner()?.open.get().is_some();
            let got = if opened { Err(Closed(())) } else { taking.await };
            if let Ok(item) = got {
                return Ok(item);
            }
            Python::attach(|py| match queue.get().inner()?.get_refused()? {
                Native::Done(item) => Ok(item),
                Native::Opened => {
                    let arguments = (&queue, queue.get().opened(py)?, deadline.map(left));
                    go_on_with(open::call(py, intern!(py, "get_async"), arguments)?)
                }
            })
        };
        Ok(Awaiting::new(work).until(deadline, |_| Err(Empty::new_err(()))))
    }

    /// `join` for an asyncio task.
    fn join_async(slf: &Bound<'_, Self>) -> PyResult<Awaiting> {
        let py = slf.py();
        slf.get().inner()?;
        let queue = slf.clone().unbind();
        let joining = joined(queue.clone_ref(py));
        Ok(Awaiting::new(async move {
            if queue.get().inner()?.open.get().is_none() {
                joining.await;
            }
            Python::attach(|py| match queue.get().opened(py)? {
                Some(state) => go_on_with(open::call(py, intern!(py, "join_async"), (&queue, state))?),
                None => Ok(py.None()),
            })
        }))
    }

    /// What went through the queue, and how long callers waited. An open queue counts only what it holds.
    fn stats(&self) -> PyResult<QueueStats> {
        Ok(self.inner()?.items.stats().into())
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// How many items the queue holds at most; 0 or less means without limit.
    #[getter]
    fn maxsize(slf: &Bound<'_, Self>) -> PyResult<isize> {
        let py = slf.py();
        match slf.get().opened(py)? {
            Some(state) => state.getattr(intern!(py, "maxsize"))?.extract(),
            None => Ok(slf.get().inner()?.maxsize),
        }
    }

    #[setter]
    fn set_maxsize(slf: &Bound<'_, Self>, maxsize: isize) -> PyResult<()> {
        Self::open(slf)?.setattr(intern!(slf.py(), "maxsize"), maxsize)
    }

    /// How many items were put in and are not dealt with yet.
    #[getter]
    fn unfinished_tasks(slf: &Bound<'_, Self>) -> PyResult<u64> {
        let py = slf.py();
        match slf.get().opened(py)? {
            Some(state) => state.getattr(intern!(py, "unfinished_tasks"))?.extract(),
            None => Ok(slf.get().inner()?.items.unfinished()),
        }
    }

    #[setter]
    fn set_unfinished_tasks(slf: &Bound<'_, Self>, count: u64) -> PyResult<()> {
        Self::open(slf)?.setattr(intern!(slf.py(), "unfinished_tasks"), count)
    }

    /// Whether the queue was shut down.
    #[getter]
    fn is_shutdown(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        match slf.get().opened(py)? {
            Some(state) => state.getattr(intern!(py, "is_shutdown"))?.extract(),
            None => Ok(slf.get().inner()?.items.is_closed()),
        }
    }

    #[setter]
    fn set_is_shutdown(slf: &Bound<'_, Self>, is_shutdown: bool) -> PyResult<()> {
        Self::open(slf)?.setattr(intern!(slf.py(), "is_shutdown"), is_shutdown)
    }

    /// The container of an open queue.
    #[getter]
    pub(super) fn queue<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::open_attribute(slf, intern!(slf.py(), "queue"))
    }

    #[setter]
    pub(super) fn set_queue(slf: &Bound<'_, Self>, container: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::open(slf)?.setattr(intern!(slf.py(), "queue"), container)
    }

    /// The lock of an open queue.
    #[getter]
    fn mutex<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::open_attribute(slf, intern!(slf.py(), "mutex"))
    }

    /// Notified when something was put into an open queue.
    #[getter]
    fn not_empty<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::open_attribute(slf, intern!(slf.py(), "not_empty"))
    }

    /// Notified when something was taken out of an open queue.
    #[getter]
    fn not_full<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::open_attribute(slf, intern!(slf.py(), "not_full"))
    }

    /// Notified when everything in an open queue was dealt with.
    #[getter]
    fn all_tasks_done<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::open_attribute(slf, intern!(slf.py(), "all_tasks_done"))
    }

    /// Hook: make the container. Called with the mutex held, as the other hooks.
    fn _init(slf: &Bound<'_, Self>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        Self::set_queue(slf, &open::deque(slf.py())?)
    }

    /// Hook: how many items the container holds.
    fn _qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        match slf.get().opened(slf.py())? {
            Some(state) => state.getattr(intern!(slf.py(), "queue"))?.len(),
            None => Ok(slf.get().inner()?.items.len()),
        }
    }

    /// Hook: put an item into the container.
    fn _put(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::queue(slf)?.call_method1(intern!(slf.py(), "append"), (item,)).map(drop)
    }

    /// Hook: take an item out of the container.
    fn _get<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::queue(slf)?.call_method0(intern!(slf.py(), "popleft"))
    }

    /// `Queue[int]` in annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        generic_alias(cls, item)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        if let Some(inner) = self.inner.get() {
            if let Some(state) = inner.open.get() {
                visit.call(state)?;
            }
            inner.items.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Some(inner) = self.inner.get() {
            drop(inner.items.close_now());
        }
    }
}

/// Reads the timeout of an async form.
pub(super) fn async_deadline(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    Ok(match Patience::new(Truth(true), timeout)? {
        Patience::For(deadline) => deadline,
        Patience::None => Some(Instant::now()),
    })
}

/// `types.GenericAlias(cls, item)`.
pub(super) fn generic_alias<'py>(
    cls: &Bound<'py, PyType>,
    item: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static ALIAS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ALIAS.import(cls.py(), "types", "GenericAlias")?.call1((cls, item))
}
