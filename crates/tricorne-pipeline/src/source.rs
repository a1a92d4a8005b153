//! Sources: lists of URLs (text or JSON lines, from a file or the standard input), URLs given directly,
//! and local files by pattern.
//!
//! A source gives the same records in the same order at every run and holds only what is next in memory.
//! A line that is no record (not UTF-8, not JSON, no URL) still has its id, so that it is reported.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tricorne_sync::{CancelToken, Queue};
use walkdir::WalkDir;

use crate::error::RunError;
use crate::plan::{InputPath, Plan, Source as SourcePlan};
use crate::record::{Failure, Input, Record, StoredPage};
use crate::runner::{Load, Source};

/// A longer line is no record; it is reported and skipped without being held.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Lines read ahead from the standard input.
const READ_AHEAD: usize = 1024;
/// Bytes of an error message's excerpt of a line.
const EXCERPT: usize = 80;

/// Opens the source of a plan. Cancelling ends a wait for the standard input.
pub(crate) fn open(plan: &Plan, cancel: &CancelToken) -> Result<Box<dyn Source>, RunError> {
    let list = |path: &InputPath, url_key: Option<&str>| -> Result<Box<dyn Source>, RunError> {
        let (name, lines): (String, Box<dyn LineReader>) = match path {
            InputPath::Stdin => ("-".into(), Box::new(StdinLines::start(cancel))),
            InputPath::File(path) => (path.display().to_string(), Box::new(FileLines::open(path)?)),
        };
        let parse = match url_key {
            None => Parse::Url,
            Some(key) => Parse::Json { key: key.to_owned() },
        };
        Ok(Box::new(List { name, lines, parse, next_id: 0, line: 0 }))
    };
    match &plan.source {
        SourcePlan::Urls { path } => list(path, None),
        SourcePlan::Jsonl { path, url_key } => list(path, Some(url_key)),
        SourcePlan::UrlList(urls) => Ok(Box::new(Given { urls: urls.clone(), next: 0 })),
        SourcePlan::Files { patterns } => Ok(Box::new(Globs::new(patterns, &plan.base_dir)?)),
    }
}

// ---- lists --------------------------------------------------------------------------------------

/// A line without its line end, or the news that it was longer than [`MAX_LINE_BYTES`].
enum Line {
    Bytes(Vec<u8>),
    TooLong,
}

trait LineReader: Send {
    fn next_line(&mut self) -> std::io::Result<Option<Line>>;
}

enum Parse {
    Url,
    Json { key: String },
}

struct List {
    name: String,
    lines: Box<dyn LineReader>,
    parse: Parse,
    next_id: u64,
    line: u64,
}

