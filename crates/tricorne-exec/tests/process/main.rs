//! The process pool under faults, and its conduct: a test program of its own, since it is also the program that the
//! workers run.
//!
//! `cargo test -p tricorne-exec --test process` runs it, and so does cargo-nextest, for which it speaks as much of the
//! language of test programs as that needs. `cargo xtask fault process [--json]` runs it with `--json`: one line for each test.
//! With `TRICORNE_DEEP` set the chaos test runs 100,000 tasks.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod chaos;
#[cfg(target_os = "linux")]
mod conduct;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod functions;
#[cfg(target_os = "linux")]
mod large;
#[cfg(target_os = "linux")]
mod regressions;
#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
use std::process::ExitCode;

#[cfg(target_os = "linux")]
use support::Facts;

/// A test; what it has found out besides is printed with its name.
#[cfg(target_os = "linux")]
type Test = (&'static str, fn(&mut Facts));

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    if std::env::var_os("TRICORNE_TEST_NO_HOOK").is_some() {
        // A program that forgets the hook: whatever it is started for, it does what it always does.
        return support::play("victim");
    }
    if let Some(code) = tricorne_exec::process::worker_main(std::env::args_os(), functions::registry()) {
        return code;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = words.first().and_then(|word| word.strip_prefix("--role=")) {
        return support::play(role);
    }
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let tests: Vec<&Test> = [faults::TESTS, conduct::TESTS, large::TESTS, chaos::TESTS, regressions::TESTS]
        .into_iter()
        .flatten()
        .collect();
    if has("--list") {
        if !has("--ignored") {
            tests.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| {
        wanted.is_empty()
            || wanted
                .iter()
                .any(|word| if has("--exact") { name == *word } else { name.contains(word.as_str()) })
    };
    let mut failed = 0;
    for (name, test) in tests.into_iter().filter(|(name, _)| is_wanted(name)) {
        let passed = support::run(name, *test, has("--json"));
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
