//! Counts: the word counts of the main text of every page of the corpus, on one core, against the Python expression that defines them.

use std::fs;
use std::hint::black_box;

use serde_json::Value;
use tricorne_exec::sys::thread_cpu_time;
use tricorne_text::{Counter, Counts};

use crate::Options;
use crate::corpus::Corpus;
use crate::figure::{self, Rounds};
use crate::peers::Python;
use crate::run::Run;

const ROUNDS: usize = 7;

/// Megabytes of text in a second of one core that are aimed at.
const TARGET: f64 = 400.0;

pub(crate) fn run(_: &Options) -> Result<(), String> {
    let corpus = Corpus::serve()?;
    let stages = "[[stage]]\nuse = \"extract\"\n[[stage]]\nuse = \"clean\"\n";
    let made = Run::of(&corpus, "counts", stages, &[])?;
    let mut texts = Vec::new();
    made.rows(&["text"], |cells| texts.push(cells[0].text().to_owned()))?;
    made.remove()?;
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    eprintln!("{} texts, {megabytes:.1} MB", texts.len());

    let python = Python::find();
    let file = corpus.scratch("counts")?.join("texts.jsonl");
    if python.is_some() {
        let lines: Vec<String> =
            texts.iter().map(|text| Value::from(text.as_str()).to_string() + "\n").collect();
        fs::write(&file, lines.concat())
            .map_err(|error| format!("cannot write `{}`: {error}", file.display()))?;
    }
    let (mut own, mut peer) = (Rounds::new(), Rounds::new());
    for round in 0..ROUNDS {
        let mut counter = Counter::new();
        let before = thread_cpu_time();
        let counts: Vec<Counts> = texts.iter().map(|text| counter.count(black_box(text))).collect();
        own.add(megabytes / (thread_cpu_time() - before).as_secs_f64());
        if let Some(python) = &python {
            let finished = python.run("counts_python.py", &[&file])?;
            let result: Value = serde_json::from_slice(&finished.stdout)
                .map_err(|error| format!("`counts_python.py`: {error}"))?;
            peer.add(megabytes / result["cpu_secs"].as_f64().ok_or("`counts_python.py` gave no time")?);
            if round == 0 {
                check_equal(&counts, &result["counts"])?;
            }
        }
    }
    figure::print("counts", "tricorne", &own, "MB/s", Some(TARGET));
    figure::print("counts", "python", &peer, "MB/s", None);
    Ok(())
}

fn check_equal(own: &[Counts], python: &Value) -> Result<(), String> {
    let python = python.as_array().ok_or("`counts_python.py` gave no counts")?;
    if own.len() != python.len() {
        return Err(format!("Python counted {} texts, not {}", python.len(), own.len()));
    }
    for (number, (own, python)) in own.iter().zip(python).enumerate() {
        if !same(own.word_count, own.unique_words, own.avg_word_len, python) {
            return Err(format!("text {number} has {own:?} here and {python} in Python"));
        }
    }
    Ok(())
}

/// Whether these three counts are those that Python printed as a list.
pub(crate) fn same(word_count: u64, unique_words: u64, avg_word_len: f64, python: &Value) -> bool {
    python[0].as_u64() == Some(word_count)
        && python[1].as_u64() == Some(unique_words)
        && python[2].as_f64() == Some(avg_word_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_found() {
        let own = Counts { word_count: 2, unique_words: 1, avg_word_len: 3.5, char_count: 8 };
        assert_eq!(check_equal(&[own], &json!([[2, 1, 3.5]])), Ok(()));
        for wrong in [json!([[3, 1, 3.5]]), json!([[2, 2, 3.5]]), json!([[2, 1, 3.25]]), json!([]), json!(7)]
        {
            assert!(check_equal(&[own], &wrong).is_err(), "{wrong}");
        }
    }
}
