//! A service that is told to stop ends what it has begun, takes nothing new, and says goodbye before the program ends.
//! Nothing polls: whoever sleeps is woken by the token, at once.
//!
//! `cargo run -p tricorne-exec --example graceful_end` (a real program cancels the token in its handler for SIGTERM)

use std::sync::Arc;
use std::time::{Duration, Instant};

use tricorne_exec::{Shutdown, ThreadPoolExecutor};
use tricorne_sync::{CancelToken, Queue};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancelToken::new();
    let work = Arc::new(Queue::bounded(100));
    let closing = Arc::clone(&work);
    let _guard = stop.on_cancel(move || closing.close());

    let pool = ThreadPoolExecutor::builder().workers(2).name("service").build()?;
    let worker = pool.submit({
        let work = Arc::clone(&work);
        move || {
            let mut done = 0;
            // Goes on until the queue is closed and empty: what was taken on is finished.
            while let Ok(item) = work.get() {
                done += u64::from(item);
            }
            done
        }
    });
    let heartbeat = pool.submit({
        let stop = stop.clone();
        move || {
            let mut beats = 0;
            // An hour from beat to beat; the token ends the wait, not the clock.
            while !stop.wait_timeout(Duration::from_secs(3600)) {
                beats += 1;
            }
            (beats, Instant::now())
        }
    });
    let mut accepted = 0;
    for item in 1..=50_u32 {
        work.put(item)?;
        accepted += u64::from(item);
    }

    let asked = Instant::now();
    stop.cancel();
    assert!(work.put(51).is_err(), "after the request nothing new is taken");
    let done = worker.result()?;
    let (beats, noticed) = heartbeat.result()?;
    pool.shutdown(Shutdown::Drain);
    assert_eq!(done, accepted, "what was taken on was finished");
    assert_eq!(beats, 0);
    let late = noticed.saturating_duration_since(asked);
    assert!(late < Duration::from_secs(60), "the sleeper was woken");
    println!(
        "asked to stop: 50 accepted items were finished, the sleeper woke after {late:.1?}, every thread has ended"
    );
    Ok(())
}
