//! Defects that a review has found, and that stay away.
#![expect(unsafe_code, reason = "forks of a process with threads, and signals")]

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tricorne_exec::process::{
    Buffer, Call, Definition, Engine, EngineConfig, Job, Message, Outcome, ProcessEnd,
};
use tricorne_exec::{Shutdown, TaskError};

use crate::Test;
use crate::functions::*;
use crate::support::{Counters, Facts, crash, eventually, pool, start};

pub(crate) const TESTS: &[Test] = &[
    ("forked_child_drops_a_result", forked_child_drops_a_result),
    ("forked_child_submits_a_large_argument", forked_child_submits_a_large_argument),
    ("callback_waits_while_a_waiting_thread_listens", callback_waits_while_a_waiting_thread_listens),
    ("more_files_than_a_message_holds", more_files_than_a_message_holds),
    ("many_results_with_few_descriptors", many_results_with_few_descriptors),
    ("ignored_sigchld", ignored_sigchld),
    ("workers_clean_up_at_exit", workers_clean_up_at_exit),
    ("result_that_panics_when_read", result_that_panics_when_read),
    ("no_zombies_for_the_reaper", no_zombies_for_the_reaper),
];

/// Forks; the child does `what` and leaves.
fn fork(what: impl FnOnce()) -> i32 {
    // SAFETY: the child runs `what` alone and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: takes a number, returns a number.
        unsafe { libc::alarm(20) };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_ok();
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    child
}

