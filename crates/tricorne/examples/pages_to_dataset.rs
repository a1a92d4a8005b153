//! From a folder of HTML pages to a clean data set, from Rust: a plan, an observer, the report, some rows.
//!
//! ```text
//! cargo run --release --example pages_to_dataset -- testdata/corpus/pages dataset
//! ```
//!
//! Run it twice: the second time there is nothing left to do, and the shards are the same to the byte.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use tricorne::pipeline::observer::{Event, Observer};
use tricorne::pipeline::plan::{Plan, Source};
use tricorne::pipeline::{CancelToken, RunOptions, run, sample_rows};

const PLAN: &str = r#"
    [source]
    files = "**/*.html"
    [[stage]]
    use = "extract"
    [[stage]]
    use = "clean"
    [[stage]]
    use = "features"
    columns = ["word_count", "language"]
    [[stage]]
    use = "filter"
    where = "word_count >= 20 and language in ['en', 'de']"
    [[stage]]
    use = "dedup"
    [sink]
    path = "dataset"
    records_per_shard = 100
"#;

/// The engine never prints; it tells an observer.
struct SayWhatIsSafe;

impl Observer for SayWhatIsSafe {
    fn event(&self, event: &Event) {
        if let Event::Committed { shard, rows } = event {
            println!("shard {shard} is safe on disk, with {rows} rows before dedup");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(pages), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: pages_to_dataset PAGES OUT".into());
    };
    let mut plan = Plan::parse(PLAN, Path::new("<example>"), Path::new(""))?;
    plan.source = Source::Files { patterns: vec![format!("{pages}/**/*.html")] };
    plan.sink.path = out.into();

    // Cancelling a clone of the token, from any thread, stops the run after a checkpoint.
    let cancel = CancelToken::new();
    let report = run(&plan, &RunOptions::default(), Arc::new(SayWhatIsSafe), &cancel)?;

    println!("{} records, {} rows, {} failed", report.records, report.rows, report.failed_total());
    for (reason, count) in &report.dropped {
        println!("  {count} dropped: {reason}");
    }
    for row in sample_rows(&plan, &report, 3)? {
        println!("  #{} {} {}", row.id, row.url, row.title.unwrap_or_default());
    }
    Ok(())
}
