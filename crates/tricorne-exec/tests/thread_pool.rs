//! What only the thread pool has: lazy threads, retirement, initializer, scopes, lazy maps, stats; and waiting for
//! several futures with it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tricorne_exec::{
    AnyFuture, Future, Shutdown, TaskError, TaskResult, ThreadPoolExecutor, TimedOut, WaitFor, as_completed,
    promise, wait, wait_async,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn pool(workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().workers(workers).name("test").build().expect("threads")
}

fn outcome<T>(future: Future<T>) -> TaskResult<T> {
    future.result_timeout(PATIENCE).unwrap_or_else(|_| panic!("the task has not ended in {PATIENCE:?}"))
}

/// Waits for something that another thread is about to do.
fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn threads_start_when_they_are_needed_and_no_more_than_that() {
    let pool = pool(3);
    assert_eq!(pool.stats().threads, 0);
    assert_eq!(outcome(pool.submit(|| 1)), Ok(1));
    assert_eq!(pool.stats().threads_started, 1);
    // Three that meet need three threads.
    let barrier = Arc::new(Barrier::new(3));
    let meeting: Vec<_> = (0..3)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            pool.submit(move || {
                barrier.wait();
            })
        })
        .collect();
    for future in meeting {
        assert_eq!(outcome(future), Ok(()));
    }
    let stats = pool.stats();
    assert_eq!((stats.threads, stats.threads_started, stats.submitted), (3, 3, 4));
    eventually("all are counted", || pool.stats().finished == 4);
}

#[test]
fn idle_threads_retire_and_come_back() {
    let pool = ThreadPoolExecutor::builder()
        .workers(2)
        .keep_alive(Some(Duration::from_millis(1)))
        .build()
        .expect("threads");
    for round in 1..=20 {
        assert_eq!(outcome(pool.submit(move || round)), Ok(round));
        eventually("idle threads retire", || pool.stats().threads == 0);
    }
    let stats = pool.stats();
    assert_eq!((stats.threads_retired, stats.idle), (stats.threads_started, 0));
    assert!(stats.threads_started >= 20);
}

#[test]
fn a_pool_that_keeps_its_threads_starts_them_at_once() {
    let pool = ThreadPoolExecutor::builder().workers(2).start_all().build().expect("threads");
    assert_eq!(pool.stats().threads, 2);
    eventually("both sleep", || pool.stats().idle == 2);
}

#[test]
fn work_that_comes_while_threads_retire_is_done() {
    let pool = ThreadPoolExecutor::builder()
        .workers(2)
        .keep_alive(Some(Duration::from_nanos(1)))
        .build()
        .expect("threads");
    for n in 0..2_000 {
        assert_eq!(outcome(pool.submit(move || n)), Ok(n));
    }
}

#[test]
fn each_thread_is_initialised_before_its_first_task() {
    thread_local! {
        static READY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let pool = ThreadPoolExecutor::builder()
        .workers(3)
        .initializer(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            READY.set(true);
            Ok(())
        })
        .build()
        .expect("threads");
    let futures: Vec<_> = (0..100).map(|_| pool.submit(|| READY.get())).collect();
    assert!(futures.into_iter().all(|future| outcome(future) == Ok(true)));
    // A thread that was started for a task may find it done, and be on its way still.
    pool.shutdown(Shutdown::Drain);
    assert_eq!(calls.load(Ordering::SeqCst) as u64, pool.stats().threads_started);
}

#[test]
fn a_failed_initializer_breaks_the_pool_and_says_why() {
    for panics in [false, true] {
        let pool = ThreadPoolExecutor::builder()
            .workers(2)
            .name("model")
            .initializer(move || {
                assert!(!panics, "no weights");
                Err("no weights".into())
            })
            .build()
            .expect("threads");
        let futures: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
        for future in futures {
            let Err(TaskError::Broken { message }) = outcome(future) else { panic!("it must not run") };
            assert!(message.contains("`model`") && message.contains("no weights"), "{message}");
        }
        assert!(matches!(outcome(pool.submit(|| 1)), Err(TaskError::Broken { .. })));
        pool.shutdown(Shutdown::Drain);
        assert_eq!(pool.stats().threads, 0);
    }
}

#[test]
fn what_a_cancelled_task_holds_is_dropped_at_once() {
    let pool = pool(1);
    let (release, wait) = mpsc::channel::<()>();
    drop(pool.submit(move || wait.recv_timeout(PATIENCE)));
    let held = Arc::new(());
    let task = Arc::clone(&held);
    let future = pool.submit(move || drop(task));
    assert_eq!(Arc::strong_count(&held), 2);
    assert!(future.cancel());
    assert_eq!(Arc::strong_count(&held), 1);
    drop(release);
}

