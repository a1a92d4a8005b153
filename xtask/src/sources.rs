//! What the code of each crate may touch: the rules of the layers that an edge between crates cannot show.

use crate::lexer::{Token, tokens};

/// Checks one Rust file, named by its path from the root.
pub(crate) fn check(name: &str, source: &str) -> Vec<String> {
    let all = tokens(source);
    let mut findings = Vec::new();
    let mut found =
        |line: usize, what: &str, why: &str| findings.push(format!("{name}:{line}: {what}: {why}"));

    if !may_be_unsafe(name) {
        for token in all.iter().filter(|token| token.text == "unsafe") {
            found(
                token.line,
                "`unsafe`",
                "only `tricorne-sync`, the `sys` module of `tricorne-exec`, the allocator of the command and the `process::memory` of the bindings may use it",
            );
        }
    }
    if name.starts_with("crates/tricorne-pipeline/src/") {
        for path in [&["tokio", "sync"][..], &["std", "sync", "mpsc"], &["crossbeam"]] {
            for line in mentions(&all, path) {
                found(
                    line,
                    &format!("`{}`", path.join("::")),
                    "the pipeline runs on our own queues, permits and futures",
                );
            }
        }
    }
    if !may_print(name) {
        let product = without_tests(&all);
        let why = "only the `tricorne` crate prints, reads the environment or picks exit codes";
        for path in [&["std", "env"][..], &["process", "exit"]] {
            for line in mentions(&product, path) {
                found(line, &format!("`{}`", path.join("::")), why);
            }
        }
        for pair in product.windows(2) {
            let macro_name = pair[0].text.as_str();
            if pair[1].text == "!" && matches!(macro_name, "print" | "println" | "eprint" | "eprintln") {
                found(pair[0].line, &format!("`{macro_name}!`"), why);
            }
        }
    }
    findings
}

fn may_be_unsafe(name: &str) -> bool {
    name.starts_with("crates/tricorne-sync/")
        || name.starts_with("crates/tricorne-exec/src/sys")
        // They fork a process with threads, and set signals: that is what they test.
        || name.starts_with("crates/tricorne-exec/tests/process/")
        || name == "crates/tricorne/src/allocator.rs"
        || name == "crates/tricorne-py/src/process/memory.rs"
}

/// The command itself, and what is not part of the product: xtask, benches, tests, examples, build scripts.
fn may_print(name: &str) -> bool {
    !name.starts_with("crates/")
        || name.starts_with("crates/tricorne/")
        || name.ends_with("/tests.rs")
        || name.ends_with("/build.rs")
        || ["/tests/", "/examples/", "/benches/"].iter().any(|folder| name.contains(folder))
}

/// The lines where a path is named, alone (`a::b`) or in a group (`a::{c, b}`). The last word also counts as a beginning
/// of a crate name (`crossbeam`, `crossbeam_channel`) if the path is one word.
fn mentions(tokens: &[Token], path: &[&str]) -> Vec<usize> {
    let mut lines = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let matched = match path {
            [only] => {
                token.text == *only || token.text.strip_prefix(only).is_some_and(|rest| rest.starts_with('_'))
            }
            _ => token.text == path[0] && continues(tokens, index + 1, &path[1..]),
        };
        if matched {
            lines.push(token.line);
        }
    }
    lines
}

/// Whether `:: rest` follows at `at`, directly or as one of a group.
fn continues(tokens: &[Token], at: usize, rest: &[&str]) -> bool {
    let Some((first, further)) = rest.split_first() else { return true };
    let text = |index: usize| tokens.get(index).map(|token| token.text.as_str());
    if text(at) != Some("::") {
        return false;
    }
    if text(at + 1) == Some(first) {
        return continues(tokens, at + 2, further);
    }
    if text(at + 1) != Some("{") {
        return false;
    }
    let mut depth = 1;
    let mut item_starts = true;
    let mut index = at + 2;
    while depth > 0 {
        match text(index) {
            Some("{") => depth += 1,
            Some("}") => depth -= 1,
            Some(word)
                if item_starts && depth == 1 && word == *first && continues(tokens, index + 1, further) =>
            {
                return true;
            }
            Some(_) => {}
            None => return false,
        }
        item_starts = text(index) == Some(",");
        index += 1;
    }
    false
}

