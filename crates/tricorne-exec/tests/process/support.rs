//! What the tests have in common.

use std::io::{BufRead, BufReader};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Map, Value};
use tricorne_exec::TaskError;
use tricorne_exec::process::{ProcessPoolBuilder, ProcessPoolExecutor, WorkerCrashed};

use crate::functions::SLEEP;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What a test has found out.
pub(crate) type Facts = Map<String, Value>;

/// Runs a test; one that hangs ends the program.
pub(crate) fn run(name: &'static str, test: fn(&mut Facts), json: bool) -> bool {
    let done = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&done);
    let limit = if deep() { 20 * LIMIT } else { LIMIT };
    let watchdog = thread::spawn(move || {
        let begun = Instant::now();
        while !seen.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_secs(1));
            if begun.elapsed() > limit {
                eprintln!("test `{name}` hangs");
                std::process::abort();
            }
        }
    });
    let mut facts = Facts::new();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| test(&mut facts)));
    done.store(true, Ordering::Relaxed);
    watchdog.thread().unpark();
    watchdog.join().expect("it does not panic");
    let passed = outcome.is_ok();
    if json {
        let mut line = Map::new();
        line.insert("fault".to_owned(), name.into());
        line.insert("passed".to_owned(), passed.into());
        line.append(&mut facts);
        println!("{}", Value::Object(line));
    } else {
        let facts = if facts.is_empty() { String::new() } else { format!("  {}", Value::Object(facts)) };
        println!("test {name} ... {}{facts}", if passed { "ok" } else { "FAILED" });
    }
    passed
}

pub(crate) fn deep() -> bool {
    std::env::var_os("TRICORNE_DEEP").is_some()
}

pub(crate) fn builder(workers: usize) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().workers(workers)
}

pub(crate) fn pool(workers: usize) -> ProcessPoolExecutor {
    builder(workers).build().expect("processes")
}

/// Waits until something is so, which it must be soon.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

pub(crate) fn crash<T: std::fmt::Debug>(outcome: Result<T, TaskError>) -> Arc<WorkerCrashed> {
    match outcome {
        Err(TaskError::WorkerCrashed(crash)) => crash,
        other => panic!("no crash: {other:?}"),
    }
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("the number of a process")
}

pub(crate) fn kill(process: u32, signal: Signal) {
    kill_process(pid(process), signal).expect("it is there");
}

/// Whether it runs; one that has ended and was not waited for does not.
pub(crate) fn is_running(process: u32) -> bool {
    test_kill_process(pid(process)).is_ok()
        && std::fs::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with(['Z', 'X']))
}

pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has it").count()
}

/// A file of one byte for each time that an item was run.
pub(crate) struct Counters {
    folder: PathBuf,
}

impl Counters {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tricorne-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        Self { folder }
    }

    pub(crate) fn path(&self) -> String {
        self.folder.join("runs").to_str().expect("a plain path").to_owned()
    }

    /// How often each item was run.
    pub(crate) fn read(&self, items: usize) -> Vec<u32> {
        let mut counts = vec![0; items];
        let runs = std::fs::read(Path::new(&self.path())).unwrap_or_default();
        assert_eq!(runs.len() % 4, 0, "whole records");
        for run in runs.chunks(4) {
            counts[u32::from_le_bytes(run.try_into().expect("4 bytes")) as usize] += 1;
        }
        counts
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// This program in another role, and the process ids that it prints.
pub(crate) fn start(role: &str) -> (Child, Vec<u32>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg(format!("--role={role}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let pids = line.split_whitespace().map(|word| word.parse().expect("process ids")).collect();
    (child, pids)
}

pub(crate) fn play(role: &str) -> ExitCode {
    match role {
        // Two workers that compute, one that idles; then it waits to be killed.
        "victim" => {
            let pool = pool(3);
            let _idle: Vec<_> = (0..3).map(|_| pool.submit(&SLEEP, 50)).collect::<Vec<_>>();
            eventually("three workers", || pool.worker_pids().len() == 3);
            eventually("they idle", || pool.stats().idle == 3);
            let _busy: Vec<_> = (0..2).map(|_| pool.submit(&crate::functions::SPIN, 600_000)).collect();
            eventually("they work", || pool.stats().running == 2);
            let mut pids = pool.worker_pids();
            pids.extend(pool.template_pid());
            println!("{}", pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            thread::sleep(Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        other => crate::regressions::play(other).unwrap_or_else(|| panic!("no role `{other}`")),
    }
}
