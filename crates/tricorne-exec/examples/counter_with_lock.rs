//! Four threads add to one counter: with a lock nothing is lost. (The lock owns the counter: without it the program would
//! not compile, so it is the reading and writing back that is shown here, with room in between for others.)
//!
//! `cargo run -p tricorne-exec --example counter_with_lock`

use std::thread;

use tricorne_sync::Lock;

const THREADS: usize = 4;
const TURNS: usize = 10_000;

fn main() {
    let counter = Lock::new(0_usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let mut counter = counter.lock();
                    let read = *counter;
                    if turn % 1_000 == 0 {
                        thread::yield_now();
                    }
                    *counter = read + 1;
                }
            });
        }
    });
    let total = counter.into_inner();
    assert_eq!(total, THREADS * TURNS, "an addition was lost");
    println!("{THREADS} threads, {TURNS} additions each: the counter stands at {total}, none was lost");
}
