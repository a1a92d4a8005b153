//! The Python steps: a virtual environment of our own, the wheel, its tests, its stubs and its benchmarks.
//!
//! The wheel is built with the dev profile and the features of the tests into cargo's own target folder, so it links the libraries that
//! the Rust tests have built just before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::Context;
use crate::command::{Workspace, capture, program, run_logged};
use crate::features;

const REQUIREMENTS: &str = "python/requirements-dev.txt";
/// The libraries that the benchmarks of process pools compare with.
const PEERS: &str = "python/requirements-peers.txt";

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

/// Runs the Python tests against the installed wheel; with `--deep` their long forms, and on every interpreter of `PATH`.
pub(crate) fn pytest(context: &Context<'_>) -> Result<(), String> {
    let run = |mut python: Command| {
        python.args(["-m", "pytest", "python/tests"]);
        if context.deep {
            python.env("TRICORNE_DEEP", "1");
        }
        run_logged(&mut python, &context.log)
    };
    run(in_venv(context, "python")?)?;
    if context.deep {
        let wheel = only_wheel(&context.workspace.target.join("xtask/wheels"))?;
        let own = version_of(&tool(context, "python").to_string_lossy())?;
        for (version, interpreter) in interpreters() {
            if version != own {
                run(extra_venv(context.workspace, &interpreter, &version, &wheel, &context.log)?)?;
            }
        }
    }
    Ok(())
}

/// The benchmarks of `python/benches`, one command for each interpreter of `PATH`, with a wheel built in release mode.
pub(crate) fn benches(workspace: &Workspace) -> Result<Vec<Command>, String> {
    let found = interpreters();
    let wheel = release_wheel(workspace, &found)?;
    let mut commands = Vec::new();
    for (version, interpreter) in &found {
        let python = extra_python(workspace, interpreter, version)?;
        let mut pip = program(&python);
        quietly(pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            requirement(workspace, "cloudpickle")?.as_str(),
        ]))?;
        quietly(&mut install(&python, &wheel))?;
        commands.push(bench(workspace, &python, "run.py"));
    }
    Ok(commands)
}

/// The benchmarks of process pools, on the first interpreter of `PATH`, with a wheel built in release mode and the libraries that it
/// is compared with.
pub(crate) fn process_bench(workspace: &Workspace) -> Result<Command, String> {
    let found = interpreters();
    let wheel = release_wheel(workspace, &found)?;
    let Some((version, interpreter)) = found.first() else { return Err(NO_INTERPRETER.to_owned()) };
    let python = extra_python(workspace, interpreter, version)?;
    let mut pip = program(&python);
    pip.current_dir(&workspace.root).args(["-m", "pip", "install", "--quiet", "-r", PEERS]);
    quietly(&mut pip)?;
    quietly(&mut install(&python, &wheel))?;
    Ok(bench(workspace, &python, "process_pools.py"))
}

fn bench(workspace: &Workspace, python: &Path, name: &str) -> Command {
    let mut bench = program(python);
    bench.current_dir(&workspace.root).arg(format!("python/benches/{name}"));
    bench
}

const NO_INTERPRETER: &str = "no Python 3.11 or later on PATH, by the name `python3.N`";

fn release_wheel(workspace: &Workspace, found: &[(String, String)]) -> Result<PathBuf, String> {
    let wheels = workspace.target.join("xtask/wheels-release");
    if wheels.exists() {
        fs::remove_dir_all(&wheels)
            .map_err(|error| format!("cannot remove `{}`: {error}", wheels.display()))?;
    }
    let Some((version, interpreter)) = found.first() else { return Err(NO_INTERPRETER.to_owned()) };
    let tools = extra_python(workspace, interpreter, version)?;
    let mut pip = program(&tools);
    quietly(pip.args(["-m", "pip", "install", "--quiet", requirement(workspace, "maturin")?.as_str()]))?;
    let mut maturin = program(&tools);
    workspace.fix_pyo3(&mut maturin);
    maturin.current_dir(&workspace.root).args(["-m", "maturin", "build", "--release", "--target-dir"]);
    maturin.arg(&workspace.target).arg("--out").arg(&wheels).arg("--interpreter").arg(&tools);
    quietly(&mut maturin)?;
    only_wheel(&wheels)
}

