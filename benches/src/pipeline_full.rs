//! Pipeline: the full plan on the corpus, download to Parquet, and once more with one phase after the other for the times alone.

use crate::Options;
use crate::corpus::Corpus;
use crate::figure::{self, Rounds};
use crate::run::Run;

/// Every stage there is.
pub(crate) const FULL_PLAN: &str = r#"
[[stage]]
use = "extract"
[[stage]]
use = "clean"
[[stage]]
use = "features"
[[stage]]
use = "filter"
where = "word_count >= 5"
[[stage]]
use = "dedup"
"#;

const ROUNDS: usize = 3;

pub(crate) fn run(_: &Options) -> Result<(), String> {
    let corpus = Corpus::serve()?;
    let [mut wall, mut cpu, mut first_row, mut peak] = [const { Rounds::new() }; 4];
    let mut last_wall = 0.0;
    for _ in 0..ROUNDS {
        let run = Run::of(&corpus, "pipeline", FULL_PLAN, &[])?;
        last_wall = run.number("wall_secs")?;
        wall.add(run.cost.wall_secs);
        cpu.add(run.cost.cpu_secs);
        first_row.add(run.number("first_row_secs")?);
        peak.add(run.number("peak_rss_bytes")? / 1e6);
        check_complete(&corpus, &run)?;
        run.remove()?;
    }
    // Right after the last round, so that both saw the same machine.
    let serial = Run::of(&corpus, "pipeline", FULL_PLAN, &["--serial"])?;
    let solo = ["fetch", "text", "sink"].map(|phase| serial.number(&format!("solo_secs/{phase}")));
    let longest = solo.into_iter().collect::<Result<Vec<f64>, String>>()?.into_iter().fold(0.0, f64::max);
    figure::print("pipeline_wall", "tricorne", &wall, "s", None);
    figure::print("pipeline_cpu", "tricorne", &cpu, "CPU s", None);
    figure::print("pipeline_first_row", "tricorne", &first_row, "s", Some(0.5));
    figure::print("pipeline_peak", "tricorne", &peak, "MB", Some(150.0));
    for phase in ["fetch", "text", "sink"] {
        let secs = serial.number(&format!("solo_secs/{phase}"))?;
        figure::print_once(&format!("pipeline_solo_{phase}"), "tricorne", secs, "s", None);
    }
    figure::print_once("pipeline_overlap", "tricorne", longest / last_wall, "1", Some(1.0));
    serial.remove()
}

/// Every page became a row, a drop or a failure.
fn check_complete(corpus: &Corpus, run: &Run) -> Result<(), String> {
    let sum = |key: &str| -> u64 {
        run.report[key]
            .as_object()
            .map_or(0, |counts| counts.values().filter_map(serde_json::Value::as_u64).sum())
    };
    let ended = run.report["rows"].as_u64().unwrap_or_default() + sum("dropped") + sum("failed");
    eprintln!(
        "{} rows, dropped {}, failed {}",
        run.report["rows"], run.report["dropped"], run.report["failed"]
    );
    if ended != corpus.len() as u64 {
        return Err(format!("{ended} of {} pages ended as something", corpus.len()));
    }
    Ok(())
}
