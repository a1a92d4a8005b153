//! Plans: what is read, what is refused and in which words, what is printed back, and what identifies data.

mod errors;
mod identity;
mod round_trip;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tricorne_exec::limit::Rate;

use super::{
    DedupKey, Feature, Fetch, Format, InputPath, Limit, Plan, PrivateAddresses, Run, Sink, Source, Stage,
};

/// The smallest plan.
const SMALLEST: &str = "[source]\nurls = \"-\"\n[sink]\npath = \"out\"\n";

/// A certificate authority; its key was thrown away.
pub(super) const CA_PEM: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBfzCCASWgAwIBAgIUGwXsnwJWzCc8voKV3lmLTrRZsQswCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJUGxhbiB0ZXN0MCAXDTI2MTEyNTA5NTEwMloYDzIxMjYxMTAx\n\
MDk1MTAyWjAUMRIwEAYDVQQDDAlQbGFuIHRlc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAATLDIPm3IP90tvxetAUzgAUzLu5S/jy0ppnMY4AASD4PaFzBuubpomC\n\
XNK3sABSGlXcG3AgjzKQHYTJWiXIMt06o1MwUTAdBgNVHQ4EFgQUFnEn3qPtRxfI\n\
IRMpmzjQbPxjKc8wHwYDVR0jBBgwFoAUFnEn3qPtRxfIIRMpmzjQbPxjKc8wDwYD\n\
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAjBRqdSXx+51NYh0MvnA/d\n\
F+K+Nymq66NjW+XKRbiOYwIhAJNm50wZ25X6E5Nx+PtbHIZbj7HBQ7zuIiG1lnj2\n\
bM9a\n\
-----END CERTIFICATE-----\n";

/// Parses a plan whose folder is `base`; the file is called `plan.toml`.
fn parse_in(base: &Path, text: &str) -> Plan {
    Plan::parse(text, Path::new("plan.toml"), base).unwrap_or_else(|errors| panic!("{errors}"))
}

fn parse(text: &str) -> Plan {
    parse_in(Path::new("base"), text)
}

fn fixed(number: usize) -> Limit {
    Limit::Fixed(NonZeroUsize::new(number).expect("not zero"))
}

fn column_names(plan: &Plan) -> Vec<String> {
    plan.columns().into_iter().map(|column| column.name).collect()
}

#[test]
fn the_smallest_plan_has_every_default() {
    let plan = parse(SMALLEST);
    assert_eq!(plan.source, Source::Urls { path: InputPath::Stdin });
    assert_eq!(plan.fetch, Some(Fetch::default()));
    assert_eq!(plan.stages, []);
    assert_eq!(plan.sink, Sink::new("base/out"));
    assert_eq!(plan.run, Run::default());
    assert_eq!(column_names(&plan), ["id", "url", "final_url", "status", "content_type", "bytes", "sha256"]);
}

