//! An outcome that belongs to many.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tricorne_sync::Event;
use tricorne_sync::prim::{Arc, Mutex, lock};

use crate::future::{Core, Future, Listener, Listeners, TaskResult, Work};
use crate::park;

/// One result for many: clones are the same future, each waiter and each callback sees the outcome by reference, and it
/// may be asked for again and again.
///
/// Made by [`Future::shared`].
///
/// # Examples
///
/// Three wait for one page that is fetched once.
///
/// ```
/// use tricorne_exec::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::builder().workers(2).build()?;
/// let page = pool.submit(|| "three words here".to_owned()).shared();
/// let lengths: Vec<_> = (1..=3)
///     .map(|n| {
///         let page = page.clone();
///         pool.submit(move || page.result().as_ref().map(|text| text.len() * n).unwrap_or(0))
///     })
///     .collect();
/// let lengths: Vec<_> = lengths.into_iter().map(|length| length.result()).collect();
/// assert_eq!(lengths, [Ok(16), Ok(32), Ok(48)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the task runs anyway, but its result and its failure are lost"]
pub struct SharedFuture<T> {
    common: Arc<Common<T>>,
    /// For what can be asked of the task itself.
    core: Arc<Core<T, dyn Work<T>>>,
}

struct Common<T> {
    outcome: OnceLock<TaskResult<T>>,
    /// Set after `outcome`.
    ended: Event,
    /// `None` once they were told, which is after `outcome` is there.
    interested: Mutex<Option<Interested<T>>>,
}

struct Interested<T> {
    listeners: Listeners,
    callbacks: Vec<Callback<T>>,
}

type Callback<T> = Box<dyn FnOnce(&TaskResult<T>) + Send>;

impl<T> Common<T> {
    /// The first outcome counts: somebody may have found out that the task is lost.
    fn end(&self, outcome: TaskResult<T>) -> &TaskResult<T> {
        let outcome = self.outcome.get_or_init(|| outcome);
        let interested = lock(&self.interested).take();
        self.ended.set();
        if let Some(Interested { listeners, callbacks }) = interested {
            listeners.tell(outcome.is_err());
            for callback in callbacks {
                callback(outcome);
            }
        }
        outcome
    }
}

impl<T> SharedFuture<T> {
    pub(crate) fn of(future: Future<T>) -> Self
    where
        T: Send + Sync + 'static,
    {
        let common = Arc::new(Common {
            outcome: OnceLock::new(),
            ended: Event::new(),
            interested: Mutex::new(Some(Interested { listeners: Listeners::None, callbacks: Vec::new() })),
        });
        let core = Arc::clone(future.core());
        let end = Arc::clone(&common);
        future.on_done(move |outcome| {
            end.end(outcome);
        });
        Self { common, core }
    }

    /// Waits for the outcome, blocking the thread.
    ///
    /// On a worker of the pool that the task was given to, a task that has not started is run right here.
    pub fn result(&self) -> &TaskResult<T> {
        match self.wait(None) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a deadline does not time out"),
        }
    }

    /// [`result`](Self::result), waiting for at most `timeout`; `None` if that was too short.
    #[must_use]
    pub fn result_timeout(&self, timeout: Duration) -> Option<&TaskResult<T>> {
        self.wait(park::deadline_after(timeout))
    }

    /// [`result`](Self::result), waiting until `deadline` at most; `None` if it is not there by then.
    #[must_use]
    pub fn result_deadline(&self, deadline: Instant) -> Option<&TaskResult<T>> {
        self.wait(Some(deadline))
    }

    /// The outcome if it is there now.
    #[must_use]
    pub fn try_result(&self) -> Option<&TaskResult<T>> {
        self.common.outcome.get()
    }

    /// Waits for the outcome, from async code.
    pub async fn result_async(&self) -> &TaskResult<T> {
        if let Some(outcome) = self.ended_or_lost() {
            return outcome;
        }
        self.common.ended.wait_async().await;
        self.common.outcome.get().expect("it is there before the event is set")
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<&TaskResult<T>> {
        if let Some(outcome) = self.ended_or_lost() {
            return Some(outcome);
        }
        self.core.work.help(&self.core.slot);
        match deadline {
            None => self.common.ended.wait(),
            Some(deadline) => {
                self.common.ended.wait_deadline(deadline);
            }
        }
        self.common.outcome.get()
    }

    fn ended_or_lost(&self) -> Option<&TaskResult<T>> {
        self.common.outcome.get().or_else(|| self.lost())
    }

    /// Ends it if nobody in this process will, and nobody has.
    fn lost(&self) -> Option<&TaskResult<T>> {
        if !self.is_lost() {
            return None;
        }
        let error = self.core.work.lost()?;
        Some(self.common.end(Err(error)))
    }

    pub(crate) fn is_lost(&self) -> bool {
        !self.is_done() && self.core.work.lost().is_some()
    }

    /// Calls `callback` with the outcome, on the thread that delivers it; at once, here, if it is there already.
    ///
    /// Callbacks run in the order in which they were left, when the waiters have been woken. One that panics takes
    /// those behind it along.
    ///
    /// # Panics
    ///
    /// Whatever the callback panics with when called at once.
    pub fn on_done(&self, callback: impl FnOnce(&TaskResult<T>) + Send + 'static) {
        if let Some(outcome) = self.lost() {
            callback(outcome);
            return;
        }
        let mut interested = lock(&self.common.interested);
        match &mut *interested {
            Some(interested) => interested.callbacks.push(Box::new(callback)),
            None => {
                drop(interested);
                callback(self.common.outcome.get().expect("it is there before the callbacks are called"));
            }
        }
    }

    /// Whether the outcome is there. Not of a task of the parent's in a forked child, though nobody waits for it there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.common.outcome.get().is_some()
    }

    /// Cancels the task for all who wait, as [`Future::cancel`] does.
    pub fn cancel(&self) -> bool {
        self.core.cancel()
    }

    pub(crate) fn help(&self) {
        self.core.work.help(&self.core.slot);
    }

    pub(crate) fn listen(&self, listener: &Arc<dyn Listener>, key: usize) -> bool {
        if self.is_lost() {
            return false;
        }
        let mut interested = lock(&self.common.interested);
        let waits = interested.as_mut();
        if let Some(interested) = waits {
            interested.listeners.add(Arc::clone(listener), key);
            return true;
        }
        false
    }

    pub(crate) fn unlisten(&self, listener: &Arc<dyn Listener>, key: usize) {
        let former = lock(&self.common.interested)
            .as_mut()
            .and_then(|interested| interested.listeners.remove(listener, key));
        drop(former);
    }
}

impl<T> Clone for SharedFuture<T> {
    fn clone(&self) -> Self {
        Self { common: Arc::clone(&self.common), core: Arc::clone(&self.core) }
    }
}

impl<T> fmt::Debug for SharedFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFuture").field("done", &self.is_done()).finish_non_exhaustive()
    }
}
