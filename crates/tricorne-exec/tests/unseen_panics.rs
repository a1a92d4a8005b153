//! Panics that nobody asks for. Alone in this program, since the panic hook is the whole program's.

use std::panic;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tricorne_exec::{AsyncExecutor, Shutdown, TaskError, ThreadPoolExecutor, WaitFor, wait};

#[test]
fn the_hook_is_told_of_a_panic_that_nobody_asks_for() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook_told = Arc::clone(&told);
    // Before the first executor, which puts its own in front.
    panic::set_hook(Box::new(move |info| {
        let message = info.payload().downcast_ref::<String>().cloned();
        hook_told.lock().expect("no panic under it").push(message.unwrap_or_default());
    }));
    let pool = ThreadPoolExecutor::builder().workers(1).build().expect("nothing is started yet");
    drop(pool.submit(|| panic!("dropped before")));
    let dropped_after = pool.submit(|| panic!("dropped after"));
    assert!(wait(std::slice::from_ref(&dropped_after), WaitFor::AllCompleted, None).is_complete());
    drop(dropped_after);
    pool.scope(|scope| drop(scope.submit(|| panic!("in a scope"))));
    assert!(matches!(pool.submit(|| panic!("seen")).result(), Err(TaskError::Panicked { .. })));
    let caught = pool.submit(|| panic::catch_unwind(|| panic!("its own affair")).is_err());
    assert_eq!(caught.result(), Ok(true));
    pool.shutdown(Shutdown::Drain);
    assert_eq!(pool.stats().panicked, 4);
    let executor = AsyncExecutor::builder().build().expect("a thread");
    drop(executor.spawn(async { panic!("in a loop") }));
    assert!(executor.shutdown(Shutdown::Drain, Duration::from_secs(60)));
    let told = told.lock().expect("no panic under it");
    assert_eq!(told.len(), 4, "{told:?}");
    for message in ["dropped before", "dropped after", "in a scope", "in a loop"] {
        let names = |told: &&String| told.contains(message) && told.contains("unseen_panics.rs:");
        assert_eq!(told.iter().filter(names).count(), 1, "`{message}` in {told:?}");
    }
}
