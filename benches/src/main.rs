//! Benchmarks behind BENCHMARKS.md: `cargo xtask bench [NAME] [--data DIR] [--json]` runs this program in release mode.
//!
//! Each benchmark is a file named `area_subject.rs`. It prints its figures, one JSON object a line, to stdout; remarks go to stderr.
//! Contenders take turns, round by round, so that a busy minute of the machine meets all of them; a figure is the median of the rounds.
//! What other programs do is in [`peers`] and in the folder `peers/`, away from what this project does.
//!
//! The product is measured as its users run it: as a process of its own. That process is this program, called again with `tricorne` as
//! its first word, which is the same function and the same allocator as in the `tricorne` command.

// The one of the command.
#[path = "../../crates/tricorne/src/allocator.rs"]
mod allocator;
mod child;
mod core_all;
mod core_executors;
mod core_locks;
mod core_queues;
mod corpus;
mod figure;
mod instructions;
mod peers;
mod pipeline_download;
mod pipeline_full;
mod pipeline_tutorial;
mod process_pool;
mod run;
mod text_counts;
mod text_extraction;
mod text_extraction_score;
mod text_stages;

use std::path::PathBuf;
use std::process::ExitCode;

/// What a benchmark gets to know.
struct Options {
    /// Pages with known text, for `extraction`.
    data: Option<PathBuf>,
}

/// Runs rounds, checks results and hands over the figures; an error ends the program.
type Bench = fn(&Options) -> Result<(), String>;

const BENCHES: &[(&str, Bench)] = &[
    ("core", core_all::run),
    ("counts", text_counts::run),
    ("download", pipeline_download::run),
    ("extraction", text_extraction::run),
    ("pipeline", pipeline_full::run),
    ("process", process_pool::run),
    ("text", text_stages::run),
    ("tutorial", pipeline_tutorial::run),
];

const USAGE: &str = "usage: tricorne-benches [core|counts|download|extraction|pipeline|process|text|tutorial] [--data DIR] [--json]";

fn main() -> ExitCode {
    allocator::set_up();
    // The workers of the process pool are this program as well.
    if let Some(code) = tricorne_exec::process::worker_main(std::env::args_os(), process_pool::functions()) {
        return code;
    }
    let mut words = std::env::args_os().peekable();
    let _program = words.next();
    if words.peek().is_some_and(|word| word == run::AS_THE_COMMAND) {
        return ExitCode::from(tricorne::cli::main(words));
    }
    if words.peek().is_some_and(|word| word == instructions::AS_A_SUBJECT) {
        let words: Vec<String> = words.skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        return end(core_all::run_subject(&words));
    }
    if words.peek().is_some_and(|word| word == process_pool::AS_ECHO) {
        return process_pool::echo();
    }
    end(parse(words.map(|word| word.to_string_lossy().into_owned())).and_then(measure))
}

fn end(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(words: impl Iterator<Item = String>) -> Result<(Option<String>, Options), String> {
    let mut name = None;
    let mut options = Options { data: None };
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => {} // figures are always JSON; the word is what `cargo xtask bench` says
            "--data" => options.data = Some(words.next().ok_or("`--data` needs a folder")?.into()),
            flag if flag.starts_with('-') => return Err(format!("no argument `{flag}`\n{USAGE}")),
            _ if name.is_some() => return Err(format!("`{word}` is a second name\n{USAGE}")),
            _ => name = Some(word),
        }
    }
    Ok((name, options))
}

fn measure((name, options): (Option<String>, Options)) -> Result<(), String> {
    match name {
        Some(name) => {
            let (_, bench) = BENCHES
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| format!("no benchmark `{name}`\n{USAGE}"))?;
            bench(&options)
        }
        None => {
            for (name, bench) in BENCHES {
                if *name == "extraction" && options.data.is_none() {
                    eprintln!("`extraction` is left out: it needs `--data DIR`");
                    continue;
                }
                bench(&options)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<(Option<String>, Options), String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_and_folder_are_read() {
        let (name, options) = words("extraction --data pages --json").expect("a good line");
        assert_eq!((name.as_deref(), options.data), (Some("extraction"), Some(PathBuf::from("pages"))));
        for (line, wrong) in [("a b", "`b`"), ("--jsn", "`--jsn`"), ("--data", "`--data`")] {
            assert!(words(line).err().expect(line).contains(wrong), "{line}");
        }
    }

    #[test]
    fn an_unknown_benchmark_is_refused_with_the_names() {
        let error = words("wods").and_then(measure).expect_err("no such benchmark");
        assert!(error.contains("`wods`") && error.contains("download"), "{error}");
    }
}