#[test]
fn a_shutdown_in_time_says_whether_all_have_ended() {
    let pool = pool(1);
    let (release, wait) = mpsc::channel::<()>();
    let future = pool.submit(move || {
        let _ = wait.recv_timeout(PATIENCE);
        1
    });
    assert!(!pool.shutdown_timeout(Shutdown::Drain, Duration::from_millis(1)));
    drop(release);
    assert!(pool.shutdown_timeout(Shutdown::Drain, PATIENCE));
    assert_eq!(outcome(future), Ok(1));
}

#[test]
fn two_workers_may_shut_their_pool_down() {
    let pool = Arc::new(pool(2));
    let barrier = Arc::new(Barrier::new(2));
    let futures: Vec<_> = (0..2)
        .map(|_| {
            let (pool, barrier) = (Arc::clone(&pool), Arc::clone(&barrier));
            let inner = Arc::clone(&pool);
            pool.submit(move || {
                barrier.wait();
                inner.shutdown(Shutdown::Drain);
            })
        })
        .collect();
    for future in futures {
        assert_eq!(outcome(future), Ok(()));
    }
}

#[test]
fn a_panicking_thread_that_drops_its_pool_is_not_held_up() {
    let ran = Arc::new(AtomicUsize::new(0));
    let (release, wait) = mpsc::channel::<()>();
    let counted = Arc::clone(&ran);
    let broken = thread::spawn(move || {
        let pool = pool(1);
        drop(pool.submit(move || wait.recv_timeout(PATIENCE)));
        for _ in 0..100 {
            let counted = Arc::clone(&counted);
            drop(pool.submit(move || counted.fetch_add(1, Ordering::SeqCst)));
        }
        let _release = release;
        std::panic::resume_unwind(Box::new("the thread fails"));
    });
    assert!(broken.join().is_err());
    // `_release` is dropped after... before the pool, so at most what the worker took in between has run.
    assert!(ran.load(Ordering::SeqCst) <= 100);
}

// --- waiting for several -------------------------------------------------------------------------------------------

#[test]
fn wait_returns_at_the_first_at_a_failure_or_at_the_end() {
    let (slow, slow_future) = promise::<u32>();
    let (bad, bad_future) = promise::<u32>();
    let futures = [Future::ready(Ok(1)), slow_future, bad_future];
    let first = wait(&futures, WaitFor::FirstCompleted, Some(PATIENCE));
    assert_eq!((first.done, first.not_done), (vec![0], vec![1, 2]));

    thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&futures, WaitFor::FirstException, Some(PATIENCE)));
        bad.fail(TaskError::Cancelled);
        let waited = waiting.join().expect("it does not panic");
        assert_eq!((waited.done, waited.not_done), (vec![0, 2], vec![1]));

        let waiting = scope.spawn(|| wait(&futures, WaitFor::AllCompleted, Some(PATIENCE)));
        slow.complete(2);
        assert!(waiting.join().expect("it does not panic").is_complete());
    });
    assert_eq!(futures.map(Future::result), [Ok(1), Ok(2), Err(TaskError::Cancelled)]);
}

#[test]
fn a_wait_that_ends_early_leaves_no_trace_and_can_be_repeated() {
    let (promise, future) = promise::<u32>();
    for _ in 0..1_000 {
        assert!(!wait([&future], WaitFor::AllCompleted, Some(Duration::ZERO)).is_complete());
    }
    promise.complete(1);
    assert!(wait([&future], WaitFor::AllCompleted, None).is_complete());
    assert!(wait(std::iter::empty::<&Future<u32>>(), WaitFor::FirstCompleted, None).is_complete());
}

#[test]
fn futures_of_different_values_are_waited_for_together() {
    let pool = pool(2);
    let number = pool.submit(|| 1);
    let text = pool.submit(|| "one".to_owned()).shared();
    let both: [&dyn AnyFuture; 2] = [&number, &text];
    assert!(wait(both, WaitFor::AllCompleted, Some(PATIENCE)).is_complete());
    assert_eq!(text.try_result(), Some(&Ok("one".to_owned())));
    assert_eq!(outcome(number), Ok(1));
}

