//! `cargo xtask bench`: runs the programs of the `benches` crate in release mode, and those of `python/benches`, and checks and shows the
//! figures they print.
//!
//! `tricorne-benches [NAME] [--data DIR] --json` runs one benchmark (all of them without a name; an unknown name is an error that lists the names)
//! and prints one JSON object a line to stdout, nothing else; remarks go to stderr. A figure is
//!
//! ```json
//! {"bench": "word_counts", "impl": "tricorne", "value": 512.4, "unit": "MB/s", "rounds": 7, "floor": 400}
//! ```
//!
//! `bench` is the scenario, `impl` who ran it (`tricorne`, or the name of a peer), `value` the median over `rounds` rounds, and `floor`
//! the physical or agreed bound that the value is read against, in the same unit, or null where there is none.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::args::BenchOptions;
use crate::command::{Workspace, cargo, display};
use crate::python;

/// Runs the benchmarks and prints their figures as they come.
///
/// # Errors
/// The program failed, printed something that is not a figure, or printed no figure at all.
pub(crate) fn run(options: &BenchOptions) -> Result<(), String> {
    let workspace = Workspace::locate()?;
    if options.name.as_deref() != Some(PYTHON) {
        show(&mut native(&workspace, options)?, options.json)?;
    }
    if options.name.as_deref().is_none_or(|name| name == PYTHON) {
        for mut command in python::benches(&workspace)? {
            show(&mut command, options.json)?;
        }
    }
    if options.name.as_deref().is_none_or(|name| name == PROCESS) {
        show(&mut python::process_bench(&workspace)?, options.json)?;
    }
    Ok(())
}

/// The name of the benchmarks that are written in Python: `python/benches`.
const PYTHON: &str = "python";

/// The name of the benchmarks of the process pool, in Rust and in Python.
const PROCESS: &str = "process";

fn native(workspace: &Workspace, options: &BenchOptions) -> Result<Command, String> {
    let mut command = cargo();
    command.current_dir(&workspace.root).args([
        "run",
        "--release",
        "--quiet",
        "-p",
        "tricorne-benches",
        "--",
    ]);
    command.args(&options.name);
    if let Some(data) = &options.data {
        // The program runs in the root of the workspace, whatever folder this one was called in.
        let data = std::path::absolute(data).map_err(|error| format!("the folder `{data}`: {error}"))?;
        command.arg("--data").arg(data);
    }
    command.arg("--json");
    Ok(command)
}

/// Runs one program and shows its figures.
fn show(command: &mut Command, json: bool) -> Result<(), String> {
    let shown = display(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    let mut figures = 0;
    let mut wrong = None;
    let stdout = child.stdout.take().ok_or("the program has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("cannot read from `{shown}`: {error}"))?;
        match read_figure(&line) {
            Ok(_) if json => println!("{line}"),
            Ok(figure) => println!("{}", row(&figure)),
            // Read on to the end all the same: a program whose output is not read may never end.
            Err(reason) => {
                wrong.get_or_insert(format!("`{shown}` printed `{line}`, which is no figure: {reason}"));
                continue;
            }
        }
        figures += 1;
    }
    let status = child.wait().map_err(|error| format!("lost `{shown}`: {error}"))?;
    match wrong {
        _ if !status.success() => Err(format!("`{shown}` failed ({status})")),
        Some(reason) => Err(reason),
        None if figures == 0 => Err(format!("`{shown}` printed no figure")),
        None => Ok(()),
    }
}

/// One figure that BENCHMARKS.md can quote.
#[derive(Debug, PartialEq)]
struct Figure {
    bench: String,
    implementation: String,
    value: f64,
    unit: String,
    rounds: u64,
    floor: Option<f64>,
}

fn read_figure(line: &str) -> Result<Figure, String> {
    const KEYS: [&str; 6] = ["bench", "impl", "value", "unit", "rounds", "floor"];
    let object: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let object = object.as_object().ok_or("it is not an object")?;
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{key}` is not one of its keys"));
    }
    let get = |key: &str| object.get(key).ok_or(format!("`{key}` is missing"));
    let text = |key: &str| get(key)?.as_str().map(str::to_owned).ok_or(format!("`{key}` is not text"));
    let number = |key: &str| get(key)?.as_f64().ok_or(format!("`{key}` is not a number"));
    Ok(Figure {
        bench: text("bench")?,
        implementation: text("impl")?,
        value: number("value")?,
        unit: text("unit")?,
        rounds: get("rounds")?
            .as_u64()
            .filter(|rounds| *rounds > 0)
            .ok_or("`rounds` is not a number of rounds")?,
        floor: if get("floor")?.is_null() { None } else { Some(number("floor")?) },
    })
}

fn row(figure: &Figure) -> String {
    let Figure { bench, implementation, value, unit, rounds, floor } = figure;
    let floor = floor.map(|floor| format!("  (floor {floor})")).unwrap_or_default();
    format!("{bench:<32} {implementation:<16} {value:>12.3} {unit:<10} {rounds:>3} rounds{floor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"bench":"words","impl":"tricorne","value":512.5,"unit":"MB/s","rounds":7,"floor":null}"#;

    #[test]
    fn a_figure_is_read_and_shown() {
        let figure = read_figure(GOOD).expect("a good line");
        assert_eq!((figure.value, figure.rounds, figure.floor), (512.5, 7, None));
        let shown = row(&figure);
        assert!(
            shown.contains("words") && shown.contains("512.500 MB/s") && shown.ends_with("7 rounds"),
            "{shown}"
        );
        let figure = read_figure(&GOOD.replace("null", "400")).expect("a floor");
        assert!(row(&figure).ends_with("(floor 400)"));
    }

    #[test]
    fn what_is_no_figure_is_refused_with_the_reason() {
        for (line, reason) in [
            ("hello".to_owned(), "expected value"),
            ("[]".to_owned(), "not an object"),
            (GOOD.replace("\"impl\"", "\"imp\""), "`imp`"),
            (GOOD.replace(",\"floor\":null", ""), "`floor` is missing"),
            (GOOD.replace("512.5", "\"fast\""), "`value` is not a number"),
            (GOOD.replace(":7", ":0"), "`rounds`"),
        ] {
            let message = read_figure(&line).expect_err(&line);
            assert!(message.contains(reason), "{line}: {message}");
        }
    }
}