#[test]
fn every_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::write(base.join("pages.jsonl"), "").unwrap();
    fs::write(base.join("ca.pem"), CA_PEM).unwrap();
    let plan = parse_in(
        base,
        r#"
            [source]
            jsonl = "pages.jsonl"
            url_key = "link"
            [fetch]
            concurrency = 64
            per_host = "auto"
            rate_per_host = "90/min"
            connect_secs = 1
            first_byte_secs = 2.5
            stall_secs = 3.0
            timeout_secs = 4
            retries = 0
            retry_base_secs = 0.25
            retry_max_secs = 8
            retry_after_max_secs = 9
            max_redirects = 0x2
            max_body_bytes = "10 MiB"
            max_decoded_bytes = 1_000
            user_agent = "me (me@example.org)"
            ca_file = "ca.pem"
            private_addresses = "refuse"
            headers = { Accept-Language = "en", "X-Key" = "" }
            [[stage]]
            use = "extract"
            [[stage]]
            use = "clean"
            [[stage]]
            use = "features"
            columns = ["language", "word_count"]
            [[stage]]
            use = "filter"
            where = "word_count >= 20"
            [[stage]]
            use = "filter"
            where = 'not extra == "{}"'
            [[stage]]
            use = "dedup"
            by = "sha256"
            [sink]
            path = "/data/out"
            format = "parquet"
            records_per_shard = 7
            compression_level = 9
            row_group_rows = 11
            keep_pages = true
            [run]
            workers = 2
            watchdog_secs = 5
        "#,
    );
    assert_eq!(
        plan.source,
        Source::Jsonl { path: InputPath::File(base.join("pages.jsonl")), url_key: "link".into() }
    );
    let headers = [("accept-language", "en"), ("x-key", "")];
    assert_eq!(
        plan.fetch,
        Some(Fetch {
            concurrency: fixed(64),
            per_host: Limit::Auto,
            rate_per_host: Some(Rate::new(90, Duration::from_secs(60))),
            connect_secs: 1.0,
            first_byte_secs: 2.5,
            stall_secs: 3.0,
            timeout_secs: 4.0,
            retries: 0,
            retry_base_secs: 0.25,
            retry_max_secs: 8.0,
            retry_after_max_secs: 9.0,
            max_redirects: 2,
            max_body_bytes: 10 << 20,
            max_decoded_bytes: 1_000,
            user_agent: "me (me@example.org)".into(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
            private_addresses: PrivateAddresses::Refuse,
            ca_file: Some(base.join("ca.pem")),
        })
    );
    let names: Vec<_> = plan.stages.iter().map(Stage::name).collect();
    assert_eq!(names, ["extract", "clean", "features", "filter", "filter", "dedup"]);
    assert_eq!(plan.stages[2], Stage::Features { columns: vec![Feature::Language, Feature::WordCount] });
    assert_eq!(plan.stages[5], Stage::Dedup { by: DedupKey::Sha256 });
    assert_eq!(
        plan.sink,
        Sink {
            path: PathBuf::from("/data/out"),
            format: Format::Parquet,
            records_per_shard: 7,
            compression_level: 9,
            row_group_rows: 11,
            keep_pages: true,
            columns: None,
        }
    );
    assert_eq!(plan.run, Run { workers: fixed(2), watchdog_secs: 5.0 });
}

#[test]
fn the_sink_may_name_its_columns() {
    let plan = |columns: &str| {
        parse(&format!(
            "[source]\nurls = '-'\n[[stage]]\nuse = 'features'\n[sink]\npath = 'o'\nkeep_pages = true\n{columns}"
        ))
    };
    let written = |plan: &Plan| plan.written_columns().iter().map(|column| column.name()).collect::<Vec<_>>();
    let all = plan("");
    assert_eq!(written(&all), column_names(&all));
    assert!(all.needs_text());

    let some = plan("columns = ['word_count', 'id', 'file']");
    assert_eq!(written(&some), ["word_count", "id", "file"]);
    assert!(!some.needs_text());
    // A condition can still name the others.
    assert_eq!(column_names(&some), column_names(&all));

    let spelt_out = plan(&format!("columns = {:?}", column_names(&all)));
    assert_eq!(spelt_out, all);
}

#[test]
fn columns_follow_from_source_and_stages() {
    let all = "[source]\njsonl = '-'\n[[stage]]\nuse = 'extract'\n[[stage]]\nuse = 'features'\n[sink]\npath = 'o'\n";
    assert_eq!(
        column_names(&parse(all)),
        [
            "id",
            "url",
            "final_url",
            "status",
            "content_type",
            "charset",
            "bytes",
            "sha256",
            "title",
            "text",
            "word_count",
            "unique_words",
            "avg_word_len",
            "char_count",
            "language",
            "extra",
        ]
    );
    let clean_only = "[source]\nfiles = '*.txt'\n[[stage]]\nuse = 'clean'\n[sink]\npath = 'o'\n";
    assert_eq!(
        column_names(&parse(clean_only)),
        ["id", "url", "final_url", "status", "content_type", "charset", "bytes", "sha256", "text"]
    );
    let download =
        "[source]\nurls = '-'\n[[stage]]\nuse = 'filter'\nwhere = 'status == 200'\n[sink]\npath = 'o'\n";
    assert_eq!(column_names(&parse(download)).len(), 7);
    let kept = column_names(&parse(&format!("{all}keep_pages = true\n")));
    assert_eq!(kept[15..], ["extra", "file"]);
}

