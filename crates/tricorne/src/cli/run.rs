//! `run`, `check`, `fetch` and `prep`: fronts of one plan and one runner.

use std::path::Path;
use std::sync::Arc;

use tricorne_pipeline::plan::{Format, InputPath, Limit, Plan, Source};
use tricorne_pipeline::report::RunReport;
use tricorne_pipeline::{CancelToken, RunOptions};

use super::args::{CheckArgs, CommonArgs, FetchArgs, FormatArg, PrepArgs, RunArgs};
use super::fail::Failure;
use super::output::Output;
use super::progress::{self, Look};
use super::{EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED, interrupt, summary};

pub(super) fn run(args: &RunArgs) -> Result<u8, Failure> {
    let mut plan = Plan::load(&args.plan)?;
    if let Some(out) = &args.out {
        plan.sink.path.clone_from(out);
    }
    let again = format!("tricorne run {}", args.plan.display());
    run_plan(&mut plan, &args.common, &again)
}

pub(super) fn check(args: &CheckArgs) -> Result<u8, Failure> {
    let plan = Plan::load(&args.plan)?;
    Output::stdout().text(&plan.to_toml());
    Ok(EXIT_DONE)
}

pub(super) fn fetch(args: &FetchArgs) -> Result<u8, Failure> {
    let mut plan = Plan::for_fetch(args.urls.iter().cloned(), &args.out);
    if let Some(list) = &args.list {
        existing(list)?;
        plan.source = Source::Urls { path: InputPath::File(list.clone()) };
    } else if args.urls == ["-"] {
        plan.source = Source::Urls { path: InputPath::Stdin };
    }
    if let (Some(fetch), Some(limit)) = (&mut plan.fetch, args.concurrency) {
        fetch.concurrency = Limit::Fixed(limit);
        fetch.per_host = Limit::Fixed(limit);
    }
    run_plan(&mut plan, &args.common, "the same command")
}

pub(super) fn prep(args: &PrepArgs) -> Result<u8, Failure> {
    let mut plan = Plan::for_prep(args.files.iter().cloned(), &args.out);
    plan.sink.format = match args.format {
        FormatArg::Parquet => Format::Parquet,
        FormatArg::Jsonl => Format::Jsonl,
        FormatArg::JsonlZst => Format::JsonlZst,
    };
    run_plan(&mut plan, &args.common, "the same command")
}

fn existing(list: &Path) -> Result<(), Failure> {
    if list.is_file() {
        return Ok(());
    }
    let message = format!("the list `{}` is not a file", list.display());
    Err(Failure::new(message, Some("give a text file with one URL a line")))
}

/// Runs a plan with progress and summary. `again` is the command that goes on with it.
fn run_plan(plan: &mut Plan, args: &CommonArgs, again: &str) -> Result<u8, Failure> {
    let cancel = interrupt::token(args.quiet)?;
    let report = execute(plan, args, &cancel)?;
    if !args.quiet {
        summary::print(&mut Output::stdout(), plan, &report, again);
    }
    Ok(exit_code(&report))
}

pub(super) fn execute(
    plan: &mut Plan,
    args: &CommonArgs,
    cancel: &CancelToken,
) -> Result<RunReport, Failure> {
    if let Some(workers) = args.workers {
        plan.run.workers = Limit::Fixed(workers);
    }
    log_to_stderr(args.verbose);
    let options = RunOptions { retry_failed: args.retry_failed, serial: args.serial };
    let look = Look::choose(args.progress, args.quiet);
    let observer = progress::observer(look, plan);
    let report = tricorne_pipeline::run(plan, &options, Arc::clone(&observer) as _, cancel);
    observer.end();
    Ok(report?)
}

pub(super) fn exit_code(report: &RunReport) -> u8 {
    match report {
        report if report.interrupted => EXIT_INTERRUPTED,
        report if report.failed_total() > 0 => EXIT_SOME_FAILED,
        _ => EXIT_DONE,
    }
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // Another subscriber may be there already when the command is called from a program; it stays.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .try_init();
}
