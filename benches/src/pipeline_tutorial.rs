//! Tutorial: download and the three counts, against the pipeline that the tutorial teaches, on the same pages with the same result.

use serde_json::Value;

use crate::Options;
use crate::corpus::Corpus;
use crate::figure::{self, Rounds};
use crate::peers::Python;
use crate::run::{Cell, Run};
use crate::text_counts::same;

const ROUNDS: usize = 3;

/// How many times less CPU is aimed at.
const TARGET: f64 = 15.0;

/// Like the tutorial, it keeps the counts and not the texts.
const PLAN: &str = r#"
columns = ["id", "url", "word_count", "unique_words", "avg_word_len"]
[[stage]]
use = "features"
columns = ["word_count", "unique_words", "avg_word_len"]
"#;

pub(crate) fn run(_: &Options) -> Result<(), String> {
    let corpus = Corpus::serve()?;
    let python = Python::find();
    let [mut own_cpu, mut own_wall, mut peer_cpu, mut peer_wall, mut ratio] = [const { Rounds::new() }; 5];
    for _ in 0..ROUNDS {
        let run = Run::of(&corpus, "tutorial", PLAN, &[])?;
        own_cpu.add(run.cost.cpu_secs);
        own_wall.add(run.cost.wall_secs);
        if let Some(python) = &python {
            let finished = python.run("tutorial_pipeline.py", &[&corpus.urls_file])?;
            peer_cpu.add(finished.cpu_secs);
            peer_wall.add(finished.wall_secs);
            ratio.add(finished.cpu_secs / run.cost.cpu_secs);
            check_equal(&corpus, &run, &finished.stdout)?;
        }
        run.remove()?;
    }
    figure::print("tutorial", "tricorne", &own_cpu, "CPU s", None);
    figure::print("tutorial", "python", &peer_cpu, "CPU s", None);
    figure::print("tutorial_wall", "tricorne", &own_wall, "s", None);
    figure::print("tutorial_wall", "python", &peer_wall, "s", None);
    figure::print("tutorial_times_less_cpu", "tricorne", &ratio, "times", Some(TARGET));
    Ok(())
}

/// Every page has the counts that Python found.
fn check_equal(corpus: &Corpus, run: &Run, python: &[u8]) -> Result<(), String> {
    let python: Value =
        serde_json::from_slice(python).map_err(|error| format!("`tutorial_pipeline.py`: {error}"))?;
    let (mut rows, mut different) = (0, Vec::new());
    run.rows(&["url", "word_count", "unique_words", "avg_word_len"], |cells| {
        rows += 1;
        let &[url, Cell::Int(words), Cell::Int(unique), Cell::Float(mean)] = cells else {
            different.push("a row without counts".to_owned());
            return;
        };
        if !same(words.cast_unsigned(), unique.cast_unsigned(), mean, &python[url.text()]) {
            different.push(format!("{}: {words} {unique} {mean}, not {}", url.text(), python[url.text()]));
        }
    })?;
    if rows != corpus.len() || !different.is_empty() {
        different.truncate(10);
        return Err(format!("{rows} of {} pages; other counts: {different:#?}", corpus.len()));
    }
    Ok(())
}
