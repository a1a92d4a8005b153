//! The end of a run: publish what is committed, then say what happened.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tricorne_exec::sys::{peak_rss_bytes, process_cpu_time, thread_cpu_time};
use tricorne_sync::QueueStats;

use super::meter::StageMeter;
use super::{Engine, Pages, Phase, Run, lock};
use crate::error::RunError;
use crate::expr::ColumnType;
use crate::layout::{CommitRecord, Part, read_failed, write_json};
use crate::observer::Event;
use crate::publish::{KEYS_AT_ONCE, find_losers, publish_failed, publish_manifest, publish_shard};
use crate::report::{RunReport, ShardReport, StageReport};

pub(super) fn finish(engine: &Engine, run: &Run, interrupted: bool) -> Result<RunReport, RunError> {
    let commits = lock(&run.commits).clone();
    let mut report = RunReport {
        version: env!("CARGO_PKG_VERSION").into(),
        plan_hash: engine.plan_hash.clone(),
        interrupted,
        records: run.counters.read.get(),
        resumed: run.counters.resumed.get(),
        languages: lock(&run.languages).clone(),
        fetched: run.counters.fetched.get(),
        refetched: run.counters.refetched.get(),
        fetched_bytes: run.counters.bytes.get(),
        out: engine.out.clone(),
        ..RunReport::default()
    };
    if !interrupted && engine.last_phase == Phase::Sink {
        run.observer.event(&Event::Finishing);
        let (wall, cpu) = (Instant::now(), thread_cpu_time());
        report.shards = publish(engine, run, &commits)?;
        run.meters.sink.add(wall.elapsed(), thread_cpu_time().saturating_sub(cpu));
        let manifest = manifest(engine, &commits, &report.shards);
        publish_manifest(&*run.files, &run.layout, &manifest)?;
    }
    count_outcomes(run, &commits, &mut report)?;
    measure(engine, run, &mut report);
    write_json(&*run.files, &run.layout.run_report(), &report)?;
    Ok(report)
}

fn publish(
    engine: &Engine,
    run: &Run,
    commits: &BTreeMap<u64, CommitRecord>,
) -> Result<Vec<ShardReport>, RunError> {
    let (files, layout) = (&*run.files, &run.layout);
    let losers = engine.dedup.map(|_| find_losers(files, layout, commits, KEYS_AT_ONCE)).transpose()?;
    let mut shards = Vec::new();
    for (&shard, record) in commits {
        let placed = publish_shard(
            files,
            layout,
            &engine.sink,
            engine.records_per_shard,
            (shard, record),
            losers.as_ref(),
        )?;
        let first_id = shard * engine.records_per_shard;
        shards.push(ShardReport {
            file: layout.published_name(shard),
            first_id,
            last_id: first_id + record.records - 1,
            rows: placed.rows,
            dropped: record.records - placed.rows - record.failed,
            failed: record.failed,
            bytes: placed.bytes,
            sha256: placed.sha256,
        });
    }
    publish_failed(files, layout, commits)?;
    Ok(shards)
}

/// Nothing in here depends on the clock, the machine or the paths.
fn manifest(
    engine: &Engine,
    commits: &BTreeMap<u64, CommitRecord>,
    shards: &[ShardReport],
) -> serde_json::Value {
    let columns: Vec<_> = engine
        .sink
        .columns
        .iter()
        .map(|column| json!({"name": column.name(), "type": type_name(column.column_type())}))
        .collect();
    json!({
        "format": "tricorne-manifest/1",
        "plan_hash": engine.plan_hash,
        "unicode_version": engine.unicode_version,
        "columns": columns,
        "records": commits.values().map(|record| record.records).sum::<u64>(),
        "rows": shards.iter().map(|shard| shard.rows).sum::<u64>(),
        "dropped": dropped(commits, shards),
        "failed": commits.values().map(|record| record.failed).sum::<u64>(),
        "shards": shards,
    })
}

fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Int => "int64",
        ColumnType::Float => "float64",
        ColumnType::Text => "utf8",
        ColumnType::Bool => "bool",
    }
}

fn dropped(commits: &BTreeMap<u64, CommitRecord>, shards: &[ShardReport]) -> BTreeMap<String, u64> {
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in commits.values().flat_map(|record| &record.dropped) {
        *dropped.entry(reason.clone()).or_default() += count;
    }
    let before: u64 = commits.values().map(|record| record.rows).sum();
    let duplicates = before.saturating_sub(shards.iter().map(|shard| shard.rows).sum());
    if duplicates > 0 && !shards.is_empty() {
        dropped.insert("duplicate".into(), duplicates);
    }
    dropped
}

