//! The other programs: Python scripts from the folder `peers/`, in a virtual environment of their own, and `wrk`.
//!
//! A peer that cannot be had is left out, with a remark; the figures of this project do not depend on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child::{self, Finished};

/// The folder with the scripts.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// A Python with the libraries of `peers/requirements.txt`.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// Makes the virtual environment unless it is there, beside this program. `None`, with a remark, if that fails.
    pub(crate) fn find() -> Option<Python> {
        match Self::make() {
            Ok(python) => Some(python),
            Err(error) => {
                eprintln!("the Python peers are left out: {error}");
                None
            }
        }
    }

    fn make() -> Result<Python, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let venv = own.with_file_name("bench-venv");
        let program = venv.join("bin").join("python");
        let complete = venv.join("complete");
        if !complete.exists() {
            eprintln!("making `{}`", venv.display());
            succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
            succeed(
                Command::new(&program)
                    .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
                    .arg(Path::new(FOLDER).join("requirements.txt")),
            )?;
            std::fs::write(&complete, "").map_err(|error| error.to_string())?;
        }
        Ok(Python { program })
    }

    /// Runs a script of the folder `peers/`.
    pub(crate) fn run(&self, script: &str, arguments: &[&Path]) -> Result<Finished, String> {
        child::measure(Command::new(&self.program).arg(Path::new(FOLDER).join(script)).args(arguments))
    }
}

/// Has `wrk` ask for all pages of the list, over and over for some seconds. Gives the CPU seconds for 1,000 requests, and the requests a
/// second; `None` if there is no `wrk`.
pub(crate) fn wrk(urls_file: &Path) -> Result<Option<(f64, f64)>, String> {
    if Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Ok(None);
    }
    let script = Path::new(FOLDER).join("wrk_urls.lua");
    let finished = child::measure(
        Command::new("wrk")
            .args(["--threads", "1", "--connections", "64", "--duration", "3s", "--script"])
            .arg(script)
            .args(["http://127.0.0.1:8600", "--"])
            .arg(urls_file),
    )?;
    let text = String::from_utf8_lossy(&finished.stdout);
    let requests: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("requests "))
        .and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| format!("`wrk` printed `{text}`"))?;
    Ok(Some((finished.cpu_secs * 1e3 / requests, requests / finished.wall_secs)))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed ({status})")) }
}
