//! The one place where a borrow is carried past the compiler: tasks that borrow from the caller's stack, run by
//! threads that outlive it.
//!
//! A worker thread can only be given what lives for ever, so a task that borrows has to lose its lifetime on the way
//! into the queue. No safe code can do that; `std::thread::scope` and rayon's `scope` have the same few lines inside.
//! What it buys over `std::thread::scope` is a thread's start and end (some 60 us) for each task; `core` in the benches
//! measures it.
//!
//! # Why it is sound
//!
//! [`scope`] returns, normally or by a panic, only when its count of [`Tethered`] tasks is back at zero; the count goes
//! down only after the erased closure has been consumed: it ran and everything that it owned was dropped, or it was
//! dropped without running. So no borrow of `'env` or `'scope` is left anywhere when they end. That the caller cannot
//! end them earlier is the lifetime `'scope` itself: it is chosen by this function (the closure must accept every
//! one), so it outlasts the closure, and the [`Tether`] that could make further tasks lives only as long.
//!
//! The model is `tests/shuttle.rs` (`a_scope_outlasts_its_tasks`), where a task that outlived its scope would find the
//! flag that the scope clears on its way out.

use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::task::{Poll, Waker};

use tricorne_sync::prim::{Arc, Mutex, lock};

use crate::error::TaskError;
use crate::park;
use crate::thread_pool::Job;

/// Where tasks that borrow for `'scope` are tied down.
pub(crate) struct Tether<'scope, 'env> {
    count: Arc<Count>,
    /// Invariant in both, as in `std::thread::Scope`: neither may be shortened nor stretched.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A task that has lost its lifetime. Whoever has it runs it once, or drops what is in it.
pub(crate) struct Tethered {
    closure: Mutex<Option<Closure<'static>>>,
    count: Arc<Count>,
}

/// Runs the task, or ends it with the error.
type Closure<'scope> = Box<dyn FnOnce(Option<TaskError>) + Send + 'scope>;

/// Tasks that are tied down, and who waits for the last.
struct Count {
    state: Mutex<(usize, Option<Waker>)>,
}

impl Count {
    fn up(&self) {
        lock(&self.state).0 += 1;
    }

    fn down(&self) {
        let mut state = lock(&self.state);
        state.0 -= 1;
        let waker = if state.0 == 0 { state.1.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes whoever waits, to look for itself.
    fn nudge(&self) {
        let waker = lock(&self.state).1.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until all are gone, or there is something to help with; whether all are gone.
    fn wait_for_zero_or(&self, can_help: impl Fn() -> bool) -> bool {
        let zero = park::wait_until(None, |waker| {
            let waker = waker.clone();
            let mut state = lock(&self.state);
            if state.0 == 0 {
                return Poll::Ready(true);
            }
            let former = state.1.replace(waker);
            drop(state);
            drop(former);
            // After the waker is in its place: what comes now nudges it.
            if can_help() { Poll::Ready(false) } else { Poll::Pending }
        });
        zero.unwrap_or(false)
    }
}

/// Runs `body`, and returns when every task that was tied down in `body`, or by such a task, is gone. Until then it runs
/// `help` whenever `can_help` says so; who makes that true [nudges](Tether::nudge) it.
///
/// A panic of `body` goes on after that.
pub(crate) fn scope<'env, R>(
    body: impl for<'scope> FnOnce(&'scope Tether<'scope, 'env>) -> R,
    can_help: impl Fn() -> bool,
    mut help: impl FnMut(),
) -> R {
    let tether = Tether {
        count: Arc::new(Count { state: Mutex::new((0, None)) }),
        scope: PhantomData,
        env: PhantomData,
    };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| body(&tether)));
    let mut helped = Ok(());
    while !tether.count.wait_for_zero_or(&can_help) {
        // Its panics must not keep us from waiting.
        helped = helped.and(panic::catch_unwind(AssertUnwindSafe(&mut help)));
    }
    match (outcome, helped) {
        (Ok(value), Ok(())) => value,
        (Err(payload), _) | (Ok(_), Err(payload)) => panic::resume_unwind(payload),
    }
}

impl<'scope> Tether<'scope, '_> {
    /// Has the scope look whether it can help, if it waits for its end.
    pub(crate) fn nudge(&self) {
        self.count.nudge();
    }

    /// Ties a task down: the scope will not end before it has run, or was dropped.
    pub(crate) fn tie(&self, closure: Closure<'scope>) -> Arc<Tethered> {
        // SAFETY: only the lifetime changes, so both are the same fat pointer. The closure is reachable only through
        // `Tethered::closure`, and `Tethered::consume`, which alone takes it from there, consumes it before it counts down (see the head of this file), and
        // `scope`, which alone makes a `Tether`, does not let `'scope` end before the count is zero.
        let closure = unsafe { std::mem::transmute::<Closure<'scope>, Closure<'static>>(closure) };
        self.count.up();
        Arc::new(Tethered { closure: Mutex::new(Some(closure)), count: Arc::clone(&self.count) })
    }
}

impl Tethered {
    /// Lets go of it without running it, unless it has begun.
    pub(crate) fn discard(&self) {
        self.consume(drop);
    }

    fn consume(&self, how: impl FnOnce(Closure<'static>)) {
        struct CountDown<'a>(&'a Count);
        impl Drop for CountDown<'_> {
            fn drop(&mut self) {
                self.0.down();
            }
        }
        let closure = lock(&self.closure).take();
        if let Some(closure) = closure {
            // Dropped after `how`, which has consumed the closure then, also by a panic.
            let _down = CountDown(&self.count);
            how(closure);
        }
    }
}

impl Job for Tethered {
    fn run(&self) {
        self.consume(|closure| closure(None));
    }

    fn end(&self, error: TaskError) {
        self.consume(|closure| closure(Some(error)));
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        // A pool that is torn down with tasks in its queue drops them all the same.
        self.discard();
    }
}
