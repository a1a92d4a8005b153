//! `tricorne.queue.Queue`, and what the other bounded queues inherit from it.

use std::sync::OnceLock;
use std::time::Instant;

use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use tricorne::sync::{Closed, PutError, TryGetError};

use super::items::Items;
use super::open::{Hooks, State};
use super::{Empty, Full, QueueStats, ShutDown, open};
use crate::awaiting::{Awaiting, go_on_with};
use crate::once::{Once, intern};
use crate::threading::{Condition, Lock, no_copies};
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
    hooks: Hooks,
    /// The state of an open queue; from then on `items` is closed and empty.
    open: OnceLock<Py<State>>,
}

/// After so many items of a batch other threads have their turn.
const TURN: usize = 256;

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
    fn opened(&self) -> PyResult<Option<&State>> {
        Ok(self.inner()?.open.get().map(Py::get))
    }

    /// `__init__` of this class and its subclasses; `own` is how the class keeps its items if no subclass overrides that.
    pub(super) fn make(slf: &Bound<'_, Self>, maxsize: isize, own: Hooks) -> PyResult<()> {
        let capacity = usize::try_from(maxsize).ok().filter(|capacity| *capacity > 0);
        let items = if own == Hooks::Newest { Items::lifo(capacity) } else { Items::fifo(capacity) };
        let hooks = hooks(slf, own)?;
        let inner = Inner { items, maxsize, hooks, open: OnceLock::new() };
        if slf.get().inner.set(inner).is_err() {
            // Two bases of a class may both call it.
            let same = slf.get().inner()?.maxsize == maxsize;
            return same.then_some(()).ok_or_else(|| PyRuntimeError::new_err("a queue is made only once"));
        }
        if matches!(hooks, Hooks::Overridden | Hooks::Smallest) {
            Self::open(slf)?;
        }
        Ok(())
    }

    /// Opens the queue, if that has not been done, and gives its state.
    fn open<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a State> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        if inner.open.get().is_none() {
            let state = State::new(py, inner.hooks, inner.maxsize)?;
            // Whoever finds the queue open before its items have moved waits for this mutex.
            state.get().locked(py, || {
                if inner.open.set(state.clone().unbind()).is_err() {
                    return Ok(());
                }
                let (unfinished, closed) = (inner.items.unfinished(), inner.items.is_closed());
                // Closing wakes all who wait; they find the queue open and go on there.
                state.get().take_over(slf, inner.items.close_now(), unfinished, closed)
            })?;
        }
        inner.open.get().map(Py::get).ok_or_else(|| PyRuntimeError::new_err("the queue is not open"))
    }

    fn put_native(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        patience: Patience,
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

    fn put_within(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>, patience: Patience) -> PyResult<()> {
        if slf.get().inner()?.open.get().is_none()
            && let Native::Done(()) = Self::put_native(slf, item, patience)?
        {
            return Ok(());
        }
        Self::open(slf)?.put(slf, item, patience)
    }

    fn get_native(slf: &Bound<'_, Self>, patience: Patience) -> PyResult<Native<Py<PyAny>>> {
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
#[derive(Clone, Copy)]
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
    pub(super) fn deadline(self) -> Option<Option<Instant>> {
        match self {
            Self::None => None,
            Self::For(deadline) => Some(deadline),
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

/// How the container of this queue is worked on: `own`, unless a subclass has hooks of its own.
fn hooks(queue: &Bound<'_, Queue>, own: Hooks) -> PyResult<Hooks> {
    let py = queue.py();
    let class = queue.get_type();
    let base = match own {
        Hooks::Newest => py.get_type::<super::LifoQueue>(),
        Hooks::Smallest => py.get_type::<super::PriorityQueue>(),
        Hooks::Oldest | Hooks::Overridden => py.get_type::<Queue>(),
    };
    if class.is(&base) {
        return Ok(own);
    }
    for hook in [intern!(py, "_init"), intern!(py, "_put"), intern!(py, "_get"), intern!(py, "_qsize")] {
        if !class.getattr(hook)?.is(base.getattr(hook)?) {
            return Ok(Hooks::Overridden);
        }
    }
    Ok(own)
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
        Self::make(slf, maxsize, Hooks::Oldest)
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
        let inner = slf.get().inner()?;
        // Without a bound there is never a wait, and the standard library does not look at the timeout.
        let patience = if inner.maxsize > 0 || inner.open.get().is_some() {
            Patience::new(block, timeout)?
        } else {
            Patience::None
        };
        Self::put_within(slf, item, patience)
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
        let patience = Patience::new(block, timeout)?;
        if slf.get().inner()?.open.get().is_none()
            && let Native::Done(item) = Self::get_native(slf, patience)?
        {
            return Ok(item.into_bound(slf.py()));
        }
        Self::open(slf)?.get(slf, patience)
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
            match Self::put_within(slf, &item, patience) {
                Ok(()) => count += 1,
                Err(error) if Full::is(py, &error) => break,
                Err(error) => return Err(error),
            }
            if count % TURN == 0 {
                py.check_signals()?;
                py.detach(|| ());
            }
        }
        Ok(count)
    }

    /// Take up to ``max_items`` items out: wait for the first, then take what there is. Return them as a list.
    ///
    /// Raises ``Empty`` if there was no item within ``timeout`` seconds, and ``ShutDown`` if the queue was shut down and is empty. What a
    /// hook of a subclass raises after the first item only ends the list.
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
                // There are no more; or an overridden hook failed, and what was taken out is not to be lost.
                Err(error) if error.is_instance_of::<PyException>(py) => break,
                Err(error) => return Err(error),
            }
            if list.len() % TURN == 0 {
                py.detach(|| ());
            }
        }
        Ok(list)
    }

    /// Say that an item taken out is dealt with, so that `join` may end. Raises ``ValueError`` if there are more of these than items.
    fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(state) = self.opened()? {
            return state.task_done(py);
        }
        if self.inner()?.items.task_done() {
            return Ok(());
        }
        Err(PyValueError::new_err("task_done() called too many times"))
    }

    /// Wait until every item that was put in has been dealt with.
    fn join(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner()?;
        if inner.open.get().is_none() && inner.items.unfinished() > 0 {
            wait::wait(py, joined(slf.clone().unbind()), None)?;
        }
        // Those who joined natively are let go when the queue is opened.
        slf.get().opened()?.map_or(Ok(()), |state| state.join(py))
    }

    /// How many items are in the queue. Other threads may change that at once.
    fn qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        match slf.get().opened()? {
            Some(state) => state.qsize(slf),
            None => Ok(slf.get().inner()?.items.len()),
        }
    }

    /// Whether the queue is empty. Other threads may change that at once.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(Self::qsize(slf)? == 0)
    }

    /// Whether there is no room. Other threads may change that at once.
    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let maxsize = slf.get().maxsize()?;
        Ok(maxsize > 0 && Self::qsize(slf)? >= maxsize.unsigned_abs())
    }

    /// Shut the queue down: ``put`` raises ``ShutDown`` from now on, ``get`` does so once the queue is empty.
    ///
    /// With ``immediate=True`` what is in the queue is dropped, and counts as dealt with. All who wait are woken.
    #[pyo3(signature = (immediate = Truth(false)), text_signature = "($self, immediate=False)")]
    fn shutdown(slf: &Bound<'_, Self>, immediate: Truth) -> PyResult<()> {
        if let Some(state) = slf.get().opened()? {
            return state.shutdown(slf, immediate.0);
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
                    let arguments = (&queue, queue.get().inner()?.open.get(), kept, deadline.map(left));
                    go_on_with(open::coroutine(py, intern!(py, "put_async"), arguments)?)
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
                    let arguments = (&queue, queue.get().inner()?.open.get(), deadline.map(left));
                    go_on_with(open::coroutine(py, intern!(py, "get_async"), arguments)?)
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
            Python::attach(|py| match queue.get().inner()?.open.get() {
                Some(state) => go_on_with(open::coroutine(py, intern!(py, "join_async"), (state,))?),
                None => Ok(py.None()),
            })
        }))
    }

    /// What went through the queue, and how long callers waited.
    fn stats(slf: &Bound<'_, Self>) -> PyResult<QueueStats> {
        let mut stats = slf.get().inner()?.items.stats().into();
        if let Some(state) = slf.get().opened()? {
            state.add_to(&mut stats, slf)?;
        }
        Ok(stats)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(no_copies(slf))
    }

    /// How many items the queue holds at most; 0 or less means without limit.
    #[getter]
    fn maxsize(&self) -> PyResult<isize> {
        Ok(self.opened()?.map_or(self.inner()?.maxsize, State::maxsize))
    }

    #[setter]
    fn set_maxsize(slf: &Bound<'_, Self>, maxsize: isize) -> PyResult<()> {
        Self::open(slf)?.set_maxsize(maxsize);
        Ok(())
    }

    /// How many items were put in and are not dealt with yet.
    #[getter]
    fn unfinished_tasks(&self) -> PyResult<i64> {
        let native = || i64::try_from(self.inner()?.items.unfinished()).map_err(PyErr::from);
        self.opened()?.map_or_else(native, |state| Ok(state.unfinished_tasks()))
    }

    #[setter]
    fn set_unfinished_tasks(slf: &Bound<'_, Self>, count: i64) -> PyResult<()> {
        Self::open(slf)?.set_unfinished_tasks(count);
        Ok(())
    }

    /// Whether the queue was shut down.
    #[getter]
    fn is_shutdown(&self) -> PyResult<bool> {
        let native = || Ok(self.inner()?.items.is_closed());
        self.opened()?.map_or_else(native, |state| Ok(state.is_shutdown()))
    }

    #[setter]
    fn set_is_shutdown(slf: &Bound<'_, Self>, is_shutdown: bool) -> PyResult<()> {
        Self::open(slf)?.set_is_shutdown(is_shutdown);
        Ok(())
    }

    /// The container of an open queue.
    #[getter]
    pub(super) fn queue<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::open(slf)?.queue(slf.py()))
    }

    #[setter]
    pub(super) fn set_queue(slf: &Bound<'_, Self>, container: Py<PyAny>) -> PyResult<()> {
        Self::open(slf)?.set_queue(container);
        Ok(())
    }

    /// The lock of an open queue.
    #[getter]
    fn mutex(slf: &Bound<'_, Self>) -> PyResult<Py<Lock>> {
        Ok(Self::open(slf)?.mutex.clone_ref(slf.py()))
    }

    /// Notified when something was put into an open queue.
    #[getter]
    fn not_empty(slf: &Bound<'_, Self>) -> PyResult<Py<Condition>> {
        Ok(Self::open(slf)?.not_empty.clone_ref(slf.py()))
    }

    /// Notified when something was taken out of an open queue.
    #[getter]
    fn not_full(slf: &Bound<'_, Self>) -> PyResult<Py<Condition>> {
        Ok(Self::open(slf)?.not_full.clone_ref(slf.py()))
    }

    /// Notified when everything in an open queue was dealt with.
    #[getter]
    fn all_tasks_done(slf: &Bound<'_, Self>) -> PyResult<Py<Condition>> {
        Ok(Self::open(slf)?.all_tasks_done.clone_ref(slf.py()))
    }

    /// Hook: make the container. Called with the mutex held, as the other hooks.
    fn _init(slf: &Bound<'_, Self>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = maxsize;
        Self::set_queue(slf, open::deque(slf.py())?.unbind())
    }

    /// Hook: how many items the container holds.
    fn _qsize(&self, py: Python<'_>) -> PyResult<usize> {
        match self.opened()? {
            Some(state) => state.queue(py).len(),
            None => Ok(self.inner()?.items.len()),
        }
    }

    /// Hook: put an item into the container.
    fn _put(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        open::append(&Self::queue(slf)?, item)
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
    static ALIAS: Once<Py<PyAny>> = Once::new();
    ALIAS.import(cls.py(), "types", "GenericAlias")?.call1((cls, item))
}
