//! Names the task that blocks its event loop.
//!
//! An event loop runs one task at a time, from one `.await` to the next; a task that computes or blocks in between
//! holds up every other. The watchdog is a thread that looks, now and then, which task each loop is in, and reports one
//! that it meets again too often.
//!
//! A loop leaves two numbers for it: which task it is in, and how many times it has entered one. That is all it costs
//! where nobody is blocked: no clock is read and no lock is taken. When the loops have been idle for some looks, the
//! watchdog sleeps without a limit, and the loop that next enters a task wakes it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tricorne_sync::prim::Parker;

/// After so many looks at which no loop had done anything, the watchdog sleeps until one does.
const IDLE_LOOKS: u32 = 20;

/// A task that keeps its event loop from running others; see
/// [`AsyncExecutorBuilder::watchdog`](crate::AsyncExecutorBuilder::watchdog).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blockage {
    /// Name of the task.
    pub task: String,
    /// Name of the thread that runs the loop.
    pub thread: String,
    /// For how long at least.
    pub blocked_for: Duration,
    /// Whether it has let go of the loop by now. Each blockage is reported when it is noticed, and again when it is over.
    pub over: bool,
}

impl fmt::Display for Blockage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, thread, blocked_for, over } = self;
        let verb = if *over { "blocked" } else { "blocks" };
        write!(f, "task `{task}` {verb} event loop `{thread}`, for {blocked_for:.0?} at least")
    }
}

pub(crate) type Observer = Arc<dyn Fn(&Blockage) + Send + Sync>;

/// The watchdog of an executor: its thread ends with it.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Tells watchdogs apart for good: an address would come again.
    number: u64,
    threshold: Duration,
    observer: Observer,
    names: Mutex<HashMap<u64, Cow<'static, str>>>,
    next_task: AtomicU64,
    /// One for each thread that has run a task.
    pulses: Mutex<Vec<Arc<Pulse>>>,
    asleep: AtomicBool,
    stopped: AtomicBool,
    parker: Parker,
}

/// What a thread that runs tasks leaves for the watchdog.
struct Pulse {
    thread: String,
    /// The task that it is in; 0 for none.
    task: AtomicU64,
    /// How many times it has entered one.
    entries: AtomicU64,
}

thread_local! {
    /// The pulses of this thread, by the number of their watchdog: nearly always one.
    static PULSES: RefCell<Vec<(u64, Arc<Pulse>)>> = const { RefCell::new(Vec::new()) };
}

impl Watchdog {
    pub(crate) fn start(thread: String, threshold: Duration, observer: Observer) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            // Relaxed: only the numbers' being different matters.
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            threshold,
            observer,
            names: Mutex::default(),
            next_task: AtomicU64::new(1),
            pulses: Mutex::default(),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            parker: Parker::new(),
        });
        let watching = Arc::clone(&shared);
        let thread = thread::Builder::new().name(thread).spawn(move || watching.watch())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Makes a task known; it is forgotten when what comes back is dropped.
    pub(crate) fn register(&self, name: Cow<'static, str>) -> Watched {
        // Relaxed: only the numbers' being different matters.
        let task = self.shared.next_task.fetch_add(1, Ordering::Relaxed);
        locked(&self.shared.names).insert(task, name);
        Watched { shared: Arc::clone(&self.shared), task }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.parker.unpark();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // What panics in an observer is caught.
            let _ = thread.join();
        }
    }
}

/// A task that the watchdog knows.
pub(crate) struct Watched {
    shared: Arc<Shared>,
    task: u64,
}

impl Watched {
    /// Runs `step`, a piece of the task from one `.await` to the next.
    pub(crate) fn step<T>(&self, step: impl FnOnce() -> T) -> T {
        let Some(pulse) = self.shared.pulse() else { return step() };
        // A task may run another one's step, in a runtime of its own say; after it, it is in itself again.
        let outer = pulse.task.load(Ordering::Relaxed);
        pulse.enter(self.task);
        // Both are SeqCst, as are the watchdog's when it falls asleep: either it sees this entry, or this sees it asleep.
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.shared.parker.unpark();
        }
        let outcome = step();
        if outer == 0 {
            // Relaxed: a late look only sees the task a little longer.
            pulse.task.store(0, Ordering::Relaxed);
        } else {
            pulse.enter(outer);
        }
        outcome
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        locked(&self.shared.names).remove(&self.task);
    }
}

impl Pulse {
    fn enter(&self, task: u64) {
        // Only this thread writes. Relaxed: published by the store after it.
        self.entries.store(self.entries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.task.store(task, Ordering::SeqCst);
    }

    fn look(&self) -> (u64, u64) {
        let task = self.task.load(Ordering::SeqCst);
        (task, self.entries.load(Ordering::SeqCst))
    }
}

/// What the watchdog has seen of a thread.
struct Sight {
    look: (u64, u64),
    since: Instant,
    /// The last look at which it was there.
    until: Instant,
    /// Name of the task, once it was reported.
    reported: Option<String>,
}

impl Shared {
    /// The pulse of this thread; `None` while the thread ends.
    fn pulse(self: &Arc<Self>) -> Option<Arc<Pulse>> {
        PULSES
            .try_with(|pulses| {
                let mut pulses = pulses.borrow_mut();
                if let Some((_, pulse)) = pulses.iter().find(|(other, _)| *other == self.number) {
                    return Arc::clone(pulse);
                }
                // Those that only this thread knows belong to watchdogs that are gone.
                pulses.retain(|(_, pulse)| Arc::strong_count(pulse) > 1);
                let thread = thread::current().name().unwrap_or("unnamed").to_owned();
                let pulse = Arc::new(Pulse { thread, task: AtomicU64::new(0), entries: AtomicU64::new(0) });
                locked(&self.pulses).push(Arc::clone(&pulse));
                pulses.push((self.number, Arc::clone(&pulse)));
                pulse
            })
            .ok()
    }

