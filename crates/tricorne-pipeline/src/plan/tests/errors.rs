//! The words in which plans are refused.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{Plan, SMALLEST};
use crate::plan::{PlanErrorKind, PlanErrors};

/// What is wrong with a plan in a folder that has `urls.txt` and the folder `pages`.
fn refuse(text: &str) -> PlanErrors {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("urls.txt"), "").unwrap();
    fs::create_dir(folder.path().join("pages")).unwrap();
    Plan::parse(text, Path::new("plan.toml"), folder.path()).expect_err(text)
}

#[test]
fn all_mistakes_are_shown_with_their_lines() {
    let errors = refuse(
        r#"[source]
urls = "pages"
[fetch]
concurency = 8
retries = "5"
per_host = 0
max_body_bytes = "10 MBs"
[[stage]]
use = "features"
columns = ["word_cuont", "language", "language"]
[[stage]]
use = "extract"
[[stage]]
use = "filter"
where = "word_count >= 20 and lang == 'en'"
[sink]
records_per_shard = 0
format = "csv"
"#,
    );
    let expected = r#"plan.toml:2:8: `"pages"` is a folder, not a file
 2 | urls = "pages"
   |        ^^^^^^^
   = hint: name a file in it
plan.toml:4:1: unknown key `concurency` in `[fetch]`
 4 | concurency = 8
   | ^^^^^^^^^^
   = hint: did you mean `concurrency`?
plan.toml:5:11: `retries` must be a whole number, not the string `"5"`
 5 | retries = "5"
   |           ^^^
   = hint: write `5` without quotes
plan.toml:6:12: `per_host` is `0`
 6 | per_host = 0
   |            ^
   = hint: use a number from `1` to `65536`, or `"auto"`
plan.toml:7:18: `max_body_bytes` is `"10 MBs"`, which is not a size
 7 | max_body_bytes = "10 MBs"
   |                  ^^^^^^^^
   = hint: write a size like `"10 MiB"`, `"500 kB"` or a number of bytes
plan.toml:10:12: there is no feature `word_cuont`
 10 | columns = ["word_cuont", "language", "language"]
    |            ^^^^^^^^^^^^
    = hint: did you mean `word_count`?
plan.toml:10:38: `"language"` is in `columns` twice
 10 | columns = ["word_cuont", "language", "language"]
    |                                      ^^^^^^^^^^
    = hint: leave one out
plan.toml:12:7: the stage `extract` cannot come after `features`
 12 | use = "extract"
    |       ^^^^^^^^^
    = hint: the order is `extract`, `clean`, `features`, `filter` and `dedup`
plan.toml:15:31: there is no column `lang`
 15 | where = "word_count >= 20 and lang == 'en'"
    |                               ^^^^
    = hint: did you mean `language`?
plan.toml:16:1: `[sink]` has no `path`
 16 | [sink]
    | ^^^^^^
    = hint: add `path = "out"`, the output folder
plan.toml:17:21: `records_per_shard` is `0`
 17 | records_per_shard = 0
    |                     ^
    = hint: use a number from `1` to `10000000`
plan.toml:18:10: there is no format `csv`
 18 | format = "csv"
    |          ^^^^^
    = hint: use `parquet`, `jsonl` or `jsonl.zst`"#;
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn an_empty_plan_is_told_what_it_needs() {
    let expected = "plan.toml:1:1: the plan has no `[source]`\n   \
                    = hint: add `[source]` with a line like `urls = \"urls.txt\"`\n\
                    plan.toml:1:1: the plan has no `[sink]`\n   \
                    = hint: add `[sink]` with a line like `path = \"out\"`";
    assert_eq!(refuse("").to_string(), expected);
}

/// One mistake each: the plan, its place, kind, message and hint.
#[test]
fn each_mistake_has_its_own_words() {
    use PlanErrorKind::*;
    let source = |lines: &str| format!("[source]\n{lines}\n[sink]\npath = 'out'\n");
    let fetch = |lines: &str| format!("[source]\nurls = '-'\n[sink]\npath = 'out'\n[fetch]\n{lines}\n");
    let stages = |lines: &str| format!("[source]\nurls = '-'\n[sink]\npath = 'out'\n{lines}\n");
    let sink = |lines: &str| format!("[source]\nurls = '-'\n[sink]\npath = 'out'\n{lines}\n");
    let cases = [
        // Syntax.
        (
            source("urls = urls.txt"),
            (2, 8, Syntax),
            "not valid TOML: string values must be quoted, expected literal string",
            "put text in quotes",
        ),
        (source("urls = '-'\nurls = '-'"), (3, 1, Duplicate), "`urls` is there twice", "leave one out"),
        // Sections and keys.
        (
            format!("urls = '-'\n{SMALLEST}"),
            (1, 1, UnknownKey),
            "unknown key `urls` in the plan",
            "`urls` belongs to `[source]`",
        ),
        (
            format!("{SMALLEST}[stages]\n"),
            (5, 2, UnknownKey),
            "unknown key `stages` in the plan",
            "did you mean `stage`?",
        ),
        (
            source("urls = '-'\nretries = 3"),
            (3, 1, UnknownKey),
            "unknown key `retries` in `[source]`",
            "`retries` belongs to `[fetch]`",
        ),
        (
            source("urls = '-'\ncolour = 3"),
            (3, 1, UnknownKey),
            "unknown key `colour` in `[source]`",
            "the keys of `[source]` are `urls`, `jsonl`, `url_key`, `csv`, `parquet`, `url_column`, `delimiter` and `files`",
        ),
        (
            stages("[[stage]]\nuse = 'clean'\nwhere = 'x'"),
            (7, 1, UnknownKey),
            "unknown key `where` in `[[stage]]`",
            "the keys of `[[stage]]` are `use`",
        ),
        (
            stages("[stage]\nuse = 'clean'"),
            (5, 1, WrongType),
            "`stage` must be a list of stages, not one section",
            "start each stage with `[[stage]]`",
        ),
        // Source.
        (
            source(""),
            (1, 1, MissingKey),
            "`[source]` has no `urls`",
            "add `urls = \"urls.txt\"`, or `jsonl`, `csv`, `parquet`, or `files`",
        ),
        (
            source("urls = '-'\nfiles = 'x'"),
            (3, 1, Conflict),
            "`[source]` has both `urls` and `files`",
            "keep one, and make another plan for the other",
        ),
        (
            source("urls = '-'\nurl_key = 'x'"),
            (3, 1, Conflict),
            "`url_key` has no use without `jsonl`",
            "leave it out",
        ),
        (
            source("urls = 'list.jsonl'"),
            (2, 8, BadValue),
            "`urls` is `'list.jsonl'`, a list of JSON objects",
            "write `jsonl = \"list.jsonl\"`",
        ),
        (source("urls = []"), (2, 8, BadValue), "`urls` is empty", "give a file or a list of URLs"),
        (
            source("jsonl = ''"),
            (2, 9, BadValue),
            "`jsonl` is empty",
            "give it a value, or leave it out if it is not needed",
        ),
        (
            source("jsonl = '-'\nurl_column = 'x'"),
            (3, 1, Conflict),
            "`url_column` has no use without `csv` or `parquet`",
            "leave it out",
        ),
        (
            source("parquet = '-'"),
            (2, 11, BadValue),
            "`parquet` cannot be the standard input",
            "save it as a file first: a Parquet file is read from its end",
        ),
        (
            source("csv = '-'\ndelimiter = '||'"),
            (3, 13, BadValue),
            "`'||'` cannot be a delimiter",
            "write one ASCII character, like `\",\"`, `\";\"` or `\"\\t\"`",
        ),
        (
            source("urls = 'list.tsv.gz'"),
            (2, 8, BadValue),
            "`urls` is `'list.tsv.gz'`, a table with named columns",
            "write `csv = \"list.tsv.gz\"`",
        ),
        (
            source("files = 'a[b'"),
            (2, 9, BadValue),
            "`'a[b'` is not a file pattern: unclosed character class; missing ']'",
            "write a pattern like `\"pages/**/*.html\"`",
        ),
        (source("files = ['a', 'a']"), (2, 15, Duplicate), "`'a'` is in `files` twice", "leave one out"),
        // Fetch.
        (
            format!("{}[fetch]\n", source("files = '*'")),
            (5, 1, Conflict),
            "`[fetch]` has no use with `files`: nothing is downloaded",
            "leave `[fetch]` out",
        ),
        (
            fetch("timeout = 3"),
            (6, 1, UnknownKey),
            "unknown key `timeout` in `[fetch]`",
            "did you mean `timeout_secs`?",
        ),
        (
            fetch("per_host = 65537"),
            (6, 12, BadValue),
            "`per_host` is `65537`",
            "use a number from `1` to `65536`, or `\"auto\"`",
        ),
        (
            fetch("rate_per_host = '10/second'"),
            (6, 17, BadValue),
            "`rate_per_host` is `'10/second'`, which is not a rate",
            "write a number up to `1000000` and a time, like `\"10/s\"`, `\"90/min\"` or `\"500/h\"`",
        ),
        (
            fetch("rate_per_hosts = '10/s'"),
            (6, 1, UnknownKey),
            "unknown key `rate_per_hosts` in `[fetch]`",
            "did you mean `rate_per_host`?",
        ),
        (
            fetch("stall_secs = nan"),
            (6, 14, BadValue),
            "`stall_secs` is `nan`",
            "use a number of seconds from `0.001` to `3600`",
        ),
        (
            fetch("retries = 99999999999999999999"),
            (6, 11, BadValue),
            "`retries` is `99999999999999999999`",
            "use a number from `0` to `100`",
        ),
        (
            fetch("max_body_bytes = -1"),
            (6, 18, BadValue),
            "`max_body_bytes` is `-1`",
            "use a size from `1 B` to `4 GiB`",
        ),
        (
            fetch("retry_max_secs = 0.1"),
            (6, 18, Conflict),
            "`retry_base_secs`, `0.5`, is more than `retry_max_secs`, `0.1`",
            "set both, the first delay not longer than the longest",
        ),
        (
            fetch("headers = { Host = 'x' }"),
            (6, 13, Conflict),
            "the header `host` cannot be set",
            "leave it out: the client sets it",
        ),
        (
            fetch("headers = { 'a b' = 'x' }"),
            (6, 13, BadValue),
            "`'a b'` is not the name of a header",
            "names have letters, digits and `-`",
        ),
        (
            fetch("headers = { a = 'x', A = 'y' }"),
            (6, 22, Duplicate),
            "the header `a` is there twice",
            "leave one out: case does not tell headers apart",
        ),
        (
            fetch("headers = { User-Agent = 'x' }"),
            (6, 13, Conflict),
            "the header `user-agent` has its own key",
            "write `user_agent` in `[fetch]`",
        ),
        (
            fetch("user_agent = \"a\\r\\nHost: b\""),
            (6, 14, BadValue),
            "`user_agent` is `\"a\\r\\nHost: b\"`, which a header cannot carry",
            "use printable ASCII without space at either end",
        ),
        (
            fetch("ca_file = 'urls.txt'"),
            (6, 11, BadValue),
            "`'urls.txt'` cannot be used: extra root certificates cannot be used: no certificate found",
            "name a PEM file with one or more `BEGIN CERTIFICATE` blocks",
        ),
        // Stages.
        (
            stages("[[stage]]\nwhere = 'x'"),
            (5, 1, MissingKey),
            "`[[stage]]` has no `use`",
            "add a line like `use = \"extract\"`",
        ),
        (
            stages("[[stage]]\nuse = 'extrac'"),
            (6, 7, BadValue),
            "there is no stage `extrac`",
            "did you mean `\"extract\"`?",
        ),
        (
            stages("[[stage]]\nuse = 'decode'"),
            (6, 7, BadValue),
            "there is no stage `decode`",
            "leave it out: text is decoded before the first stage that needs it",
        ),
        (
            stages("[[stage]]\nuse = 'python'"),
            (6, 7, BadValue),
            "there is no stage `python`",
            "the stages are `extract`, `clean`, `features`, `filter` and `dedup`",
        ),
        (
            stages("[[stage]]\nuse = 'clean'\n[[stage]]\nuse = 'clean'"),
            (8, 7, Duplicate),
            "the stage `clean` is there twice, first on line 6",
            "leave one out",
        ),
        (
            stages("[[stage]]\nuse = 'dedup'\n[[stage]]\nuse = 'filter'\nwhere = 'id > 1'"),
            (8, 7, StageOrder),
            "the stage `filter` cannot come after `dedup`",
            "the order is `extract`, `clean`, `features`, `filter` and `dedup`",
        ),
        (
            stages("[[stage]]\nuse = 'dedup'\nby = 'text'"),
            (7, 6, StageOrder),
            "rows have no `text` to compare: no earlier stage makes it",
            "add a stage with `use = \"extract\"` before it, or write `by = \"sha256\"`",
        ),
        (
            stages("[[stage]]\nuse = 'dedup'\nby = 'txt'"),
            (7, 6, BadValue),
            "there is no dedup key `txt`",
            "did you mean `text`?",
        ),
        (
            stages("[[stage]]\nuse = 'filter'"),
            (5, 1, MissingKey),
            "`[[stage]]` has no `where`",
            "add a condition like `where = \"word_count >= 20\"`",
        ),
        (
            stages("[[stage]]\nuse = 'filter'\nwhere = 'id > 1 and word_count > 2'"),
            (7, 21, StageOrder),
            "no earlier stage makes the column `word_count`",
            "add `word_count` to the `columns` of a stage with `use = \"features\"`",
        ),
        (
            stages("[[stage]]\nuse = 'filter'\nwhere = 'extra == \"\"'"),
            (7, 10, StageOrder),
            "no earlier stage makes the column `extra`",
            "only a `jsonl`, `csv` or `parquet` source gives `extra`",
        ),
        (
            stages("[[stage]]\nuse = 'filter'\nwhere = '''\n  id > 1 and\n  1 < id < 3'''"),
            (9, 10, Expression),
            "the comparisons `<` and `<` are chained",
            "write `1 < id and id < 3`",
        ),
        (
            stages("[[stage]]\nuse = 'filter'\nwhere = \"url == '\\u4e16界' and status = 200\""),
            (7, 38, Expression),
            "`=` is not an operator",
            "write `==`",
        ),
        // Sink and run.
        (
            sink("format = 'jsonl'\nrow_group_rows = 5"),
            (6, 1, Conflict),
            "`row_group_rows` has no use with the format `jsonl`",
            "leave it out",
        ),
        (
            sink("compression_level = 23"),
            (5, 21, BadValue),
            "`compression_level` is `23`",
            "use a number from `1` to `22`",
        ),
        (
            sink("columns = ['id', 'word_cuont']\n[[stage]]\nuse = 'clean'"),
            (5, 18, BadValue),
            "there is no column `word_cuont`",
            "did you mean `word_count`?",
        ),
        (
            sink("columns = ['id', 'ulr']"),
            (5, 18, BadValue),
            "there is no column `ulr`",
            "did you mean `url`?",
        ),
        (
            sink("columns = ['id', 'title']\n[[stage]]\nuse = 'clean'"),
            (5, 18, StageOrder),
            "rows have no column `title` to write",
            "add a stage with `use = \"extract\"`",
        ),
        (
            sink("columns = ['id', 'file']"),
            (5, 18, StageOrder),
            "rows have no column `file` to write",
            "set `keep_pages = true` in `[sink]`",
        ),
        (
            sink("columns = ['url', 'status']"),
            (5, 11, BadValue),
            "`columns` has no `id`",
            "add `\"id\"`: a retry finds rows by it",
        ),
        (
            sink("columns = ['id', 'url', 'id']"),
            (5, 25, Duplicate),
            "`'id'` is in `columns` twice",
            "leave one out",
        ),
        (sink("columns = []"), (5, 11, BadValue), "`columns` is empty", "give a list of columns"),
        (
            sink("[run]\nworkers = '4'"),
            (6, 11, WrongType),
            "`workers` must be a whole number or `\"auto\"`, not the string `'4'`",
            "write `4` without quotes",
        ),
    ];
    for (text, place, message, hint) in cases {
        let errors = refuse(&text);
        let [error] = errors.errors() else { panic!("{text}\n{errors}") };
        let found = ((error.line, error.column, error.kind), error.message.as_str(), error.hint.as_deref());
        assert_eq!(found, (place, message, Some(hint)), "{text}");
    }
}

#[test]
fn wrong_types_say_what_was_given() {
    for (text, message) in [
        ("sink = 3", "`sink` must be a section that starts with `[sink]`, not the integer `3`"),
        ("run = []", "`run` must be a section that starts with `[run]`, not the array `[]`"),
        ("stage = [1]", "`stage` must be a section that starts with `[[stage]]`, not the integer `1`"),
        ("source.urls = 2024-01-01", "`urls` must be a string, not the datetime `2024-01-01`"),
        ("source.urls = ['a', 1.5]", "`urls` must be a list of strings, not the float `1.5`"),
        (
            "source.files = { a = 1 }",
            "`files` must be a pattern or a list of patterns, not the table `{ a = 1 }`",
        ),
        ("sink.keep_pages = 1", "`keep_pages` must be true or false, not the integer `1`"),
        (
            "fetch.headers = true",
            "`headers` must be a section that starts with `[fetch.headers]`, not the boolean `true`",
        ),
    ] {
        let errors = refuse(text);
        assert!(errors.errors().iter().any(|error| error.message == message), "{text}\n{errors}");
    }
}

#[test]
fn a_missing_list_is_named_with_its_neighbour() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lists")).unwrap();
    fs::write(folder.path().join("lists/urls.txt"), "").unwrap();
    let text = "[source]\nurls = \"lists/url.txt\"\n[sink]\npath = 'o'\n";
    let errors = Plan::parse(text, Path::new("plan.toml"), folder.path()).unwrap_err();
    let [error] = errors.errors() else { panic!("{errors}") };
    assert_eq!((error.line, error.column, error.kind), (2, 8, PlanErrorKind::MissingFile));
    assert_eq!(
        error.message,
        format!("there is no file `{}`", folder.path().join("lists/url.txt").display())
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `lists/urls.txt`?"));
}

#[test]
fn a_misspelt_stage_is_one_mistake() {
    let text = "[source]\nurls = '-'\n[[stage]]\nuse = 'featurs'\n[[stage]]\nuse = 'filter'\n\
                where = 'word_count > 1'\n[[stage]]\nuse = 'dedup'\nby = 'text'\n[sink]\npath = 'o'\n";
    let errors = refuse(text);
    assert_eq!(errors.errors().len(), 1, "{errors}");
}

#[test]
fn wide_characters_and_tabs_keep_the_marks_in_place() {
    let errors = refuse("[source]\nurls = '-'\n[sink]\n\t\"世界\" = 1\n\tpath = 'o'\n");
    let expected = "plan.toml:4:2: unknown key `世界` in `[sink]`\n 4 | \t\"世界\" = 1\n   | \t^^^^^^\n   \
                    = hint: the keys of `[sink]` are `path`, `format`, `records_per_shard`, \
                    `compression_level`, `row_group_rows`, `keep_pages` and `columns`";
    assert_eq!(errors.to_string(), expected);
    let errors = refuse("[source]\nurls = '-'\n[sink]\npath = 'o' # 世界\nformat = { 世界 = 1 }\n");
    assert_eq!(errors.errors()[0].line, 5);
}

#[test]
fn long_lines_are_cut_around_the_mistake() {
    let urls = vec!["'http://example.org/'"; 100].join(", ");
    let errors = refuse(&format!("[source]\nurls = [{urls}, 7, {urls}]\n[sink]\npath = 'o'\n"));
    let shown = errors.to_string();
    let line = shown.lines().nth(1).unwrap();
    assert!(line.chars().count() < 140, "{line}");
    assert!(line.starts_with(" 2 | …") && line.ends_with('…') && line.contains(", 7, "), "{line}");
    let mark = shown.lines().nth(2).unwrap().chars().position(|c| c == '^');
    assert_eq!(mark, line.chars().position(|c| c == '7'), "{shown}");
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let errors = refuse("[source]\nurls = '\u{1b}[31m'\n");
    assert!(!errors.to_string().contains('\u{1b}'), "{errors:?}");
}

#[test]
fn thousands_of_mistakes_are_cut_short() {
    let errors = refuse(&"a = b\n".repeat(300_000));
    assert_eq!(errors.errors().len(), 100);
    let shown = errors.to_string();
    assert!(shown.lines().count() < 100);
    let more: usize = shown.lines().last().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(more >= 300_000 - 20, "{shown}");
}

#[test]
fn an_unreadable_plan_file_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    let load = |path: &Path| {
        let errors = Plan::load(path).unwrap_err();
        let [error] = errors.errors() else { panic!("{errors}") };
        error.clone()
    };
    fs::write(&path, "").unwrap();
    let error = load(&folder.path().join("plam.toml"));
    assert_eq!(
        (error.kind, error.message.as_str()),
        (PlanErrorKind::Unreadable, "there is no such plan file")
    );
    assert_eq!(error.hint, Some(format!("did you mean `{}`?", path.display())));
    assert_eq!(load(folder.path()).message, "the plan file cannot be read: is a directory");

    fs::write(&path, b"[source]\n# caf\xe9\n").unwrap();
    let error = load(&path);
    assert_eq!((error.line, error.column, error.message.as_str()), (2, 6, "the byte `0xe9` is not UTF-8"));
    assert_eq!(error.hint.as_deref(), Some("save the plan as UTF-8"));

    fs::write(&path, vec![b'#'; (4 << 20) + 1]).unwrap();
    let error = load(&path);
    assert_eq!(error.message, "the file is too large for a plan");
    assert_eq!(error.hint.as_deref(), Some("give the plan, a TOML file, not the data"));
}