impl Source for List {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        loop {
            let Some(line) =
                self.lines.next_line().map_err(|error| self.unreadable(&error.to_string(), None))?
            else {
                return Ok(None);
            };
            self.line += 1;
            let line = match line {
                Line::TooLong => return Ok(Some(self.broken("", "line_too_long", "is longer than 1 MiB"))),
                Line::Bytes(line) => line,
            };
            if self.line == 1
                && let Some((what, hint)) = not_a_list(&line)
            {
                return Err(self.unreadable(what, Some(hint)));
            }
            let line =
                if self.line == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
            let Ok(text) = std::str::from_utf8(line) else {
                let excerpt: String = String::from_utf8_lossy(line).chars().take(EXCERPT).collect();
                return Ok(Some(self.broken(&excerpt, "not_utf8", "is not UTF-8")));
            };
            let text = text.trim();
            if text.is_empty() || (text.starts_with('#') && matches!(self.parse, Parse::Url)) {
                continue;
            }
            return Ok(Some(match &self.parse {
                Parse::Url => self.good(text.to_owned(), None),
                Parse::Json { key } => match json_record(text, key) {
                    Ok((url, extra)) => self.good(url, extra),
                    Err((kind, message)) => {
                        let excerpt: String = text.chars().take(EXCERPT).collect();
                        self.broken(&excerpt, kind, &message)
                    }
                },
            }));
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl List {
    fn good(&mut self, url: String, extra: Option<String>) -> Input {
        self.next_id += 1;
        Input { record: Record { id: self.next_id - 1, url, extra }, problem: None }
    }

    fn broken(&mut self, excerpt: &str, kind: &str, what: &str) -> Input {
        let mut input = self.good(excerpt.to_owned(), None);
        input.problem = Some(Failure {
            stage: "source".into(),
            kind: kind.into(),
            message: format!("line {} of `{}` {what}", self.line, self.name),
            attempts: 0,
        });
        input
    }

    fn unreadable(&self, message: &str, hint: Option<&str>) -> RunError {
        RunError::Input { input: self.name.clone(), message: message.into(), hint: hint.map(str::to_owned) }
    }
}

/// Content that is no text list at all: better said at once than a million times.
fn not_a_list(first_line: &[u8]) -> Option<(&'static str, &'static str)> {
    match first_line {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(("it is UTF-16", "convert it first: `iconv -f UTF-16 -t UTF-8 LIST > LIST.utf8`"))
        }
        [0x1f, 0x8b, ..] => {
            Some(("it is compressed with gzip", "unpack it first, or pipe it in: `zcat LIST | tricorne … -`"))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some((
            "it is compressed with zstd",
            "unpack it first, or pipe it in: `zstdcat LIST | tricorne … -`",
        )),
        [b'P', b'A', b'R', b'1', ..] => {
            Some(("it is a Parquet file", "give a list of URLs as text or JSON lines"))
        }
        line if line.iter().take(1024).any(|&byte| byte == 0) => {
            Some(("it holds zero bytes and is no text", "give a list of URLs as UTF-8 text, one a line"))
        }
        _ => None,
    }
}

/// The URL of a JSON line and, as JSON text, the other keys as they stood.
fn json_record(text: &str, key: &str) -> Result<(String, Option<String>), (&'static str, String)> {
    // Raw values keep numbers as they were written; a map would not keep the order.
    let object: Entries<'_> =
        serde_json::from_str(text).map_err(|error| ("not_json", format!("is not a JSON object: {error}")))?;
    let mut url = None;
    let mut extra = String::new();
    for (name, value) in &object.0 {
        if name == key {
            let text: Result<String, _> = serde_json::from_str(value.get());
            url = Some(text.map_err(|_| ("no_url", format!("has a key `{key}` that is not text")))?);
        } else {
            extra.push(if extra.is_empty() { '{' } else { ',' });
            extra.push_str(&serde_json::to_string(name).expect("text always has a JSON form"));
            extra.push(':');
            extra.push_str(value.get());
        }
    }
    if !extra.is_empty() {
        extra.push('}');
    }
    let url = url.ok_or_else(|| ("no_url", format!("has no key `{key}`")))?;
    Ok((url.trim().to_owned(), (!extra.is_empty()).then_some(extra)))
}

/// A JSON object as it stands: keys in order, values untouched.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

struct FileLines(BufReader<File>);

impl FileLines {
    fn open(path: &Path) -> Result<Self, RunError> {
        let file = File::open(path).map_err(RunError::io("open", path))?;
        Ok(FileLines(BufReader::with_capacity(1 << 17, file)))
    }
}

impl LineReader for FileLines {
    fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        read_line(&mut self.0)
    }
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    if reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(Line::Bytes(line)));
    }
    if (line.len() as u64) < MAX_LINE_BYTES {
        return Ok(Some(Line::Bytes(line))); // the last line, without a line end
    }
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let (used, ended) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(used);
        if ended {
            break;
        }
    }
    Ok(Some(Line::TooLong))
}

/// Lines of the standard input, read by a thread of their own: a read cannot be interrupted, a wait for
/// a queue can.
struct StdinLines {
    lines: Arc<Queue<std::io::Result<Line>>>,
    _unhook: tricorne_sync::CancelGuard,
}

impl StdinLines {
    fn start(cancel: &CancelToken) -> Self {
        let lines = Arc::new(Queue::bounded(READ_AHEAD));
        let reader = Arc::clone(&lines);
        // Not joined: it may sit in a read for ever, and ends with the process.
        thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            while let Some(line) = read_line(&mut stdin).transpose() {
                let failed = line.is_err();
                if reader.put(line).is_err() || failed {
                    break;
                }
            }
            reader.close();
        });
        let closed = Arc::clone(&lines);
        let unhook = cancel.on_cancel(move || drop(closed.close_now()));
        StdinLines { lines, _unhook: unhook }
    }
}

impl LineReader for StdinLines {
    fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        self.lines.get().ok().transpose()
    }
}

// ---- URLs given directly ------------------------------------------------------------------------

struct Given {
    urls: Vec<String>,
    next: usize,
}

impl Source for Given {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        let Some(url) = self.urls.get(self.next) else { return Ok(None) };
        let record = Record { id: self.next as u64, url: url.trim().to_owned(), extra: None };
        self.next += 1;
        Ok(Some(Input { record, problem: None }))
    }

    fn name(&self) -> String {
        "the given URLs".into()
    }
}

// ---- local files --------------------------------------------------------------------------------

struct Globs {
    base_dir: PathBuf,
    patterns: Vec<Pattern>,
    current: usize,
    walk: Option<walkdir::IntoIter>,
    next_id: u64,
}

struct Pattern {
    text: String,
    /// The folder to walk: the pattern up to its first special character.
    root: PathBuf,
    matcher: GlobMatcher,
}

impl Globs {
    fn new(patterns: &[String], base_dir: &Path) -> Result<Self, RunError> {
        let patterns = patterns.iter().map(|text| Pattern::new(text, base_dir)).collect::<Result<_, _>>()?;
        Ok(Globs { base_dir: base_dir.to_path_buf(), patterns, current: 0, walk: None, next_id: 0 })
    }
}

