//! `map` of a thread pool: lazy, and bounded by a window of tasks.
//!
//! The window counts the tasks that were submitted and whose results were not yet handed out. The input is advanced only by the thread
//! that calls `map`, `next` or `shutdown`: generators need not be safe for threads, and a slow consumer holds its producer back.
//!
//! A map is in the books of its pool as long as its input is not used up, so that `shutdown` can run the rest, as the standard library's
//! has run it. What was iterated and then dropped is cancelled instead.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBaseException, PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use tricorne::sync::raw::Owner;

use super::future::{FutureCore, Outcome};
use super::thread_pool::ThreadPool;
use super::watch::Watch;
use super::work::{Call, Context, Work};
use super::worker::{self, Initializer, Shared};
use crate::{error, wait};

/// Tasks shorter than this are not worth a hand-over of the interpreter each: the window grows until a hand-over serves many.
const TINY_TASK: Duration = Duration::from_micros(50);

/// The standard window, in tasks for each worker.
const WINDOW_PER_WORKER: usize = 4;

/// How far the window grows for tiny tasks. A hand-over to a worker and back is some four wake-ups, whatever the number of workers.
const GROWN: usize = 512;

/// What `map` was asked for.
pub(crate) struct Options {
    pub(crate) deadline: Option<Instant>,
    /// The window, if it is fixed.
    pub(crate) buffer_size: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) return_exceptions: bool,
}

/// A map under way.
pub(crate) struct MapState {
    shared: Arc<Shared>,
    options: Options,
    /// Results in the order in which they come, if that is asked for.
    watch: Option<Arc<Watch>>,
    books: Mutex<Books>,
}

struct Books {
    /// `None` while somebody advances it, and once it is used up or cut off.
    source: Option<Source>,
    advancing: Option<Owner>,
    /// Those who wait until nobody advances it.
    waiting: Vec<Waker>,
    /// The tasks in the window, oldest first.
    tasks: VecDeque<Py<FutureCore>>,
    window: usize,
    /// How many tasks are left when the window is filled up again.
    low: usize,
    largest_window: usize,
    iterated: bool,
    /// Nobody will ask for results.
    orphan: bool,
    /// No more input is wanted.
    cut_off: bool,
    /// What the input raised: the last thing to be handed out.
    failure: Option<Py<PyBaseException>>,
    /// When the consumer last had to wait, and how many results it has got since.
    waited: Instant,
    since_waited: u32,
}

struct Source {
    function: Py<PyAny>,
    input: Py<PyIterator>,
    context: Context,
    initializer: Option<Initializer>,
}

/// How many tasks may be out.
#[derive(Clone, Copy)]
enum Goal {
    Window,
    /// All of them; those beyond the window wait for earlier ones to end if `paced`.
    All {
        paced: bool,
    },
}

/// Why the input was not advanced to the goal.
enum Stopped {
    /// By what it raised, or what its task was refused with.
    Input(PyErr),
    /// By what ended a wait, such as a signal.
    Wait(PyErr),
}

impl MapState {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the input and advances it. An `Exception` that it raises is kept for the consumer.
    ///
    /// # Errors
    ///
    /// What the input raises that is not an `Exception`, which ends the map, and what ends a wait meanwhile, which does not.
    fn advance(self: &Arc<Self>, py: Python<'_>, goal: Goal) -> PyResult<()> {
        let source = {
            let mut books = self.lock();
            if matches!(goal, Goal::Window) && books.tasks.len() > books.low {
                return Ok(());
            }
            let Some(source) = books.source.take() else { return Ok(()) };
            books.advancing = Some(Owner::current_thread());
            source
        };
        let advanced = self.advance_source(py, &source, goal);
        let mut books = self.lock();
        books.advancing = None;
        let (used_up, ended) = match advanced {
            Ok(used_up) => (used_up, Ok(())),
            Err(Stopped::Input(raised)) if raised.is_instance_of::<PyException>(py) => {
                books.failure = Some(raised.into_value(py));
                (true, Ok(()))
            }
            Err(Stopped::Input(raised)) => (true, Err(raised)),
            Err(Stopped::Wait(raised)) => (false, Err(raised)),
        };
        let used_up = used_up || books.cut_off;
        let mut source = Some(source);
        if !used_up {
            books.source = source.take();
        }
        let waiting = std::mem::take(&mut books.waiting);
        drop(books);
        for waker in waiting {
            waker.wake();
        }
        if let Some(source) = source {
            drop(source);
            self.shared.remove_map(self);
        }
        ended
    }

