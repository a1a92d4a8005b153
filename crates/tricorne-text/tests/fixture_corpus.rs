//! All steps on the real pages of `testdata/corpus`: against the ground truth of its manifest, and against
//! golden results.
//!
//! After a wanted change of results, run with `TRICORNE_UPDATE_GOLDEN=1` and look at the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tricorne_text::{
    CharsetSource, Counter, Decoded, Extracted, Extractor, Language, MainText, Sniffed, clean, decode,
    language, sniff,
};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/corpus");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fixture_corpus.tsv");

struct Page {
    path: String,
    charset: String,
    language: String,
    body: Vec<u8>,
}

fn pages() -> Vec<Page> {
    let manifest = fs::read_to_string(Path::new(CORPUS).join("manifest.jsonl")).unwrap();
    let pages: Vec<Page> = manifest
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            let path = field("path");
            let body = fs::read(Path::new(CORPUS).join(&path)).unwrap();
            Page { path, charset: field("charset"), language: field("lang"), body }
        })
        .collect();
    assert_eq!(pages.len(), 260);
    pages
}

/// The name that the web standard has for the label in the manifest.
fn standard_name(label: &str) -> &str {
    if label == "iso-8859-1" { "windows-1252" } else { label }
}

#[test]
fn every_page_is_a_page() {
    for page in pages() {
        for content_type in [None, Some("text/html"), Some("application/octet-stream")] {
            let kind = sniff(&page.body, content_type);
            assert!(matches!(kind, Sniffed::Html | Sniffed::Xhtml), "{}: {kind}", page.path);
        }
    }
}

#[test]
fn the_charset_of_every_page_is_found() {
    for page in pages() {
        let Decoded { charset, source, had_errors, .. } = decode(&page.body, Some("text/html"));
        let expected = (standard_name(&page.charset), CharsetSource::Meta, false);
        assert_eq!((charset, source, had_errors), expected, "{}", page.path);
    }
}

#[test]
fn the_charset_is_found_without_its_declaration() {
    for page in pages() {
        let with = decode(&page.body, None).text.into_owned();
        // The declaration, blotted out byte by byte.
        let mut body = page.body;
        while let Some(at) = body.windows(8).position(|window| window.eq_ignore_ascii_case(b"charset=")) {
            body[at..at + 8].fill(b'x');
        }
        while let Some(at) = body.windows(9).position(|window| window.eq_ignore_ascii_case(b"encoding=")) {
            body[at..at + 9].fill(b'x');
        }
        let without = decode(&body, None);
        assert_eq!(without.source, CharsetSource::Detected, "{}", page.path);
        let blotted = with.replace("charset=", "xxxxxxxx").replace("encoding=", "xxxxxxxxx");
        assert_eq!(without.text, blotted, "{} as {}", page.path, without.charset);
    }
}

#[test]
fn the_language_of_nearly_every_page_is_found() {
    // Two pages that the manifest has as English are in Portuguese.
    const REALLY_PORTUGUESE: &[&str] =
        &["pages/apache/en/new_features_2_4.html", "pages/apache/en/upgrading.html"];
    let extractor = MainText::new();
    let mut wrong = Vec::new();
    for page in pages() {
        let expected = if REALLY_PORTUGUESE.contains(&&*page.path) { "pt" } else { &page.language[..2] };
        let text = extractor.extract(&decode(&page.body, None).text, None).unwrap().text;
        let found = language(&clean(&text));
        if found.is_none_or(|found| found.code != expected) {
            wrong.push((page.path, found));
        }
    }
    // Lists of English names with little around them in the page's own language.
    assert!(wrong.len() <= 8, "{wrong:#?}");
}

#[test]
fn golden_results() {
    let extractor = MainText::new();
    let mut counter = Counter::new();
    let mut results = String::from("path\tmethod\tlanguage\tword_count\tunique_words\tchar_count\ttitle\n");
    for page in pages() {
        let Extracted { title, text, method, .. } =
            extractor.extract(&decode(&page.body, None).text, None).unwrap();
        let text = clean(&text);
        assert!(text.chars().count() >= 100, "{} gives only {text:?}", page.path);
        let counts = counter.count(&text);
        let code = language(&text).map_or("-", |Language { code, .. }| code);
        writeln!(
            results,
            "{}\t{}\t{code}\t{}\t{}\t{}\t{}",
            page.path,
            method.as_str(),
            counts.word_count,
            counts.unique_words,
            counts.char_count,
            title.as_deref().unwrap_or("-").replace(['\t', '\n'], " "),
        )
        .unwrap();
    }
    if std::env::var_os("TRICORNE_UPDATE_GOLDEN").is_some() {
        fs::write(GOLDEN, &results).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap();
    for (result, golden) in results.lines().zip(golden.lines()) {
        assert_eq!(result, golden);
    }
    assert_eq!(results.lines().count(), golden.lines().count());
}
