//! `cargo xtask check`: the steps, in order, up to the first that fails.
//!
//! Nothing is built twice. Every step that compiles uses the same target folder, the dev profile and the default features:
//! clippy only makes metadata, `tests`, `doctests` and `wheel` share the libraries. PyO3's build script would run again for each change of
//! the interpreter, of PATH or of what maturin puts into the environment; [`Workspace::fix_pyo3`] makes it look at one file only. (The loom models are the exception: their `--cfg`
//! changes the code, so they have a folder of their own, where only `tricorne-sync`, `tricorne-exec` and what they need are built.)

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::args::CheckOptions;
use crate::command::{self, Workspace, cargo, run_logged};
use crate::{layers, lockfile, python, sources, text};

/// What a step has to hand.
pub(crate) struct Context<'a> {
    pub(crate) workspace: &'a Workspace,
    /// Include the slow checks.
    pub(crate) deep: bool,
    /// The step's own log file, for [`run_logged`].
    pub(crate) log: PathBuf,
}

/// One step: a name for `--from` and `--only`, and what it does.
struct Step {
    name: &'static str,
    run: fn(&Context<'_>) -> Result<(), String>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "clippy", run: clippy },
    Step { name: "tests", run: tests },
    Step { name: "doctests", run: doctests },
    Step { name: "examples", run: examples },
    Step { name: "loom", run: loom },
    Step { name: "shuttle", run: shuttle },
    Step { name: "layers", run: layer_rules },
    Step { name: "text", run: text_rules },
    Step { name: "lockfile", run: lockfile_rules },
    Step { name: "venv", run: python::venv },
    Step { name: "wheel", run: python::wheel },
    Step { name: "pytest", run: python::pytest },
    Step { name: "stubs", run: python::stubs },
];

/// Runs the chosen steps.
///
/// # Errors
/// An unknown step name, or the first step that failed, with the command to run it alone.
pub(crate) fn run(options: &CheckOptions) -> Result<(), String> {
    let steps = choose(options)?;
    let workspace = Workspace::locate()?;
    let logs = workspace.target.join("xtask");
    fs::create_dir_all(&logs).map_err(|error| format!("cannot make `{}`: {error}", logs.display()))?;

    let mut taken = Vec::new();
    let mut outcome = Ok(());
    for step in steps {
        println!("\n==> {}", step.name);
        let log = logs.join(format!("{}.log", step.name));
        if log.exists() {
            fs::remove_file(&log).map_err(|error| format!("cannot remove `{}`: {error}", log.display()))?;
        }
        let context = Context { workspace: &workspace, deep: options.deep, log };
        let start = Instant::now();
        let result = (step.run)(&context);
        taken.push((step.name, start.elapsed(), result.is_ok()));
        if let Err(reason) = result {
            let deep = if options.deep { " --deep" } else { "" };
            let name = step.name;
            outcome = Err(format!(
                "step `{name}`: {reason}\n  run it alone: cargo xtask check --only {name}{deep}"
            ));
            break;
        }
    }
    println!("\n{}", summary(&taken));
    outcome
}

fn choose(options: &CheckOptions) -> Result<&'static [Step], String> {
    let place = |name: &str| {
        STEPS.iter().position(|step| step.name == name).ok_or_else(|| {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            format!("no step `{name}`; the steps are {}", names.join(", "))
        })
    };
    match (&options.from, &options.only) {
        (_, Some(only)) => place(only).map(|index| &STEPS[index..=index]),
        (Some(from), None) => place(from).map(|index| &STEPS[index..]),
        (None, None) => Ok(STEPS),
    }
}

/// What took how long, one line a step.
fn summary(taken: &[(&str, Duration, bool)]) -> String {
    let mut lines = Vec::new();
    for (name, time, passed) in taken {
        lines.push(format!(
            "{name:<10} {:>8.1} s{}",
            time.as_secs_f64(),
            if *passed { "" } else { "  failed" }
        ));
    }
    let total: Duration = taken.iter().map(|(_, time, _)| *time).sum();
    lines.push(format!("{:<10} {:>8.1} s", "total", total.as_secs_f64()));
    lines.join("\n")
}

fn fmt(context: &Context<'_>) -> Result<(), String> {
    run_cargo(context, &["fmt", "--all", "--check"])
}

fn clippy(context: &Context<'_>) -> Result<(), String> {
    let mut command = cargo();
    context.workspace.fix_pyo3(&mut command);
    command.current_dir(&context.workspace.root);
    command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    run_logged(&mut command, &context.log)
}

fn tests(context: &Context<'_>) -> Result<(), String> {
    if command::capture(cargo().args(["nextest", "--version"])).is_ok() {
        run_cargo(context, &["nextest", "run", "--workspace"])
    } else {
        run_cargo(context, &["test", "--workspace", "--tests"])
    }
}

fn doctests(context: &Context<'_>) -> Result<(), String> {
    run_cargo(context, &["test", "--doc", "--workspace"])
}