#[test]
fn async_code_waits_for_several() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let pool = pool(2);
    let futures: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
    assert!(runtime.block_on(wait_async(&futures, WaitFor::AllCompleted)).is_complete());
    let mut completed = as_completed(futures);
    let total = runtime.block_on(async {
        let mut total = 0;
        while let Some((place, value)) = completed.next_async().await {
            assert_eq!(value, Ok(place));
            total += place;
        }
        total
    });
    assert_eq!(total, 45);
}

#[test]
fn a_worker_that_waits_for_several_runs_them_itself() {
    let pool = Arc::new(pool(1));
    for round in 0..3 {
        let inner = Arc::clone(&pool);
        let sum = pool.submit(move || {
            let futures: Vec<_> = (1..=10).map(|n| inner.submit(move || n)).collect();
            match round {
                0 => {
                    assert!(wait(&futures, WaitFor::AllCompleted, Some(PATIENCE)).is_complete());
                    futures.into_iter().map(|future| outcome(future).unwrap_or(0)).sum::<usize>()
                }
                1 => as_completed(futures).map(|(_, value)| value.unwrap_or(0)).sum(),
                _ => inner.map(1..=10, |n| n).unordered().map(|value| value.unwrap_or(0)).sum(),
            }
        });
        assert_eq!(outcome(sum), Ok(55));
    }
}

#[test]
fn as_completed_goes_by_the_end_and_gives_up_in_time() {
    let (promises, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| promise::<usize>()).unzip();
    let mut completed = as_completed(futures);
    assert_eq!(completed.next_timeout(Duration::ZERO), Err(TimedOut));
    let mut promises: Vec<_> = promises.into_iter().map(Some).collect();
    for place in [2, 0, 1] {
        promises[place].take().expect("once").complete(place * 10);
        assert_eq!(completed.next_timeout(PATIENCE), Ok(Some((place, Ok(place * 10)))));
    }
    assert_eq!(completed.next_timeout(PATIENCE), Ok(None));
    completed.push(Future::ready(Ok(7)));
    assert_eq!(completed.next(), Some((3, Ok(7))));
}

#[test]
fn a_shared_future_has_many_readers_and_callbacks() {
    let (promise, future) = promise::<String>();
    let shared = future.shared();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..3 {
        let seen = Arc::clone(&seen);
        shared.on_done(move |outcome| seen.lock().expect("nobody panics").push((n, outcome.clone())));
    }
    assert!(shared.result_timeout(Duration::ZERO).is_none());
    thread::scope(|scope| {
        for _ in 0..3 {
            let shared = shared.clone();
            scope.spawn(move || assert_eq!(shared.result(), &Ok("common".to_owned())));
        }
        promise.complete("common".to_owned());
    });
    let late = Arc::clone(&seen);
    shared.on_done(move |outcome| late.lock().expect("nobody panics").push((3, outcome.clone())));
    let seen = seen.lock().expect("nobody panics");
    assert!(seen.iter().map(|(n, _)| *n).eq(0..4));
    assert!(seen.iter().all(|(_, outcome)| *outcome == Ok("common".to_owned())));
}

// --- maps ----------------------------------------------------------------------------------------------------------

