//! Counts the text files below a folder again and again, each as one text, and prints the megabytes a second
//! of the best round.
//!
//! `cargo run --release -p tricorne-text --example count_speed -- FOLDER [ROUNDS]`

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use tricorne_text::Counter;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: count_speed FOLDER [ROUNDS]")?;
    let rounds: u32 = arguments.next().map_or(Ok(200), |rounds| rounds.parse())?;
    let texts: Vec<String> =
        fs::read_dir(folder)?.map(|entry| fs::read_to_string(entry?.path())).collect::<Result<_, _>>()?;
    let bytes: usize = texts.iter().map(String::len).sum();
    let mut counter = Counter::new();
    let mut best_secs = f64::MAX;
    let mut words = 0;
    for _ in 0..rounds {
        let start = Instant::now();
        words = texts.iter().map(|text| black_box(counter.count(text)).word_count).sum();
        best_secs = best_secs.min(start.elapsed().as_secs_f64());
    }
    println!(
        "{} texts, {:.2} MB, {words} words: {:.0} MB/s, {:.1} ns a word",
        texts.len(),
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / best_secs,
        best_secs * 1e9 / words as f64
    );
    Ok(())
}
