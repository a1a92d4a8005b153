//! Workers, templates and parents that die in every way there is: each costs what it must, and nothing else.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tricorne_exec::process::{CrashCause, OnCrash, Output, ProcessEnd, ProcessPoolExecutor};
use tricorne_exec::{Shutdown, TaskError};

use crate::Test;
use crate::functions::*;
use crate::support::{Counters, Facts, builder, crash, eventually, is_running, kill, pool, start};

pub(crate) const TESTS: &[Test] = &[
    ("abort", abort),
    ("sigkill", sigkill),
    ("exit_0", exit_0),
    ("out_of_memory", out_of_memory),
    ("garbage_frame", garbage_frame),
    ("connection_closed", connection_closed),
    ("killed_in_item_37_of_100", killed_in_item_37_of_100),
    ("killed_in_a_measured_batch", killed_in_a_measured_batch),
    ("killed_while_idle", killed_while_idle),
    ("killed_while_receiving", killed_while_receiving),
    ("killed_while_sending", killed_while_sending),
    ("killed_parent", killed_parent),
    ("killed_template", killed_template),
    ("memory_limit", memory_limit),
    ("time_out", time_out),
    ("time_out_within_a_batch", time_out_within_a_batch),
    ("kill_one_task", kill_one_task),
    ("on_crash_break", on_crash_break),
    ("initializer_fails", initializer_fails),
    ("initializer_dies", initializer_dies),
    ("hook_is_missing", hook_is_missing),
];

/// One task dies; the others have their results, and the pool is as good as before.
fn costs_one(pool: &ProcessPoolExecutor, submit: impl FnOnce() -> TaskError) -> TaskError {
    let before: Vec<_> = (0..50_u64).map(|n| pool.submit(&SQUARE, n)).collect();
    let error = submit();
    let after: Vec<_> = (50..100_u64).map(|n| pool.submit(&SQUARE, n)).collect();
    for (n, future) in before.into_iter().chain(after).enumerate() {
        assert_eq!(future.result(), Ok((n * n) as u64), "task {n}");
    }
    error
}

fn abort(facts: &mut Facts) {
    let pool = pool(2);
    let error =
        costs_one(&pool, || pool.submit(&ABORT, "last words".to_owned()).result().expect_err("it died"));
    let crash = crash::<()>(Err(error));
    assert_eq!(crash.end, ProcessEnd::Signal(libc::SIGABRT));
    assert!(crash.pid != 0 && crash.peak_memory_bytes.is_some_and(|bytes| bytes > 0), "{crash:?}");
    assert_eq!(crash.stderr, ["last words"]);
    let stats = pool.stats();
    assert_eq!((stats.crashed, stats.completed), (1, 100));
    facts.insert("error".to_owned(), crash.to_string().into());
}

fn sigkill(_: &mut Facts) {
    let pool = pool(2);
    let error = costs_one(&pool, || pool.submit(&KILL, ()).result().expect_err("it died"));
    assert_eq!(crash::<()>(Err(error)).end, ProcessEnd::Signal(libc::SIGKILL));
}

/// An exit code of 0 is a death as well, and is not waited for for ever.
fn exit_0(_: &mut Facts) {
    let pool = pool(2);
    for code in [0, 3] {
        let error = costs_one(&pool, || pool.submit(&EXIT, code).result().expect_err("it ended"));
        assert_eq!(crash::<()>(Err(error)).end, ProcessEnd::Exit(code));
    }
}

fn out_of_memory(facts: &mut Facts) {
    let pool = pool(2);
    let error = costs_one(&pool, || pool.submit(&OUT_OF_MEMORY, ()).result().expect_err("it died"));
    let crash = crash::<()>(Err(error));
    assert_eq!(crash.cause, CrashCause::ProbablyOutOfMemory, "{crash:?}");
    facts.insert("error".to_owned(), crash.to_string().into());
}

fn garbage_frame(_: &mut Facts) {
    let pool = pool(2);
    let mut done = vec![13, 0];
    done.extend([0; 20]);
    for garbage in
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 3], vec![255; 10_000], done, vec![30, 1, 1, 1, 1]]
    {
        let error = costs_one(&pool, || pool.submit(&GARBAGE, garbage).result().expect_err("it was killed"));
        let crash = crash::<()>(Err(error));
        assert_eq!((crash.cause, crash.end), (CrashCause::Garbage, ProcessEnd::Signal(libc::SIGKILL)));
    }
}

