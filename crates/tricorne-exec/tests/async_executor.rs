//! What only the asynchronous executor has: a borrowed runtime, maps of async functions, and the watchdog.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tricorne_exec::{AsyncExecutor, Future, Shutdown, TaskError, TaskResult, promise};

const PATIENCE: Duration = Duration::from_secs(30);

fn outcome<T>(future: Future<T>) -> TaskResult<T> {
    future.result_timeout(PATIENCE).unwrap_or_else(|_| panic!("the task has not ended in {PATIENCE:?}"))
}

/// An executor, and one on its runtime.
fn owner_and_guest() -> (AsyncExecutor, AsyncExecutor) {
    let owner = AsyncExecutor::builder().name("owner").build().expect("a thread");
    let runtime = outcome(owner.spawn(async { tokio::runtime::Handle::current() })).expect("it runs");
    let guest = AsyncExecutor::on(runtime).name("guest").build().expect("nothing to start");
    (owner, guest)
}

#[test]
fn on_a_borrowed_runtime_only_our_tasks_end() {
    let (owner, guest) = owner_and_guest();
    let (go, wait) = promise::<()>();
    let theirs = owner.spawn(async move { wait.await.is_ok() });
    let ours: Vec<_> = (0..10).map(|_| guest.spawn(std::future::pending::<()>())).collect();
    assert_eq!(guest.live(), 10);
    assert!(guest.shutdown(Shutdown::CancelPending, PATIENCE));
    assert!(ours.into_iter().all(|future| outcome(future) == Err(TaskError::Cancelled)));
    go.complete(());
    assert_eq!(outcome(theirs), Ok(true));
}

#[test]
fn a_borrowed_runtime_is_drained_until_the_deadline() {
    let (_owner, guest) = owner_and_guest();
    let (go, wait) = promise::<u32>();
    let last = guest.spawn(wait);
    let stuck = guest.spawn(std::future::pending::<()>());
    go.complete(3);
    assert_eq!(outcome(last), Ok(Ok(3)));
    assert!(!guest.shutdown(Shutdown::Drain, Duration::from_millis(5)) || guest.live() == 0);
    assert_eq!(outcome(stuck), Err(TaskError::Cancelled));
    assert!(guest.shutdown(Shutdown::Drain, PATIENCE));
}

#[test]
fn an_executor_is_shut_down_from_its_own_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let guest = AsyncExecutor::on(runtime.handle().clone()).build().expect("nothing to start");
    let stuck = guest.spawn(std::future::pending::<()>());
    let done = guest.spawn(async { 1 });
    runtime.block_on(async {
        assert_eq!(done.await, Ok(1));
        guest.shutdown_async(Shutdown::CancelPending).await;
        assert_eq!(stuck.await, Err(TaskError::Cancelled));
    });
    let pending = guest.spawn(async { 1 });
    assert!(matches!(outcome(pending), Err(TaskError::Rejected { .. })));
}

#[test]
fn a_map_runs_a_window_of_tasks_side_by_side_and_cancels_the_rest() {
    struct InFlight(Arc<AtomicUsize>);
    impl InFlight {
        fn enter(now: &Arc<AtomicUsize>, peak: &Arc<AtomicUsize>) -> Self {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Self(Arc::clone(now))
        }
    }
    impl Drop for InFlight {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let executor = AsyncExecutor::builder().loops(2).build().expect("threads");
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = |n: usize| {
        let in_flight = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            let _in_flight = InFlight::enter(&in_flight.0, &in_flight.1);
            tokio::task::yield_now().await;
            n
        }
    };
    let results: Vec<_> = executor.map(0..2_000, work).window(10).collect();
    assert!(results.into_iter().eq((0..2_000).map(Ok)));
    assert!(peak.load(Ordering::SeqCst) <= 10);

    let mut dropped =
        executor.map(0.., |n| async move { if n > 3 { std::future::pending().await } else { n } });
    assert_eq!(dropped.next(), Some(Ok(0)));
    drop(dropped);
    assert!(executor.shutdown(Shutdown::Drain, PATIENCE), "what was on its way is cancelled");
}

