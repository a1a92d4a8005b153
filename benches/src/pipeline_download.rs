//! Download: all pages of the corpus with hash and journal and a table of what came (a plan without stages), against HTTP clients.
//!
//! The clients keep the pages in memory or throw them away; `wrk` does not even look at them, and is the floor of what a client can cost.

use crate::corpus::Corpus;
use crate::figure::{self, Rounds};
use crate::peers::{self, Python};
use crate::run::Run;
use crate::{Options, child};

/// Rounds of each contender; of `requests`, which takes a minute, fewer.
const ROUNDS: usize = 7;
const SLOW_ROUNDS: usize = 3;

/// CPU seconds for 1,000 pages that are aimed at.
const TARGET: f64 = 0.06;

pub(crate) fn run(_: &Options) -> Result<(), String> {
    let corpus = Corpus::serve()?;
    let python = Python::find();
    let thousands = corpus.len() as f64 / 1e3;
    let [mut own_cpu, mut own_rate, mut own_peak] = [const { Rounds::new() }; 3];
    let [mut aiohttp_cpu, mut aiohttp_rate, mut requests_cpu, mut requests_rate, mut wrk_cpu, mut wrk_rate] =
        [const { Rounds::new() }; 6];
    for round in 0..ROUNDS {
        let run = Run::of(&corpus, "download", "", &[])?;
        own_cpu.add(run.cost.cpu_secs / thousands);
        own_rate.add(corpus.len() as f64 / run.cost.wall_secs);
        own_peak.add(run.number("peak_rss_bytes")? / 1e6);
        check_hashes(&corpus, &run)?;
        run.remove()?;

        if let Some((cpu, rate)) = peers::wrk(&corpus.urls_file)? {
            wrk_cpu.add(cpu);
            wrk_rate.add(rate);
        }
        let Some(python) = &python else { continue };
        let client = |script: &str| -> Result<child::Finished, String> {
            let finished = python.run(script, &[&corpus.urls_file])?;
            let received = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
            if received != format!("{} {}", corpus.len(), corpus.bytes) {
                return Err(format!("`{script}` received `{received}` pages and bytes"));
            }
            Ok(finished)
        };
        let finished = client("download_aiohttp.py")?;
        aiohttp_cpu.add(finished.cpu_secs / thousands);
        aiohttp_rate.add(corpus.len() as f64 / finished.wall_secs);
        if round < SLOW_ROUNDS {
            let finished = client("download_requests.py")?;
            requests_cpu.add(finished.cpu_secs / thousands);
            requests_rate.add(corpus.len() as f64 / finished.wall_secs);
        }
    }
    let cpu = "CPU s/1000";
    figure::print("download", "tricorne", &own_cpu, cpu, Some(TARGET));
    figure::print("download", "wrk", &wrk_cpu, cpu, None);
    figure::print("download", "aiohttp", &aiohttp_cpu, cpu, None);
    figure::print("download", "requests", &requests_cpu, cpu, None);
    figure::print("download_rate", "tricorne", &own_rate, "pages/s", None);
    figure::print("download_rate", "wrk", &wrk_rate, "pages/s", None);
    figure::print("download_rate", "aiohttp", &aiohttp_rate, "pages/s", None);
    figure::print("download_rate", "requests", &requests_rate, "pages/s", None);
    figure::print("download_peak", "tricorne", &own_peak, "MB", Some(150.0));
    Ok(())
}

/// Every page of the corpus is there, with the hash of its manifest.
fn check_hashes(corpus: &Corpus, run: &Run) -> Result<(), String> {
    let (mut rows, mut wrong) = (0, None);
    run.rows(&["url", "sha256"], |cells| {
        rows += 1;
        let url = cells[0].text();
        if corpus.sha256_by_url.get(url).map(String::as_str) != Some(cells[1].text()) {
            wrong.get_or_insert_with(|| url.to_owned());
        }
    })?;
    match wrong {
        Some(url) => Err(format!("`{url}` has another hash than in the manifest")),
        None if rows != corpus.len() => Err(format!("{rows} of {} pages came", corpus.len())),
        None => Ok(()),
    }
}
