//! The arguments of `cargo xtask`. Parsed by hand: the check command itself should be built in a moment, before anything else is.

/// What `--help` prints, and what follows a wrong argument.
pub(crate) const USAGE: &str = "\
usage: cargo xtask check [--deep] [--from STEP | --only STEP]
       cargo xtask bench [NAME] [--data DIR] [--json]
       cargo xtask fault process [--json]

check   runs, in this order, and stops at the first failure:
        fmt clippy tests doctests examples loom shuttle layers text lockfile venv wheel pytest stubs
        --deep         also the slow checks (loom without a bound on preemptions, the tests' long forms)
        --from STEP    begin with STEP
        --only STEP    nothing but STEP
bench   runs the benchmarks in release mode (all of them, or NAME; `python` for those of the Python package,
                       `process` for the process pool, in Rust and then in Python beside other pools)
        --data DIR     pages with known text, for the benchmark of the extraction
        --json         one line `{bench, impl, value, unit, rounds, floor}` for each figure, instead of a table
fault   does the worst to a part of the project, and says what was survived
        process        workers, template and parent of a process pool killed, and worse
        --json         one line `{fault, passed, ...}` for each, with what was measured";

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Help,
    Check(CheckOptions),
    Bench(BenchOptions),
    Fault(FaultOptions),
}

/// The arguments of `check`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CheckOptions {
    pub(crate) deep: bool,
    pub(crate) from: Option<String>,
    pub(crate) only: Option<String>,
}

/// The arguments of `bench`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct BenchOptions {
    pub(crate) name: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) json: bool,
}

/// The arguments of `fault`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct FaultOptions {
    pub(crate) name: String,
    pub(crate) json: bool,
}

/// Reads the words after `cargo xtask`; the error says which word is wrong.
pub(crate) fn parse(words: &[String]) -> Result<Request, String> {
    let Some((command, rest)) = words.split_first() else {
        return Err("which command?".to_owned());
    };
    if words.iter().any(|word| matches!(word.as_str(), "-h" | "--help")) {
        return Ok(Request::Help);
    }
    match command.as_str() {
        "check" => parse_check(rest).map(Request::Check),
        "bench" => parse_bench(rest).map(Request::Bench),
        "fault" => parse_fault(rest).map(Request::Fault),
        other => Err(format!("no command `{other}`")),
    }
}

fn parse_check(words: &[String]) -> Result<CheckOptions, String> {
    let mut options = CheckOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut step = || words.next().cloned().ok_or_else(|| format!("`{word}` needs the name of a step"));
        match word.as_str() {
            "--deep" => options.deep = true,
            "--from" => options.from = Some(step()?),
            "--only" => options.only = Some(step()?),
            other => return Err(format!("`check` has no argument `{other}`")),
        }
    }
    if options.from.is_some() && options.only.is_some() {
        return Err("`--from` and `--only` exclude each other".to_owned());
    }
    Ok(options)
}

fn parse_bench(words: &[String]) -> Result<BenchOptions, String> {
    let mut options = BenchOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--data" => options.data = Some(words.next().cloned().ok_or("`--data` needs a folder")?),
            flag if flag.starts_with('-') => return Err(format!("`bench` has no argument `{flag}`")),
            name if options.name.is_none() => options.name = Some(name.to_owned()),
            more => return Err(format!("`bench` takes one name, and `{more}` is a second")),
        }
    }
    Ok(options)
}

fn parse_fault(words: &[String]) -> Result<FaultOptions, String> {
    let mut options = FaultOptions::default();
    for word in words {
        match word.as_str() {
            "--json" => options.json = true,
            "process" => options.name.clone_from(word),
            other => return Err(format!("`fault` has no argument `{other}`")),
        }
    }
    if options.name.is_empty() {
        return Err("`fault` needs a name: `process`".to_owned());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn check_takes_deep_from_and_only() {
        let expected = CheckOptions { deep: true, from: Some("loom".to_owned()), only: None };
        assert_eq!(parse_line("check --deep --from loom"), Ok(Request::Check(expected)));
        let expected = CheckOptions { deep: false, from: None, only: Some("fmt".to_owned()) };
        assert_eq!(parse_line("check --only fmt"), Ok(Request::Check(expected)));
    }

    #[test]
    fn bench_takes_a_name_and_json() {
        let expected = BenchOptions { name: Some("words".to_owned()), data: None, json: true };
        assert_eq!(parse_line("bench words --json"), Ok(Request::Bench(expected)));
        let expected = BenchOptions { data: Some("pages".to_owned()), ..BenchOptions::default() };
        assert_eq!(parse_line("bench --data pages"), Ok(Request::Bench(expected)));
        assert_eq!(parse_line("bench"), Ok(Request::Bench(BenchOptions::default())));
    }

    #[test]
    fn fault_takes_a_name_and_json() {
        let expected = FaultOptions { name: "process".to_owned(), json: true };
        assert_eq!(parse_line("fault process --json"), Ok(Request::Fault(expected)));
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, named) in [
            ("check --depp", "`--depp`"),
            ("check --from", "`--from`"),
            ("check --from a --only b", "exclude"),
            ("bench a b", "`b`"),
            ("bench --jsn", "`--jsn`"),
            ("bench --data", "`--data`"),
            ("fault", "`process`"),
            ("fault proces", "`proces`"),
            ("chek", "`chek`"),
            ("", "which"),
        ] {
            let message = parse_line(line).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }
}
