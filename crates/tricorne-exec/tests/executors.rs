//! The executors from outside: order, names, panics, waiting within a pool, shutdown and drop, and a stress of each.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tricorne_exec::limit::{AdaptiveConfig, Limiter, Outcome};
use tricorne_exec::{AsyncExecutor, Future, Shutdown, TaskError, TaskResult, ThreadPoolExecutor};

/// No test waits longer than this for something that should be there at once.
const PATIENCE: Duration = Duration::from_secs(30);

fn pool(workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().workers(workers).name("test").build().expect("threads")
}

fn event_loop() -> AsyncExecutor {
    AsyncExecutor::builder().name("test").build().expect("a thread")
}

/// The outcome of a task that ends soon.
fn outcome<T>(future: Future<T>) -> TaskResult<T> {
    future.result_timeout(PATIENCE).unwrap_or_else(|_| panic!("the task has not ended in {PATIENCE:?}"))
}

/// Occupies a worker until the sender is dropped; returns once it is occupied.
fn occupy(pool: &ThreadPoolExecutor) -> mpsc::Sender<()> {
    let (release, wait) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    drop(pool.submit(move || {
        started.send(()).expect("the test waits");
        let _ = wait.recv_timeout(PATIENCE);
    }));
    has_started.recv_timeout(PATIENCE).expect("a worker takes it");
    release
}

#[test]
fn workers_have_names() {
    let pool = pool(2);
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let names: Vec<_> = (0..2)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            pool.submit(move || {
                barrier.wait();
                thread::current().name().map(str::to_owned)
            })
        })
        .collect();
    let names: BTreeSet<_> = names.into_iter().map(|future| outcome(future).expect("it runs")).collect();
    assert_eq!(names, ["test-0", "test-1"].map(|name| Some(name.to_owned())).into());
    let executor = event_loop();
    let name = outcome(executor.spawn(async { thread::current().name().map(str::to_owned) }));
    assert_eq!(name, Ok(Some("test-0".to_owned())));
}

