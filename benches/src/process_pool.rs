//! The process pool: small tasks, round trips, large buffers, starting, and going on after a crash.
//!
//! The peer of a round trip is the floor: the same bytes to a process that sends them back, over the same kind of socket,
//! with nothing in between. Rates of tasks are those of two workers, whatever the machine has.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tricorne_exec::TaskError;
use tricorne_exec::process::{Buffer, Function, Output, ProcessPoolExecutor, Registry};

use crate::Options;
use crate::figure::{Rounds, print};

/// The word that makes this program the other end of a bare round trip.
pub(crate) const AS_ECHO: &str = "--echo";

const ROUNDS: usize = 5;
const LARGE: usize = 64 << 20;

static SQUARE: Function<u64, u64> = Function::new("square", |n| n.wrapping_mul(n));
static LENGTH: Function<Buffer, usize> =
    Function::new("length", |buffer| buffer.iter().step_by(4096).filter(|byte| **byte == 1).count());
static MAKE: Function<usize, Buffer> =
    Function::new("make", |len| SAME.with_borrow_mut(|same| same.take(len)));
static SLEEP: Function<u64, ()> =
    Function::new("sleep", |millis| std::thread::sleep(Duration::from_millis(millis)));
static ABORT: Function<(), ()> = Function::new("abort", |()| std::process::abort());

thread_local! {
    /// The bytes that a worker sends: they are made once, since it is sending that is measured.
    static SAME: std::cell::RefCell<Same> = const { std::cell::RefCell::new(Same(None)) };
}

struct Same(Option<Buffer>);

impl Same {
    fn take(&mut self, len: usize) -> Buffer {
        self.0.get_or_insert_with(|| vec![7; len].into()).clone()
    }
}

/// What the workers of this program can do.
pub(crate) fn functions() -> Registry {
    Registry::new().with(&SQUARE).with(&LENGTH).with(&MAKE).with(&SLEEP).with(&ABORT)
}

/// The other end of a bare round trip: sends back what it gets.
pub(crate) fn echo() -> ExitCode {
    let mut buffer = [0; 256];
    let socket = rustix::stdio::stdin();
    loop {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((len @ 1.., _)) if send(socket, &buffer[..len], SendFlags::NOSIGNAL).is_ok() => {}
            _ => return ExitCode::SUCCESS,
        }
    }
}

pub(crate) fn run(_: &Options) -> Result<(), String> {
    small_tasks()?;
    round_trips()?;
    large_buffers()?;
    starts()?;
    crashes()
}

fn pool(workers: usize) -> Result<ProcessPoolExecutor, String> {
    let quiet = Output::capture(|_| ());
    ProcessPoolExecutor::builder().workers(workers).stderr(quiet).build().map_err(|error| error.to_string())
}

fn wrong(error: &TaskError) -> String {
    format!("a task has failed: {error}")
}

fn per_second(tasks: u64, since: Instant) -> f64 {
    tasks as f64 / since.elapsed().as_secs_f64()
}

fn small_tasks() -> Result<(), String> {
    const TASKS: u64 = 300_000;
    let pool = pool(2)?;
    let (mut map, mut submit) = (Rounds::new(), Rounds::new());
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        for (n, square) in (0..TASKS).zip(pool.map(&SQUARE, 0..TASKS)) {
            if square.map_err(|error| wrong(&error))? != n * n {
                return Err(format!("the square of {n} is wrong"));
            }
        }
        let mapped = per_second(TASKS, begun);
        let begun = Instant::now();
        let futures: Vec<_> = (0..TASKS / 3).map(|n| pool.submit(&SQUARE, n)).collect();
        for future in futures {
            future.result().map_err(|error| wrong(&error))?;
        }
        // The first round starts the workers and finds the size of batches.
        if round > 0 {
            map.add(mapped);
            submit.add(per_second(TASKS / 3, begun));
        }
    }
    print("process_map_tiny", "tricorne", &map, "tasks/s", Some(200_000.0));
    print("process_submit_result", "tricorne", &submit, "tasks/s", None);
    Ok(())
}

/// A process that echoes, ended on drop.
struct Echo {
    socket: OwnedFd,
    process: Child,
}

