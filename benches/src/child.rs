//! Runs a program and measures what it costs.

use std::process::{Command, Stdio};
use std::time::Instant;

use tricorne_exec::sys::process_cpu_time;

/// A program that has ended.
pub(crate) struct Finished {
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
    /// CPU seconds, user and system, of it and of all processes that it waited for.
    pub(crate) cpu_secs: f64,
    /// Wall time in seconds.
    pub(crate) wall_secs: f64,
}

/// Runs a program to its end. Only one at a time may be measured: the CPU time is that of all children that ended meanwhile.
///
/// # Errors
/// It could not be started, or failed.
pub(crate) fn measure(command: &mut Command) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (begun, before) = (Instant::now(), process_cpu_time().finished_children);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    let wall_secs = begun.elapsed().as_secs_f64();
    let cpu_secs = (process_cpu_time().finished_children - before).as_secs_f64();
    if !output.status.success() {
        return Err(format!("`{name}` failed ({})", output.status));
    }
    Ok(Finished { stdout: output.stdout, cpu_secs, wall_secs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_and_its_child_use_is_counted() {
        let burn = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done";
        let finished = measure(Command::new("sh").args(["-c", burn])).expect("it runs");
        assert_eq!(finished.stdout, b"done\n");
        assert!(finished.cpu_secs > 0.01 && finished.wall_secs > 0.01, "{} s of CPU", finished.cpu_secs);
    }

    #[test]
    fn a_failure_is_an_error() {
        assert!(measure(Command::new("sh").args(["-c", "exit 3"])).is_err());
        assert!(measure(&mut Command::new("no-such-program-here")).is_err());
    }
}
