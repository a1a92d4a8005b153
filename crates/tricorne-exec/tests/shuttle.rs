//! Randomised schedules of the thread pool and of waiting: shuttle runs scenes that loom could not exhaust, each many
//! times in a random order.
//!
//! ```text
//! RUSTFLAGS="--cfg tricorne_shuttle" cargo test -p tricorne-exec --test shuttle --release
//! ```
//!
//! Each scene prints its seed, and runs again with it if `TRICORNE_SEED` names it. `TRICORNE_SCHEDULES` says how many
//! schedules each scene gets. A pool that forgets a task, a worker that sleeps on while there is work, or a shutdown that
//! waits for nobody is a deadlock, which shuttle reports.
//!
//! Not modelled: time (so idle workers do not retire here: `tests/thread_pool.rs` has that with a keep-alive of a
//! nanosecond), weak memory orderings, the look before a sleep, and `OnceLock`s.
#![cfg(tricorne_shuttle)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};
use tricorne_exec::{Future, Shutdown, TaskError, ThreadPoolExecutor, WaitFor, as_completed, promise, wait};
use tricorne_sync::prim::atomic::{AtomicBool, AtomicUsize, Ordering};

fn check(scene: impl Fn() + Send + Sync + 'static) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("it is a number"));
    let schedules = number("TRICORNE_SCHEDULES").unwrap_or(2_000);
    let seed = number("TRICORNE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |since| u64::from(since.subsec_nanos()))
    });
    println!("to run it again: TRICORNE_SEED={seed}");
    Runner::new(RandomScheduler::new_from_seed(seed, schedules as usize), Config::default()).run(scene);
}

fn pool(workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().workers(workers).keep_alive(None).build().unwrap()
}

#[test]
fn every_task_runs_once_and_every_future_ends() {
    check(|| {
        let pool = Arc::new(pool(2));
        let ran = Arc::new(AtomicUsize::new(0));
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                thread::spawn(move || {
                    let futures: Vec<_> = (0..3)
                        .map(|n| {
                            let ran = Arc::clone(&ran);
                            pool.submit(move || {
                                ran.fetch_add(1, Ordering::SeqCst);
                                n
                            })
                        })
                        .collect();
                    futures.into_iter().map(|future| future.result().unwrap()).sum::<usize>()
                })
            })
            .collect();
        let total: usize = submitters.into_iter().map(|submitter| submitter.join().unwrap()).sum();
        assert_eq!((total, ran.load(Ordering::SeqCst)), (6, 6));
        pool.shutdown(Shutdown::Drain);
        assert_eq!(pool.stats().threads, 0);
    });
}

#[test]
fn a_task_is_run_or_cancelled_and_never_both() {
    check(|| {
        let pool = pool(2);
        let ran = Arc::new(AtomicUsize::new(0));
        let futures: Vec<_> = (0..4)
            .map(|_| {
                let ran = Arc::clone(&ran);
                pool.submit(move || ran.fetch_add(1, Ordering::SeqCst))
            })
            .collect();
        let cancelled = futures.iter().filter(|future| future.cancel()).count();
        let ended = futures.into_iter().filter(|_| true).map(Future::result);
        let failed = ended.filter(|outcome| *outcome == Err(TaskError::Cancelled)).count();
        pool.shutdown(Shutdown::Drain);
        assert_eq!((cancelled, failed + ran.load(Ordering::SeqCst)), (failed, 4));
    });
}

#[test]
fn submitting_races_with_a_shutdown() {
    for how in [Shutdown::Drain, Shutdown::CancelPending] {
        check(move || {
            let pool = Arc::new(pool(2));
            let submitter = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || (0..3).map(|n| pool.submit(move || n).result()).collect::<Vec<_>>())
            };
            let other = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.shutdown(how))
            };
            pool.shutdown(Shutdown::Drain);
            assert_eq!(pool.stats().threads, 0);
            for (n, outcome) in submitter.join().unwrap().into_iter().enumerate() {
                match outcome {
                    Ok(value) => assert_eq!(value, n),
                    Err(TaskError::Rejected { .. }) => {}
                    Err(TaskError::Cancelled) => assert_eq!(how, Shutdown::CancelPending),
                    Err(error) => panic!("{error}"),
                }
            }
            other.join().unwrap();
        });
    }
}

#[test]
fn a_pool_dropped_by_one_of_its_tasks_ends() {
    check(|| {
        let pool = Arc::new(pool(2));
        let own = Arc::clone(&pool);
        let first = pool.submit(move || drop(own));
        let second = pool.submit(|| 2);
        drop(pool);
        assert_eq!((first.result(), second.result()), (Ok(()), Ok(2)));
    });
}