/// A plan with everything, to break.
const WHOLE: &str = "[source]\njsonl = '-'\nurl_key = \"u\"\n[fetch]\nretries = 5\nstall_secs = 1.5\n\
    max_body_bytes = \"10 MiB\"\nheaders = { a = 'b' }\n[[stage]]\nuse = 'features'\ncolumns = ['language']\n\
    [[stage]]\nuse = 'filter'\nwhere = \"language == '\\u4e16' and id > 1\"\n[[stage]]\nuse = 'dedup'\n\
    [sink]\npath = 'o'\r\nformat = 'parquet'\n[run]\nworkers = 'auto'\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is cut out or put in, parsing ends with a plan or with errors at places that exist.
    #[test]
    fn broken_plans_are_refused_at_places_that_exist(
        at in 0..WHOLE.len(),
        cut in 0_usize..6,
        put in prop_oneof![
            Just(String::new()),
            prop::sample::select(vec!["\"", "'", "[", "]", "\n", "\r\n", "=", "\\", "\\u00", "'''", "{", "é", "\0", "9", "a.b", "[[x]]"])
                .prop_map(str::to_owned),
            "\\PC{0,3}",
        ],
    ) {
        let text = format!("{}{put}{}", &WHOLE[..at], WHOLE.get(at + cut..).unwrap_or_default());
        if let Err(errors) = Plan::parse(&text, Path::new("plan.toml"), Path::new("")) {
            prop_assert!(!errors.errors().is_empty());
            for error in errors.errors() {
                let line = text.split('\n').nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{errors}");
            }
            prop_assert!(errors.to_string().starts_with("plan.toml:"));
        }
    }
}

#[test]
fn the_plan_to_break_is_whole() {
    Plan::parse(WHOLE, Path::new("plan.toml"), Path::new("")).unwrap();
}
