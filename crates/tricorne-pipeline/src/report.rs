//! What a run did and how long it took: `run.json`, and the deterministic part of it, `manifest.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a run did. Everything that depends on the clock is here and nowhere in the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The engine's version.
    pub version: String,
    /// Hash of what shapes the data.
    pub plan_hash: String,
    /// True if the run was stopped after a checkpoint; the same command goes on.
    pub interrupted: bool,
    /// Records of the input (as far as it was read).
    pub records: u64,
    /// Records that an earlier run had finished.
    pub resumed: u64,
    /// Rows of the data set, after dedup.
    pub rows: u64,
    /// Drops of the whole data set by reason, `duplicate` included.
    pub dropped: BTreeMap<String, u64>,
    /// Records of the whole data set that failed, by `stage: kind`.
    pub failed: BTreeMap<String, u64>,
    /// Rows by language, made in this run, before dedup.
    pub languages: BTreeMap<String, u64>,
    /// Pages received in this run.
    pub fetched: u64,
    /// Pages received in this run that an earlier run had received too, because they were in flight
    /// when it was killed, or failed and are tried again.
    pub refetched: u64,
    /// Bytes of the pages received in this run, after content decoding.
    pub fetched_bytes: u64,
    /// What the HTTP client counted.
    pub fetch: FetchStats,
    /// Wall time in seconds.
    pub wall_secs: f64,
    /// Until the first finished row was accepted by the sink (in its journal).
    pub first_row_secs: Option<f64>,
    /// CPU seconds by stage, `runner` for everything else, and `total`.
    pub cpu_secs: BTreeMap<String, f64>,
    /// The highest resident memory of the process in bytes.
    pub peak_rss_bytes: u64,
    /// How well the stages overlapped: the longest stage's time alone divided by the wall time.
    /// 1 is perfect.
    pub overlap: f64,
    /// Where the times of the stages alone come from: `estimated` (busy time divided by workers) or
    /// `serial` (measured, one phase after the other).
    pub overlap_basis: String,
    /// Seconds of each phase alone, if measured.
    pub solo_secs: BTreeMap<String, f64>,
    /// Where the time went.
    pub stages: Vec<StageReport>,
    /// Requests under way over time.
    pub in_flight: Vec<InFlightSample>,
    /// The shards.
    pub shards: Vec<ShardReport>,
    /// The output folder.
    pub out: PathBuf,
}

impl RunReport {
    /// Records that failed, in the whole data set.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }

    /// One report of a run that was cut into phases: the last one's, with the times of all.
    pub(crate) fn of_phases(phases: Vec<RunReport>) -> RunReport {
        let names = ["fetch", "text", "sink"];
        let solo: BTreeMap<String, f64> =
            names.iter().zip(&phases).map(|(name, phase)| ((*name).to_owned(), phase.wall_secs)).collect();
        let wall_secs = solo.values().sum::<f64>();
        let first_row_secs =
            phases.get(1).and_then(|text| text.first_row_secs).map(|secs| solo["fetch"] + secs);
        let mut stages: Vec<StageReport> = Vec::new();
        let mut cpu_secs: BTreeMap<String, f64> = BTreeMap::new();
        let mut in_flight = Vec::new();
        for phase in &phases {
            for (name, secs) in &phase.cpu_secs {
                *cpu_secs.entry(name.clone()).or_default() += secs;
            }
            for stage in &phase.stages {
                match stages.iter_mut().find(|known| known.name == stage.name) {
                    Some(known) => known.add(stage),
                    None => stages.push(stage.clone()),
                }
            }
            in_flight.extend(phase.in_flight.iter().copied());
        }
        let fetched = phases.first().cloned().unwrap_or_default();
        let text = phases.get(1).cloned().unwrap_or_default();
        let last = phases.into_iter().last().unwrap_or_default();
        RunReport {
            resumed: fetched.resumed,
            fetched: fetched.fetched,
            refetched: fetched.refetched,
            fetched_bytes: fetched.fetched_bytes,
            fetch: fetched.fetch,
            languages: text.languages,
            overlap: solo.values().copied().fold(0.0, f64::max) / wall_secs,
            overlap_basis: "serial".into(),
            solo_secs: solo,
            wall_secs,
            first_row_secs,
            stages,
            cpu_secs,
            in_flight,
            ..last
        }
    }

    /// Records that were dropped, in the whole data set.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// The time of a stage, summed over its workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// `source`, `fetch`, `journal`, `decode`, …, `sink`.
    pub name: String,
    /// Threads that work at it; stages that share workers say so by sharing the number.
    pub workers: u64,
    /// Records that came in.
    pub records: u64,
    /// Seconds at work.
    pub busy_secs: f64,
    /// Seconds waiting for something to do.
    pub starved_secs: f64,
    /// Seconds waiting for room behind.
    pub blocked_secs: f64,
    /// CPU seconds.
    pub cpu_secs: f64,
}

impl StageReport {
    fn add(&mut self, more: &StageReport) {
        self.records = self.records.max(more.records);
        self.busy_secs += more.busy_secs;
        self.starved_secs += more.starved_secs;
        self.blocked_secs += more.blocked_secs;
        self.cpu_secs += more.cpu_secs;
    }
}

/// What the fetch stage counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStats {
    /// Requests sent, retries and redirects included.
    pub requests: u64,
    /// Retries by what was survived.
    pub retries: BTreeMap<String, u64>,
    /// Bytes received on the wire.
    pub wire_bytes: u64,
    /// Connections opened.
    pub connections: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// How many may be under way now.
    pub limit: u64,
}

impl FetchStats {
    /// All retries.
    pub fn retries_total(&self) -> u64 {
        self.retries.values().sum()
    }
}

/// Requests under way at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct InFlightSample {
    /// Seconds since the run began.
    pub secs: f64,
    /// Requests under way.
    pub in_flight: u64,
    /// How many were allowed.
    pub limit: u64,
}

/// A shard of the data set, as the manifest lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReport {
    /// The file's name in the output folder.
    pub file: String,
    /// The first id of its range.
    pub first_id: u64,
    /// The last id of its range.
    pub last_id: u64,
    /// Rows.
    pub rows: u64,
    /// Records dropped, duplicates included.
    pub dropped: u64,
    /// Records that failed.
    pub failed: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}
