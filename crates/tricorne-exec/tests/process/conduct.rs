//! How a pool behaves when nothing is wrong, or only a little.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tricorne_exec::process::{Output, Stream};
use tricorne_exec::sys::current_rss_bytes;
use tricorne_exec::{Future, Shutdown, TaskError};

use crate::Test;
use crate::functions::*;
use crate::support::{
    Counters, Facts, builder, crash, deep, descriptors, eventually, is_running, kill, pool,
};

pub(crate) const TESTS: &[Test] = &[
    ("results_panics_and_wrong_names", results_panics_and_wrong_names),
    ("map_is_ordered_lazy_and_bounded", map_is_ordered_lazy_and_bounded),
    ("map_of_a_slow_input_gives_results_at_once", map_of_a_slow_input_gives_results_at_once),
    ("dropped_map_cancels_its_rest", dropped_map_cancels_its_rest),
    ("slow_item_holds_up_nobody", slow_item_holds_up_nobody),
    ("results_larger_than_the_log", results_larger_than_the_log),
    ("workers_are_started_when_needed", workers_are_started_when_needed),
    ("workers_have_only_what_is_theirs", workers_have_only_what_is_theirs),
    ("pool_outlives_the_thread_that_made_it", pool_outlives_the_thread_that_made_it),
    ("pool_is_dropped_anywhere", pool_is_dropped_anywhere),
    ("nested_pools", nested_pools),
    ("ctrl_c_is_for_the_pool", ctrl_c_is_for_the_pool),
    ("shutdown_drains", shutdown_drains),
    ("shutdown_cancels", shutdown_cancels),
    ("workers_are_ended", workers_are_ended),
    ("exit_limit", exit_limit),
    ("initializer", initializer),
    ("max_tasks_per_worker", max_tasks_per_worker),
    ("output_is_captured", output_is_captured),
    ("futures_are_cancelled_and_awaited", futures_are_cancelled_and_awaited),
    ("threads_that_wait_do_the_listening", threads_that_wait_do_the_listening),
    ("descriptors_and_memory_stay_flat", descriptors_and_memory_stay_flat),
];

fn results_panics_and_wrong_names(_: &mut Facts) {
    let pool = pool(2);
    assert_eq!(pool.submit(&SQUARE, 12).result(), Ok(144));
    let Err(TaskError::Panicked { message, location }) = pool.submit(&PANIC, "oh".to_owned()).result() else {
        panic!("it did not panic")
    };
    assert_eq!(message, "oh");
    assert!(location.is_some_and(|location| location.contains("functions.rs")));
    let Err(TaskError::Transport { message }) = pool.submit(&UNKNOWN, ()).result() else {
        panic!("it was run")
    };
    assert!(message.contains("`unknown`"), "{message}");
    assert_eq!(pool.stats().workers_ended, 0, "nobody died of this");
}

fn map_is_ordered_lazy_and_bounded(facts: &mut Facts) {
    let pool = pool(2);
    let taken = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = pool.map(&SQUARE, inputs);
    assert_eq!(taken.load(Ordering::Relaxed), 0, "nothing is taken before somebody asks");
    assert_eq!(results.next(), Some(Ok(0)));
    let first = taken.load(Ordering::Relaxed);
    assert!(first <= 8, "{first} inputs were taken for the first result");
    facts.insert("inputs_taken_for_the_first_result".to_owned(), first.into());
    for n in 1..100_000 {
        assert_eq!(results.next(), Some(Ok(n * n)));
    }
    let ahead = taken.load(Ordering::Relaxed) - 100_000;
    assert!(ahead <= 16 * 1024, "{ahead}");
    drop(results);

    let results: Vec<_> = pool.map(&PANIC, ["a", "b"].map(str::to_owned)).collect();
    let messages: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Err(TaskError::Panicked { message, .. }) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(messages, ["a", "b"]);
    assert_eq!(pool.map(&SQUARE, []).next(), None);
    let batches = pool.stats().batches;
    assert_eq!(pool.map(&SQUARE, 0..100).chunk_size(30).map(Result::unwrap).sum::<u64>(), 328_350);
    assert_eq!(pool.stats().batches - batches, 4, "30, 30, 30 and 10");
}