fn wait(child: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

fn forked_child_drops_a_result(_: &mut Facts) {
    let pool = pool(1);
    let kept = Cell::new(Some(pool.submit(&MAKE, (200_000, 1)).result().expect("made")));
    assert!(wait(fork(|| drop(kept.take()))));
    let other = pool.submit(&MAKE, (200_000, 2)).result().expect("made");
    let kept = kept.take().expect("ours");
    assert!(other.iter().all(|byte| *byte == 2));
    assert!(kept.iter().all(|byte| *byte == 1), "the buffer has changed: {}", kept[0]);
}

fn forked_child_submits_a_large_argument(_: &mut Facts) {
    let pool = pool(1);
    let argument = |byte: u8| vec![Buffer::from(vec![byte; 200_000])];
    assert_eq!(pool.submit(&SUM, argument(1)).result(), Ok(200_000));
    eventually("the segment is free", || {
        // It is taken back when one is needed.
        pool.submit(&SUM, argument(1)).result().is_ok()
            && pool.stats().segments_free + pool.stats().segments_lent > 0
    });
    let (ours, its) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let child = fork(|| {
        use std::io::Read;
        (&its).read_exact(&mut [0]).expect("told to go on");
        assert_eq!(pool.submit(&SUM, argument(9)).result(), Err(TaskError::Forked));
    });
    let slow = pool.submit(&SLEEP, 500);
    let sum = pool.submit(&SUM, argument(1));
    std::io::Write::write_all(&mut (&ours), &[1]).expect("the child reads");
    assert!(wait(child));
    assert_eq!(slow.result(), Ok(()));
    assert_eq!(sum.result(), Ok(200_000));
}

fn callback_waits_while_a_waiting_thread_listens(_: &mut Facts) {
    let here = thread::current().id();
    let mut cases = 0;
    for round in 0..100 {
        let pool = Arc::new(pool(2));
        let both = [20, 20].map(|millis| pool.submit(&SLEEP, millis));
        both.into_iter().for_each(|one| one.result().expect("slept"));
        for n in 0..50 {
            assert_eq!(pool.submit(&SQUARE, n).result(), Ok(n * n));
        }
        let (send, answer) = mpsc::channel();
        let for_callback = Arc::clone(&pool);
        let waiting = pool.submit(&SLEEP, 30);
        pool.submit(&SLEEP, 10).on_done(move |_| {
            // On the manager's thread nothing of the kind may be done.
            let is_here = thread::current().id() == here;
            let inner = is_here.then(|| {
                let inner = for_callback.submit(&SQUARE, 3).result_timeout(Duration::from_secs(10));
                for_callback.shutdown(Shutdown::Drain);
                inner.ok()
            });
            send.send(inner).expect("the test waits");
        });
        assert!(waiting.result_timeout(Duration::from_secs(30)).is_ok(), "round {round}");
        if let Some(inner) = answer.recv().expect("the callback is called") {
            assert_eq!(inner, Some(Ok(9)), "round {round}");
            cases += 1;
            if cases == 3 {
                return;
            }
        }
    }
    panic!("in {cases} cases of 100 the waiting thread listened");
}

struct Told(mpsc::Sender<Result<(), String>>);

impl Job for Told {
    fn start(&mut self) -> bool {
        true
    }

    fn finish(self: Box<Self>, outcome: Outcome) {
        let _ = self.0.send(match outcome {
            Outcome::Done(_) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

fn more_files_than_a_message_holds(_: &mut Facts) {
    let engine = Engine::start(EngineConfig { workers: 1, ..EngineConfig::default() }).expect("processes");
    let large = |count| (0..count).map(|_| Buffer::from(vec![1; 65_536])).collect();
    let name = || b"echo".to_vec();
    let function = Definition::new(Message { payload: name().into(), buffers: large(60) });
    let (send, outcome) = mpsc::channel();
    let call = |function: &Arc<Definition>, buffers| Call {
        function: Arc::clone(function),
        argument: Message { payload: vec![0, 0].into(), buffers },
        timeout: None,
        chunk: None,
        job: Box::new(Told(send.clone())),
    };
    engine.submit(call(&function, large(90)));
    let first = outcome.recv_timeout(Duration::from_secs(10));
    engine.submit(call(&Definition::new(Message::new(name())), Vec::new()));
    let second = outcome.recv_timeout(Duration::from_secs(10));
    if first.is_err() || second.is_err() {
        engine.end_workers(true);
    }
    assert!(first.is_ok(), "it is told");
    assert_eq!(second, Ok(Ok(())), "the worker still works");
}

/// Runs this program in a role; it must end well.
fn role(role: &str) {
    let (mut child, words) = start(role);
    let ended = child.wait().expect("it ends");
    assert!(ended.success(), "{role}: {ended} {words:?}");
}

fn many_results_with_few_descriptors(_: &mut Facts) {
    role("many_results");
}

fn ignored_sigchld(_: &mut Facts) {
    role("ignored_sigchld");
}

fn workers_clean_up_at_exit(_: &mut Facts) {
    let counters = Counters::new("clean-up");
    let pool = pool(1);
    assert_eq!(pool.submit(&SLOW_EXIT, counters.path()).result(), Ok(()));
    drop(pool);
    assert_eq!(std::fs::read(counters.path()).expect("written at exit"), b"done");
}

fn result_that_panics_when_read(_: &mut Facts) {
    let (send, results) = mpsc::channel();
    thread::spawn(move || {
        let pool = pool(1);
        for result in pool.map(&BOMB, [0, 1]) {
            let _ = send.send(result.map(|bomb| bomb.0));
        }
        let _ = send.send(pool.submit(&BOMB, 1).result().map(|bomb| bomb.0));
    });
    let next = || results.recv_timeout(Duration::from_secs(10)).expect("a result");
    assert_eq!(next(), Ok(0));
    assert!(next().is_err());
    assert!(next().is_err());
}

fn no_zombies_for_the_reaper(_: &mut Facts) {
    role("reaper");
}

pub(crate) fn play(role: &str) -> Option<ExitCode> {
    // It prints no process ids.
    println!();
    match role {
        "many_results" => {
            let limit = Some(400);
            setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("a lower limit");
            let pool = pool(1);
            for kept in (0..600).map(|n| pool.submit(&MAKE, (65_536, n as u8)).result()).collect::<Vec<_>>() {
                assert!(kept.is_ok_and(|kept| kept.len() == 65_536));
            }
        }
        "ignored_sigchld" => {
            // SAFETY: no handler is installed.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            let pool = pool(1);
            let template = pool.template_pid();
            for _ in 0..3 {
                assert_eq!(
                    crash(pool.submit(&KILL, ()).result()).end,
                    ProcessEnd::Signal(Signal::KILL.as_raw())
                );
            }
            assert_eq!(pool.template_pid(), template, "the template lives");
        }
        "reaper" => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux has it");
            for _ in 0..5 {
                let pool = pool(4);
                let all: Vec<_> = (0..4).map(|_| pool.submit(&SLEEP, 30)).collect();
                all.into_iter().for_each(|one| one.result().expect("slept"));
            }
            let begun = Instant::now();
            let mut left = 0;
            while begun.elapsed() < Duration::from_millis(300) {
                // SAFETY: no status is asked for.
                left += i32::from(unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0);
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(left, 0, "zombies");
        }
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}
