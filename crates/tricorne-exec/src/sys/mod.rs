//! What a run costs: CPU time of a thread and of the process, and resident memory.
//!
//! The only place in this crate that talks to the system directly, and, in a module of its own, the one place where a
//! borrow is carried past the compiler. Linux has all of it; other Unix systems have what `getrusage` knows, and `None`
//! for the rest.

#![expect(unsafe_code, reason = "system calls, and tasks that borrow")]

pub(crate) mod fork;
pub(crate) mod scoped;

#[cfg(target_os = "linux")]
pub(crate) mod child;
#[cfg(target_os = "linux")]
pub(crate) mod memory;

pub use fork::forks;

use std::mem::MaybeUninit;
use std::time::Duration;

/// The cores that this process may use, at least 1: as many as its affinity mask and the CPU quota of its container allow (cgroup
/// versions 1 and 2, rounded down), not as many as the machine has.
#[must_use]
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// CPU time that the calling thread has used so far, in user and kernel mode; zero where it cannot be told.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

/// Reads the CPU time of one thread from any thread.
///
/// After the thread has ended the system may give its number to a new thread, whose time would then be read: the
/// reader should know that the thread still runs, or keep the last value that the thread itself has left.
#[derive(Debug, Clone, Copy)]
pub struct ThreadClock {
    clock: libc::clockid_t,
}

impl ThreadClock {
    /// The clock of the calling thread; `None` on systems that have none for other threads to read.
    #[must_use]
    pub fn current() -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            let mut clock: libc::clockid_t = 0;
            // SAFETY: `pthread_self` is a running thread, and `clock` is writable for the time of the call.
            let status = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
            (status == 0).then_some(Self { clock })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// CPU time that the thread has used so far; `None` once it has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        clock(self.clock)
    }
}

fn clock(id: libc::clockid_t) -> Option<Duration> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` has room for one timespec. An unknown clock is an error, not undefined.
    let status = unsafe { libc::clock_gettime(id, time.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so it has filled `time` in.
    let time = unsafe { time.assume_init() };
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// CPU time of the process, in user and kernel mode together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Of all its threads, those that have ended included.
    pub own: Duration,
    /// Of its child processes that have ended and were waited for.
    pub finished_children: Duration,
}

/// CPU time that the process and its finished children have used so far.
#[must_use]
pub fn process_cpu_time() -> CpuTime {
    let time = |who| {
        usage(who).map_or(Duration::ZERO, |usage| of_timeval(usage.ru_utime) + of_timeval(usage.ru_stime))
    };
    CpuTime { own: time(libc::RUSAGE_SELF), finished_children: time(libc::RUSAGE_CHILDREN) }
}

/// The most memory in bytes that was resident at once since the process started; `None` if it cannot be told.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        // Not `ru_maxrss`: that one begins with the size of the process that started us.
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let peak = u64::try_from(usage(libc::RUSAGE_SELF)?.ru_maxrss).ok()?;
        // Apple counts bytes, the others kibibytes.
        Some(if cfg!(target_vendor = "apple") { peak } else { peak * 1024 })
    }
}

/// Memory in bytes that is resident now; `None` on systems other than Linux.
#[must_use]
pub fn current_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        // SAFETY: takes a number, returns a number.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Some(pages * u64::try_from(page_bytes).ok()?)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

fn usage(who: libc::c_int) -> Option<libc::rusage> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has room for one rusage.
    let status = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    // SAFETY: on success the call has filled `usage` in.
    (status == 0).then(|| unsafe { usage.assume_init() })
}

fn of_timeval(time: libc::timeval) -> Duration {
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec).unwrap_or_default();
    Duration::from_secs(secs) + Duration::from_micros(micros)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::mpsc;
    use std::thread;

    fn burn() {
        let before = thread_cpu_time();
        while thread_cpu_time() - before < Duration::from_millis(5) {
            black_box((0..1_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn another_thread_reads_a_thread_s_clock() {
        let (clock_sender, clocks) = mpsc::channel();
        let (done, wait) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            burn();
            clock_sender
                .send((ThreadClock::current().expect("Linux has it"), thread_cpu_time()))
                .expect("read below");
            let _ = wait.recv();
        });
        let (clock, own) = clocks.recv().expect("the worker sends it");
        let seen = clock.cpu_time().expect("the worker waits");
        assert!(seen >= own && own >= Duration::from_millis(5), "{seen:?} {own:?}");
        drop(done);
        worker.join().expect("it does not panic");
    }

    #[test]
    fn process_time_covers_all_threads() {
        let before = process_cpu_time().own;
        thread::spawn(burn).join().expect("it does not panic");
        let used = process_cpu_time().own - before;
        // `getrusage` scales by ticks of the scheduler, so it may lag a little.
        assert!(used >= Duration::from_millis(3), "{used:?}");
    }

    #[test]
    fn memory_that_was_touched_is_resident() {
        const BYTES: usize = 64 << 20;
        let before = current_rss_bytes().expect("Linux has it");
        let block = black_box(vec![1_u8; BYTES]);
        let with_block = current_rss_bytes().expect("Linux has it");
        drop(block);
        let peak = peak_rss_bytes().expect("Linux has it");
        // The kernel counts in batches per core, and other tests come and go.
        let least = before + BYTES as u64 / 2;
        assert!(with_block >= least && peak >= least, "{before} {with_block} {peak}");
    }
}
