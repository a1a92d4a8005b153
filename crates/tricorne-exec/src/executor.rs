//! What all executors have in common.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tricorne_sync::prim::Arc;

use crate::error::{ExecError, TaskError};
use crate::future::{Future, TaskResult};
use crate::map::Map;
use crate::panics;

/// What becomes of tasks that have not ended when an executor is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// All that were submitted are run to their end.
    Drain,
    /// Those that have not started are cancelled; asynchronous ones are cancelled at their next `.await` as well.
    CancelPending,
}

/// Takes closures and runs them somewhere: for code that should not care where.
///
/// A test, or a plan that says "run it inline", puts an [`InlineExecutor`] where a
/// [`ThreadPoolExecutor`](crate::ThreadPoolExecutor) would stand.
///
/// What every executor promises, and `tests/conformance.rs` checks: a task runs at most once; a future always gets an
/// outcome; a panic is [`TaskError::Panicked`] and harms nobody else; after a shutdown tasks are
/// [`Rejected`](TaskError::Rejected); a map takes no more from its source than its window.
///
/// # Examples
///
/// ```
/// use tricorne_exec::{Executor, InlineExecutor, Shutdown, ThreadPoolExecutor};
///
/// fn count_words(executor: &impl Executor, pages: Vec<String>) -> usize {
///     executor.map(pages, |page| page.split_whitespace().count()).map(|count| count.unwrap_or(0)).sum()
/// }
///
/// let pages = vec!["a cocked hat".to_owned(), "three corners".to_owned()];
/// let pool = ThreadPoolExecutor::builder().workers(2).build()?;
/// assert_eq!(count_words(&pool, pages.clone()), 5);
/// assert_eq!(count_words(&InlineExecutor::new(), pages), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Executor {
    /// What it is called in errors.
    fn name(&self) -> &str;

    /// How many tasks it runs at the same time, at the most.
    fn parallelism(&self) -> usize;

    /// Has `task` run. Does not wait for it, unless there is nowhere else to run it than here.
    fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;

    /// Takes no more tasks, deals with those that wait as `how` says, and waits for the end of the others, for at most
    /// `timeout` (`None`: without limit). Whether all have ended.
    fn shutdown_timeout(&self, how: Shutdown, timeout: Option<Duration>) -> bool;

    /// Calls `function` with every item; the results come in the order of the items. Lazy and bounded: see [`Map`].
    fn map<I, F, R>(&self, items: I, function: F) -> Map<I::IntoIter, impl FnMut(I::Item) -> Future<R>, R>
    where
        Self: Sized,
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let function = Arc::new(function);
        let submit = move |item| {
            let function = Arc::clone(&function);
            self.submit(move || function(item))
        };
        Map::new(items.into_iter(), submit, window_for(self.parallelism()))
    }
}

/// How many tasks of a map are on their way, unless told otherwise: a few for each worker, so that none waits for the
/// thread that feeds them.
pub(crate) fn window_for(parallelism: usize) -> usize {
    parallelism.saturating_mul(4)
}

/// Runs each task where it is submitted, before `submit` returns: for tests, for debugging, and for work that is too
/// small to be worth a thread.
///
/// # Examples
///
/// ```
/// use tricorne_exec::{Executor, InlineExecutor};
///
/// let here = std::thread::current().id();
/// let future = InlineExecutor::new().submit(|| std::thread::current().id());
/// assert_eq!(future.result(), Ok(here));
/// ```
pub struct InlineExecutor {
    closed: AtomicBool,
}

impl InlineExecutor {
    /// An executor that has nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { closed: AtomicBool::new(false) }
    }

    fn run<T>(&self, task: impl FnOnce() -> T) -> TaskResult<T> {
        // Relaxed: it guards no data.
        if self.closed.load(Ordering::Relaxed) {
            return Err(TaskError::Rejected { executor: self.name().to_owned() });
        }
        panics::install_hook();
        panics::catch(task)
    }
}

impl Executor for InlineExecutor {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn parallelism(&self) -> usize {
        1
    }

    fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Future::ready(self.run(task))
    }

    fn shutdown_timeout(&self, _: Shutdown, _: Option<Duration>) -> bool {
        self.closed.store(true, Ordering::Relaxed);
        true
    }
}

impl Default for InlineExecutor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InlineExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineExecutor").field("closed", &self.closed).finish()
    }
}

/// A thread's name is a C string: asked for one with a NUL, the standard library panics, when tasks are there already.
pub(crate) fn check_name(name: &str) -> Result<(), ExecError> {
    if name.contains('\0') {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "its name has a NUL character");
        return Err(ExecError::Start { thread: name.escape_debug().to_string(), source });
    }
    Ok(())
}
