//! The Python steps: a virtual environment of our own, the wheel, its tests and its stubs.
//!
//! The wheel is built with the dev profile and the features of the tests into cargo's own target folder, so it links the libraries that
//! the Rust tests have built just before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::Context;
use crate::command::{capture, program, run_logged};
use crate::features;

const REQUIREMENTS: &str = "python/requirements-dev.txt";

/// Makes `target/venv` and installs the tools, unless it stands and the list of tools has not changed.
pub(crate) fn venv(context: &Context<'_>) -> Result<(), String> {
    let folder = venv_folder(context);
    let wanted =
        context.workspace.read_text(REQUIREMENTS)?.ok_or(format!("`{REQUIREMENTS}` is not UTF-8"))?;
    let stamp = folder.join("requirements-installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
        && tool(context, "python").is_file()
    {
        println!("ok: {} is up to date", folder.display());
        return Ok(());
    }
    let python = find_python()?;
    run_logged(program(python).args(["-m", "venv", "--clear"]).arg(&folder), &context.log)?;
    let mut pip = program(tool(context, "python"));
    pip.current_dir(&context.workspace.root).args(["-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]);
    run_logged(&mut pip, &context.log)?;
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write `{}`: {error}", stamp.display()))
}

/// Builds the wheel and installs it into the virtual environment.
pub(crate) fn wheel(context: &Context<'_>) -> Result<(), String> {
    features::check(context.workspace)?;
    let wheels = context.workspace.target.join("xtask/wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels)
            .map_err(|error| format!("cannot remove `{}`: {error}", wheels.display()))?;
    }
    let mut maturin = in_venv(context, "maturin")?;
    context.workspace.fix_pyo3(&mut maturin);
    maturin
        .args(["build", "--profile", "dev", "--features", features::AS_IN_TESTS, "--target-dir"])
        .arg(&context.workspace.target);
    maturin.arg("--out").arg(&wheels).arg("--interpreter").arg(tool(context, "python"));
    run_logged(&mut maturin, &context.log)?;

    let mut pip = in_venv(context, "python")?;
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]).arg(only_wheel(&wheels)?);
    run_logged(&mut pip, &context.log)
}

/// Runs the Python tests against the installed wheel.
pub(crate) fn pytest(context: &Context<'_>) -> Result<(), String> {
    run_logged(in_venv(context, "python")?.args(["-m", "pytest", "python/tests"]), &context.log)
}

/// Checks the stubs: that they are well typed, and that they describe the module that is installed.
pub(crate) fn stubs(context: &Context<'_>) -> Result<(), String> {
    let mut mypy = in_venv(context, "python")?;
    run_logged(mypy.args(["-m", "mypy", "--strict", "python/tricorne", "python/tests"]), &context.log)?;
    run_logged(in_venv(context, "python")?.args(["-m", "mypy.stubtest", "tricorne"]), &context.log)
}

fn venv_folder(context: &Context<'_>) -> PathBuf {
    context.workspace.target.join("venv")
}

fn tool(context: &Context<'_>, name: &str) -> PathBuf {
    let folder = if cfg!(windows) { "Scripts" } else { "bin" };
    venv_folder(context).join(folder).join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

/// A program of the virtual environment, started in the root of the checkout.
fn in_venv(context: &Context<'_>, name: &str) -> Result<Command, String> {
    let path = tool(context, name);
    if !path.is_file() {
        return Err(format!(
            "`{}` is missing\n  make it first: cargo xtask check --only venv",
            path.display()
        ));
    }
    let mut command = program(path);
    command.current_dir(&context.workspace.root).env("VIRTUAL_ENV", venv_folder(context));
    Ok(command)
}

/// The interpreter to make the environment with: `PYTHON` if it is set, otherwise `python3` or `python`; at least 3.11.
fn find_python() -> Result<String, String> {
    let candidates = std::env::var("PYTHON")
        .map_or_else(|_| vec!["python3".to_owned(), "python".to_owned()], |name| vec![name]);
    let mut tried = Vec::new();
    for name in candidates {
        match capture(program(&name).args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])) {
            Ok(version) if is_recent(version.trim()) => return Ok(name),
            Ok(version) => tried.push(format!("`{name}` is Python {}", version.trim())),
            Err(reason) => tried.push(reason),
        }
    }
    Err(format!("Python 3.11 or later is needed ({}); name one by the variable PYTHON", tried.join("; ")))
}

fn is_recent(version: &str) -> bool {
    let parse = || {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    parse().is_some_and(|version| version >= (3, 11))
}

fn only_wheel(folder: &Path) -> Result<PathBuf, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot list `{}`: {error}", folder.display()))?;
    let mut wheels: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    wheels.retain(|path| path.extension().is_some_and(|extension| extension == "whl"));
    match <[PathBuf; 1]>::try_from(wheels) {
        Ok([wheel]) => Ok(wheel),
        Err(wheels) => Err(format!("expected one wheel in `{}`, found {}", folder.display(), wheels.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, recent) in
            [("3.11", true), ("3.9", false), ("3.14", true), ("4.0", true), ("2.7", false), ("x", false)]
        {
            assert_eq!(is_recent(version), recent, "{version}");
        }
    }
}
