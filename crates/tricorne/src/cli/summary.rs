//! What a run did, for a person to read.

use tricorne_pipeline::plan::Plan;
use tricorne_pipeline::record::Row;
use tricorne_pipeline::report::{RunReport, StageReport};

use super::output::{Output, bytes, count, plural, secs, width};

/// Entries of a list that are named one by one.
const NAMED: usize = 8;
/// Sample rows.
const SAMPLES: usize = 3;
/// Characters of a row's title and text that are shown.
const TITLE_CHARS: usize = 40;

pub(super) fn print(out: &mut Output, plan: &Plan, report: &RunReport, again: &str) {
    let mut lines = Vec::new();
    headline(out, &mut lines, report);
    outcomes(&mut lines, report, again);
    if report.fetched > 0 {
        fetched(&mut lines, plan, report);
    }
    times(out, &mut lines, report);
    if report.interrupted {
        lines.push(String::new());
        lines.push(format!("Interrupted; everything received so far is kept. Go on with: {again}"));
    } else {
        files(out, &mut lines, report);
        samples(out, &mut lines, plan, report);
    }
    for line in lines {
        out.line(line.trim_end());
    }
}

fn headline(out: &Output, lines: &mut Vec<String>, report: &RunReport) {
    let what = format!("{} → {}", plural(report.records, "record"), plural(report.rows, "row"));
    let resumed = match report.resumed {
        0 => String::new(),
        resumed => format!(" ({} from an earlier run)", count(resumed)),
    };
    lines.push(String::new());
    lines.push(format!("{} in {}{resumed}", out.bold(what), secs(report.wall_secs)));
    lines.push(String::new());
}

fn outcomes(lines: &mut Vec<String>, report: &RunReport, again: &str) {
    lines.push(field("rows", &count(report.rows)));
    lines.push(field("dropped", &with_reasons(report.dropped_total(), &report.dropped)));
    lines.push(field("failed", &with_reasons(report.failed_total(), &report.failed)));
    if report.failed_total() > 0 && !report.interrupted {
        lines.push(field("", "each with its reason in failed.jsonl; try them again with"));
        lines.push(field("", &format!("{again} --retry-failed")));
    }
    if !report.languages.is_empty() {
        lines.push(field("languages", &listed(&report.languages, " ")));
    }
}

fn fetched(lines: &mut Vec<String>, plan: &Plan, report: &RunReport) {
    let rate = bytes((report.fetched_bytes as f64 / report.wall_secs.max(0.001)) as u64);
    let size = bytes(report.fetched_bytes);
    if plan.fetch.is_none() {
        lines.push(field("read", &format!("{}, {size} ({rate}/s)", plural(report.fetched, "file"))));
        return;
    }
    let pages = plural(report.fetched, "page");
    let fetch = &report.fetch;
    lines.push(field(
        "fetched",
        &format!(
            "{pages}, {size} ({rate}/s), {} over {}",
            plural(fetch.requests, "request"),
            plural(fetch.connections, "connection")
        ),
    ));
    let most = report.in_flight.iter().map(|sample| sample.in_flight).max().unwrap_or_default();
    lines.push(field("in flight", &format!("up to {most}")));
    if fetch.retries_total() > 0 {
        lines.push(field("survived", &with_reasons(fetch.retries_total(), &fetch.retries)));
    }
    if report.refetched > 0 {
        lines.push(field(
            "again",
            &format!("{} were on their way when the run before ended", plural(report.refetched, "record")),
        ));
    }
}

fn times(out: &Output, lines: &mut Vec<String>, report: &RunReport) {
    if let Some(first) = report.first_row_secs {
        lines.push(field("first row", &format!("after {}", secs(first))));
    }
    lines.push(field("memory", &format!("{} at the peak", bytes(report.peak_rss_bytes))));
    lines.push(field("cpu", &secs(report.cpu_secs.get("total").copied().unwrap_or_default())));
    lines.push(String::new());
    lines.push(out.dim(format!(
        "  {:<12} {:>9} {:>9} {:>9} {:>9}   summed over its threads",
        "stage", "busy", "starved", "blocked", "cpu"
    )));
    for StageReport { name, workers, busy_secs, starved_secs, blocked_secs, cpu_secs, .. } in &report.stages {
        let shown = if *workers > 1 { format!("{name} ×{workers}") } else { name.clone() };
        lines.push(format!(
            "  {shown:<12} {:>9} {:>9} {:>9} {:>9}",
            secs(*busy_secs),
            secs(*starved_secs),
            secs(*blocked_secs),
            secs(*cpu_secs)
        ));
    }
    lines.push(format!(
        "  overlap {:.0} %: the longest stage alone took that part of the time ({})",
        report.overlap * 100.0,
        report.overlap_basis
    ));
}

fn files(out: &Output, lines: &mut Vec<String>, report: &RunReport) {
    lines.push(String::new());
    lines.push(out.bold(report.out.display().to_string()));
    for shard in report.shards.iter().take(NAMED) {
        lines.push(format!(
            "  {:<22} {:>12}  {:>8}",
            shard.file,
            plural(shard.rows, "row"),
            bytes(shard.bytes)
        ));
    }
    if report.shards.len() > NAMED {
        let rest = &report.shards[NAMED..];
        let size: u64 = rest.iter().map(|shard| shard.bytes).sum();
        lines.push(format!("  … {} more, {}", plural(rest.len() as u64, "shard"), bytes(size)));
    }
    let failed = if report.failed_total() > 0 { ", failed.jsonl" } else { "" };
    lines.push(format!("  manifest.json, run.json{failed}"));
}

fn samples(out: &Output, lines: &mut Vec<String>, plan: &Plan, report: &RunReport) {
    let rows = tricorne_pipeline::sample_rows(plan, report, SAMPLES).unwrap_or_default();
    if rows.is_empty() {
        return;
    }
    lines.push(String::new());
    for row in rows {
        lines.push(out.dim(sample_head(&row)));
        let text = row.text.as_deref().unwrap_or(&row.url);
        let words: Vec<&str> = text.split_whitespace().take(60).collect();
        lines.push(format!("    {}", cut(&words.join(" "), width() - 6)));
    }
}

fn sample_head(row: &Row) -> String {
    let mut parts = vec![format!("  #{}", row.id)];
    parts.extend(row.language.clone());
    if let Some(words) = row.word_count {
        parts.push(plural(words, "word"));
    }
    if let Some(title) = row.title.as_deref().filter(|title| !title.is_empty()) {
        parts.push(format!("“{}”", cut(title, TITLE_CHARS)));
    }
    parts.join("  ")
}

/// Cut to a width on the terminal; wide characters count two.
fn cut(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<10} {value}")
}

fn with_reasons(total: u64, reasons: &std::collections::BTreeMap<String, u64>) -> String {
    if reasons.is_empty() { count(total) } else { format!("{}  ({})", count(total), listed(reasons, " × ")) }
}

/// Largest first: `duplicate × 12, filter: … × 3`.
fn listed(reasons: &std::collections::BTreeMap<String, u64>, sign: &str) -> String {
    let mut reasons: Vec<_> = reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut parts: Vec<String> = reasons
        .iter()
        .take(NAMED)
        .map(|(reason, number)| format!("{reason}{sign}{}", count(**number)))
        .collect();
    if reasons.len() > NAMED {
        parts.push(format!("{} more", reasons.len() - NAMED));
    }
    parts.join(", ")
}
