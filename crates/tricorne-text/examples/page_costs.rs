//! What each step costs on the pages below a folder (`*.html`): CPU time a page, and megabytes a second for
//! the counts.
//!
//! `cargo run --release -p tricorne-text --example page_costs -- FOLDER [ROUNDS]`

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use tricorne_text::{Counter, Extractor, MainText, clean, decode, language, sniff};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: page_costs FOLDER [ROUNDS]")?;
    let rounds: u32 = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let mut pages = Vec::new();
    read_pages(Path::new(&folder), &mut pages)?;
    let page_bytes: usize = pages.iter().map(Vec::len).sum();
    println!("{} pages, {:.1} MB", pages.len(), page_bytes as f64 / 1e6);

    // Each step runs over all pages before the next, so that its time can be told; the best round is the
    // least disturbed one.
    let mut best: BTreeMap<&str, f64> = BTreeMap::new();
    let mut keep_best = |step, secs: f64| {
        let best = best.entry(step).or_insert(f64::MAX);
        *best = best.min(secs);
    };
    let extractor = MainText::new();
    let mut counter = Counter::new();
    let (mut text_bytes, mut words) = (0, 0);
    for _ in 0..rounds {
        let (secs, _) =
            timed(|| pages.iter().filter(|page| sniff(page, Some("text/html")).is_page()).count())?;
        keep_best("1 sniff", secs);
        let (secs, decoded) = timed(|| pages.iter().map(|page| decode(page, None).text).collect::<Vec<_>>())?;
        keep_best("2 decode", secs);
        let (secs, extracted) = timed(|| {
            decoded.iter().map(|html| extractor.extract(html, None)).collect::<Result<Vec<_>, _>>()
        })?;
        let extracted = extracted?;
        keep_best("3 extract", secs);
        let (secs, cleaned) = timed(|| extracted.iter().map(|page| clean(&page.text)).collect::<Vec<_>>())?;
        keep_best("4 clean", secs);
        let (secs, counts) = timed(|| cleaned.iter().map(|text| counter.count(text)).collect::<Vec<_>>())?;
        keep_best("5 counts", secs);
        let (secs, _) = timed(|| cleaned.iter().map(|text| language(text)).filter(Option::is_some).count())?;
        keep_best("6 language", secs);
        text_bytes = cleaned.iter().map(|text| text.len()).sum();
        words = counts.iter().map(|counts| counts.word_count).sum::<u64>();
    }
    println!("{:.1} MB of text, {words} words", text_bytes as f64 / 1e6);
    for (step, secs) in &best {
        println!("{step:12} {:8.4} ms/page", secs * 1e3 / pages.len() as f64);
    }
    let besides: f64 = best.iter().filter(|(step, _)| **step != "3 extract").map(|(_, secs)| secs).sum();
    println!("besides extraction {:.4} ms/page", besides * 1e3 / pages.len() as f64);
    println!("counts {:.0} MB/s", text_bytes as f64 / 1e6 / best["5 counts"]);
    Ok(())
}

fn read_pages(folder: &Path, pages: &mut Vec<Vec<u8>>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_pages(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            pages.push(fs::read(&path)?);
        }
    }
    Ok(())
}

/// The CPU time of this thread for the work, which foreign load distorts less than wall time.
fn timed<T>(work: impl FnOnce() -> T) -> Result<(f64, T), Box<dyn Error>> {
    let start = cpu_secs()?;
    let result = black_box(work());
    Ok((cpu_secs()? - start, result))
}

fn cpu_secs() -> Result<f64, Box<dyn Error>> {
    // The kernel brings this up to date at each switch of threads; giving way asks for one.
    std::thread::yield_now();
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
}