impl Pattern {
    fn new(text: &str, base_dir: &Path) -> Result<Self, RunError> {
        let whole = base_dir.join(text);
        let pattern = whole.to_string_lossy().into_owned();
        // A file that exists under this very name is meant, even if the name has special characters.
        let literal = whole.is_file();
        let glob = if literal { globset::escape(&pattern) } else { pattern.clone() };
        let matcher = GlobBuilder::new(&glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| RunError::Input {
                input: text.into(),
                message: error.kind().to_string(),
                hint: Some("`*` stands for any part of a name, `**` for any folders, `[ab]` for one of these letters".into()),
            })?
            .compile_matcher();
        let root = if literal {
            whole
        } else {
            whole.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '[', '{'])).collect()
        };
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
        Ok(Pattern { text: text.into(), root, matcher })
    }

    fn matches(&self, path: &Path) -> bool {
        self.matcher.is_match(path) || path.strip_prefix(".").is_ok_and(|path| self.matcher.is_match(path))
    }
}

impl Source for Globs {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        loop {
            let Some(pattern) = self.patterns.get(self.current) else { return Ok(None) };
            if self.walk.is_none() {
                if !pattern.root.exists() {
                    let start = match self.base_dir.as_os_str().is_empty() {
                        true => "the current folder".into(),
                        false => format!("the folder of the plan, `{}`", self.base_dir.display()),
                    };
                    return Err(RunError::Input {
                        input: pattern.text.clone(),
                        message: format!("there is no `{}`", pattern.root.display()),
                        hint: Some(format!("relative names start from {start}")),
                    });
                }
                self.walk =
                    Some(WalkDir::new(&pattern.root).follow_links(true).sort_by_file_name().into_iter());
            }
            let Some(entry) = self.walk.as_mut().and_then(Iterator::next) else {
                self.walk = None;
                self.current += 1;
                continue;
            };
            let entry = entry.map_err(|error| RunError::Input {
                input: pattern.text.clone(),
                message: error.to_string(),
                hint: None,
            })?;
            let path = entry.path();
            let earlier = &self.patterns[..self.current];
            if !entry.file_type().is_file()
                || !pattern.matches(path)
                || earlier.iter().any(|earlier| path.starts_with(&earlier.root) && earlier.matches(path))
            {
                continue;
            }
            let shown = path.strip_prefix(&self.base_dir).unwrap_or(path);
            let shown = shown.strip_prefix(".").unwrap_or(shown);
            let record =
                Record { id: self.next_id, url: shown.to_string_lossy().replace('\\', "/"), extra: None };
            self.next_id += 1;
            return Ok(Some(Input { record, problem: None }));
        }
    }

    fn name(&self) -> String {
        self.patterns.iter().map(|pattern| pattern.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// Reads local files, relative to the plan's folder.
pub(crate) struct LocalFiles {
    pub(crate) base_dir: PathBuf,
    pub(crate) max_bytes: u64,
}

impl Load for LocalFiles {
    fn load(&self, record: &Record) -> Result<StoredPage, Failure> {
        let path = self.base_dir.join(&record.url);
        let failure = |kind: &str, message: String| Failure {
            stage: "source".into(),
            kind: kind.into(),
            message,
            attempts: 0,
        };
        let read = || -> std::io::Result<Vec<u8>> {
            let mut body = Vec::new();
            File::open(&path)?.take(self.max_bytes + 1).read_to_end(&mut body)?;
            Ok(body)
        };
        let body =
            read().map_err(|error| failure("io", format!("cannot read `{}`: {error}", path.display())))?;
        if body.len() as u64 > self.max_bytes {
            return Err(failure(
                "too_large",
                format!("`{}` is larger than {} bytes", path.display(), self.max_bytes),
            ));
        }
        Ok(StoredPage {
            final_url: None,
            status: None,
            content_type: content_type_of(&path).map(str::to_owned),
            sha256: Sha256::digest(&body).into(),
            body: Bytes::from(body),
            attempts: 0,
        })
    }
}

/// What the name of a local file says about its content.
fn content_type_of(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html",
        "xhtml" => "application/xhtml+xml",
        "txt" | "text" | "md" => "text/plain",
        "xml" => "application/xml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        let inputs =
            read_list("urls", b"\xef\xbb\xbfhttp://a/\r\n\n# note\n  http://b/ \nhttp://c/").unwrap();
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
            let mut content = vec![b'x'; MAX_LINE_BYTES as usize + excess];
            content.extend_from_slice(b"\nhttp://after/\n");
            let inputs = read_list("urls", &content).unwrap();
            assert_eq!(inputs[0].problem.as_ref().unwrap().kind, "line_too_long", "{excess}");
            assert_eq!(short(&inputs)[1..], [(1, "http://after/", "")], "{excess}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_a_way_out() {
        for (content, word) in [
            (&b"\xff\xfeh\0t\0"[..], "iconv"),
            (b"\x1f\x8b\x08\0", "zcat"),
            (b"\x28\xb5\x2f\xfd.", "zstdcat"),
            (b"PAR1....", "JSON lines"),
            (b"ab\0cd\n", "UTF-8"),
        ] {
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
}