impl Echo {
    fn start() -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot start the echo: {error}");
        let (socket, its) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| failed(&error))?;
        let process = Command::new(std::env::current_exe().map_err(|error| failed(&error))?)
            .arg(AS_ECHO)
            .stdin(Stdio::from(its))
            .spawn()
            .map_err(|error| failed(&error))?;
        Ok(Self { socket, process })
    }

    fn round_trip(&self, bytes: &[u8], buffer: &mut [u8]) -> Result<(), String> {
        let lost = |error: rustix::io::Errno| format!("lost the echo: {error}");
        let mut control = rustix::net::SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            .map_err(lost)?;
        recv(&self.socket, buffer, RecvFlags::empty()).map_err(lost)?;
        Ok(())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bytes of the frame of one small task.
const FRAME_BYTES: usize = 53;

fn round_trips() -> Result<(), String> {
    const TRIPS: usize = 3_000;
    let pool = pool(1)?;
    let echo = Echo::start()?;
    let mut figures = [const { Rounds::new() }; 4];
    for round in 0..=ROUNDS {
        let mut bare = Vec::with_capacity(TRIPS);
        let mut ours = Vec::with_capacity(TRIPS);
        let mut buffer = [0; 256];
        // In turns of a few hundred, so that a busy moment meets both.
        for _ in 0..TRIPS / 300 {
            for _ in 0..300 {
                let begun = Instant::now();
                echo.round_trip(&[7; FRAME_BYTES], &mut buffer)?;
                bare.push(begun.elapsed());
            }
            for n in 0..300 {
                let begun = Instant::now();
                pool.submit(&SQUARE, n).result().map_err(|error| wrong(&error))?;
                ours.push(begun.elapsed());
            }
        }
        if round > 0 {
            for (times, at) in [(&mut ours, 0), (&mut bare, 2)] {
                times.sort_unstable();
                figures[at].add(micros(times[times.len() / 2]));
                figures[at + 1].add(micros(times[times.len() * 99 / 100]));
            }
        }
    }
    let floor = |rounds: &Rounds| rounds.median().map(|value| value * 1.5);
    let (p50, p99) = (floor(&figures[2]), floor(&figures[3]));
    print("process_round_trip_p50", "tricorne", &figures[0], "us", p50);
    print("process_round_trip_p50", "socketpair", &figures[2], "us", None);
    print("process_round_trip_p99", "tricorne", &figures[1], "us", p99);
    print("process_round_trip_p99", "socketpair", &figures[3], "us", None);
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn large_buffers() -> Result<(), String> {
    const TIMES: usize = 4;
    let pool = pool(1)?;
    let bytes = Buffer::from(vec![1; LARGE]);
    let (mut into, mut out) = (Rounds::new(), Rounds::new());
    let speed = |begun: Instant| (TIMES * LARGE) as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 30);
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        for _ in 0..TIMES {
            // The worker reads one byte of each page, so that it has them all.
            let pages = pool.submit(&LENGTH, bytes.clone()).result().map_err(|error| wrong(&error))?;
            if pages != LARGE / 4096 {
                return Err("a buffer has lost its length".to_owned());
            }
        }
        let sent = speed(begun);
        let begun = Instant::now();
        for _ in 0..TIMES {
            let made = pool.submit(&MAKE, LARGE).result().map_err(|error| wrong(&error))?;
            if made.iter().step_by(4096).any(|byte| *byte != 7) {
                return Err("a buffer has other bytes".to_owned());
            }
        }
        if round > 0 {
            into.add(sent);
            out.add(speed(begun));
        }
    }
    print("process_64_mib_in", "tricorne", &into, "GiB/s", Some(1.5));
    print("process_64_mib_out", "tricorne", &out, "GiB/s", Some(1.5));
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn starts() -> Result<(), String> {
    let (mut first, mut tenth, mut whole) = (Rounds::new(), Rounds::new(), Rounds::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let pool = pool(10)?;
        pool.submit(&SQUARE, 1).result().map_err(|error| wrong(&error))?;
        first.add(millis(begun));
        let busy: Vec<_> = (0..9).map(|_| pool.submit(&SLEEP, 150)).collect();
        while pool.stats().running < 9 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let since = Instant::now();
        pool.submit(&SQUARE, 1).result().map_err(|error| wrong(&error))?;
        tenth.add(millis(since));
        drop(busy);
        drop(pool);
        let begun = Instant::now();
        let pool = self::pool(2)?;
        pool.submit(&SQUARE, 1).result().map_err(|error| wrong(&error))?;
        drop(pool);
        whole.add(millis(begun));
    }
    print("process_start_first_result", "tricorne", &first, "ms", None);
    print("process_tenth_worker", "tricorne", &tenth, "ms", Some(10.0));
    print("process_start_first_result_stop", "tricorne", &whole, "ms", None);
    Ok(())
}

fn crashes() -> Result<(), String> {
    let mut next = Rounds::new();
    let pool = pool(1)?;
    pool.submit(&SQUARE, 1).result().map_err(|error| wrong(&error))?;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let crashed = pool.submit(&ABORT, ());
        // It waits behind the one that crashes, on the only worker.
        pool.submit(&SQUARE, 1).result().map_err(|error| wrong(&error))?;
        next.add(millis(begun));
        if !matches!(crashed.result(), Err(TaskError::WorkerCrashed(_))) {
            return Err("a worker that aborts has not crashed".to_owned());
        }
    }
    print("process_crash_to_next_result", "tricorne", &next, "ms", Some(50.0));
    Ok(())
}