fn connection_closed(_: &mut Facts) {
    let pool = pool(2);
    let error = costs_one(&pool, || pool.submit(&HANG_UP, ()).result().expect_err("it was killed"));
    assert_eq!(crash::<()>(Err(error)).cause, CrashCause::Garbage);
}

fn killed_in_item_37_of_100(_: &mut Facts) {
    for workers in [1, 2] {
        let counters = Counters::new("item-37");
        let pool = pool(workers);
        let inputs = (0..100).map(|item| (counters.path(), item, 37));
        let results: Vec<_> = pool.map(&COUNT, inputs).chunk_size(100).collect();
        assert_eq!(pool.stats().batches, 2, "one of 100, and one of the 62 that were not begun");
        for (item, result) in results.into_iter().enumerate() {
            if item == 37 {
                assert_eq!(crash(result).end, ProcessEnd::Signal(libc::SIGKILL));
            } else {
                assert_eq!(result, Ok(item as u32));
            }
        }
        assert_eq!(counters.read(100), [1; 100]);
    }
}

/// The same when nobody says how large batches are, with a death every now and then.
fn killed_in_a_measured_batch(facts: &mut Facts) {
    const ITEMS: u32 = 3000;
    let counters = Counters::new("measured");
    let pool = pool(2);
    let deadly = |item: u32| if item % 500 == 250 { item } else { u32::MAX };
    let inputs = (0..ITEMS).map(|item| (counters.path(), item, deadly(item)));
    for (item, result) in pool.map(&COUNT, inputs).enumerate() {
        let item = item as u32;
        if deadly(item) == item {
            assert_eq!(crash(result).end, ProcessEnd::Signal(libc::SIGKILL));
        } else {
            assert_eq!(result, Ok(item));
        }
    }
    assert!(counters.read(ITEMS as usize).iter().all(|runs| *runs == 1));
    let stats = pool.stats();
    assert!(stats.batches < u64::from(ITEMS) / 2, "{stats:?}");
    facts.insert("batches".to_owned(), stats.batches.into());
    facts.insert("sent_again".to_owned(), stats.sent_again.into());
}

fn killed_while_idle(facts: &mut Facts) {
    let pool = pool(1);
    let pid = pool.submit(&PID, ()).result().expect("a worker");
    eventually("it idles", || pool.stats().idle == 1);
    kill(pid, Signal::KILL);
    let begun = Instant::now();
    eventually("it is buried", || pool.stats().workers_ended == 1);
    let other = pool.submit(&PID, ()).result().expect("another worker");
    assert_ne!(pid, other);
    assert_eq!(pool.stats().crashed, 0);
    facts.insert("replaced_ms".to_owned(), (begun.elapsed().as_secs_f64() * 1e3).into());

    // Killed at the very moment when it is given something: either it ran and crashed, or it was sent again.
    for _ in 0..20 {
        eventually("it idles", || pool.stats().idle == 1);
        kill(pool.worker_pids()[0], Signal::KILL);
        match pool.submit(&SQUARE, 5).result() {
            Ok(square) => assert_eq!(square, 25),
            error => assert_eq!(crash(error).end, ProcessEnd::Signal(libc::SIGKILL)),
        }
    }
}

/// Kills workers while `work` goes on.
fn with_killer(pool: &ProcessPoolExecutor, kills: u64, every: Duration, work: impl FnOnce()) {
    thread::scope(|scope| {
        let killer = scope.spawn(move || {
            for round in 0..kills {
                thread::sleep(every);
                let pids = pool.worker_pids();
                if let Some(pid) =
                    pids.get((round as usize) % pids.len().max(1)).filter(|pid| is_running(**pid))
                {
                    kill(*pid, Signal::KILL);
                }
            }
        });
        work();
        killer.join().expect("it kills and does not panic");
    });
}

fn killed_while_receiving(facts: &mut Facts) {
    let pool = pool(2);
    let mut crashed = 0;
    with_killer(&pool, 15, Duration::from_millis(20), || {
        for round in 0..60_usize {
            let buffers = vec![vec![1; (round % 6) << 20].into(), vec![2; 1000].into()];
            match pool.submit(&SUM, buffers).result() {
                Ok(sum) => assert_eq!(sum, (((round % 6) << 20) + 2000) as u64),
                error => crashed += u32::from(crash(error).end == ProcessEnd::Signal(libc::SIGKILL)),
            }
        }
    });
    assert!(crashed <= 15);
    facts.insert("crashed".to_owned(), crashed.into());
}

