//! `cargo xtask fault`: does the worst to a part of the project, and shows what came of it.
//!
//! `process` is the process pool: the test program of `tricorne-exec` that kills workers, templates and parents. With `--json` each
//! fault is one line, `{"fault": "abort", "passed": true, …}`, with what was measured on the way; with `TRICORNE_DEEP` set the chaos test
//! runs 100,000 tasks.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::args::FaultOptions;
use crate::command::{Workspace, cargo, display};

/// Runs the faults and prints a line for each as it comes.
///
/// # Errors
/// A fault was not survived as it should be, or the program itself failed.
pub(crate) fn run(options: &FaultOptions) -> Result<(), String> {
    let workspace = Workspace::locate()?;
    let mut command = cargo();
    command.current_dir(&workspace.root);
    command.args(["test", "--quiet", "-p", "tricorne-exec", "--test", &options.name, "--", "--json"]);
    let shown = display(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    let stdout = child.stdout.take().ok_or("the program has no stdout")?;
    let (mut faults, mut failed) = (0, Vec::new());
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("cannot read from `{shown}`: {error}"))?;
        // What its workers print is not for us.
        let Some((name, passed)) = read_fault(&line) else { continue };
        faults += 1;
        if options.json {
            println!("{line}");
        } else {
            println!("{name:<44} {}", if passed { "ok" } else { "FAILED" });
        }
        if !passed {
            failed.push(name);
        }
    }
    let status = child.wait().map_err(|error| format!("lost `{shown}`: {error}"))?;
    if !failed.is_empty() {
        return Err(format!("not survived as it should be: {}", failed.join(", ")));
    }
    if !status.success() {
        return Err(format!("`{shown}` failed ({status})"));
    }
    if faults == 0 { Err(format!("`{shown}` printed nothing")) } else { Ok(()) }
}

/// Name and outcome of a fault, if the line is one.
fn read_fault(line: &str) -> Option<(String, bool)> {
    let object: Value = serde_json::from_str(line).ok()?;
    Some((object.get("fault")?.as_str()?.to_owned(), object.get("passed")?.as_bool()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_other_lines() {
        let line = r#"{"fault":"abort","passed":true,"error":"x"}"#;
        assert_eq!(read_fault(line), Some(("abort".to_owned(), true)));
        for other in ["running 3 tests", "{}", r#"{"fault":"abort"}"#, r#"{"fault":1,"passed":true}"#] {
            assert_eq!(read_fault(other), None, "{other}");
        }
    }
}