#[test]
fn a_filter_finds_its_columns_in_those_of_the_plan() {
    let text = "[source]\njsonl = '-'\n[[stage]]\nuse = 'extract'\n[[stage]]\nuse = 'features'\n\
                [[stage]]\nuse = 'filter'\nwhere = 'language in [\"en\"] and status == 200 and extra != \"\"'\n\
                [sink]\npath = 'o'\n";
    let plan = parse(text);
    let Stage::Filter { expr, .. } = &plan.stages[2] else { panic!("{:?}", plan.stages[2]) };
    let columns = plan.columns();
    let names: Vec<_> = expr.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["status", "language", "extra"]);
    for column in expr.columns() {
        assert_eq!(columns[column.index].name, column.name);
    }
}

#[test]
fn dedup_is_by_text_where_there_is_text() {
    let plan = |stages: &str| {
        parse(&format!("[source]\nurls = '-'\n{stages}[[stage]]\nuse = 'dedup'\n[sink]\npath = 'o'\n"))
    };
    assert_eq!(plan("").stages, [Stage::Dedup { by: DedupKey::Sha256 }]);
    let with_text = plan("[[stage]]\nuse = 'clean'\n");
    assert_eq!(with_text.stages, [Stage::Clean, Stage::Dedup { by: DedupKey::Text }]);
}

#[test]
fn urls_and_files_can_be_lists() {
    let plan = parse("[source]\nurls = ['http://a/', 'http://b/', 'http://a/']\n[sink]\npath = 'o'\n");
    let urls = ["http://a/", "http://b/", "http://a/"].map(str::to_owned);
    assert_eq!(plan.source, Source::UrlList(urls.into()));
    let plan = parse("[source]\nfiles = ['a/*.html', '/b/**']\n[sink]\npath = 'o'\n");
    assert_eq!(plan.source, Source::Files { patterns: vec!["a/*.html".into(), "/b/**".into()] });
    assert_eq!(plan.fetch, None);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_fine() {
    let plan = parse(&format!("\u{feff}{}", SMALLEST.replace('\n', "\r\n")));
    assert_eq!(plan, parse(SMALLEST));
}

#[test]
fn a_plan_file_is_read_with_paths_from_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    fs::write(folder.path().join("urls.txt"), "").unwrap();
    fs::write(&path, "[source]\nurls = 'urls.txt'\n[sink]\npath = '../out'\n").unwrap();
    let plan = Plan::load(&path).unwrap();
    assert_eq!(plan.source, Source::Urls { path: InputPath::File(folder.path().join("urls.txt")) });
    assert_eq!(plan.sink.path, folder.path().join("../out"));
    assert_eq!((plan.path, plan.base_dir.as_path()), (path, folder.path()));
}

#[test]
fn prep_takes_what_exists_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(inside("page[1].html"), "").unwrap();
    fs::create_dir(inside("pages")).unwrap();
    let files = [inside("page[1].html"), inside("pages/"), "*.txt".into(), "*.txt".into()];
    let plan = Plan::for_prep(files, "out");
    let Source::Files { patterns } = &plan.source else { panic!("{:?}", plan.source) };
    let matches =
        |pattern: &str, path: &str| globset::Glob::new(pattern).unwrap().compile_matcher().is_match(path);
    assert_eq!(patterns.len(), 3);
    assert!(matches(&patterns[0], &inside("page[1].html")));
    assert!(!matches(&patterns[0], &inside("page1.html")));
    assert!(matches(&patterns[1], &inside("pages/a/b.htm")));
    assert!(matches(&patterns[1], &inside("pages/b.txt")));
    assert!(!matches(&patterns[1], &inside("pages/b.png")));
    assert_eq!(patterns[2], "*.txt");
    let names: Vec<_> = plan.stages.iter().map(Stage::name).collect();
    assert_eq!(names, ["extract", "clean", "features"]);
}