fn killed_while_sending(facts: &mut Facts) {
    let pool = pool(2);
    let mut crashed = 0;
    with_killer(&pool, 15, Duration::from_millis(20), || {
        for round in 0..60_usize {
            let (len, byte) = (((round % 6) << 20) + 1, round as u8);
            match pool.submit(&MAKE, (len, byte)).result() {
                Ok(buffer) => assert!(buffer.len() == len && buffer.iter().all(|b| *b == byte)),
                error => crashed += u32::from(crash(error).end == ProcessEnd::Signal(libc::SIGKILL)),
            }
        }
    });
    assert!(crashed <= 15);
    facts.insert("crashed".to_owned(), crashed.into());
}

fn killed_parent(facts: &mut Facts) {
    let (mut parent, pids) = start("victim");
    assert_eq!(pids.len(), 4, "three workers and a template");
    assert!(pids.iter().all(|pid| is_running(*pid)));
    parent.kill().expect("it runs");
    parent.wait().expect("it has ended");
    let took = eventually("all have ended", || !pids.iter().any(|pid| is_running(*pid)));
    facts.insert("all_gone_ms".to_owned(), (took.as_secs_f64() * 1e3).into());
}

fn killed_template(_: &mut Facts) {
    let pool = pool(2);
    let busy = pool.submit(&SLEEP, 300);
    let pid = pool.submit(&PID, ()).result().expect("a worker");
    eventually("two workers", || pool.worker_pids().len() == 2 && pool.stats().idle == 1);
    let workers = pool.worker_pids();
    let template = pool.template_pid().expect("it is there");
    kill(template, Signal::KILL);
    eventually("it is gone", || !is_running(template));
    assert_eq!(busy.result(), Ok(()), "its worker was not ended");
    assert_eq!(pool.submit(&PID, ()).result().map(|pid| workers.contains(&pid)), Ok(true));
    assert!(is_running(pid));
    // A crash of a worker that has lost its template is reported, and the next template makes another worker.
    let error = crash(pool.submit(&EXIT, 1).result());
    assert!(workers.contains(&error.pid), "{error:?}");
    kill(*pool.worker_pids().iter().find(|pid| workers.contains(pid)).expect("one is left"), Signal::KILL);
    let new = eventually_pid(&pool, &workers);
    assert!(!workers.contains(&new));
    assert_ne!(pool.template_pid(), Some(template));
    assert_eq!(pool.stats().templates_started, 2);
    assert_eq!(crash(pool.submit(&EXIT, 7).result()).end, ProcessEnd::Exit(7), "the new one reports as well");
}

fn eventually_pid(pool: &ProcessPoolExecutor, not: &[u32]) -> u32 {
    let mut pid = 0;
    eventually("a new worker", || match pool.submit(&PID, ()).result() {
        Ok(new) => {
            pid = new;
            !not.contains(&new)
        }
        // The one that was just killed had taken it.
        Err(_) => false,
    });
    pid
}

fn memory_limit(facts: &mut Facts) {
    let pool = builder(2).max_memory_bytes(200 << 20).build().expect("processes");
    let error = costs_one(&pool, || pool.submit(&GROW, (400, 60_000)).result().expect_err("it was killed"));
    let crash = crash::<()>(Err(error));
    assert_eq!(crash.cause, CrashCause::MemoryLimit { max_bytes: 200 << 20 });
    assert!(crash.peak_memory_bytes.is_some_and(|bytes| bytes > 200 << 20), "{crash:?}");
    // What was sent to it is not its own.
    let large = vec![vec![1; 300 << 20].into()];
    assert_eq!(pool.submit(&SUM, large).result(), Ok(300 << 20));
    assert_eq!(pool.submit(&GROW, (50, 200)).result(), Ok(50 << 20));
    facts.insert("error".to_owned(), crash.to_string().into());
}

fn time_out(facts: &mut Facts) {
    let after = Duration::from_millis(100);
    let pool = builder(2).task_timeout(after).build().expect("processes");
    let begun = Instant::now();
    let error = costs_one(&pool, || pool.submit(&SPIN, 60_000).result().expect_err("it was killed"));
    assert_eq!(error, TaskError::TimedOut { after });
    assert!(begun.elapsed() >= after);
    facts.insert("took_ms".to_owned(), (begun.elapsed().as_secs_f64() * 1e3).into());
    assert_eq!(pool.stats().timed_out, 1);
}