fn map_of_a_slow_input_gives_results_at_once(_: &mut Facts) {
    let pool = pool(2);
    let given = AtomicUsize::new(0);
    let inputs = (0..20).inspect(|n| {
        if *n > 0 {
            thread::sleep(Duration::from_millis(20));
        }
        given.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = pool.map(&SQUARE, inputs);
    assert_eq!(results.next(), Some(Ok(0)));
    assert!(given.load(Ordering::Relaxed) < 15, "the first result did not wait for the last input");
    assert_eq!(results.count(), 19);
}

fn dropped_map_cancels_its_rest(_: &mut Facts) {
    let pool = pool(1);
    let mut results = pool.map(&SLEEP, std::iter::repeat_n(20, 1000));
    assert_eq!(results.next(), Some(Ok(())));
    drop(results);
    let begun = Instant::now();
    pool.shutdown(Shutdown::Drain);
    assert!(begun.elapsed() < Duration::from_secs(5), "what was ahead was not run");
}

/// One item of a batch takes long: the results before it are given, and the items behind it go to another worker.
fn slow_item_holds_up_nobody(facts: &mut Facts) {
    let pool = pool(2);
    // Learn that they are short.
    assert!(pool.map(&SLEEP, std::iter::repeat_n(0, 3000)).all(|result| result.is_ok()));
    let begun = Instant::now();
    let millis = |n: usize| if n == 10 { 3000 } else { 0 };
    let futures: Vec<_> = (0..200).map(|n| pool.submit(&SLEEP, millis(n))).collect();
    let mut slow = None;
    for (n, future) in futures.into_iter().enumerate() {
        if n == 10 {
            slow = Some(future);
        } else {
            assert_eq!(future.result(), Ok(()));
        }
    }
    let others = begun.elapsed();
    assert!(others < Duration::from_secs(2), "{others:?}");
    assert_eq!(slow.expect("there were 200").result(), Ok(()));
    facts.insert("others_done_ms".to_owned(), (others.as_secs_f64() * 1e3).into());
    facts.insert("sent_again".to_owned(), pool.stats().sent_again.into());
}

fn results_larger_than_the_log(_: &mut Facts) {
    let pool = pool(2);
    // 200 results of 30 KB are in one batch, and the log of a batch holds 1 MiB.
    let results: Vec<_> = pool.map(&TEXT, std::iter::repeat_n(30_000, 200)).chunk_size(200).collect();
    assert!(results.iter().all(|text| text.as_ref().is_ok_and(|text| text.len() == 30_000)));
    assert!(pool.stats().sent_again > 0);
    // Too large for a log at all, and not a buffer.
    assert_eq!(pool.submit(&TEXT, 5 << 20).result().map(|text| text.len()), Ok(5 << 20));
}

fn workers_are_started_when_needed(_: &mut Facts) {
    let pool = pool(4);
    assert_eq!(pool.stats().workers_started, 0);
    for n in 0..10 {
        assert_eq!(pool.submit(&SQUARE, n).result(), Ok(n * n));
        eventually("it idles", || pool.stats().idle == 1);
    }
    assert_eq!(pool.stats().workers_started, 1);
    let futures: Vec<_> = (0..8).map(|_| pool.submit(&SLEEP, 100)).collect();
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
    assert_eq!(pool.stats().workers_started, 4);
}

fn workers_have_only_what_is_theirs(_: &mut Facts) {
    // An open file of ours that every program would inherit.
    let file = std::fs::File::open("/dev/null").expect("Linux has it");
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("it is open");
    let pool = pool(2);
    let futures: Vec<_> = (0..4).map(|_| pool.submit(&SLEEP, 20)).collect();
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
    let descriptors = pool.submit(&DESCRIPTORS, ()).result().expect("a list");
    // Its lifeline, its board (a memory file) and its socket.
    assert_eq!(descriptors, ["/memfd", "pipe", "socket"]);
}

fn pool_outlives_the_thread_that_made_it(_: &mut Facts) {
    let pool = thread::spawn(|| {
        let pool = pool(2);
        assert_eq!(pool.submit(&SQUARE, 1).result(), Ok(1));
        pool
    })
    .join()
    .expect("it made a pool");
    let template = pool.template_pid();
    let worker = pool.worker_pids();
    // Were they to die with the thread, they would be dying now.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(pool.submit(&SQUARE, 2).result(), Ok(4));
    assert_eq!((pool.template_pid(), pool.worker_pids()), (template, worker));
}

fn pool_is_dropped_anywhere(_: &mut Facts) {
    // In another thread.
    let first = pool(1);
    let future = first.submit(&SQUARE, 3);
    thread::spawn(move || drop(first)).join().expect("it is dropped");
    assert_eq!(future.result(), Ok(9), "what was submitted was run");
    // By a callback, on the pool's own thread.
    let second = Arc::new(pool(1));
    let held = Arc::clone(&second);
    let (sender, receiver) = mpsc::channel();
    second.submit(&SLEEP, 50).on_done(move |result| {
        drop(held);
        sender.send(result).expect("the test waits");
    });
    let workers = second.worker_pids();
    drop(second);
    assert_eq!(receiver.recv(), Ok(Ok(())));
    eventually("its workers have ended", || !workers.iter().any(|pid| is_running(*pid)));
    // While a thread panics: what waits is cancelled.
    let (sender, receiver) = mpsc::channel();
    let panicked = thread::spawn(move || {
        let pool = pool(1);
        let futures: Vec<_> = (0..10).map(|_| pool.submit(&SLEEP, 300)).collect();
        eventually("one runs", || pool.stats().running == 1);
        sender.send(futures).expect("the test waits");
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.join().is_err());
    let results: Vec<_> = receiver.recv().expect("sent").into_iter().map(Future::result).collect();
    assert_eq!(results[0], Ok(()));
    assert!(results[2..].iter().all(|result| *result == Err(TaskError::Cancelled)), "{results:?}");
    // Without ever being used.
    drop(pool(3));
}

fn nested_pools(_: &mut Facts) {
    let pool = pool(2);
    let results: Vec<_> =
        pool.map(&NESTED, [3, 4, 5]).chunk_size(1).collect::<Result<_, _>>().expect("squares");
    assert_eq!(results, [vec![0, 1, 4], vec![0, 1, 4, 9], vec![0, 1, 4, 9, 16]]);
}

fn ctrl_c_is_for_the_pool(_: &mut Facts) {
    let pool = pool(1);
    let future = pool.submit(&SLEEP, 200);
    eventually("it runs", || pool.stats().running == 1);
    let (worker, template) = (pool.worker_pids()[0], pool.template_pid().expect("it is there"));
    for pid in [worker, template] {
        kill(pid, Signal::INT);
    }
    assert_eq!(future.result(), Ok(()));
    assert_eq!((pool.worker_pids(), pool.template_pid()), (vec![worker], Some(template)));
}

fn shutdown_drains(_: &mut Facts) {
    let pool = pool(2);
    let futures: Vec<_> = (0..100).map(|n| pool.submit(&SQUARE, n)).collect();
    let slow = pool.submit(&SLEEP, 100);
    pool.shutdown(Shutdown::Drain);
    assert!(slow.is_done());
    for (n, future) in futures.into_iter().enumerate() {
        assert_eq!(future.result(), Ok((n * n) as u64));
    }
    assert!(matches!(pool.submit(&SQUARE, 1).result(), Err(TaskError::Rejected { .. })));
    assert!(pool.worker_pids().is_empty() && pool.template_pid().is_none());
    pool.shutdown(Shutdown::Drain);
}

fn shutdown_cancels(_: &mut Facts) {
    let pool = pool(1);
    let running = pool.submit(&SLEEP, 200);
    let waiting: Vec<_> = (0..10).map(|_| pool.submit(&SLEEP, 60_000)).collect();
    eventually("one runs", || pool.stats().running == 1);
    pool.shutdown(Shutdown::CancelPending);
    assert_eq!(running.result(), Ok(()));
    assert!(waiting.into_iter().all(|future| future.result() == Err(TaskError::Cancelled)));
}

fn workers_are_ended(_: &mut Facts) {
    for force in [true, false] {
        let pool = pool(2);
        let running: Vec<_> = (0..2).map(|_| pool.submit(&SLEEP, 60_000)).collect();
        eventually("both run", || pool.stats().running == 2);
        let waiting = pool.submit(&SQUARE, 1);
        let begun = Instant::now();
        if force {
            pool.kill_workers();
        } else {
            pool.terminate_workers();
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        for future in running {
            crash(future.result());
        }
        assert_eq!(waiting.result(), Err(TaskError::Cancelled));
        assert!(matches!(pool.submit(&SQUARE, 1).result(), Err(TaskError::Rejected { .. })));
    }
}

/// Workers that do not end when they are told are killed.
fn exit_limit(facts: &mut Facts) {
    let pool = builder(1).exit_limit(Duration::from_millis(100)).build().expect("processes");
    let pid = pool.submit(&PID, ()).result().expect("a worker");
    eventually("it idles", || pool.stats().idle == 1);
    kill(pid, Signal::STOP);
    let begun = Instant::now();
    pool.shutdown(Shutdown::Drain);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(3), "{took:?}");
    assert!(!is_running(pid));
    facts.insert("took_ms".to_owned(), (took.as_secs_f64() * 1e3).into());
}

fn initializer(_: &mut Facts) {
    let counters = Counters::new("set-up");
    let pool = builder(1).initializer(&SET_UP, &counters.path()).build().expect("processes");
    assert_eq!(pool.submit(&SQUARE, 2).result(), Ok(4));
    assert_eq!(std::fs::read_to_string(counters.path()).expect("it was run before"), "set up");
}

fn max_tasks_per_worker(_: &mut Facts) {
    let pool = builder(2).max_tasks_per_worker(10).build().expect("processes");
    let pids: Vec<u32> = pool.map(&PID, std::iter::repeat_n((), 100)).map(Result::unwrap).collect();
    let distinct: HashSet<u32> = pids.iter().copied().collect();
    for pid in &distinct {
        let tasks = pids.iter().filter(|other| *other == pid).count();
        assert!(tasks <= 10, "worker {pid} had {tasks}");
    }
    assert!(distinct.len() >= 10);
    assert_eq!(pool.stats().crashed, 0);
}

fn output_is_captured(_: &mut Facts) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = |lines: &Arc<Mutex<Vec<_>>>| {
        let lines = Arc::clone(lines);
        Output::capture(move |line| lines.lock().expect("no panic").push(line))
    };
    let pool = builder(2).stdout(sink(&lines)).stderr(sink(&lines)).build().expect("processes");
    let pid = pool.submit(&PID, ()).result().expect("a worker");
    assert_eq!(pool.submit(&PRINT, ("to out".to_owned(), "to err".to_owned())).result(), Ok(()));
    let crash = crash(pool.submit(&ABORT, "one\ntwo".to_owned()).result());
    assert_eq!(crash.stderr[crash.stderr.len() - 2..], ["one", "two"]);
    pool.shutdown(Shutdown::Drain);
    let lines = lines.lock().expect("no panic");
    let with = |text: &str| lines.iter().find(|line| line.text == text).expect("it was captured");
    assert_eq!((with("to out").stream, with("to out").pid), (Stream::Stdout, pid));
    assert_eq!(with("to err").stream, Stream::Stderr);
    assert_eq!(with("two").pid, crash.pid);
}

fn futures_are_cancelled_and_awaited(_: &mut Facts) {
    let pool = pool(1);
    let running = pool.submit(&SLEEP, 100);
    let waiting = pool.submit(&SQUARE, 4);
    assert!(waiting.cancel());
    assert_eq!(waiting.result(), Err(TaskError::Cancelled));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(running), Ok(()));
    let (sender, receiver) = mpsc::channel();
    pool.submit(&SQUARE, 5).on_done(move |result| sender.send(result).expect("the test waits"));
    assert_eq!(receiver.recv(), Ok(Ok(25)));
    assert_eq!(pool.stats().cancelled, 1);
}

/// Threads that wait listen to the workers in turn with the manager; nobody is forgotten when one of them goes.
fn threads_that_wait_do_the_listening(_: &mut Facts) {
    let pool = pool(2);
    let trips = if deep() { 20_000 } else { 1_000_u64 };
    for n in 0..trips {
        assert_eq!(pool.submit(&SQUARE, n).result(), Ok(n * n));
    }
    // A callback right afterwards, for which nobody waits in that way.
    let (sender, receiver) = mpsc::channel();
    let begun = Instant::now();
    pool.submit(&SQUARE, 7).on_done(move |result| sender.send(result).expect("the test waits"));
    assert_eq!(receiver.recv(), Ok(Ok(49)));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // A wait that is given up in time, though the task goes on.
    for _ in 0..20 {
        assert_eq!(pool.submit(&SQUARE, 2).result(), Ok(4));
        let slow = pool.submit(&SLEEP, 100);
        let slow = slow.result_timeout(Duration::from_millis(5)).expect_err("it takes longer");
        assert_eq!(slow.result(), Ok(()));
    }
    // Several at once, with callbacks and deaths in between.
    thread::scope(|scope| {
        for thread in 0..3 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..trips / 2 {
                    assert_eq!(pool.submit(&SQUARE, n).result(), Ok(n * n));
                    if n % 100 == thread {
                        crash(pool.submit(&KILL, ()).result());
                    }
                }
            });
        }
        let (sender, receiver) = mpsc::channel();
        for n in 0..trips {
            let sender = sender.clone();
            pool.submit(&SQUARE, n).on_done(move |result| sender.send(result).expect("the test waits"));
        }
        assert!(receiver.iter().take(trips as usize).all(|result| result.is_ok()));
    });
    assert_eq!(pool.stats().in_flight, 0);
}

