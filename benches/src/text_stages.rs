//! Text: what the stages of a full plan cost for a page of the corpus, extraction and everything besides it, from `run.json`.

use crate::Options;
use crate::corpus::Corpus;
use crate::figure::{self, Rounds};
use crate::pipeline_full::FULL_PLAN;
use crate::run::Run;

const ROUNDS: usize = 3;

/// Stages of the text work besides extraction.
const TEXT_STAGES: [&str; 4] = ["decode", "clean", "features", "filter"];

/// CPU milliseconds a page that are aimed at: extraction, and everything besides it.
const EXTRACT_TARGET: f64 = 4.0;
const BESIDES_TARGET: f64 = 0.15;

pub(crate) fn run(_: &Options) -> Result<(), String> {
    let corpus = Corpus::serve()?;
    let pages = corpus.len() as f64;
    let mut extract = Rounds::new();
    let mut besides = Rounds::new();
    let mut others: Vec<(&str, Rounds)> = TEXT_STAGES
        .into_iter()
        .chain(["fetch", "journal", "sink", "source", "runner"])
        .map(|name| (name, Rounds::new()))
        .collect();
    for _ in 0..ROUNDS {
        let run = Run::of(&corpus, "text", FULL_PLAN, &[])?;
        let ms_a_page =
            |stage: &str| Ok::<_, String>(run.number(&format!("cpu_secs/{stage}"))? * 1e3 / pages);
        extract.add(ms_a_page("extract")?);
        besides.add(ms_a_page("total")? - ms_a_page("extract")?);
        for (name, rounds) in &mut others {
            rounds.add(ms_a_page(name)?);
        }
        run.remove()?;
    }
    let unit = "CPU ms/page";
    figure::print("text_extract", "tricorne", &extract, unit, Some(EXTRACT_TARGET));
    figure::print("text_besides_extract", "tricorne", &besides, unit, Some(BESIDES_TARGET));
    for (name, rounds) in &others {
        figure::print(&format!("text_{name}"), "tricorne", rounds, unit, None);
    }
    Ok(())
}
