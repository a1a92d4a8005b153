//! Tasks that borrow: a scope on a pool.

use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;

use tricorne_sync::prim::{Arc, Mutex, lock};

use crate::error::TaskError;
use crate::future::{Future, Slot, Work, pair};
use crate::sys::fork;
use crate::sys::scoped::{self, Tether, Tethered};
use crate::thread_pool::{Job, Pool, is_worker_of};

/// Where tasks that borrow are submitted; see [`ThreadPoolExecutor::scope`](crate::ThreadPoolExecutor::scope).
///
/// A clone is the same scope: a task that owns one can submit more.
pub struct Scope<'scope, 'env> {
    tether: &'scope Tether<'scope, 'env>,
    pool: &'env Arc<Pool>,
    /// Only on a worker of the same pool, which must not wait for workers that wait themselves: what the scope has
    /// submitted, for it to run at its end if nobody has.
    own: Option<Arc<Own>>,
}

type Own = Mutex<VecDeque<Arc<Tethered>>>;

pub(crate) fn run<'env, R>(
    pool: &'env Arc<Pool>,
    body: impl for<'scope> FnOnce(&Scope<'scope, 'env>) -> R,
) -> R {
    let own = is_worker_of(pool.number()).then(Arc::<Own>::default);
    let next = || own.as_ref().and_then(|own| lock(own).pop_front());
    let can_help = || own.as_ref().is_some_and(|own| !lock(own).is_empty());
    let help = || {
        while let Some(job) = next() {
            job.run();
        }
    };
    scoped::scope(|tether| body(&Scope { tether, pool, own: own.clone() }), can_help, help)
}

impl<'scope> Scope<'scope, '_> {
    /// Has `task`, which may borrow from outside of the scope, run by a worker. Never blocks.
    ///
    /// The future is as any other; dropping it is fine, the scope waits for the task anyway.
    pub fn submit<T, F>(&self, task: F) -> Future<T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let handle = Arc::new(Handle { pool: self.pool.number(), job: OnceLock::new() });
        let (promise, future) = pair(Arc::clone(&handle));
        let job = self.tether.tie(Box::new(move |error| match error {
            None => promise.run(task),
            Some(error) => promise.fail(error),
        }));
        // Set once, here; before the job can be run or the future waited for.
        let _ = handle.job.set(Arc::clone(&job));
        if let Some(own) = &self.own {
            lock(own).push_back(Arc::clone(&job));
            // A task that submits another one may be waited for already, by a worker who can run it.
            self.tether.nudge();
        }
        if let Err(error) = self.pool.push(Arc::clone(&job) as Arc<dyn Job>) {
            job.end(error);
        }
        future
    }
}

impl Clone for Scope<'_, '_> {
    fn clone(&self) -> Self {
        Self { tether: self.tether, pool: self.pool, own: self.own.clone() }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// What the future of a task in a scope knows of it.
struct Handle {
    pool: u64,
    job: OnceLock<Arc<Tethered>>,
}

impl<T> Work<T> for Arc<Handle> {
    fn help(&self, _: &Slot<T>) {
        if is_worker_of(self.pool)
            && let Some(job) = self.job.get()
        {
            job.run();
        }
    }

    fn discard(&self) {
        if let Some(job) = self.job.get() {
            job.discard();
        }
    }

    fn lost(&self) -> Option<TaskError> {
        fork::is_elsewhere(self.pool).then_some(TaskError::Forked)
    }
}