#[test]
fn one_worker_runs_tasks_in_their_order() {
    let pool = pool(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 0..100 {
        let order = Arc::clone(&order);
        drop(pool.submit(move || order.lock().expect("nobody panics").push(n)));
    }
    pool.shutdown(Shutdown::Drain);
    assert_eq!(*order.lock().expect("nobody panics"), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    let pool = pool(1);
    let broken = pool.submit(|| panic!("task {}", 1));
    let next = pool.submit(|| 2);
    let Err(TaskError::Panicked { message, location }) = outcome(broken) else {
        panic!("it should have panicked")
    };
    assert_eq!(message, "task 1");
    assert!(location.expect("the hook is ours").contains("executors.rs:"));
    assert_eq!(outcome(next), Ok(2));
}

#[test]
fn a_result_nobody_wants_may_panic_when_dropped() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    // The futures go first, so that it is the worker and the loop that drop the results.
    let pool = pool(1);
    let release = occupy(&pool);
    drop(pool.submit(|| Bomb));
    drop(release);
    assert_eq!(outcome(pool.submit(|| 1)), Ok(1));

    let executor = event_loop();
    let (go, wait) = tricorne_exec::promise::<()>();
    drop(executor.spawn(async {
        let _ = wait.await;
        Bomb
    }));
    go.complete(());
    assert_eq!(outcome(executor.spawn(async { 1 })), Ok(1));
}

#[test]
fn a_callback_that_panics_does_not_end_the_worker() {
    let pool = pool(1);
    let release = occupy(&pool);
    pool.submit(|| ()).on_done(|_| panic!("callback"));
    drop(release);
    assert_eq!(outcome(pool.submit(|| 1)), Ok(1));
}

#[test]
fn a_pool_of_one_may_wait_for_itself() {
    fn sum(pool: &Arc<ThreadPoolExecutor>, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let inner = Arc::clone(pool);
        n + outcome(pool.submit(move || sum(&inner, n - 1))).expect("it runs")
    }
    let pool = Arc::new(pool(1));
    let inner = Arc::clone(&pool);
    let total = outcome(pool.submit(move || sum(&inner, 20)));
    assert_eq!(total, Ok(210));
}

#[test]
fn a_task_that_has_not_started_is_cancelled() {
    let pool = pool(1);
    let release = occupy(&pool);
    let waiting = pool.submit(|| 1);
    assert!(waiting.cancel());
    drop(release);
    assert_eq!(outcome(waiting), Err(TaskError::Cancelled));
}

#[test]
fn shutdown_drains_or_cancels_and_then_rejects() {
    let drained = pool(1);
    let release = occupy(&drained);
    let waiting = drained.submit(|| 1);
    drop(release);
    drained.shutdown(Shutdown::Drain);
    assert_eq!(outcome(waiting), Ok(1));
    let late = outcome(drained.submit(|| 1));
    assert_eq!(late, Err(TaskError::Rejected { executor: "test".to_owned() }));

    let cancelled = pool(1);
    let release = occupy(&cancelled);
    let waiting = cancelled.submit(|| 1);
    // Shutting down waits for the running task, which goes on when its waiting neighbour has been cancelled.
    let (sender, seen) = mpsc::channel();
    waiting.on_done(move |outcome| {
        sender.send(outcome).expect("the test waits");
        drop(release);
    });
    cancelled.shutdown(Shutdown::CancelPending);
    assert_eq!(seen.try_recv(), Ok(Err(TaskError::Cancelled)));
}

#[test]
fn dropping_a_pool_finishes_what_was_submitted() {
    let pool = pool(2);
    let futures: Vec<_> = (0..1000).map(|n| pool.submit(move || n)).collect();
    drop(pool);
    assert!(futures.iter().all(Future::is_done));
    assert!(futures.into_iter().map(outcome).eq((0..1000).map(Ok)));
}

#[test]
fn a_pool_may_be_dropped_by_its_own_task() {
    let pool = Arc::new(pool(1));
    let last = Arc::clone(&pool);
    let (go, wait) = mpsc::channel::<()>();
    let future = pool.submit(move || {
        let _ = wait.recv_timeout(PATIENCE);
        drop(last);
        7
    });
    drop(pool);
    drop(go);
    assert_eq!(outcome(future), Ok(7));
}

#[test]
fn a_hundred_thousand_tasks_each_run_once() {
    const TASKS: usize = 100_000;
    let pool = pool(4);
    let runs = Arc::new(AtomicUsize::new(0));
    let futures: Vec<_> = (0..TASKS)
        .map(|n| {
            let runs = Arc::clone(&runs);
            pool.submit(move || {
                runs.fetch_add(1, Ordering::Relaxed);
                n
            })
        })
        .collect();
    // Some race with their worker to be cancelled; each is either run or cancelled.
    let cancelled = futures.iter().rev().step_by(7).filter(|future| future.cancel()).count();
    let mut finished = 0;
    for (n, future) in futures.into_iter().enumerate() {
        match outcome(future) {
            Ok(value) => {
                assert_eq!(value, n);
                finished += 1;
            }
            Err(error) => assert_eq!(error, TaskError::Cancelled),
        }
    }
    assert_eq!(finished + cancelled, TASKS);
    assert_eq!(runs.load(Ordering::Relaxed), finished);
}

#[test]
fn a_spawned_task_is_cancelled_at_its_await() {
    let executor = event_loop();
    let future = executor.spawn(std::future::pending::<()>());
    // It may or may not have started.
    future.cancel();
    assert_eq!(outcome(future), Err(TaskError::Cancelled));
}

#[test]
fn a_panic_in_a_spawned_task_is_its_error() {
    let executor = event_loop();
    let broken = executor.spawn(async {
        tokio::task::yield_now().await;
        panic!("async");
    });
    let Err::<(), _>(TaskError::Panicked { message, location }) = outcome(broken) else {
        panic!("it should panic")
    };
    assert_eq!(message, "async");
    assert!(location.expect("the hook is ours").contains("executors.rs:"));
    assert_eq!(outcome(executor.spawn(async { 1 })), Ok(1));
}

#[test]
fn an_event_loop_drains_until_its_deadline() {
    let executor = event_loop();
    let (sender, receiver) = tricorne_exec::promise::<u32>();
    let waits = executor.spawn(async move { receiver.await.map(|n| n + 1) });
    let worker = thread::spawn(move || sender.complete(1));
    assert!(executor.shutdown(Shutdown::Drain, PATIENCE));
    worker.join().expect("it does not panic");
    assert_eq!(outcome(waits), Ok(Ok(2)));
    assert_eq!(outcome(executor.spawn(async {})), Err(TaskError::Rejected { executor: "test".to_owned() }));

    let executor = event_loop();
    let stuck = executor.spawn(std::future::pending::<()>());
    assert!(executor.shutdown(Shutdown::Drain, Duration::from_millis(10)));
    assert_eq!(outcome(stuck), Err(TaskError::Cancelled));
    assert_eq!(executor.live(), 0);
}

#[test]
fn shutdown_of_a_blocked_loop_ends_in_time_and_says_so() {
    let executor = event_loop();
    let (release, wait) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let blocker = executor.spawn(async move {
        started.send(()).expect("the test waits");
        let _ = wait.recv_timeout(PATIENCE);
    });
    has_started.recv_timeout(PATIENCE).expect("the loop takes it");
    let before = Instant::now();
    assert!(!executor.shutdown(Shutdown::CancelPending, Duration::from_millis(10)));
    assert!(before.elapsed() < PATIENCE / 2);
    drop(release);
    assert_eq!(outcome(blocker), Ok(()));
}

#[test]
fn an_executor_may_be_dropped_by_its_own_task() {
    let executor = Arc::new(event_loop());
    let last = Arc::clone(&executor);
    let (go, wait) = tricorne_exec::promise::<()>();
    let future = executor.spawn(async move {
        let _ = wait.await;
        drop(last);
        7
    });
    drop(executor);
    go.complete(());
    assert_eq!(outcome(future), Ok(7));
}

#[test]
fn many_loops_share_the_tasks() {
    let executor = AsyncExecutor::builder().loops(3).name("many").build().expect("threads");
    let futures: Vec<_> = (0..10_000)
        .map(|n| {
            executor.spawn(async move {
                tokio::task::yield_now().await;
                (n, thread::current().name().map(str::to_owned))
            })
        })
        .collect();
    let mut names = BTreeSet::new();
    for (expected, future) in futures.into_iter().enumerate() {
        let (n, name) = outcome(future).expect("it runs");
        assert_eq!(n, expected);
        names.insert(name);
    }
    assert_eq!(names.len(), 3);
}

/// Counts itself in a gauge for as long as it lives.
struct Gauged(Arc<AtomicUsize>);

impl Gauged {
    fn enter(gauge: &Arc<AtomicUsize>) -> Self {
        assert!(gauge.fetch_add(1, Ordering::SeqCst) < 5, "more in flight than the limit");
        Self(Arc::clone(gauge))
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_limiter_never_exceeds_its_limit_and_loses_no_slot() {
    let executor = AsyncExecutor::builder().loops(2).build().expect("threads");
    for limiter in [Limiter::fixed(5), Limiter::adaptive(AdaptiveConfig { min: 1, initial: 5, max: 5 })] {
        let gauge = Arc::new(AtomicUsize::new(0));
        let futures: Vec<_> = (0..5_000)
            .map(|n| {
                let (limiter, gauge) = (Arc::clone(&limiter), Arc::clone(&gauge));
                executor.spawn(async move {
                    let mut permit = limiter.acquire_async().await;
                    // Dropped before the permit, also when the task is cancelled.
                    let _gauged = Gauged::enter(&gauge);
                    tokio::task::yield_now().await;
                    permit.record(if n % 50 == 0 { Outcome::Overload } else { Outcome::Success });
                })
            })
            .collect();
        // A part is cancelled, waiting in line or holding a slot.
        for future in futures.iter().skip(4_000).step_by(3) {
            future.cancel();
        }
        for (n, future) in futures.into_iter().enumerate() {
            let may_be_cancelled = n >= 4_000 && (n - 4_000) % 3 == 0;
            match outcome(future) {
                Ok(()) => {}
                Err(error) => assert!(may_be_cancelled && error == TaskError::Cancelled, "task {n}: {error}"),
            }
        }
        // A task delivers its result after it has let go of the slot.
        let stats = limiter.stats();
        assert_eq!((stats.in_flight, stats.waiting), (0, 0));
        assert!(stats.peak_in_flight <= 5);
        let all: Vec<_> = std::iter::from_fn(|| limiter.try_acquire()).collect();
        assert_eq!(all.len(), limiter.limit());
    }
}

#[test]
fn a_fallen_limit_holds_back_new_requests() {
    let limiter = Limiter::adaptive(AdaptiveConfig { min: 1, initial: 8, max: 64 });
    let mut permits: Vec<_> = std::iter::from_fn(|| limiter.try_acquire()).collect();
    assert_eq!(permits.len(), 8);
    for permit in &mut permits[3..] {
        permit.record(Outcome::Overload);
    }
    assert_eq!((limiter.limit(), limiter.in_flight()), (3, 8));
    permits.truncate(3);
    assert!(limiter.try_acquire().is_none());
    permits.pop();
    assert!(limiter.try_acquire().is_some());
    assert_eq!(limiter.stats().overloads, 5);
}