/// Counts the items that were taken from it.
fn counted(items: usize) -> (Arc<AtomicUsize>, impl Iterator<Item = usize>) {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let source = (0..items).inspect(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (pulled, source)
}

#[test]
fn a_map_takes_no_more_than_its_window() {
    let pool = pool(2);
    let (pulled, source) = counted(1_000);
    let mut map = pool.map(source, |n| n * 2).window(5);
    assert_eq!(pulled.load(Ordering::SeqCst), 0, "nothing before the first is asked for");
    for n in 0..1_000 {
        assert_eq!(map.next(), Some(Ok(n * 2)));
        assert!(pulled.load(Ordering::SeqCst) <= n + 5);
    }
    assert_eq!(map.next(), None);
}

#[test]
fn an_unordered_map_does_not_wait_for_the_slow() {
    let pool = pool(2);
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (pulled, source) = counted(100);
    let mut map = pool
        .map(source, move |n| {
            if n == 0 {
                let _ = wait.lock().expect("one locks it").recv_timeout(PATIENCE);
            }
            n
        })
        .unordered()
        .window(4);
    let mut seen = BTreeSet::new();
    for _ in 0..99 {
        seen.insert(map.next().expect("99 are quick").expect("no panic"));
        assert!(pulled.load(Ordering::SeqCst) <= seen.len() + 4);
    }
    assert!(seen.into_iter().eq(1..100));
    drop(release);
    assert_eq!((map.next(), map.next()), (Some(Ok(0)), None));
}

#[test]
fn a_failed_item_is_an_error_in_its_place() {
    let pool = pool(2);
    let results: Vec<_> = pool.map(0..10, |n| if n % 3 == 0 { panic!("{n}") } else { n }).collect();
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(value, n),
            Err(TaskError::Panicked { message, .. }) => assert!(n % 3 == 0 && message == n.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_dropped_map_cancels_what_has_not_started() {
    let pool = pool(1);
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ran);
    let mut map = pool
        .map(0..100, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = wait.lock().expect("one locks it").recv_timeout(PATIENCE);
        })
        .window(10);
    assert_eq!(map.next_timeout(Duration::from_millis(1)), Err(TimedOut));
    eventually("the first has begun", || ran.load(Ordering::SeqCst) == 1);
    drop(map);
    drop(release);
    pool.shutdown(Shutdown::Drain);
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn a_million_items_need_no_more_memory_than_a_few() {
    /// Items, and their results, that exist at the moment, and the most that ever did.
    #[derive(Default)]
    struct Gauge {
        now: AtomicUsize,
        peak: AtomicUsize,
    }
    struct Counted(Arc<Gauge>, u64);
    impl Counted {
        fn new(gauge: &Arc<Gauge>, value: u64) -> Self {
            let now = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
            gauge.peak.fetch_max(now, Ordering::SeqCst);
            Self(Arc::clone(gauge), value)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.now.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let gauge = Arc::new(Gauge::default());
    let pool = pool(2);
    let items = (0..1_000_000_u64).map(|n| Counted::new(&gauge, n));
    let map = pool.map(items, |item| item).window(16);
    let total: u64 = map.map(|item| item.expect("no panic").1).sum();
    assert_eq!(total, 499_999_500_000);
    assert_eq!(gauge.now.load(Ordering::SeqCst), 0);
    // The window, and one in the consumer's hand.
    let peak = gauge.peak.load(Ordering::SeqCst);
    assert!(peak <= 17, "{peak} existed at once");
}

// --- scopes --------------------------------------------------------------------------------------------------------

#[test]
fn a_scope_s_tasks_borrow_and_end_with_it() {
    let pool = pool(2);
    let mut cells = vec![0_usize; 64];
    let base = 100;
    pool.scope(|scope| {
        for (n, cell) in cells.iter_mut().enumerate() {
            drop(scope.submit(move || *cell = n + base));
        }
    });
    assert!(cells.iter().copied().eq(100..164));
}

#[test]
fn a_scope_waits_for_its_tasks_when_its_body_panics() {
    let pool = pool(1);
    let ran = AtomicUsize::new(0);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.scope(|scope| {
            for _ in 0..50 {
                drop(scope.submit(|| ran.fetch_add(1, Ordering::SeqCst)));
            }
            std::panic::resume_unwind(Box::new("body"));
        })
    }));
    assert!(result.is_err());
    assert_eq!(ran.load(Ordering::SeqCst), 50);
}

#[test]
fn a_panic_in_a_scoped_task_is_its_error() {
    let pool = pool(2);
    let text = "borrowed".to_owned();
    let (bad, good) = pool.scope(|scope| {
        let bad = scope.submit(|| assert!(text.is_empty(), "not empty"));
        let good = scope.submit(|| text.len());
        (bad.result(), good.result())
    });
    assert!(matches!(bad, Err(TaskError::Panicked { message, .. }) if message == "not empty"));
    assert_eq!(good, Ok(8));
}

#[test]
fn scopes_nest_on_a_pool_of_one() {
    let pool = Arc::new(pool(1));
    let inner = Arc::clone(&pool);
    let sum = pool.submit(move || {
        let cells = [1, 2, 3, 4];
        let waited = inner.scope(|scope| {
            let futures = cells.iter().map(|cell| scope.submit(move || cell * 10));
            futures.collect::<Vec<_>>().into_iter().map(|future| future.result().unwrap_or(0)).sum::<i32>()
        });
        let total = AtomicUsize::new(0);
        inner.scope(|scope| {
            for cell in &cells {
                let (total, more) = (&total, scope.clone());
                drop(scope.submit(move || {
                    drop(more.submit(move || total.fetch_add(*cell as usize, Ordering::SeqCst)));
                }));
            }
        });
        (waited, total.into_inner())
    });
    assert_eq!(outcome(sum), Ok((100, 10)));
}

#[test]
fn a_scope_on_a_pool_that_is_shut_down_ends() {
    let pool = pool(1);
    pool.shutdown(Shutdown::Drain);
    let rejected = pool.scope(|scope| scope.submit(|| 1).result());
    assert!(matches!(rejected, Err(TaskError::Rejected { .. })));
}

#[test]
fn a_cancelled_task_of_a_scope_lets_go_of_its_borrow() {
    let pool = pool(1);
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let ran = AtomicUsize::new(0);
    pool.scope(|scope| {
        let held = scope.submit(|| wait.lock().expect("one locks it").recv_timeout(PATIENCE).is_ok());
        let pending = scope.submit(|| ran.fetch_add(1, Ordering::SeqCst));
        assert!(pending.cancel());
        drop(release);
        assert_eq!(held.result(), Ok(false));
    });
    assert_eq!(ran.into_inner(), 0);
}

#[test]
fn a_scope_on_a_worker_runs_what_its_tasks_submit_while_it_waits() {
    let pool = Arc::new(ThreadPoolExecutor::builder().workers(2).build().expect("threads"));
    let inner = Arc::clone(&pool);
    let outer = pool.submit(move || {
        let (begun, begins) = std::sync::mpsc::channel::<()>();
        let (late, lately) = std::sync::mpsc::channel::<u32>();
        let answer = inner.scope(|scope| {
            let again = scope.clone();
            let first = scope.submit(move || {
                begun.send(()).expect("the scope waits for it");
                // By now the scope has looked, and found nothing to help with; both workers are taken.
                std::thread::yield_now();
                drop(again.submit(move || late.send(7).expect("it is waited for")));
                lately.recv_timeout(PATIENCE)
            });
            // So that the other worker has it.
            begins.recv_timeout(PATIENCE).expect("the other worker takes it");
            first
        });
        outcome(answer)
    });
    assert_eq!(outcome(outer), Ok(Ok(Ok(7))));
}

/// Its destructor panics, and what it panics with does so again.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            std::panic::panic_any(Bomb(self.0 - 1));
        }
    }
}