    /// Submits until the goal is reached; true if the input is used up.
    fn advance_source(
        self: &Arc<Self>,
        py: Python<'_>,
        source: &Source,
        goal: Goal,
    ) -> Result<bool, Stopped> {
        let mut input = source.input.bind(py).clone();
        // Of a map without a consumer: those to wait for before the next is submitted.
        let mut paced = VecDeque::new();
        loop {
            {
                let books = self.lock();
                if books.cut_off {
                    return Ok(true);
                }
                if matches!(goal, Goal::Window) && books.tasks.len() >= books.window {
                    return Ok(false);
                }
            }
            let Some(args) = input.next() else { return Ok(true) };
            let submitted =
                args.and_then(|args| self.submit(py, source, args.cast::<PyTuple>().map_err(PyErr::from)?));
            let task = submitted.map_err(Stopped::Input)?;
            if let Goal::All { paced: true } = goal {
                paced.push_back(task);
                let window = self.lock().window;
                if paced.len() > window
                    && let Some(oldest) = paced.pop_front()
                {
                    // How it ended is for the consumer, if there is one.
                    FutureCore::wait_until(oldest.bind(py), None).map_err(Stopped::Wait)?;
                }
            }
        }
    }

    fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        source: &Source,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<FutureCore>> {
        let function = source.function.clone_ref(py);
        let call = if args.len() == 1 {
            Call::WithOne(function, args.get_item(0)?.unbind())
        } else {
            let function = function.into_bound(py);
            Call::WithMany(
                PyTuple::new(py, std::iter::once(function).chain(args.iter()).collect::<Vec<_>>())?.unbind(),
                None,
            )
        };
        let work = Work::new(call, source.context.copy(py)?, self.shared.number());
        let task = Py::new(py, FutureCore::with_work(work, wait::process()))?;
        if let Some(watch) = &self.watch {
            task.get().watch(watch);
        }
        let mut books = self.lock();
        if !books.orphan {
            books.tasks.push_back(task.clone_ref(py));
        }
        drop(books);
        if let Err(refused) = self.shared.submit(py, task.clone_ref(py), source.initializer.as_ref()) {
            // Nobody would ever run it.
            let taken_back = {
                let mut books = self.lock();
                let place = books.tasks.iter().rposition(|other| other.is(&task));
                place.and_then(|place| books.tasks.remove(place))
            };
            drop(taken_back);
            return Err(refused);
        }
        Ok(task)
    }

    /// The next result.
    fn next(self: &Arc<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        // What it waits for would be done by threads of the parent, and their pool may be locked by one.
        if self.shared.process != wait::process() {
            return Err(error::BrokenExecutor::new_err(
                "the map was started in the process that this one was forked from",
            ));
        }
        {
            let mut books = self.lock();
            // The input itself asks for a result that may depend on it. (Another thread may be at it: `shutdown`.)
            if books.advancing == Some(Owner::current_thread()) {
                return Err(PyValueError::new_err("the map is already being advanced"));
            }
            books.iterated = true;
            books.since_waited += 1;
        }
        let handed_out = match &self.watch {
            None => self.next_in_order(py),
            Some(watch) => self.next_to_come(py, watch),
        };
        let outcome = match handed_out {
            Ok(None) => {
                let failure = self.lock().failure.take();
                return failure
                    .map_or(Ok(None), |raised| Err(PyErr::from_value(raised.into_bound(py).into_any())));
            }
            Ok(Some(outcome)) => outcome,
            // Not of a task: the time is up, or a signal.
            Err(Interrupted(raised)) => {
                self.close(py)?;
                return Err(raised);
            }
        };
        match outcome {
            Ok(Outcome::Value(value)) => Ok(Some(value)),
            Ok(Outcome::Raised(exception)) if self.options.return_exceptions => Ok(Some(exception)),
            Err(cancelled) if self.options.return_exceptions => Ok(Some(cancelled.into_value(py).into_any())),
            Ok(Outcome::Raised(exception)) => {
                self.close(py)?;
                Err(PyErr::from_value(exception.into_bound(py)))
            }
            Err(cancelled) => {
                self.close(py)?;
                Err(cancelled)
            }
        }
    }