/// The tokens without the modules under `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const TEST_MODULE: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let window = tokens[index..].iter().map(|token| token.text.as_str());
        let is_test =
            window.clone().count() > TEST_MODULE.len() && window.take(TEST_MODULE.len()).eq(TEST_MODULE);
        if !is_test {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let mut depth = 0;
        index += TEST_MODULE.len() + 1;
        while index < tokens.len() {
            match tokens[index].text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            index += 1;
            // A module in a file of its own ends with its semicolon, at once.
            if depth == 0 {
                break;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "crates/tricorne-pipeline/src/runner.rs";

    fn lines(name: &str, source: &str) -> Vec<String> {
        check(name, source)
            .iter()
            .map(|finding| finding.split(": ").take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn the_pipeline_may_not_borrow_queues() {
        for (source, what) in [
            ("use tokio::sync::Mutex;", "`tokio::sync`"),
            ("use tokio::{net, sync::Notify};", "`tokio::sync`"),
            ("use tokio::{net::{self}, sync};", "`tokio::sync`"),
            ("fn f() { ::tokio :: sync :: oneshot::channel(); }", "`tokio::sync`"),
            ("use std::{fs, sync::{Arc, mpsc}};", "`std::sync::mpsc`"),
            ("let (a, b) = std::sync::mpsc::channel();", "`std::sync::mpsc`"),
            ("use crossbeam_channel::bounded;", "`crossbeam`"),
            ("use crossbeam::queue::SegQueue;", "`crossbeam`"),
        ] {
            assert_eq!(lines(PIPELINE, source), [format!("{PIPELINE}:1 {what}")], "{source}");
            assert_eq!(lines("crates/tricorne-http/src/lib.rs", source), Vec::<String>::new(), "{source}");
        }
        for source in [
            "// not tokio::sync",
            "use tokio::net; use tricorne::sync;",
            "use tokio::{io::{sync}, time};",
            "use std::sync::Arc;",
        ] {
            assert_eq!(lines(PIPELINE, source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn only_the_command_prints_reads_the_environment_and_exits() {
        for source in [
            "fn f() { println!(); }",
            "fn f() { eprint!(\"x\"); }",
            "use std::env;",
            "use std::{env, fs};",
            "fn f() { std::process::exit(1) }",
            "use std::process::{self, exit};",
        ] {
            assert_eq!(lines("crates/tricorne-exec/src/pool.rs", source).len(), 1, "{source}");
            for exempt in
                ["crates/tricorne/src/main.rs", "xtask/src/main.rs", "crates/tricorne-exec/tests/pool.rs"]
            {
                assert_eq!(lines(exempt, source), Vec::<String>::new(), "{exempt}: {source}");
            }
        }
        assert_eq!(
            lines("crates/tricorne-exec/src/pool.rs", "writeln!(f, \"{}\", env!(\"X\"))"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_test_module_may_print_and_the_code_after_it_may_not() {
        let source = "#[cfg(test)]\nmod tests {\n fn f() { println!(); }\n}\n#[cfg(test)] mod more;\nfn g() { println!(); }";
        assert_eq!(
            lines("crates/tricorne-exec/src/pool.rs", source),
            ["crates/tricorne-exec/src/pool.rs:6 `println!`"]
        );
    }

    #[test]
    fn unsafe_has_its_places() {
        let source = "fn f() {\n unsafe { g() }\n}";
        for place in [
            "crates/tricorne-sync/src/lock.rs",
            "crates/tricorne-exec/src/sys.rs",
            "crates/tricorne-exec/src/sys/unix.rs",
            "crates/tricorne-exec/tests/process/regressions.rs",
            "crates/tricorne/src/allocator.rs",
            "crates/tricorne-py/src/process/memory.rs",
        ] {
            assert_eq!(lines(place, source), Vec::<String>::new(), "{place}");
        }
        for place in ["crates/tricorne/src/main.rs", "crates/tricorne-exec/src/pool.rs", "benches/src/lib.rs"]
        {
            assert_eq!(lines(place, source), [format!("{place}:2 `unsafe`")]);
        }
        assert_eq!(
            lines("crates/tricorne/src/main.rs", "#![forbid(unsafe_code)] // unsafe"),
            Vec::<String>::new()
        );
    }
}
