use std::path::Path;

use proptest::prelude::*;

use super::unpack::tests::{gzip, zstd};
use super::*;
use crate::runner::Load as _;

fn plan(text: &str, dir: &Path) -> Plan {
    let text = format!("[source]\n{text}\n[sink]\npath = \"out\"\n");
    Plan::parse(&text, Path::new("plan.toml"), dir).unwrap()
}

fn read(plan: &Plan) -> Result<Vec<Input>, RunError> {
    let mut source = open(plan, &CancelToken::new())?;
    std::iter::from_fn(|| source.next().transpose()).collect()
}

fn read_list(kind: &str, content: &[u8]) -> Result<Vec<Input>, RunError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list"), content).unwrap();
    read(&plan(&format!("{kind} = \"list\""), dir.path()))
}

fn short(inputs: &[Input]) -> Vec<(u64, &str, &str)> {
    let kind = |input: &'_ Input| input.problem.as_ref().map_or("", |_| "broken");
    inputs.iter().map(|input| (input.record.id, input.record.url.as_str(), kind(input))).collect()
}

#[test]
fn a_list_of_urls_skips_blank_lines_and_comments() {
    let inputs = read_list("urls", b"\xef\xbb\xbfhttp://a/\r\n\n# note\n  http://b/ \nhttp://c/").unwrap();
    assert_eq!(short(&inputs), [(0, "http://a/", ""), (1, "http://b/", ""), (2, "http://c/", "")]);
}

#[test]
fn a_line_that_is_not_utf8_keeps_its_id_and_names_its_line() {
    let inputs = read_list("urls", b"http://a/\n\nhttp://b/\xff\nhttp://c/\n").unwrap();
    assert_eq!(short(&inputs)[1], (1, "http://b/\u{fffd}", "broken"));
    let problem = inputs[1].problem.as_ref().unwrap();
    assert_eq!((problem.stage.as_ref(), problem.kind.as_str()), ("source", "not_utf8"));
    assert!(problem.message.starts_with("line 3 of `"), "{}", problem.message);
    assert_eq!(short(&inputs)[2], (2, "http://c/", ""));
}

#[test]
fn a_line_that_is_too_long_is_skipped_without_losing_the_next() {
    for excess in [0, 1, 300_000] {
        let mut content = vec![b'x'; MAX_ENTRY_BYTES as usize + excess];
        content.extend_from_slice(b"\nhttp://after/\n");
        let inputs = read_list("urls", &content).unwrap();
        assert_eq!(inputs[0].problem.as_ref().unwrap().kind, "line_too_long", "{excess}");
        assert_eq!(short(&inputs)[1..], [(1, "http://after/", "")], "{excess}");
    }
}

#[test]
fn what_is_no_list_is_refused_with_a_way_out() {
    for (content, word) in
        [(&b"\xff\xfeh\0t\0"[..], "iconv"), (b"PAR1....", "parquet ="), (b"ab\0cd\n", "UTF-8")]
    {
        let error = read_list("urls", content).unwrap_err();
        assert!(error.hint().unwrap().contains(word), "{error:?}");
    }
}

#[test]
fn json_lines_pass_their_other_keys_through_as_they_stand() {
    let lines = br#"{"url": "http://a/", "label": 1.50, "who": {"b":1, "a":"\u00e9"}}
{"url":"http://b/"}
{"label": 2}
["http://c/"]
{"url": 7}
"#;
    let inputs = read_list("jsonl", lines).unwrap();
    let extra = inputs[0].record.extra.as_deref();
    assert_eq!(extra, Some(r#"{"label":1.50,"who":{"b":1, "a":"\u00e9"}}"#));
    assert_eq!(inputs[1].record.extra, None);
    let kinds: Vec<_> =
        inputs[2..].iter().map(|input| input.problem.as_ref().unwrap().kind.as_str()).collect();
    assert_eq!(kinds, ["no_url", "not_json", "no_url"]);
}

#[test]
fn files_come_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b/2.html", "b/1.html", "a.html", "c.txt", "d.png", "[x].html"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let urls = |patterns: &str| -> Vec<String> {
        let inputs = read(&plan(&format!("files = {patterns}"), dir.path())).unwrap();
        inputs.into_iter().map(|input| input.record.url).collect()
    };
    assert_eq!(urls("\"**/*.html\""), ["[x].html", "a.html", "b/1.html", "b/2.html"]);
    assert_eq!(
        urls("[\"b/*\", \"**/*.{html,txt}\"]"),
        ["b/1.html", "b/2.html", "[x].html", "a.html", "c.txt"]
    );
    assert_eq!(urls("\"[x].html\""), ["[x].html"], "a name with special characters");

    let missing = read(&plan("files = \"nowhere/*.html\"", dir.path())).unwrap_err();
    assert!(missing.to_string().contains("nowhere"), "{missing}");
}

