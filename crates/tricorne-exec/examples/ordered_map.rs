//! A map over endless input: results in the order of the items, and no more items taken than are being worked on.
//!
//! `cargo run -p tricorne-exec --example ordered_map`

use std::cell::Cell;

use tricorne_exec::ThreadPoolExecutor;

const WINDOW: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ThreadPoolExecutor::builder().workers(4).build()?;
    let taken = Cell::new(0);
    let numbers = (1_u64..).inspect(|_| taken.set(taken.get() + 1));
    let mut results = pool
        .map(numbers, |n| {
            // The more, the earlier in each group of four: they end out of order.
            let turns = 10_000 * (4 - n % 4);
            (n, (0..turns).fold(n, |sum, turn| sum ^ turn))
        })
        .window(WINDOW);
    for expected in 1..=200_usize {
        let (n, _) = results.next().ok_or("the input has no end")??;
        assert_eq!(n, expected as u64, "out of order");
        assert!(taken.get() < expected + WINDOW, "took {} for {expected} results", taken.get());
    }
    drop(results);
    let taken = taken.get();
    println!(
        "200 results in order; of the endless input {taken} items were taken, the window being {WINDOW}"
    );
    Ok(())
}