fn count_outcomes(
    run: &Run,
    commits: &BTreeMap<u64, CommitRecord>,
    report: &mut RunReport,
) -> Result<(), RunError> {
    report.dropped = dropped(commits, &report.shards);
    report.rows = if report.shards.is_empty() {
        commits.values().map(|record| record.rows).sum()
    } else {
        report.shards.iter().map(|shard| shard.rows).sum()
    };
    for (&shard, record) in commits.iter().filter(|(_, record)| record.failed > 0) {
        for line in read_failed(&*run.files, &run.layout.staged(shard, record.generation, Part::Failed))? {
            *report.failed.entry(format!("{}: {}", line.stage, line.kind)).or_default() += 1;
        }
    }
    Ok(())
}

fn measure(engine: &Engine, run: &Run, report: &mut RunReport) {
    let wall = run.begun.elapsed();
    report.wall_secs = wall.as_secs_f64();
    let first = run.counters.first_row.load(Ordering::Relaxed);
    report.first_row_secs = (first > 0).then(|| Duration::from_nanos(first).as_secs_f64());
    report.peak_rss_bytes = peak_rss_bytes().unwrap_or_default();
    report.in_flight = std::mem::take(&mut *lock(&run.samples));
    if let Pages::Fetched(fetch) = &run.pages {
        report.fetch = fetch.stats();
    }
    report.stages = stages(engine, run, report.records - report.resumed.min(report.records), wall);

    let total = process_cpu_time().own.saturating_sub(run.cpu_before).as_secs_f64();
    let known: f64 = report.stages.iter().map(|stage| stage.cpu_secs).sum();
    report.cpu_secs = report.stages.iter().map(|stage| (stage.name.clone(), stage.cpu_secs)).collect();
    report.cpu_secs.insert("runner".into(), (total - known).max(0.0));
    report.cpu_secs.insert("total".into(), total);

    // Stages that share their workers take turns, so their times alone add up.
    let mut alone: BTreeMap<&str, f64> = BTreeMap::new();
    for stage in &report.stages {
        let phase = match stage.name.as_str() {
            name @ ("source" | "fetch" | "journal" | "sink") => name,
            _ => "text",
        };
        *alone.entry(phase).or_default() += stage.busy_secs / stage.workers as f64;
    }
    report.overlap = alone.values().copied().fold(0.0, f64::max) / report.wall_secs;
    report.overlap_basis = "estimated".into();
}

fn stages(engine: &Engine, run: &Run, records: u64, wall: Duration) -> Vec<StageReport> {
    let secs = |duration: Duration| duration.as_secs_f64();
    let one =
        |name: &str, records, busy: Duration, starved: Duration, blocked: Duration, meter: &StageMeter| {
            StageReport {
                name: name.into(),
                workers: 1,
                records,
                busy_secs: secs(busy),
                starved_secs: secs(starved),
                blocked_secs: secs(blocked),
                cpu_secs: secs(meter.cpu()),
            }
        };
    let QueueStats { put_wait: fetch_full, .. } = run.to_fetch.stats();
    let landed = run.landed.stats();
    let texts = run.texts.stats();
    let ready = run.ready.stats();
    let meters = &run.meters;
    let fetched = matches!(run.pages, Pages::Fetched(_));
    let nothing = Duration::ZERO;

    let mut stages = Vec::new();
    let source_blocked = if fetched { fetch_full } else { texts.put_wait };
    let source = meters.source.wall();
    stages.push(one(
        "source",
        run.counters.read.get(),
        source.saturating_sub(source_blocked),
        nothing,
        source_blocked,
        &meters.source,
    ));
    if fetched {
        let busy = meters.fetch.wall().saturating_sub(landed.put_wait);
        let starved = wall.saturating_sub(meters.fetch.wall());
        stages.push(one("fetch", run.counters.fetched.get(), busy, starved, landed.put_wait, &meters.fetch));
        let busy = meters.journal.wall().saturating_sub(landed.get_wait + texts.put_wait);
        stages.push(one(
            "journal",
            run.counters.fetched.get(),
            busy,
            landed.get_wait,
            texts.put_wait,
            &meters.journal,
        ));
    }
    for (n, (name, meter)) in run.process.stages().iter().zip(&meters.text).enumerate() {
        // The workers wait for the first of their stages; the others follow without a queue.
        let starved = if n == 0 { texts.get_wait } else { nothing };
        let mut stage = one(name, records, meter.wall(), starved, nothing, meter);
        stage.workers = engine.workers as u64;
        stages.push(stage);
    }
    stages.push(one(
        "sink",
        run.counters.rows.get(),
        meters.sink.wall(),
        ready.get_wait,
        nothing,
        &meters.sink,
    ));
    stages
}
