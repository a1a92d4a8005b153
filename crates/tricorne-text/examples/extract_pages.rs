//! Extracts the main text of the pages below a folder (`*.html`, `*.html.gz`) and prints `{NAME:
//! {"articleBody": TEXT}}`, with the time that it took on stderr: for scoring an extractor against pages with
//! known text.
//!
//! `cargo run --release -p tricorne-text --example extract_pages -- FOLDER [ROUNDS] > predictions.json`

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use tricorne_text::{Extractor, MainText, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: extract_pages FOLDER [ROUNDS]")?;
    let rounds: u32 = arguments.next().map_or(Ok(1), |rounds| rounds.parse())?;
    let mut pages = Vec::new();
    read_pages(Path::new(&folder), "", &mut pages)?;
    let extractor = MainText::new();
    let mut predictions = Map::new();
    let before = cpu_secs()?;
    for _ in 0..rounds {
        for (name, bytes) in &pages {
            let extracted = extractor.extract(&decode(bytes, None).text, None)?;
            predictions.insert(
                name.clone(),
                json!({ "articleBody": extracted.text, "method": extracted.method.as_str() }),
            );
        }
    }
    let secs = cpu_secs()? - before;
    let page_count = pages.len() as f64 * f64::from(rounds);
    eprintln!("{page_count} pages, {:.2} ms of CPU each", secs * 1e3 / page_count);
    println!("{}", Value::Object(predictions));
    Ok(())
}

/// Reads the pages below a folder; their names are the paths below it, without the ending.
fn read_pages(folder: &Path, prefix: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            read_pages(&path, &format!("{name}/"), pages)?;
        } else if let Some(name) = name.strip_suffix(".html.gz") {
            let mut bytes = Vec::new();
            GzDecoder::new(&*fs::read(&path)?).read_to_end(&mut bytes)?;
            pages.push((name.to_owned(), bytes));
        } else if let Some(name) = name.strip_suffix(".html") {
            pages.push((name.to_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

/// CPU time of this thread, which foreign load distorts less than wall time.
fn cpu_secs() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}
