//! Extraction: main text of pages whose text is known, how good and how fast.
//!
//! The pages are the user's: a folder with `html/NAME.html.gz` and `ground-truth.json`, `{NAME: {"articleBody": TEXT}}`, as the public
//! article extraction benchmark has them. They belong to their publishers, and so are not here.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use tricorne_exec::sys::thread_cpu_time;
use tricorne_text::{Extractor, MainText, decode};

use crate::Options;
use crate::figure::{self, Rounds};
use crate::text_extraction_score::score;

const ROUNDS: usize = 7;

/// What is aimed at: F1, and CPU milliseconds a page.
const F1_TARGET: f64 = 0.95;
const MS_TARGET: f64 = 4.0;

/// A page with known text.
struct Page {
    body: Vec<u8>,
    truth: String,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let data = options
        .data
        .as_deref()
        .ok_or("`extraction` needs `--data DIR`, with `html/` and `ground-truth.json`")?;
    let pages = read(data)?;
    let extractor = MainText::new();
    let mut ms_a_page = Rounds::new();
    let mut predictions = Vec::new();
    for _ in 0..ROUNDS {
        let before = thread_cpu_time();
        predictions = pages
            .iter()
            .map(|page| {
                extractor.extract(&decode(&page.body, None).text, None).map(|extracted| extracted.text)
            })
            .collect::<Result<Vec<String>, _>>()
            .map_err(|error| error.to_string())?;
        ms_a_page.add((thread_cpu_time() - before).as_secs_f64() * 1e3 / pages.len() as f64);
    }
    let score =
        score(predictions.iter().map(String::as_str).zip(pages.iter().map(|page| page.truth.as_str())));
    figure::print_once("extraction_f1", "tricorne", score.f1, "1", Some(F1_TARGET));
    figure::print_once("extraction_precision", "tricorne", score.precision, "1", None);
    figure::print_once("extraction_recall", "tricorne", score.recall, "1", None);
    figure::print("extraction", "tricorne", &ms_a_page, "CPU ms/page", Some(MS_TARGET));
    Ok(())
}

fn read(data: &Path) -> Result<Vec<Page>, String> {
    let wrong =
        |path: &Path, error: &dyn std::fmt::Display| format!("cannot read `{}`: {error}", path.display());
    let path = data.join("ground-truth.json");
    let truth = fs::read(&path).map_err(|error| wrong(&path, &error))?;
    let truth: Value = serde_json::from_slice(&truth).map_err(|error| wrong(&path, &error))?;
    let truth =
        truth.as_object().filter(|truth| !truth.is_empty()).ok_or_else(|| wrong(&path, &"no pages in it"))?;
    let mut pages = Vec::new();
    for (name, page) in truth {
        let path = data.join("html").join(format!("{name}.html.gz"));
        let mut body = Vec::new();
        File::open(&path)
            .and_then(|file| GzDecoder::new(file).read_to_end(&mut body))
            .map_err(|error| wrong(&path, &error))?;
        pages.push(Page { body, truth: page["articleBody"].as_str().unwrap_or_default().to_owned() });
    }
    Ok(pages)
}