#[test]
fn an_initializer_whose_error_panics_breaks_the_pool_and_hangs_nobody() {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::panic_any(Bomb(2))
        }
    }
    impl std::error::Error for Unspeakable {}
    let builder = ThreadPoolExecutor::builder().workers(1).initializer(|| Err(Box::new(Unspeakable)));
    let pool = builder.build().expect("nothing is started yet");
    assert!(matches!(outcome(pool.submit(|| 1)), Err(TaskError::Broken { .. })));
    assert!(pool.shutdown_timeout(Shutdown::Drain, PATIENCE), "its thread has left");
}

#[test]
fn a_worker_outlives_whatever_is_panicked_with() {
    let pool = ThreadPoolExecutor::builder().workers(1).build().expect("nothing is started yet");
    drop(pool.submit(|| std::panic::panic_any(Bomb(2))));
    pool.submit(|| ()).on_done(|_| std::panic::panic_any(Bomb(2)));
    drop(pool.submit(|| Bomb(3)));
    assert_eq!(outcome(pool.submit(|| 1)), Ok(1));
    assert!(pool.shutdown_timeout(Shutdown::Drain, PATIENCE), "its thread has left");
}

#[test]
fn a_name_that_no_thread_can_have_is_an_error() {
    let error = ThreadPoolExecutor::builder().name("a\0b").build().expect_err("a NUL");
    assert_eq!(error.to_string(), "cannot start thread `a\\0b`");
    assert!(tricorne_exec::AsyncExecutor::builder().name("a\0b").build().is_err());
}

#[test]
fn a_destructor_that_panics_keeps_no_task_of_a_dropped_map_going() {
    let pool = ThreadPoolExecutor::builder().workers(1).build().expect("nothing is started yet");
    let (go, held) = std::sync::mpsc::channel::<()>();
    let holds = pool.submit(move || held.recv().is_err());
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let bombs = [1, 0, 0].map(Bomb);
    let mut map = pool
        .map(bombs, move |mut bomb| {
            bomb.0 = 0;
            counted.fetch_add(1, Ordering::SeqCst)
        })
        .window(3);
    assert!(map.next_timeout(Duration::ZERO).is_err(), "they wait for the only worker");
    drop(map);
    drop(go);
    assert_eq!(outcome(holds), Ok(true));
    assert!(pool.shutdown_timeout(Shutdown::Drain, PATIENCE));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}