/// The tutorial's programs, each of which ends with an error if what it shows does not hold, and the data set of the guide. `tests` has
/// built them; they are run as programs, because `cargo run` for one package would choose other features and build again. (Examples of
/// other crates measure files that the caller names.)
fn examples(context: &Context<'_>) -> Result<(), String> {
    run_cargo(context, &["build", "--workspace", "--examples"])?;
    let packages = context.workspace.metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let targets = packages
        .iter()
        .filter(|package| package["name"] == "tricorne-exec")
        .flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let names: Vec<_> = targets
        .filter(|target| target["kind"] == serde_json::json!(["example"]))
        .filter_map(|target| target["name"].as_str())
        .collect();
    if names.is_empty() {
        return Err("`tricorne-exec` has no examples".to_owned());
    }
    for name in names {
        run_logged(&mut example(context, name), &context.log)?;
    }
    let out = context.workspace.target.join("xtask/pages-to-dataset");
    if out.exists() {
        fs::remove_dir_all(&out).map_err(|error| format!("cannot remove `{}`: {error}", out.display()))?;
    }
    run_logged(example(context, "pages_to_dataset").arg("testdata/corpus/pages").arg(out), &context.log)
}

fn example(context: &Context<'_>, name: &str) -> Command {
    let mut program = command::program(context.workspace.target.join("debug/examples").join(name));
    program.current_dir(&context.workspace.root);
    program
}

/// The models of the primitives and of the future. Three preemptions show nearly every known kind of race and take seconds; all
/// interleavings take minutes, and are for `--deep`.
fn loom(context: &Context<'_>) -> Result<(), String> {
    let mut command = cargo();
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command
        .current_dir(&context.workspace.root)
        .env("RUSTFLAGS", format!("{flags} --cfg tricorne_loom").trim_start())
        .arg("test")
        .arg("--target-dir")
        .arg(context.workspace.target.join("loom"))
        .args(["-p", "tricorne-sync", "-p", "tricorne-exec", "--test", "loom"]);
    if context.deep {
        command.env_remove("LOOM_MAX_PREEMPTIONS");
    } else {
        command.env("LOOM_MAX_PREEMPTIONS", "3");
    }
    run_logged(&mut command, &context.log)
}

/// Random schedules of larger scenes, each with a printed seed. They take minutes with a build of their own: for `--deep` only.
fn shuttle(context: &Context<'_>) -> Result<(), String> {
    if !context.deep {
        println!("left out: it is one of the deep checks (`--deep`)");
        return Ok(());
    }
    let mut command = cargo();
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command
        .current_dir(&context.workspace.root)
        .env("RUSTFLAGS", format!("{flags} --cfg tricorne_shuttle").trim_start())
        .arg("test")
        .arg("--target-dir")
        .arg(context.workspace.target.join("shuttle"))
        .args(["-p", "tricorne-sync", "-p", "tricorne-exec", "--test", "shuttle"]);
    run_logged(&mut command, &context.log)
}

fn layer_rules(context: &Context<'_>) -> Result<(), String> {
    let mut findings = layers::check(&context.workspace.metadata);
    for (name, content) in text_files(context)? {
        if name.ends_with(".rs") {
            findings.extend(sources::check(&name, &content));
        }
    }
    report("crate edges, and what each crate may touch", &findings)
}

fn text_rules(context: &Context<'_>) -> Result<(), String> {
    let mut findings = Vec::new();
    for (name, content) in text_files(context)? {
        findings.extend(text::check(&name, &content));
    }
    report("no machine paths, no registry addresses", &findings)
}

fn lockfile_rules(context: &Context<'_>) -> Result<(), String> {
    let lock = context.workspace.read_text("Cargo.lock")?.ok_or("`Cargo.lock` is not UTF-8")?;
    report("nothing that needs C++, cmake or OpenSSL; crates.io only", &lockfile::check(&lock))
}

fn text_files(context: &Context<'_>) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    for name in context.workspace.files()? {
        if let Some(content) = context.workspace.read_text(&name)? {
            files.push((name, content));
        }
    }
    Ok(files)
}

fn report(rule: &str, findings: &[String]) -> Result<(), String> {
    if findings.is_empty() {
        println!("ok: {rule}");
        return Ok(());
    }
    Err(format!("{} finding(s)\n  {}", findings.len(), findings.join("\n  ")))
}

fn run_cargo(context: &Context<'_>, words: &[&str]) -> Result<(), String> {
    let mut command = cargo();
    command.current_dir(&context.workspace.root).args(words);
    if context.deep {
        // Tests that have a long form read this.
        command.env("TRICORNE_DEEP", "1");
    }
    run_logged(&mut command, &context.log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &CheckOptions) -> Vec<&'static str> {
        choose(options).expect("a known step").iter().map(|step| step.name).collect()
    }

    #[test]
    fn from_and_only_choose_steps() {
        assert_eq!(names(&CheckOptions { only: Some("loom".into()), ..Default::default() }), ["loom"]);
        assert_eq!(
            names(&CheckOptions { from: Some("pytest".into()), ..Default::default() }),
            ["pytest", "stubs"]
        );
        assert_eq!(names(&CheckOptions::default()).len(), STEPS.len());
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_list() {
        let options = CheckOptions { only: Some("lom".into()), ..Default::default() };
        let message = choose(&options).err().expect("no such step");
        assert!(message.contains("`lom`") && message.contains("loom"), "{message}");
    }

    #[test]
    fn the_usage_lists_the_steps_in_their_order() {
        let all: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        assert!(crate::args::USAGE.contains(&all.join(" ")), "{}", crate::args::USAGE);
    }

    #[test]
    fn the_summary_has_times_failures_and_a_total() {
        let shown =
            summary(&[("fmt", Duration::from_millis(1500), true), ("clippy", Duration::from_secs(2), false)]);
        assert_eq!(shown, "fmt             1.5 s\nclippy          2.0 s  failed\ntotal           3.5 s");
    }
}