#[test]
fn a_local_page_knows_its_type_and_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "four").unwrap();
    let files = LocalFiles { base_dir: dir.path().to_path_buf(), max_bytes: 4 };
    let load = |name: &str| files.load(&Record { id: 0, url: name.into(), extra: None });
    assert_eq!(load("a.txt").unwrap().content_type.as_deref(), Some("text/plain"));
    assert_eq!(load("none").unwrap_err().kind, "io");
    std::fs::write(dir.path().join("a.txt"), "five!").unwrap();
    assert_eq!(load("a.txt").unwrap_err().kind, "too_large");
}

proptest! {
    #[test]
    fn any_bytes_make_as_many_records_as_lines_that_count(
        lines in proptest::collection::vec("[ -~é]{0,20}", 0..30),
    ) {
        let content = lines.join("\n");
        let counted = lines.iter().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
        let inputs = read_list("urls", content.as_bytes()).unwrap();
        prop_assert_eq!(inputs.len(), counted.count());
        prop_assert!(inputs.iter().enumerate().all(|(n, input)| input.record.id == n as u64));
    }
}

#[test]
fn a_packed_list_or_page_is_read_as_what_is_in_it() {
    let text = b"http://a/\nhttp://b/\n";
    let plain = read_list("urls", text).unwrap();
    assert_eq!(plain.len(), 2);
    assert_eq!(read_list("urls", &gzip(text)).unwrap(), plain);
    assert_eq!(read_list("urls", &zstd(text)).unwrap(), plain);
    let error = read_list("urls", &gzip(text)[..20]).unwrap_err();
    assert!(error.to_string().contains("gzip data"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.html.gz"), gzip(b"<p>hello")).unwrap();
    let load = |max_bytes| {
        let files = LocalFiles { base_dir: dir.path().to_path_buf(), max_bytes };
        files.load(&Record { id: 0, url: "a.html.gz".into(), extra: None })
    };
    let page = load(8).unwrap();
    assert_eq!((&page.body[..], page.content_type.as_deref()), (&b"<p>hello"[..], Some("text/html")));
    assert_eq!(load(7).unwrap_err().kind, "too_large", "the limit is that of the unpacked page");
}

#[test]
fn csv_passes_its_other_columns_through_as_text() {
    let table =
        "\u{feff}label,url,note\r\n1.50,http://a/,\"two\r\nlines, \"\"quoted\"\"\"\r\n\r\n,http://b/,\n";
    for content in [table.as_bytes().to_vec(), gzip(table.as_bytes())] {
        let inputs = read_list("csv", &content).unwrap();
        assert_eq!(short(&inputs), [(0, "http://a/", ""), (1, "http://b/", "")]);
        let extra = |n: usize| inputs[n].record.extra.as_deref().unwrap();
        assert_eq!(extra(0), r#"{"label":"1.50","note":"two\r\nlines, \"quoted\""}"#);
        assert_eq!(extra(1), r#"{"label":"","note":""}"#);
    }
}

#[test]
fn a_csv_row_that_is_no_record_has_its_id_and_names_its_line() {
    let inputs =
        read_list("csv", b"url,n\nhttp://a/,1\nhttp://b/\n ,2\nhttp://c/,\xff\nhttp://d/,4").unwrap();
    assert_eq!(inputs.len(), 5);
    let problems: Vec<_> = inputs[1..4].iter().map(|input| input.problem.as_ref().unwrap()).collect();
    assert_eq!(
        problems.iter().map(|problem| problem.kind.as_str()).collect::<Vec<_>>(),
        ["csv_fields", "no_url", "not_utf8"]
    );
    assert!(problems[0].message.starts_with("line 3 of `"), "{}", problems[0].message);
    assert_eq!(short(&inputs)[4], (4, "http://d/", ""));
}

#[test]
fn a_table_without_the_column_says_which_it_has() {
    for (content, words) in [
        (&b"a,link\n1,2\n"[..], &["`a`, `link`", "url_column"][..]),
        (b"URL\thits\nx\t1\n", &["delimiter = \"\\t\""]),
        (b"x;y\n", &["delimiter = \";\""]),
        (b"urls,b\n", &["url_column = \"urls\""]),
        (b"", &["first row"]),
        (b"url,a,a\n", &["name of its own"]),
        (b"\xff\xfeu\0", &["iconv"]),
    ] {
        let error = read_list("csv", content).unwrap_err();
        for word in words {
            assert!(error.hint().unwrap().contains(word), "{error:?}");
        }
    }
}

#[test]
fn a_quote_that_is_never_closed_takes_in_no_more_than_its_bound() {
    let mut content = b"url,n\nhttp://a/,1\nhttp://b/,\"open\n".to_vec();
    content.extend(std::iter::repeat_n(b"http://c/,1\n", 200_000).flatten());
    let error = read_list("csv", &content).unwrap_err();
    assert!(error.to_string().contains("begins in line 3"), "{error}");
    assert!(error.hint().unwrap().contains("quote"), "{error:?}");
}

#[test]
fn parquet_passes_its_other_columns_through_with_their_types() {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::Compression;
    use parquet::file::properties::WriterProperties;

    let rows = 1_000;
    let urls: Vec<Option<String>> = (0..rows).map(|n| (n != 3).then(|| format!("http://h/{n}"))).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from_iter((0..rows).map(|n| (n != 1).then_some(n))))),
        ("link", Arc::new(StringArray::from(urls))),
        ("x", Arc::new(Float64Array::from_iter_values((0..rows).map(|n| n as f64 / 2.0)))),
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>(
                (0..rows).map(|n| Some(vec![Some(n as i32), None])),
            )),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ] {
        let file = std::fs::File::create(dir.path().join("list")).unwrap();
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let inputs = read(&plan("parquet = \"list\"\nurl_column = \"link\"", dir.path())).unwrap();
        assert_eq!(inputs.len(), 1_000, "{compression}");
        assert!(inputs.iter().enumerate().all(|(n, input)| input.record.id == n as u64));
        assert_eq!(inputs[1].record.extra.as_deref(), Some(r#"{"n":null,"x":0.5,"tags":[1,null]}"#));
        assert_eq!(inputs[999].record.url, "http://h/999");
        assert_eq!(inputs[999].record.extra.as_deref(), Some(r#"{"n":999,"x":499.5,"tags":[999,null]}"#));
        let problem = inputs[3].problem.as_ref().unwrap();
        assert_eq!(problem.kind, "no_url");
        assert!(problem.message.starts_with("row 4 of `"), "{}", problem.message);
    }
    for (options, word) in [("", "`n`, `link`"), ("url_column = \"links\"", "\"link\"")] {
        let error = read(&plan(&format!("parquet = \"list\"\n{options}"), dir.path())).unwrap_err();
        assert!(error.hint().unwrap().contains(word), "{error:?}");
    }
    let error = read(&plan("parquet = \"list\"\nurl_column = \"x\"", dir.path())).unwrap_err();
    assert!(error.to_string().contains("Float64, not text"), "{error}");
    std::fs::write(dir.path().join("list"), "http://a/\n").unwrap();
    let error = read(&plan("parquet = \"list\"", dir.path())).unwrap_err();
    assert!(error.to_string().contains("as Parquet"), "{error}");
}