/// The interpreters that are on `PATH` as `python3.N`, 3.11 or later, with their versions.
fn interpreters() -> Vec<(String, String)> {
    (11..=19)
        .filter_map(|minor| {
            let name = format!("python3.{minor}");
            // A launcher of that name may be there without the interpreter.
            let version = version_of(&name).ok().filter(|version| *version == format!("3.{minor}"))?;
            Some((version, name))
        })
        .collect()
}

fn version_of(python: &str) -> Result<String, String> {
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    capture(program(python).args(["-c", print])).map(|version| version.trim().to_owned())
}

/// The interpreter of a virtual environment of its own for another version, made if it is not there.
fn extra_python(workspace: &Workspace, interpreter: &str, version: &str) -> Result<PathBuf, String> {
    let folder = workspace.target.join("venvs").join(version);
    let python = in_folder(&folder, "python");
    if !python.is_file() {
        quietly(program(interpreter).args(["-m", "venv", "--clear"]).arg(&folder))?;
    }
    Ok(python)
}

/// That interpreter with pytest, what the package and its tests need, and the wheel, as a command in the root of the checkout.
fn extra_venv(
    workspace: &Workspace,
    interpreter: &str,
    version: &str,
    wheel: &Path,
    log: &Path,
) -> Result<Command, String> {
    let python = extra_python(workspace, interpreter, version)?;
    let mut pip = program(&python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    for tool in ["pytest", "cloudpickle", "numpy"] {
        pip.arg(requirement(workspace, tool)?);
    }
    run_logged(&mut pip, log)?;
    run_logged(&mut install(&python, wheel), log)?;
    let mut command = program(&python);
    command.current_dir(&workspace.root);
    Ok(command)
}

fn install(python: &Path, wheel: &Path) -> Command {
    let mut pip = program(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]).arg(wheel);
    pip
}

/// Runs a command whose output must not mix with the figures of a benchmark; it is shown if the command fails.
fn quietly(command: &mut Command) -> Result<(), String> {
    capture(command).map(drop)
}

/// The line of the list of tools that names this one.
fn requirement(workspace: &Workspace, tool: &str) -> Result<String, String> {
    let list = workspace.read_text(REQUIREMENTS)?.ok_or(format!("`{REQUIREMENTS}` is not UTF-8"))?;
    list.lines()
        .find(|line| line.starts_with(tool))
        .map(str::to_owned)
        .ok_or(format!("`{REQUIREMENTS}` does not name {tool}"))
}

/// Checks the stubs: that they are well typed, and that they describe the module that is installed.
pub(crate) fn stubs(context: &Context<'_>) -> Result<(), String> {
    let mut mypy = in_venv(context, "python")?;
    run_logged(mypy.args(["-m", "mypy", "--strict", "python/tricorne", "python/tests"]), &context.log)?;
    let mut stubtest = in_venv(context, "python")?;
    stubtest.args(["-m", "mypy.stubtest", "tricorne", "--allowlist", "python/stubtest-allowlist.txt"]);
    run_logged(&mut stubtest, &context.log)
}

fn venv_folder(context: &Context<'_>) -> PathBuf {
    context.workspace.target.join("venv")
}

fn tool(context: &Context<'_>, name: &str) -> PathBuf {
    in_folder(&venv_folder(context), name)
}

fn in_folder(venv: &Path, name: &str) -> PathBuf {
    let folder = if cfg!(windows) { "Scripts" } else { "bin" };
    venv.join(folder).join(name).with_extension(std::env::consts::EXE_EXTENSION)
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
        match version_of(&name) {
            Ok(version) if is_recent(&version) => return Ok(name),
            Ok(version) => tried.push(format!("`{name}` is Python {version}")),
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
