//! What identifies the data of a plan: shape, hash, and the words for a change.

use super::{Plan, parse};
use crate::plan::diff;

const UNICODE: &str = "16.0.0";

const TEXT_PLAN: &str = "[source]\njsonl = '-'\n[[stage]]\nuse = 'extract'\n[[stage]]\nuse = 'features'\n\
    columns = ['word_count']\n[[stage]]\nuse = 'filter'\nwhere = 'word_count >= 20'\n[[stage]]\nuse = 'dedup'\n\
    [sink]\npath = 'o'\n";

fn hash(text: &str) -> String {
    parse(text).hash(UNICODE)
}

/// The plan with one part replaced, which must be there.
fn with(from: &str, to: &str) -> String {
    assert!(TEXT_PLAN.contains(from), "{from}");
    TEXT_PLAN.replacen(from, to, 1)
}

#[test]
fn the_shape_is_canonical_json() {
    let expected = concat!(
        r#"{"data_version":2,"sink":{"compression_level":2,"format":"parquet","keep_pages":false,"#,
        r#""records_per_shard":10000,"row_group_rows":2000},"source":{"kind":"jsonl","url_key":"url"},"stages":[{"use":"extract"},"#,
        r#"{"columns":["word_count"],"use":"features"},{"use":"filter","where":"word_count >= 20"},"#,
        r#"{"by":"text","use":"dedup"}],"unicode_version":"16.0.0"}"#
    );
    assert_eq!(parse(TEXT_PLAN).shape(UNICODE).to_string(), expected);
    let download = Plan::for_fetch(["http://a/".into()], "out").shape(UNICODE);
    assert_eq!(download["source"].to_string(), r#"{"kind":"urls"}"#);
    assert!(download.get("unicode_version").is_none());
}

/// The hash is compared with those of older runs: if it changes, their output can no longer be resumed.
#[test]
fn the_hash_stays_what_it_was() {
    assert_eq!(hash(TEXT_PLAN), "8c2cbc0dcbdd9703d86491d825c2f6c815d2ef2e9cb4af842d607be4008fc6f3");
}

#[test]
fn what_does_not_shape_the_data_leaves_the_hash_alone() {
    let same = hash(TEXT_PLAN);
    for text in [
        with("path = 'o'", "path = 'elsewhere'"),
        with("word_count >= 20", "not (20 > word_count)"),
        with("use = 'dedup'", "use = 'dedup'\nby = 'text'"),
        with("path = 'o'", "path = 'o'\nformat = 'parquet'\nrecords_per_shard = 10_000"),
        with(
            "path = 'o'",
            "path = 'o'\ncolumns = ['id', 'url', 'final_url', 'status', 'content_type', 'charset', 'bytes', 'sha256', \
             'title', 'text', 'word_count', 'extra']",
        ),
        with(
            "[sink]",
            "[fetch]\nconcurrency = 3\nrate_per_host = '5/s'\nretries = 0\ntimeout_secs = 1\nmax_body_bytes = 1\n[run]\nworkers = 1\n[sink]",
        ),
        with("[sink]", "[fetch.headers]\nAuthorization = 'Bearer 1'\nCookie = 'a=b'\n[sink]"),
    ] {
        assert_eq!(hash(&text), same, "{text}");
    }
    let inline = super::SMALLEST.replacen("\"-\"", "['http://a/']", 1);
    assert_eq!(hash(&inline), hash(super::SMALLEST), "a list of URLs is the same wherever it is written");
}

/// A header may be a key to something, and the shape is written down.
#[test]
fn the_value_of_a_header_is_not_in_the_shape() {
    let shapes = ["hunter2", "hunter3"].map(|key| {
        parse(&with("[sink]", &format!("[fetch.headers]\nX-Key = '{key}'\n[sink]"))).shape(UNICODE)
    });
    assert!(!shapes[0].to_string().contains("hunter2"));
    let changes = diff(&shapes[0], &shapes[1]);
    assert!(changes.len() == 1 && changes[0].starts_with("`fetch.headers.x-key` was"), "{changes:?}");
}

#[test]
fn what_shapes_the_data_changes_the_hash() {
    let mut hashes = vec![hash(TEXT_PLAN), parse(TEXT_PLAN).hash("15.1.0")];
    for text in [
        with("jsonl = '-'", "urls = '-'"),
        with("jsonl = '-'", "jsonl = '-'\nurl_key = 'link'"),
        with("[[stage]]\nuse = 'extract'\n", ""),
        with("[[stage]]\nuse = 'features'", "[[stage]]\nuse = 'clean'\n[[stage]]\nuse = 'features'"),
        with("['word_count']", "['word_count', 'language']"),
        with("['word_count']", "['language', 'word_count']"),
        with(">= 20", ">= 21"),
        with("use = 'dedup'", "use = 'dedup'\nby = 'sha256'"),
        with("path = 'o'", "path = 'o'\nformat = 'jsonl'"),
        with("path = 'o'", "path = 'o'\nrecords_per_shard = 100"),
        with("path = 'o'", "path = 'o'\ncompression_level = 4"),
        with("path = 'o'", "path = 'o'\nrow_group_rows = 4"),
        with("path = 'o'", "path = 'o'\nkeep_pages = true"),
        with("path = 'o'", "path = 'o'\ncolumns = ['id', 'url']"),
        with("path = 'o'", "path = 'o'\ncolumns = ['url', 'id']"),
        with("[sink]", "[fetch]\nuser_agent = 'me'\n[sink]"),
        with("[sink]", "[fetch.headers]\nAccept-Language = 'ko'\n[sink]"),
        with("[sink]", "[fetch.headers]\nAccept-Language = 'de'\n[sink]"),
    ] {
        let hash = hash(&text);
        assert!(!hashes.contains(&hash), "{text}");
        hashes.push(hash);
    }
}

#[test]
fn changes_are_told_in_words() {
    let shape = |text: &str| parse(text).shape(UNICODE);
    let old = shape(TEXT_PLAN);
    assert_eq!(diff(&old, &old), Vec::<String>::new());
    let cases: [(String, &[&str]); 8] = [
        (
            with("path = 'o'", "path = 'o'\nrecords_per_shard = 200"),
            &["`sink.records_per_shard` was `10000`, is now `200`"],
        ),
        (
            with("jsonl = '-'", "urls = '-'"),
            &["`source.kind` was `jsonl`, is now `urls`", "`source.url_key` was `url`, is now not set"],
        ),
        (with(">= 20", ">= 50"), &["`filter.where` was `word_count >= 20`, is now `word_count >= 50`"]),
        (
            with("['word_count']", "['word_count', 'language']"),
            &["`features.columns` was `word_count`, is now `word_count, language`"],
        ),
        (with("[[stage]]\nuse = 'extract'\n", ""), &["the stage `extract` is gone"]),
        (with("[[stage]]\nuse = 'dedup'\n", ""), &["the stage `dedup` with `by` = `text` is gone"]),
        (
            with(
                "[[stage]]\nuse = 'dedup'",
                "[[stage]]\nuse = 'filter'\nwhere = 'id > 5'\n[[stage]]\nuse = 'dedup'",
            ),
            &["the stage `filter` with `where` = `id > 5` is new"],
        ),
        (
            with("path = 'o'", "path = 'o'\nformat = 'jsonl'"),
            &[
                "`sink.compression_level` was `2`, is now not set",
                "`sink.format` was `parquet`, is now `jsonl`",
                "`sink.row_group_rows` was `2000`, is now not set",
            ],
        ),
    ];
    for (text, words) in cases {
        assert_eq!(diff(&old, &shape(&text)), words, "{text}");
    }
    let newer = parse(TEXT_PLAN).shape("17.0.0");
    assert_eq!(diff(&old, &newer), ["`unicode_version` was `16.0.0`, is now `17.0.0`"]);
    let mut swapped = old.clone();
    swapped["stages"].as_array_mut().unwrap().swap(0, 3);
    assert_eq!(diff(&old, &swapped), ["the stages have another order"]);
}