    /// The pulses of threads that are there; those of others are let go of, and what was seen of them.
    fn living(&self, sights: &mut Vec<Sight>) -> Vec<Arc<Pulse>> {
        let mut place = 0;
        let mut pulses = locked(&self.pulses);
        pulses.retain(|pulse| {
            // Its thread has let go of it.
            let gone = Arc::strong_count(pulse) == 1;
            if !gone {
                place += 1;
            } else if place < sights.len() {
                sights.remove(place);
            }
            !gone
        });
        pulses.clone()
    }

    fn watch(&self) {
        let mut sights: Vec<Sight> = Vec::new();
        let mut idle_looks = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            let pulses = self.living(&mut sights);
            let now = Instant::now();
            let mut idle = true;
            for (place, pulse) in pulses.iter().enumerate() {
                let look = pulse.look();
                if sights.len() == place {
                    sights.push(Sight { look, since: now, until: now, reported: None });
                    idle = false;
                    continue;
                }
                let sight = &mut sights[place];
                if sight.look == look && look.0 != 0 {
                    idle = false;
                    self.meet_again(sight, pulse, now);
                } else if sight.look != look {
                    idle = false;
                    self.meet(sight, pulse, look, now);
                }
            }
            idle_looks = if idle { idle_looks + 1 } else { 0 };
            if idle_looks < IDLE_LOOKS {
                self.parker.park_deadline(Some(now + self.threshold / 2));
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            let entered = pulses.iter().zip(&sights).any(|(pulse, sight)| pulse.look() != sight.look)
                || locked(&self.pulses).len() != pulses.len();
            if !entered && !self.stopped.load(Ordering::SeqCst) {
                self.parker.park_deadline(None);
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle_looks = 0;
        }
    }

    /// The thread is still where it was at the last look.
    fn meet_again(&self, sight: &mut Sight, pulse: &Pulse, now: Instant) {
        sight.until = now;
        let blocked_for = now - sight.since;
        if sight.reported.is_some() || blocked_for < self.threshold {
            return;
        }
        let name = locked(&self.names).get(&sight.look.0).map(ToString::to_string);
        // A task that has just ended is no culprit any more.
        if let Some(task) = name {
            sight.reported = Some(task.clone());
            self.report(&Blockage { task, thread: pulse.thread.clone(), blocked_for, over: false });
        }
    }

    /// The thread is somewhere else.
    fn meet(&self, sight: &mut Sight, pulse: &Pulse, look: (u64, u64), now: Instant) {
        let former = std::mem::replace(sight, Sight { look, since: now, until: now, reported: None });
        if let Some(task) = former.reported {
            // It ended between the last look and this one, which may be late itself.
            let blocked_for = former.until - former.since;
            self.report(&Blockage { task, thread: pulse.thread.clone(), blocked_for, over: true });
        }
    }

    fn report(&self, blockage: &Blockage) {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| (self.observer)(blockage)));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(any(tricorne_loom, tricorne_shuttle))))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_watchdog_that_is_late_itself_claims_no_more_than_it_has_seen() {
        let (sender, reports) = mpsc::channel();
        let observer = Arc::new(move |blockage: &Blockage| {
            let _ = sender.send(blockage.clone());
        });
        // It looks twice an hour by itself.
        let watchdog =
            Watchdog::start("late".to_owned(), Duration::from_secs(3600), observer).expect("a thread");
        let watched = watchdog.register("slow".into());
        let shared = &watchdog.shared;
        let pulse = Pulse { thread: "here".to_owned(), task: AtomicU64::new(0), entries: AtomicU64::new(0) };
        let start = Instant::now();
        let after = |hours: u64| start + Duration::from_secs(3600 * hours);
        let mut sight = Sight { look: (watched.task, 1), since: start, until: start, reported: None };
        shared.meet_again(&mut sight, &pulse, after(2));
        shared.meet(&mut sight, &pulse, (0, 1), after(50));
        let blocked_for =
            || reports.try_recv().map(|report| (report.blocked_for.as_secs() / 3600, report.over));
        assert_eq!((blocked_for(), blocked_for()), (Ok((2, false)), Ok((2, true))));
    }

    #[test]
    fn threads_that_have_ended_are_forgotten() {
        let watchdog =
            Watchdog::start("watchdog".to_owned(), Duration::from_secs(3600), Arc::new(|_: &Blockage| {}))
                .expect("a thread");
        for _ in 0..3 {
            let watched = watchdog.register("short".into());
            thread::spawn(move || watched.step(|| ())).join().expect("it does not panic");
        }
        // The watchdog's own thread may hold them for the moment in which it looks.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !watchdog.shared.living(&mut Vec::new()).is_empty() {
            assert!(Instant::now() < deadline, "they are kept");
            thread::yield_now();
        }
    }
}