#[test]
fn the_watchdog_names_the_task_that_blocks_and_no_other() {
    let (sender, reports) = mpsc::channel();
    let executor = AsyncExecutor::builder()
        .name("busy")
        .watchdog(Duration::from_millis(5), move |blockage| {
            let _ = sender.send(blockage.clone());
        })
        .build()
        .expect("threads");
    // Waits, and so blocks nobody.
    let (go, wait) = promise::<()>();
    let waiting = executor.spawn_named("waits", wait);
    for round in 0..3 {
        let (release, held) = mpsc::channel::<()>();
        let culprit = executor.spawn_named(format!("culprit {round}"), async move {
            tokio::task::yield_now().await;
            // The watchdog ends it: no clock decides this test.
            held.recv_timeout(PATIENCE).is_err()
        });
        let seen = reports.recv_timeout(PATIENCE).expect("it is noticed");
        assert_eq!(
            (seen.task, seen.thread.as_str(), seen.over),
            (format!("culprit {round}"), "busy-0", false)
        );
        assert!(seen.blocked_for >= Duration::from_millis(5));
        drop(release);
        assert_eq!(outcome(culprit), Ok(true));
        let over = reports.recv_timeout(PATIENCE).expect("its end is noticed");
        assert_eq!((over.task, over.over), (format!("culprit {round}"), true));
    }
    go.complete(());
    assert_eq!(outcome(waiting), Ok(Ok(())));
    drop(executor);
    // Other threads of this machine may have kept the loop from running, and that looks the same; the names do not.
    assert!(reports.iter().all(|blockage| !blockage.task.starts_with("culprit")));
}

#[test]
fn every_executor_on_one_runtime_has_its_own_watchdog() {
    let owner = AsyncExecutor::builder().name("owner").build().expect("a thread");
    let runtime = outcome(owner.spawn(async { tokio::runtime::Handle::current() })).expect("it runs");
    for round in 0..10 {
        let (sender, reports) = mpsc::channel();
        let guest = AsyncExecutor::on(runtime.clone())
            .watchdog(Duration::from_millis(1), move |blockage| {
                let _ = sender.send(blockage.task.clone());
            })
            .build()
            .expect("a thread");
        let (release, held) = mpsc::channel::<()>();
        let name = format!("culprit {round}");
        let culprit = guest.spawn_named(name.clone(), async move { held.recv_timeout(PATIENCE).is_err() });
        assert_eq!(reports.recv_timeout(PATIENCE), Ok(name));
        drop(release);
        assert_eq!(outcome(culprit), Ok(true));
    }
}

#[test]
fn a_shutdown_that_was_too_short_may_be_repeated() {
    let executor = AsyncExecutor::builder().build().expect("a thread");
    let (release, held) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel::<()>();
    let blocks = executor.spawn(async move {
        begun.send(()).expect("the test waits");
        held.recv_timeout(PATIENCE).is_err()
    });
    begins.recv_timeout(PATIENCE).expect("it runs");
    assert!(!executor.shutdown(Shutdown::CancelPending, Duration::from_millis(1)));
    std::thread::scope(|scope| {
        let again = scope.spawn(|| executor.shutdown(Shutdown::CancelPending, PATIENCE));
        drop(release);
        assert!(again.join().expect("it does not panic"), "it waits again, and finds the loop ended");
    });
    drop(blocks);
}

#[test]
fn what_is_cancelled_at_the_deadline_of_a_borrowed_runtime_counts_as_ended() {
    let (_owner, guest) = owner_and_guest();
    let stuck = guest.spawn(std::future::pending::<()>());
    assert!(guest.shutdown(Shutdown::Drain, Duration::from_millis(5)), "it ends within the grace time");
    assert_eq!(outcome(stuck), Err(TaskError::Cancelled));
}

#[test]
fn a_task_without_a_name_is_called_after_its_function() {
    async fn parse_everything(held: mpsc::Receiver<()>) {
        let _ = held.recv_timeout(PATIENCE);
    }
    let (sender, reports) = mpsc::channel();
    let executor = AsyncExecutor::builder()
        .watchdog(Duration::from_millis(1), move |blockage| {
            let _ = sender.send(blockage.to_string());
        })
        .build()
        .expect("threads");
    let (release, held) = mpsc::channel();
    let future = executor.spawn(parse_everything(held));
    let report = reports.recv_timeout(PATIENCE).expect("it is noticed");
    assert!(report.contains("parse_everything") && report.contains("blocks event loop `loop-0`"), "{report}");
    drop(release);
    assert_eq!(outcome(future), Ok(()));
}

#[test]
fn an_observer_that_panics_or_drops_the_executor_harms_nothing() {
    let slot = Arc::new(std::sync::Mutex::new(None::<AsyncExecutor>));
    let held_slot = Arc::clone(&slot);
    let (sender, called) = mpsc::channel();
    let executor = AsyncExecutor::builder()
        .watchdog(Duration::from_millis(1), move |_| {
            // From the watchdog's own thread. The loop is blocked, so this waits for as long as a drop waits.
            let executor = held_slot.lock().expect("nobody panics").take();
            let _ = sender.send(());
            drop(executor);
            panic!("observer");
        })
        .build()
        .expect("threads");
    let (release, held) = mpsc::channel::<()>();
    let blocking = executor.spawn(async move { held.recv_timeout(PATIENCE).is_err() });
    *slot.lock().expect("nobody panics") = Some(executor);
    called.recv_timeout(PATIENCE).expect("it is noticed");
    drop(release);
    assert_eq!(outcome(blocking), Ok(true));
}