fn descriptors_and_memory_stay_flat(facts: &mut Facts) {
    let tasks: u64 = if deep() { 1_000_000 } else { 50_000 };
    let pool = pool(2);
    let round = |tasks: u64| {
        assert!(pool.map(&SQUARE, 0..tasks).enumerate().all(|(n, square)| square == Ok((n * n) as u64)));
        for _ in 0..20 {
            assert_eq!(
                pool.submit(&ECHO, vec![1; 1 << 20].into()).result().map(|buffer| buffer.len()),
                Ok(1 << 20)
            );
        }
        eventually("both idle", || pool.stats().idle == 2);
    };
    round(tasks / 5);
    let before = (descriptors(), current_rss_bytes().expect("Linux has it"));
    round(tasks);
    let after = (descriptors(), current_rss_bytes().expect("Linux has it"));
    assert_eq!(before.0, after.0, "descriptors");
    assert!(after.1 < before.1 + (8 << 20), "{} MiB, then {} MiB", before.1 >> 20, after.1 >> 20);
    for (name, value) in [("descriptors", after.0 as u64), ("rss_before", before.1), ("rss_after", after.1)] {
        facts.insert(name.to_owned(), value.into());
    }
    let before = descriptors();
    for _ in 0..10 {
        crash(pool.submit(&KILL, ()).result());
    }
    assert_eq!(pool.submit(&SQUARE, 2).result(), Ok(4));
    eventually("the dead have left nothing open", || descriptors() <= before);
}