    fn next_in_order(self: &Arc<Self>, py: Python<'_>) -> Result<Option<PyResult<Outcome>>, Interrupted> {
        let oldest = loop {
            let oldest = self.lock().tasks.pop_front();
            if let Err(raised) = self.advance(py, Goal::Window) {
                if let Some(oldest) = oldest {
                    FutureCore::cancel(oldest.bind(py))?;
                }
                return Err(Interrupted(raised));
            }
            let Some(oldest) = oldest.or_else(|| self.lock().tasks.pop_front()) else {
                if self.wait_until_let_go(py)? {
                    continue;
                }
                return Ok(None);
            };
            break oldest;
        };
        if let Some(outcome) = oldest.get().outcome(py) {
            return Ok(Some(outcome));
        }
        self.consumer_waits();
        let oldest = oldest.bind(py);
        let ended = FutureCore::wait_until(oldest, self.options.deadline);
        if !matches!(ended, Ok(true)) {
            FutureCore::cancel(oldest)?;
            ended?;
            return Err(Interrupted(error::TimeoutError::new_err(())));
        }
        Ok(oldest.get().outcome(py))
    }

    fn next_to_come(
        self: &Arc<Self>,
        py: Python<'_>,
        watch: &Arc<Watch>,
    ) -> Result<Option<PyResult<Outcome>>, Interrupted> {
        loop {
            if let Some(task) = watch.pop() {
                let task = task.bind(py).cast::<FutureCore>().map_err(PyErr::from)?;
                let removed = {
                    let mut books = self.lock();
                    let place = books.tasks.iter().position(|other| other.is(task));
                    place.and_then(|place| books.tasks.remove(place))
                };
                // One that a closed map has cancelled.
                if removed.is_none() {
                    continue;
                }
                drop(removed);
                self.advance(py, Goal::Window)?;
                return Ok(task.get().outcome(py));
            }
            self.advance(py, Goal::Window)?;
            if self.lock().tasks.is_empty() {
                if self.wait_until_let_go(py)? {
                    continue;
                }
                return Ok(None);
            }
            self.consumer_waits();
            let waiting = if worker::is_worker() { self.clone_tasks(py) } else { Vec::new() };
            let mut ran = false;
            for task in waiting {
                if worker::run_inline_until(task.bind(py), self.options.deadline)? {
                    ran = true;
                    break;
                }
            }
            if !ran && !watch.wait(py, self.options.deadline)? {
                return Err(Interrupted(error::TimeoutError::new_err(())));
            }
        }
    }

    fn clone_tasks(&self, py: Python<'_>) -> Vec<Py<FutureCore>> {
        self.lock().tasks.iter().map(|task| task.clone_ref(py)).collect()
    }

    /// The result is not there yet. If the consumer waits time and again although tasks are tiny, they come too few at a time.
    fn consumer_waits(&self) {
        let mut books = self.lock();
        let (now, count) = (Instant::now(), books.since_waited);
        if self.options.buffer_size.is_none() && now - books.waited < TINY_TASK.saturating_mul(count) {
            books.window = (books.window * 2).min(books.largest_window);
            // Many at a time: what is left lasts until the next are there.
            books.low = books.window / 2;
        }
        books.waited = now;
        books.since_waited = 0;
    }

    /// Submits the rest of the input; `wait` keeps to the window meanwhile.
    pub(crate) fn run_out(self: &Arc<Self>, py: Python<'_>, wait: bool) -> PyResult<()> {
        // The input itself may shut the pool down: it cannot be advanced before it returns.
        if self.lock().advancing == Some(Owner::current_thread()) {
            return Ok(());
        }
        while self.wait_until_let_go(py)? {}
        self.advance(py, Goal::All { paced: wait })?;
        let unheard = {
            let mut books = self.lock();
            if books.orphan { books.failure.take() } else { None }
        };
        match unheard {
            Some(raised) => Err(PyErr::from_value(raised.into_bound(py).into_any())),
            None => Ok(()),
        }
    }

    /// Waits until no other thread advances the input; false if none does.
    fn wait_until_let_go(self: &Arc<Self>, py: Python<'_>) -> PyResult<bool> {
        if self.lock().advancing.is_none() {
            return Ok(false);
        }
        let state = Arc::clone(self);
        wait::wait(py, poll_fn(move |context| state.poll_let_go(context.waker())), None)?;
        Ok(true)
    }

