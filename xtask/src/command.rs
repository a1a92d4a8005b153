//! Running other programs: what they print is shown as it comes and kept in a log file, and a failure says which command it was,
//! where its output is and how to run it alone.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Where things are in this checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, as cargo itself resolves it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata --no-deps` says of the workspace.
    pub(crate) metadata: serde_json::Value,
}

impl Workspace {
    /// Asks cargo where the workspace and its target folder are.
    pub(crate) fn locate() -> Result<Self, String> {
        // Set when the program was built; the checkout may have moved since, then the current folder is asked.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        if manifest.is_file() {
            command.arg("--manifest-path").arg(&manifest);
        }
        let text = capture(&mut command)?;
        let metadata: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
        let path = |key: &str| {
            let path = metadata[key].as_str().ok_or_else(|| format!("`cargo metadata` has no `{key}`"))?;
            Ok::<_, String>(PathBuf::from(path))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// The files git knows or would add, as paths relative to the root: `git ls-files` with the new files, without the ignored.
    pub(crate) fn files(&self) -> Result<Vec<String>, String> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let names = capture(&mut git)?;
        // A file that was removed but not yet committed is still in the list.
        let exists = |name: &&str| !name.is_empty() && self.root.join(name).is_file();
        Ok(names.split('\0').filter(exists).map(str::to_owned).collect())
    }

    /// Lets PyO3's build script read the interpreter's description from a file of the checkout: the module is abi3, so it is the same
    /// for every interpreter. `tests` and `doctests` need no such thing: they do not build the extension crate.
    pub(crate) fn fix_pyo3(&self, command: &mut Command) {
        command.env("PYO3_CONFIG_FILE", self.root.join("crates/tricorne-py/pyo3-config.txt"));
    }

    /// The text of a file of the checkout, or nothing if it is not UTF-8.
    pub(crate) fn read_text(&self, name: &str) -> Result<Option<String>, String> {
        let bytes =
            fs::read(self.root.join(name)).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

/// A `cargo` command that behaves as if it had been started from a shell: without the variables that the outer
/// `cargo run` set for this program. Build scripts such as ring's watch them, and would be built again in every check.
pub(crate) fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command for any program, with the environment of [`cargo`].
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    for (key, _) in std::env::vars_os() {
        let Some(name) = key.to_str() else { continue };
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            command.env_remove(&key);
        }
    }
    command
}

/// Runs a command to its end and gives back what it wrote to stdout; its stderr is part of the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String, String> {
    let shown = display(command);
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{shown}` failed ({}):\n{}", output.status, stderr.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{shown}` printed something that is not UTF-8"))
}

/// Runs a command, shows what it prints, and appends all of it to `log`.
///
/// # Errors
/// A failure to start, or an exit code other than 0, with the command in words.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<(), String> {
    let shown = display(command);
    let file = File::options().create(true).append(true).open(log);
    let mut file = file.map_err(|error| format!("cannot write `{}`: {error}", log.display()))?;
    writeln!(file, "$ {shown}").map_err(|error| format!("cannot write `{}`: {error}", log.display()))?;
    println!("$ {shown}");

    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let file = Mutex::new(file);
    std::thread::scope(|scope| {
        if let Some(stream) = stdout {
            scope.spawn(|| tee(stream, io::stdout(), &file));
        }
        if let Some(stream) = stderr {
            scope.spawn(|| tee(stream, io::stderr(), &file));
        }
    });
    let status = child.wait().map_err(|error| format!("lost `{shown}`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{shown}` failed ({status})\n  its output: {}", log.display()))
}

/// Copies a stream to the terminal and to the log until it ends. A terminal that went away does not end the check.
fn tee(mut stream: impl Read, mut terminal: impl Write, log: &Mutex<File>) {
    let mut chunk = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        let bytes = &chunk[..length];
        let _ = terminal.write_all(bytes).and_then(|()| terminal.flush());
        if let Ok(mut log) = log.lock() {
            let _ = log.write_all(bytes);
        }
    }
}

/// The command as one could type it into a shell, with the variables that it sets.
pub(crate) fn display(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", key.to_string_lossy(), quote(&value.to_string_lossy())));
        }
    }
    let program = Path::new(command.get_program());
    // The full path of the toolchain's own cargo says nothing that `cargo` does not.
    let is_cargo = program.file_stem().is_some_and(|stem| stem == "cargo");
    words.push(if is_cargo { "cargo".to_owned() } else { quote(&program.to_string_lossy()) });
    words.extend(command.get_args().map(|word| quote(&word.to_string_lossy())));
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--doc"]).env("RUSTFLAGS", "--cfg tricorne_loom").env_remove("CARGO_PKG_NAME");
        assert_eq!(display(&command), "RUSTFLAGS='--cfg tricorne_loom' cargo test --doc");
    }

    #[test]
    fn a_failing_command_names_itself_its_code_and_its_log() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let mut command = cargo();
        command.arg("no-such-subcommand");
        let message = run_logged(&mut command, &log).expect_err("cargo has no such subcommand");
        let kept = fs::read_to_string(&log).expect("the log was written");
        fs::remove_file(&log).expect("the log can be removed");
        assert!(message.contains("`cargo no-such-subcommand` failed"), "{message}");
        assert!(message.contains(&*log.to_string_lossy()), "{message}");
        assert!(kept.contains("no such command"), "{kept}");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let message = capture(&mut Command::new("tricorne-no-such-program")).expect_err("it does not exist");
        assert!(message.contains("cannot start `tricorne-no-such-program`"), "{message}");
    }
}
