//! `demo`: the whole job on real pages that the program carries, served on the loopback address with
//! realistic latency and faults. It is `run` on a plan that it leaves behind.

use std::fs;
use std::path::Path;

use tricorne_pipeline::plan::Plan;

use super::args::DemoArgs;
use super::fail::Failure;
use super::output::{Output, plural};
use super::run::{execute, exit_code};
use super::{interrupt, summary};
use crate::demo::{DemoOptions, DemoServer};

/// The first line of the plan: how a later demo knows that the folder is one of its own.
const MARK: &str = "# Made by `tricorne demo`";

const PLAN: &str = r#"; the pages are served while the demo runs.
# Run it again with `tricorne demo --serve` in another terminal and `tricorne run plan.toml` here.

[source]
urls = "urls.txt"

[fetch]
retry_base_secs = 0.1

[[stage]]
use = "extract"
[[stage]]
use = "clean"
[[stage]]
use = "features"
[[stage]]
use = "filter"
where = "word_count >= 20"
[[stage]]
use = "dedup"

[sink]
path = "out"
records_per_shard = 100
"#;

pub(super) fn demo(args: &DemoArgs) -> Result<u8, Failure> {
    let cancel = interrupt::token(args.common.quiet)?;
    let dir = &args.out;
    let plan_path = dir.join("plan.toml");
    start_afresh(dir, &plan_path)?;

    let server = DemoServer::start(DemoOptions { port: args.port.unwrap_or(0), ..DemoOptions::default() })
        .map_err(|error| {
            Failure::of(&error, Some("name another port with `--port`, or none for a free one".into()))
        })?;
    let write = |path: &Path, text: String| {
        fs::write(path, text)
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display()), None))
    };
    write(&plan_path, format!("{MARK}{PLAN}"))?;
    write(&dir.join("urls.txt"), server.url_list())?;

    let mut plan = Plan::load(&plan_path)?;
    let mut out = Output::stdout();
    if !args.common.quiet {
        out.line(format!(
            "Serving {} on http://{} with latency and faults; running {}",
            plural(server.urls().len() as u64, "URL"),
            server.addr(),
            plan_path.display()
        ));
    }
    let report = execute(&mut plan, &args.common, &cancel)?;
    if !args.common.quiet {
        summary::print(&mut out, &plan, &report, "tricorne demo");
    }
    if args.serve && !cancel.is_cancelled() {
        server.server().reset_counts(); // the first try of each URL meets its fault again
        if !args.common.quiet {
            out.line(format!("Serving on http://{} until Ctrl-C", server.addr()));
        }
        cancel.wait();
    }
    Ok(exit_code(&report))
}

/// Removes what an earlier demo left; refuses to touch a folder that is not a demo's.
fn start_afresh(dir: &Path, plan: &Path) -> Result<(), Failure> {
    let cannot = |what: &str, error: &std::io::Error| {
        let hint = "name another folder with `-o`";
        Failure::new(format!("cannot {what} `{}`: {error}", dir.display()), Some(hint))
    };
    if dir.exists() && !dir.is_dir() {
        let message = format!("`{}` is a file, not a folder", dir.display());
        return Err(Failure::new(message, Some("name another folder with `-o`")));
    }
    fs::create_dir_all(dir).map_err(|error| cannot("create", &error))?;
    let is_empty = fs::read_dir(dir).map_err(|error| cannot("read", &error))?.next().is_none();
    if is_empty {
        return Ok(());
    }
    if !fs::read_to_string(plan).is_ok_and(|text| text.starts_with(MARK)) {
        let message = format!("`{}` is not empty and was not made by a demo", dir.display());
        return Err(Failure::new(message, Some("name another folder with `-o`")));
    }
    let out = dir.join("out");
    if out.exists() {
        fs::remove_dir_all(&out).map_err(|error| cannot("clear", &error))?;
    }
    Ok(())
}
