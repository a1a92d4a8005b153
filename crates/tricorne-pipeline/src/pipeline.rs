//! From a plan to a run: the entry point for the command, the bindings and Rust users.

use std::sync::Arc;
use std::time::Duration;

use tricorne_sync::CancelToken;

use crate::error::RunError;
use crate::fetch::HttpFetch;
use crate::files::{Files, OsFiles};
use crate::layout::{Layout, write_json};
use crate::observer::Observer;
use crate::plan::{Limit, Plan, Stage};
use crate::record::Row;
use crate::report::RunReport;
use crate::runner::{Engine, Pages, Phase};
use crate::sink::SinkSpec;
use crate::source::{self, LocalFiles};
use crate::text::TextStages;

/// For each request that may be in flight, so many records may be on their way: in flight, in back-off, or
/// waiting for a host.
const PENDING_PER_REQUEST: usize = 4;

/// How to run a plan; nothing in here shapes the data.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Run the records again that failed in an earlier run of the same plan.
    pub retry_failed: bool,
    /// Run fetch, text and sink one after the other, to measure each alone.
    pub serial: bool,
}

/// Runs a plan on the file system, with the real network.
///
/// # Errors
/// [`RunError`]; progress stays, the same call goes on from it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tricorne_pipeline::{CancelToken, RunOptions, observer::Silent, plan::Plan, run};
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("page.html"), "<title>T</title><p>Some words on a page.</p>")?;
/// let page = dir.path().join("*.html").to_string_lossy().into_owned();
/// let plan = Plan::for_prep([page], dir.path().join("out"));
///
/// let report = run(&plan, &RunOptions::default(), Arc::new(Silent), &CancelToken::new())?;
/// assert_eq!(report.rows, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(
    plan: &Plan,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    cancel: &CancelToken,
) -> Result<RunReport, RunError> {
    run_on(Arc::new(OsFiles), plan, options, observer, cancel)
}

/// [`run`] on a given file layer.
///
/// # Errors
/// As [`run`].
#[expect(clippy::needless_pass_by_value, reason = "the caller hands over a share of its observer")]
pub fn run_on(
    files: Arc<dyn Files>,
    plan: &Plan,
    options: &RunOptions,
    observer: Arc<dyn Observer>,
    cancel: &CancelToken,
) -> Result<RunReport, RunError> {
    let mut engine = engine(files, plan, options)?;
    let run = |engine: &Engine| engine.run(source::open(plan, cancel)?, &observer, cancel);
    if !options.serial {
        return run(&engine);
    }
    let mut phases = Vec::new();
    for phase in [Phase::Fetch, Phase::Text, Phase::Sink] {
        engine.last_phase = phase;
        let report = run(&engine)?;
        let interrupted = report.interrupted;
        phases.push(report);
        if interrupted {
            break;
        }
    }
    let report = RunReport::of_phases(phases);
    write_json(&*engine.files, &Layout::new(&engine.out, engine.sink.format).run_report(), &report)?;
    Ok(report)
}

fn engine(files: Arc<dyn Files>, plan: &Plan, options: &RunOptions) -> Result<Engine, RunError> {
    let unicode_version = tricorne_text::UNICODE_VERSION;
    let sink = sink_spec(plan);
    let pages = match &plan.fetch {
        Some(fetch) => Pages::Fetched(Arc::new(HttpFetch::new(fetch)?)),
        None => Pages::Local(Arc::new(LocalFiles {
            base_dir: plan.base_dir.clone(),
            max_bytes: crate::plan::Fetch::default().max_decoded_bytes,
        })),
    };
    let max_pending = match plan.fetch.as_ref().map(|fetch| fetch.concurrency) {
        Some(Limit::Fixed(limit)) => (limit.get() * PENDING_PER_REQUEST).max(64),
        _ => crate::fetch::AUTO_MAX * PENDING_PER_REQUEST,
    };
    Ok(Engine {
        out: plan.sink.path.clone(),
        sink,
        dedup: plan.stages.iter().find_map(|stage| match stage {
            Stage::Dedup { by } => Some(*by),
            _ => None,
        }),
        records_per_shard: plan.sink.records_per_shard,
        plan_hash: plan.hash(unicode_version),
        shape: plan.shape(unicode_version),
        unicode_version: unicode_version.into(),
        pages,
        process: Arc::new(TextStages::new(plan, Arc::clone(&files))),
        workers: match plan.run.workers {
            Limit::Fixed(workers) => workers.get(),
            Limit::Auto => std::thread::available_parallelism().map_or(1, usize::from),
        },
        max_pending,
        watchdog: Duration::from_secs_f64(plan.run.watchdog_secs),
        retry_failed: options.retry_failed,
        last_phase: Phase::Sink,
        files,
    })
}

fn sink_spec(plan: &Plan) -> SinkSpec {
    let unicode_version = tricorne_text::UNICODE_VERSION;
    let mut metadata = vec![("tricorne.plan_hash".into(), plan.hash(unicode_version))];
    if plan.makes_text() {
        metadata.push(("tricorne.unicode_version".into(), unicode_version.into()));
    }
    SinkSpec {
        format: plan.sink.format,
        columns: plan.written_columns(),
        zstd_level: plan.sink.compression_level,
        row_group_rows: usize::try_from(plan.sink.row_group_rows).unwrap_or(usize::MAX),
        metadata,
    }
}

/// A few rows of a finished run's data set, spread over its first shard that has rows.
///
/// # Errors
/// [`RunError`] if the shard cannot be read.
pub fn sample_rows(plan: &Plan, report: &RunReport, count: usize) -> Result<Vec<Row>, RunError> {
    let Some(shard) = report.shards.iter().find(|shard| shard.rows > 0) else { return Ok(Vec::new()) };
    let sink = sink_spec(plan);
    let wanted = (count as u64).min(shard.rows);
    // The middle of each of `wanted` equal parts.
    let at: Vec<u64> = (0..wanted).map(|n| (2 * n + 1) * shard.rows / (2 * wanted)).collect();
    let rows = sink.read(&OsFiles, &report.out.join(&shard.file))?;
    let picked = rows.enumerate().filter(|(n, _)| at.contains(&(*n as u64)));
    picked.map(|(_, row)| row).take(count).collect()
}
