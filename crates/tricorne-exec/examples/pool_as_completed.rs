//! Results in the order in which they are ready, each with its own outcome: one failure loses nothing else.
//!
//! `cargo run -p tricorne-exec --example pool_as_completed`

use std::sync::mpsc;

use tricorne_exec::{TaskError, ThreadPoolExecutor, as_completed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ThreadPoolExecutor::builder().workers(3).build()?;
    // The first task may only end when the last result was seen: so it must be the last one that comes.
    let (release, held) = mpsc::channel::<()>();
    let names = ["slow", "broken", "quick", "quicker"];
    let futures = vec![
        pool.submit(move || {
            let _ = held.recv();
            4
        }),
        pool.submit(|| panic!("no such page")),
        pool.submit(|| 5),
        pool.submit(|| 7),
    ];
    let mut completed = as_completed(futures);
    let (mut order, mut failed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (place, outcome) = completed.next().ok_or("four were submitted")?;
        match outcome {
            Ok(length) => assert_eq!(length, names[place].len()),
            Err(TaskError::Panicked { message, .. }) => failed.push(format!("{}: {message}", names[place])),
            Err(error) => return Err(error.into()),
        }
        order.push(names[place]);
    }
    drop(release);
    let (place, outcome) = completed.next().ok_or("four were submitted")?;
    assert_eq!((names[place], outcome), ("slow", Ok(4)));
    order.push(names[place]);
    assert_eq!(failed, ["broken: no such page"]);
    println!("came in the order {order:?}; failed alone: {failed:?}");
    Ok(())
}
