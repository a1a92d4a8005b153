//! Instruction counts by valgrind's callgrind: what a short operation costs, however busy the machine is.
//!
//! A subject is a loop over one operation. The program runs itself below callgrind with two lengths of the loop; the difference, by
//! the number of turns between them, is what one turn costs, start and end of the program excluded.

use std::process::{Command, Stdio};

/// The first word that makes this program run a subject and nothing else: `core-subject NAME TURNS`.
pub(crate) const AS_A_SUBJECT: &str = "core-subject";

/// A named loop of so many turns.
pub(crate) type Subject = (&'static str, fn(usize));

const SHORT: usize = 1_000;
const LONG: usize = 11_000;

/// Runs the subject that the command line names.
pub(crate) fn run_subject(subjects: &[&[Subject]], words: &[String]) -> Result<(), String> {
    let [name, turns] = words else {
        return Err(format!("`{AS_A_SUBJECT}` takes a name and a number of turns"));
    };
    let turns = turns.parse().map_err(|_| format!("`{turns}` is not a number of turns"))?;
    let (_, subject) = subjects
        .iter()
        .flat_map(|some| some.iter())
        .find(|(known, _)| known == name)
        .ok_or_else(|| format!("no subject `{name}`"))?;
    subject(turns);
    Ok(())
}

/// Whether valgrind is there; if not, says that the counts are left out.
pub(crate) fn can_count() -> bool {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("instruction counts are left out: they need `valgrind`, which is not installed");
    }
    found
}

/// Instructions for one turn of the subject.
pub(crate) fn count((name, _): &Subject) -> Result<f64, String> {
    let long = total(name, LONG)?;
    let short = total(name, SHORT)?;
    Ok((long - short) / (LONG - SHORT) as f64)
}

fn total(name: &str, turns: usize) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([AS_A_SUBJECT, name, &turns.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("subject `{name}` failed below valgrind: {said}"));
    }
    collected(&said).ok_or_else(|| format!("callgrind did not say what it counted: {said}"))
}

/// The number in callgrind's line `Collected : 12345`.
fn collected(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("Collected :")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_count_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 287911\n==7== \n";
        assert_eq!(super::collected(said), Some(287_911.0));
        assert_eq!(super::collected("==7== Killed\n"), None);
    }
}
