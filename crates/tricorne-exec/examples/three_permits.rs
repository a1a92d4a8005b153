//! Ten tasks, three permits: never more than three inside at once, and three do get inside together.
//!
//! `cargo run -p tricorne-exec --example three_permits`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tricorne_sync::{Barrier, Semaphore};

fn main() {
    let permits = Semaphore::new(3);
    // Nine of the ten meet in threes inside: with fewer than three permits they would wait for ever.
    let (meeting, inside, peak) = (Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for task in 0..10 {
            let (permits, meeting, inside, peak) = (&permits, &meeting, &inside, &peak);
            scope.spawn(move || {
                let permit = permits.acquire(1).expect("nobody closes it");
                // Counted while the permit is held, since what is printed in between proves nothing.
                peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if task < 9 {
                    let _ = meeting.wait_timeout(std::time::Duration::from_millis(200));
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            });
        }
    });
    let peak = peak.into_inner();
    assert_eq!((peak, permits.available()), (3, 3), "three at once, and every permit was given back");
    println!("10 tasks, 3 permits: at most {peak} were inside at once");
}