    fn poll_let_go(&self, waker: &Waker) -> Poll<()> {
        let mut books = self.lock();
        if books.advancing.is_none() {
            return Poll::Ready(());
        }
        if !books.waiting.iter().any(|known| known.will_wake(waker)) {
            books.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// Submits no more, and cancels what has not begun.
    pub(crate) fn close(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let tasks = self.cut_off();
        for task in tasks {
            FutureCore::cancel(task.bind(py))?;
        }
        Ok(())
    }

    /// For the iterator. The rest of a map that nobody has iterated is still to be run: it is alive, whoever refers to it.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(books) = self.books.try_lock() else { return Ok(()) };
        if !books.iterated {
            return Ok(());
        }
        if let Some(source) = &books.source {
            visit.call(&source.function)?;
            visit.call(&source.input)?;
            source.context.traverse(visit)?;
            if let Some(initializer) = &source.initializer {
                visit.call(&initializer.function)?;
                visit.call(&initializer.args)?;
            }
        }
        visit.call(&books.failure)?;
        books.tasks.iter().try_for_each(|task| visit.call(task))?;
        self.watch.as_ref().map_or(Ok(()), |watch| watch.traverse(visit))
    }

    /// Submits no more. Returns the tasks in the window.
    fn cut_off(self: &Arc<Self>) -> VecDeque<Py<FutureCore>> {
        let (tasks, source, failure) = {
            let mut books = self.lock();
            books.cut_off = true;
            (std::mem::take(&mut books.tasks), books.source.take(), books.failure.take())
        };
        drop((source, failure));
        self.shared.remove_map(self);
        tasks
    }

    /// Submits no more; what was submitted can be iterated.
    pub(crate) fn end_input(self: &Arc<Self>) {
        let source = {
            let mut books = self.lock();
            books.cut_off = true;
            books.source.take()
        };
        drop(source);
        self.shared.remove_map(self);
    }
}

/// Not the outcome of a task.
struct Interrupted(PyErr);

impl From<PyErr> for Interrupted {
    fn from(raised: PyErr) -> Self {
        Self(raised)
    }
}

/// The iterator that `map` returns.
#[pyclass(frozen, weakref, module = "tricorne._native")]
pub(crate) struct MapIterator {
    state: Arc<MapState>,
    /// Kept as long as there is input: a pool that was let go would end before.
    pool: Mutex<Option<Py<ThreadPool>>>,
}

impl MapIterator {
    /// Starts a map: the first window is submitted.
    pub(crate) fn start(
        pool: &Bound<'_, ThreadPool>,
        shared: Arc<Shared>,
        function: Py<PyAny>,
        input: Py<PyIterator>,
        initializer: Option<Initializer>,
        options: Options,
    ) -> PyResult<Self> {
        let py = pool.py();
        if let Some(refusal) = shared.refusal() {
            return Err(refusal);
        }
        let workers = shared.settings.max_workers;
        let window = options.buffer_size.unwrap_or(workers * WINDOW_PER_WORKER);
        let watch = (!options.ordered).then(Watch::each);
        let source = Source { function, input, context: Context::current(py)?, initializer };
        let books = Books {
            source: Some(source),
            advancing: None,
            waiting: Vec::new(),
            tasks: VecDeque::new(),
            window,
            low: window - 1,
            largest_window: GROWN.max(window),
            iterated: false,
            orphan: false,
            cut_off: false,
            failure: None,
            waited: Instant::now(),
            since_waited: 0,
        };
        let fixed = options.buffer_size.is_some();
        let state = Arc::new(MapState { shared, options, watch, books: Mutex::new(books) });
        if !fixed {
            state.shared.add_map(&state);
        }
        let advanced = state.advance(py, Goal::Window);
        // What the first items of the input raise comes at once, as from the standard library.
        let failure = state.lock().failure.take();
        let failure = failure.map(|raised| PyErr::from_value(raised.into_bound(py).into_any()));
        if let Some(raised) = failure.or(advanced.err()) {
            state.close(py)?;
            return Err(raised);
        }
        let slf = Self { state, pool: Mutex::new(Some(pool.clone().unbind())) };
        slf.let_pool_go();
        Ok(slf)
    }

    /// Lets the pool go if there is no more input.
    fn let_pool_go(&self) {
        if self.state.lock().source.is_none() {
            let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(pool);
        }
    }
}

#[pymethods]
impl MapIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let next = self.state.next(py);
        self.let_pool_go();
        next
    }

    /// Cancel what has not begun, and end the iteration.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.state.close(py)?;
        self.let_pool_go();
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(pool) = self.pool.try_lock() {
            visit.call(&*pool)?;
        }
        self.state.traverse(&visit)
    }

    fn __clear__(&self) {
        if self.state.lock().iterated {
            drop(self.state.cut_off());
        }
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(pool);
    }
}

impl Drop for MapIterator {
    fn drop(&mut self) {
        let iterated = self.state.lock().iterated;
        if iterated {
            let _ = Python::try_attach(|py| {
                if let Err(raised) = self.state.close(py) {
                    raised.write_unraisable(py, None);
                }
            });
        } else {
            // Nobody has iterated it and nobody will: its tasks run, its results are not kept.
            let tasks = {
                let mut books = self.state.lock();
                books.orphan = true;
                std::mem::take(&mut books.tasks)
            };
            drop(tasks);
        }
    }
}
