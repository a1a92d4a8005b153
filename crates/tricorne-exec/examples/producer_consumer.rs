//! Two producers and three consumers around a bounded queue: everything arrives once, and a fast producer waits for slow
//! consumers instead of filling the memory.
//!
//! `cargo run -p tricorne-exec --example producer_consumer`

use std::collections::BTreeSet;
use std::thread;

use tricorne_sync::Queue;

const EACH: u32 = 1_000;
const BOUND: usize = 10;

fn main() {
    let queue = Queue::bounded(BOUND);
    let mut received: Vec<u32> = thread::scope(|scope| {
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let queue = &queue;
                scope.spawn(move || {
                    for item in 0..EACH {
                        queue.put(producer * EACH + item).expect("closed only below");
                    }
                })
            })
            .collect();
        let consumers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| std::iter::from_fn(|| queue.get().ok()).collect::<Vec<_>>()))
            .collect();
        for producer in producers {
            producer.join().expect("it does not panic");
        }
        queue.close();
        consumers.into_iter().flat_map(|consumer| consumer.join().expect("it does not panic")).collect()
    });
    let count = received.len();
    received.sort_unstable();
    let distinct: BTreeSet<_> = received.iter().collect();
    let peak = queue.stats().high_water_items;
    assert_eq!((count, distinct.len()), (2 * EACH as usize, 2 * EACH as usize), "each item arrived once");
    assert!(peak <= BOUND, "the queue held {peak}");
    println!(
        "{count} items went from 2 producers to 3 consumers, each once, with at most {peak} in the queue"
    );
}