#[test]
fn workers_that_wait_for_each_other_s_tasks_do_not_stand_still() {
    check(|| {
        let pool = Arc::new(pool(2));
        let outer: Vec<_> = (0..2)
            .map(|round| {
                let inner = Arc::clone(&pool);
                pool.submit(move || {
                    let futures: Vec<_> = (1..=2).map(|n| inner.submit(move || n)).collect();
                    if round == 0 {
                        assert!(wait(&futures, WaitFor::AllCompleted, None).is_complete());
                        futures.into_iter().map(|future| future.result().unwrap()).sum::<usize>()
                    } else {
                        as_completed(futures).map(|(_, value)| value.unwrap()).sum()
                    }
                })
            })
            .collect();
        assert!(outer.into_iter().all(|future| future.result() == Ok(3)));
    });
}

#[test]
fn waiting_for_several_misses_nothing() {
    check(|| {
        let (promises, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| promise::<usize>()).unzip();
        let workers: Vec<_> = promises
            .into_iter()
            .enumerate()
            .map(|(n, promise)| {
                thread::spawn(
                    move || if n == 1 { promise.fail(TaskError::Abandoned) } else { promise.complete(n) },
                )
            })
            .collect();
        let first = wait(&futures, WaitFor::FirstCompleted, None);
        assert!(!first.done.is_empty());
        let failed = wait(&futures, WaitFor::FirstException, None);
        assert!(failed.done.contains(&1));
        let mut seen: Vec<_> = as_completed(futures).map(|(place, _)| place).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_map_gives_every_result_in_order_and_a_dropped_one_ends() {
    check(|| {
        let pool = pool(2);
        assert!(pool.map(0..5, |n| n).window(2).map(|n| n.unwrap()).eq(0..5));
        let mut unordered: Vec<_> = pool.map(0..4, |n| n).unordered().window(3).map(|n| n.unwrap()).collect();
        unordered.sort_unstable();
        assert_eq!(unordered, [0, 1, 2, 3]);
        let mut dropped = pool.map(0.., |n| n).window(3);
        assert_eq!(dropped.next(), Some(Ok(0)));
        drop(dropped);
        pool.shutdown(Shutdown::Drain);
    });
}

#[test]
fn a_scope_outlasts_its_tasks() {
    check(|| {
        let pool = Arc::new(pool(2));
        let over = AtomicBool::new(false);
        let ran = AtomicUsize::new(0);
        let task = || {
            assert!(!over.load(Ordering::SeqCst), "a task outlived its scope");
            ran.fetch_add(1, Ordering::SeqCst);
        };
        pool.scope(|scope| {
            let kept = scope.submit(task);
            drop(scope.submit(task));
            let more = scope.clone();
            drop(scope.submit(move || drop(more.submit(task))));
            let cancelled = scope.submit(task);
            if cancelled.cancel() {
                ran.fetch_add(1, Ordering::SeqCst);
            }
            assert_eq!(kept.result(), Ok(()));
        });
        over.store(true, Ordering::SeqCst);
        assert_eq!(ran.load(Ordering::SeqCst), 4);

        // On a worker of the pool itself, with the other one busy the same way.
        let nested: Vec<_> = (0..2)
            .map(|_| {
                let pool_inside = Arc::clone(&pool);
                pool.submit(move || {
                    let cell = AtomicUsize::new(0);
                    pool_inside.scope(|scope| {
                        drop(scope.submit(|| cell.fetch_add(1, Ordering::SeqCst)));
                        scope.submit(|| cell.fetch_add(1, Ordering::SeqCst)).result().unwrap();
                    });
                    cell.into_inner()
                })
            })
            .collect();
        assert!(nested.into_iter().all(|future| future.result() == Ok(2)));
    });
}

#[test]
fn a_future_that_is_polled_and_given_up_keeps_its_outcome() {
    check(|| {
        let (promise, mut future) = promise::<u32>();
        let worker = thread::spawn(move || promise.complete(7));
        let polled = std::future::Future::poll(
            std::pin::Pin::new(&mut future),
            &mut Context::from_waker(Waker::noop()),
        );
        match polled {
            Poll::Ready(outcome) => assert_eq!(outcome, Ok(7)),
            Poll::Pending => assert_eq!(future.result(), Ok(7)),
        }
        worker.join().unwrap();
    });
}