fn time_out_within_a_batch(_: &mut Facts) {
    let after = Duration::from_millis(200);
    let pool = builder(1).task_timeout(after).build().expect("processes");
    let inputs = (0..20).map(|item| if item == 7 { 60_000 } else { 1 });
    let results: Vec<_> = pool.map(&SLEEP, inputs).chunk_size(20).collect();
    for (item, result) in results.into_iter().enumerate() {
        let expected = if item == 7 { Err(TaskError::TimedOut { after }) } else { Ok(()) };
        assert_eq!(result, expected, "item {item}");
    }
}

fn kill_one_task(_: &mut Facts) {
    let pool = pool(1);
    let (running, first) = pool.submit_with(&SPIN, 60_000, Default::default());
    let (waiting, second) = pool.submit_with(&SPIN, 60_000, Default::default());
    let third = pool.submit(&SQUARE, 3);
    eventually("it runs", || pool.stats().running == 1);
    assert!(waiting.kill());
    assert_eq!(second.result(), Err(TaskError::Cancelled));
    assert!(running.kill());
    assert_eq!(first.result(), Err(TaskError::Cancelled));
    assert_eq!(third.result(), Ok(9));
    assert!(!running.kill() && !waiting.kill(), "they have ended");
    assert_eq!(pool.stats().crashed, 0);

    // In the middle of batches: what is killed has ended or is cancelled, and nobody else notices.
    for round in 0..50 {
        let tasks: Vec<_> = (0..40_u64).map(|n| pool.submit_with(&SQUARE, n, Default::default())).collect();
        let killed = tasks[round % 40].0.kill();
        for (n, (_, future)) in tasks.into_iter().enumerate() {
            match future.result() {
                Ok(square) => assert_eq!(square, (n * n) as u64),
                Err(error) => assert_eq!((error, n, killed), (TaskError::Cancelled, round % 40, true)),
            }
        }
    }
}

fn on_crash_break(_: &mut Facts) {
    let pool = builder(2).on_crash(OnCrash::Break).build().expect("processes");
    let other = pool.submit(&SLEEP, 60_000);
    let fatal = pool.submit(&KILL, ());
    let waiting: Vec<_> = (0..10).map(|n| pool.submit(&SQUARE, n)).collect();
    let reason = crash(fatal.result());
    assert_eq!(reason.end, ProcessEnd::Signal(libc::SIGKILL));
    crash(other.result());
    for future in waiting {
        // One may have run beside the two.
        if let Err(error) = future.result() {
            assert_eq!(crash::<()>(Err(error)), reason);
        }
    }
    assert_eq!(crash(pool.submit(&SQUARE, 1).result()), reason, "it takes nothing more, and says why");
    pool.shutdown(Shutdown::Drain);
}

fn broken<T: std::fmt::Debug>(outcome: Result<T, TaskError>) -> String {
    match outcome {
        Err(TaskError::Broken { message }) => message,
        other => panic!("not broken: {other:?}"),
    }
}

fn initializer_fails(_: &mut Facts) {
    let pool = builder(2).initializer(&SET_UP, &"panic".to_owned()).build().expect("processes");
    let futures: Vec<_> = (0..5).map(|n| pool.submit(&SQUARE, n)).collect();
    for future in futures {
        let message = broken(future.result());
        assert!(message.contains("no database"), "{message}");
    }
    assert!(broken(pool.submit(&SQUARE, 1).result()).contains("initializer"));
}

fn initializer_dies(_: &mut Facts) {
    let quiet = Output::capture(|_| ());
    let pool = builder(2).initializer(&SET_UP, &"die".to_owned()).stderr(quiet).build().expect("processes");
    let message = broken(pool.submit(&SQUARE, 1).result());
    assert!(message.contains("before they are ready"), "{message}");
}

/// A program that does not call the hook is told so, at once, and does not start itself again and again.
fn hook_is_missing(facts: &mut Facts) {
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .env("TRICORNE_TEST_NO_HOOK", "1")
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The program, and the one that it has started, each say it once.
    let said: Vec<&str> = stderr.lines().filter(|line| line.contains("Template {")).collect();
    assert_eq!(said.len(), 2, "{stderr}");
    assert!(said[0].contains("`main` went on") && said[1].contains("ended without an answer"), "{stderr}");
    facts.insert("said".to_owned(), said[1].into());
}
