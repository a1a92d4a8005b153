//! Who listens to the workers: the manager, or a thread that waits for a result anyway.
//!
//! A result that goes through the manager costs three wake-ups: of the worker, of the manager, and of the thread that waits.
//! When one thread hands in one task after the other and waits for each, it is better that this thread listens itself.
//!
//! ```text
//!            nothing is in flight, and somebody has waited           a thread begins to wait
//!  MANAGER ─────────────────────────────────────────────▶ FREE ─────────────────────────────▶ HELPER
//!     ▲                                                   │  ▲                                  │
//!     └──── nobody has helped for a while, or it is woken ┘  └── it has its result, or there is ┘
//!                                                                something that only the manager does
//! ```
//!
//! In FREE nobody listens, for at most [`NAP`]: the manager naps and looks whether there was a helper meanwhile. A helper takes
//! the results of all workers, and sends what waits; for all else (a worker that has died, or is to be started, clocks, output) it
//! wakes the manager and waits as usual. When it goes while other tasks are in flight, it wakes the manager as well. Events are
//! not lost in between: what was not read stays readable.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, Event};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::engine::Shared;

/// How long the manager stays away before it looks whether somebody has helped: a look disturbs those that work.
const NAP: Duration = Duration::from_millis(2);
/// How long it stays away while somebody listens, unless it is woken.
const LONG_NAP: Duration = Duration::from_millis(50);

const MANAGER: u32 = 0;
const FREE: u32 = 1;
const HELPER: u32 = 2;

/// What happens to a pool, and who listens to it.
pub(crate) struct Lead {
    pub(crate) epoll: OwnedFd,
    who: AtomicU32,
    /// Threads that wanted to help while the manager listened.
    missed: AtomicU32,
    /// Threads that have helped.
    helped: AtomicU32,
    /// The manager relies on being woken by the helper.
    is_long_nap: AtomicBool,
    manager: OnceLock<Thread>,
}

/// Waits for events, at most until `until`.
pub(crate) fn wait(epoll: &OwnedFd, events: &mut Vec<Event>, until: Option<Instant>) -> Result<(), Errno> {
    let limit = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    });
    events.clear();
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Lead {
    pub(crate) fn new(epoll: OwnedFd) -> Self {
        Self {
            epoll,
            who: AtomicU32::new(MANAGER),
            missed: AtomicU32::new(0),
            helped: AtomicU32::new(0),
            is_long_nap: AtomicBool::new(false),
            manager: OnceLock::new(),
        }
    }

    /// The manager's, at its start.
    pub(crate) fn i_am_the_manager(&self) {
        let _ = self.manager.set(thread::current());
    }

    /// The manager's: whether somebody has wanted to help since it was asked.
    pub(crate) fn is_help_wanted(&self) -> bool {
        // Relaxed: a hint.
        self.missed.swap(0, Ordering::Relaxed) != 0
    }

    /// The manager's: stays away for as long as others listen and nothing `is_quiet` no longer.
    pub(crate) fn nap(&self, is_quiet: impl Fn() -> bool) {
        let mut helped = self.helped.load(Ordering::Relaxed);
        // Release: what the manager has done is before what a helper does.
        self.who.store(FREE, Ordering::Release);
        let mut is_long = false;
        loop {
            thread::park_timeout(if is_long { LONG_NAP } else { NAP });
            // After what a helper has done.
            is_long = self.who.compare_exchange(FREE, MANAGER, Ordering::SeqCst, Ordering::SeqCst).is_err();
            self.is_long_nap.store(is_long, Ordering::SeqCst);
            if is_long {
                // Here and in `Helping::drop` each says what it does and then looks what the other has said, in one order
                // for all four: so the helper wakes the manager, or the manager sees that it has gone.
                is_long = self.who.load(Ordering::SeqCst) == HELPER;
                continue;
            }
            let now = self.helped.load(Ordering::Relaxed);
            if now == helped || !is_quiet() {
                return;
            }
            helped = now;
            self.who.store(FREE, Ordering::Release);
        }
    }

    /// Wakes the manager if it naps.
    pub(crate) fn wake_manager(&self) {
        if self.who.load(Ordering::Acquire) == FREE {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(manager) = self.manager.get() {
            manager.unpark();
        }
    }
}

/// Ends the help of a thread, on every path.
struct Helping<'a> {
    lead: &'a Lead,
    wake_manager: bool,
}

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        self.lead.helped.fetch_add(1, Ordering::Relaxed);
        self.lead.who.store(FREE, Ordering::SeqCst);
        if self.lead.is_long_nap.load(Ordering::SeqCst) || self.wake_manager {
            self.lead.unpark();
        }
    }
}

/// Listens instead of the manager until `is_done` says so, if that is possible. When it returns, the result need not be there.
pub(crate) fn help(shared: &Shared, is_done: &dyn Fn() -> bool, deadline: Option<Instant>) {
    let lead = &shared.lead;
    if shared.is_elsewhere() {
        return;
    }
    if lead.who.compare_exchange(FREE, HELPER, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        lead.missed.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut helping = Helping { lead, wake_manager: true };
    let mut events: Vec<Event> = Vec::with_capacity(8);
    let mut buffer = [0; 256];
    while !is_done() {
        if wait(&lead.epoll, &mut events, deadline).is_err() || events.is_empty() {
            return;
        }
        let mut locked = shared.lock();
        let mut only_results = true;
        for event in &events {
            only_results &= match super::manager::Token::from(event.data.u64()) {
                super::manager::Token::Socket(number) => locked.hear_result(number, &mut buffer),
                _ => false,
            };
        }
        let look = locked.dispatch();
        let state = &*locked.state;
        only_results &= state.to_start == 0 && !state.is_earlier_than_planned(look);
        let others_wait = state.workers.values().any(super::dispatch::Worker::is_busy);
        helping.wake_manager = !only_results || others_wait;
        if !only_results || !locked.deferred.is_empty() {
            // Foreign code is run: it may wait for another task, or for the end of the pool, and somebody has to listen. What has
            // ended is most likely what this thread waits for; if not, it waits as usual.
            drop(helping);
            locked.unlock();
            return;
        }
        locked.unlock();
        if !others_wait && !is_done() {
            // Nothing is in flight: it was cancelled, or somebody else is about to deliver it.
            return;
        }
    }
}
