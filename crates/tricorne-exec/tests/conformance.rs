//! What every executor promises, checked against each of them: the same suite, one run for each. The ideas are those of
//! CPython's `Lib/test/test_concurrent_futures` (`executor.py`, `test_wait.py`, `test_as_completed.py`,
//! `test_shutdown.py`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tricorne_exec::{
    AsyncExecutor, Executor, Future, InlineExecutor, Shutdown, TaskError, TaskResult, ThreadPoolExecutor,
    WaitFor, as_completed, wait,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn outcome<T>(future: Future<T>) -> TaskResult<T> {
    future.result_timeout(PATIENCE).unwrap_or_else(|_| panic!("the task has not ended in {PATIENCE:?}"))
}

fn a_task_runs_once_and_its_value_arrives<E: Executor>(executor: &E) {
    let runs = Arc::new(AtomicUsize::new(0));
    let futures: Vec<_> = (0..500)
        .map(|n| {
            let runs = Arc::clone(&runs);
            executor.submit(move || {
                runs.fetch_add(1, Ordering::SeqCst);
                n
            })
        })
        .collect();
    assert!(futures.into_iter().map(outcome).eq((0..500).map(Ok)));
    assert_eq!(runs.load(Ordering::SeqCst), 500);
}

fn a_panic_is_an_error_and_harms_nobody_else<E: Executor>(executor: &E) {
    let broken = executor.submit(|| panic!("broken {}", 1));
    let Err::<(), _>(TaskError::Panicked { message, location }) = outcome(broken) else {
        panic!("it must fail")
    };
    assert_eq!(message, "broken 1");
    assert!(location.expect("the hook is ours").contains("conformance.rs:"));
    assert_eq!(outcome(executor.submit(|| 2)), Ok(2));
}

fn a_future_takes_a_callback_a_wait_and_an_await<E: Executor>(executor: &E) {
    let (sender, receiver) = std::sync::mpsc::channel();
    executor.submit(|| 1).on_done(move |outcome| sender.send(outcome).expect("the test waits"));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Ok(1)));
    let futures = [executor.submit(|| 1), executor.submit(|| 2)];
    assert!(wait(&futures, WaitFor::AllCompleted, Some(PATIENCE)).is_complete());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (n, future) in futures.into_iter().enumerate() {
        assert_eq!(runtime.block_on(future), Ok(n + 1));
    }
    let shared = executor.submit(|| 3).shared();
    assert_eq!(runtime.block_on(shared.result_async()), &Ok(3));
}

fn all_are_completed<E: Executor>(executor: &E) {
    let futures: Vec<_> = (0..50).map(|n| executor.submit(move || n * 2)).collect();
    let mut places = BTreeSet::new();
    for (place, value) in as_completed(futures) {
        assert_eq!(value, Ok(place * 2));
        assert!(places.insert(place));
    }
    assert_eq!(places.len(), 50);
}

fn a_map_is_ordered_lazy_and_carries_errors<E: Executor>(executor: &E) {
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let source = (0..1_000).inspect(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let map = executor.map(source, |n| if n == 500 { panic!("half way") } else { n }).window(7);
    for (n, result) in map.enumerate() {
        assert!(pulled.load(Ordering::SeqCst) <= n + 7);
        match result {
            Ok(value) => assert_eq!(value, n),
            Err(error) => assert!(n == 500 && matches!(error, TaskError::Panicked { .. }), "{error}"),
        }
    }
    assert_eq!(pulled.load(Ordering::SeqCst), 1_000);
    let mut unordered: Vec<_> = executor.map(0..100, |n| n).unordered().map(|n| outcome_value(&n)).collect();
    unordered.sort_unstable();
    assert!(unordered.into_iter().eq(0..100));
    // Endless, and given up: what is on its way ends or is cancelled.
    assert_eq!(executor.map(0.., |n| n).window(3).nth(10), Some(Ok(10)));
}

fn outcome_value(outcome: &TaskResult<usize>) -> usize {
    *outcome.as_ref().expect("no task fails here")
}

fn after_a_shutdown_nothing_is_taken<E: Executor>(executor: &E) {
    let last = executor.submit(|| 1);
    assert!(executor.shutdown_timeout(Shutdown::Drain, Some(PATIENCE)));
    assert!(last.is_done());
    assert_eq!(outcome(last), Ok(1));
    let executor_name = executor.name().to_owned();
    assert_eq!(outcome(executor.submit(|| 1)), Err(TaskError::Rejected { executor: executor_name.clone() }));
    assert_eq!(executor.map(0..3, |n| n).next(), Some(Err(TaskError::Rejected { executor: executor_name })));
    assert!(executor.shutdown_timeout(Shutdown::CancelPending, Some(PATIENCE)), "again is allowed");
}

fn conforms<E: Executor>(executor: &E) {
    assert!(executor.parallelism() >= 1);
    a_task_runs_once_and_its_value_arrives(executor);
    a_panic_is_an_error_and_harms_nobody_else(executor);
    a_future_takes_a_callback_a_wait_and_an_await(executor);
    all_are_completed(executor);
    a_map_is_ordered_lazy_and_carries_errors(executor);
    after_a_shutdown_nothing_is_taken(executor);
}

#[test]
fn the_inline_executor_conforms() {
    conforms(&InlineExecutor::new());
}

#[test]
fn the_thread_pool_conforms() {
    for workers in [1, 2, 8] {
        conforms(&ThreadPoolExecutor::builder().workers(workers).build().expect("threads"));
    }
    conforms(&ThreadPoolExecutor::builder().workers(2).start_all().build().expect("threads"));
    conforms(&ThreadPoolExecutor::builder().keep_alive(Some(Duration::ZERO)).build().expect("threads"));
}

#[test]
fn the_async_executor_conforms() {
    for loops in [1, 3] {
        conforms(&AsyncExecutor::builder().loops(loops).build().expect("threads"));
    }
    let watched = AsyncExecutor::builder().watchdog(Duration::from_millis(5), |_| {});
    conforms(&watched.build().expect("threads"));
}

#[test]
fn the_async_executor_conforms_on_a_borrowed_runtime() {
    let owner = AsyncExecutor::builder().name("owner").build().expect("a thread");
    let runtime = outcome(owner.spawn(async { tokio::runtime::Handle::current() })).expect("it runs");
    let guest = AsyncExecutor::on(runtime).name("guest").build().expect("nothing to start");
    conforms(&guest);
    drop(guest);
    assert_eq!(outcome(owner.spawn(async { 1 })), Ok(1), "the runtime is its owner's");
}
