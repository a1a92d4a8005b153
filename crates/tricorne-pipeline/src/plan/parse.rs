//! From the text of a plan file to a checked plan.

use std::io::Read as _;
use std::path::Path;
use std::{fs, io};

use toml::de::{DeTable, DeValue};

use super::columns::{columns, how_to_get, of_the_sink};
use super::error::{PlanError, PlanErrorKind, PlanErrors};
use super::reader::{Found, PLAN, Reader, Section};
use super::stages::{STAGE, stages};
use super::{Fetch, Format, InputPath, Plan, PrivateAddresses, Run, Sink, Source};
use crate::expr::Column;
use crate::expr::nearest::nearest;
use crate::sink;

/// The sections of a plan, with what messages call them and the keys they have. Keys of stages depend on the
/// stage and are checked there.
const SECTIONS: [(&str, &str, &[&str]); 5] = [
    (
        "source",
        "`[source]`",
        &["urls", "jsonl", "url_key", "csv", "parquet", "url_column", "delimiter", "files"],
    ),
    (
        "fetch",
        "`[fetch]`",
        &[
            "concurrency",
            "per_host",
            "rate_per_host",
            "connect_secs",
            "first_byte_secs",
            "stall_secs",
            "timeout_secs",
            "retries",
            "retry_base_secs",
            "retry_max_secs",
            "retry_after_max_secs",
            "max_redirects",
            "max_body_bytes",
            "max_decoded_bytes",
            "user_agent",
            "headers",
            "private_addresses",
            "ca_file",
        ],
    ),
    ("stage", STAGE, &["use", "columns", "where", "by"]),
    (
        "sink",
        "`[sink]`",
        &[
            "path",
            "format",
            "records_per_shard",
            "compression_level",
            "row_group_rows",
            "keep_pages",
            "columns",
        ],
    ),
    ("run", "`[run]`", &["workers", "watchdog_secs"]),
];

/// The keys of `[source]` that name a list of URLs.
const LISTS: [&str; 4] = ["urls", "jsonl", "csv", "parquet"];

/// The words for who may reach addresses outside the public internet.
pub(super) const PRIVATE_ADDRESSES: [(&str, PrivateAddresses); 3] = [
    ("listed", PrivateAddresses::Listed),
    ("allow", PrivateAddresses::Allow),
    ("refuse", PrivateAddresses::Refuse),
];

/// The largest plan file that is read; anything larger was given by mistake.
const MAX_PLAN_BYTES: u64 = 4 << 20;

/// Most things at once that a limit may ask for.
const MAX_LIMIT: usize = 65_536;

/// The section that has a key, or is called by it.
pub(super) fn owner(key: &str) -> Option<&'static str> {
    SECTIONS.iter().find(|(_, _, keys)| keys.contains(&key)).map(|(_, name, _)| *name)
}

fn keys_of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(key, _, _)| *key == section).map_or(&[], |(_, _, keys)| *keys)
}

/// The text of a plan file.
pub(super) fn read(path: &Path) -> Result<String, PlanErrors> {
    let unreadable = |message: String, hint: Option<String>| {
        PlanErrors::new(vec![PlanError::whole_file(path, PlanErrorKind::Unreadable, message, hint)], 0)
    };
    let mut bytes = Vec::new();
    let size_bytes = fs::File::open(path)
        .and_then(|file| file.take(MAX_PLAN_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => unreadable("there is no such plan file".into(), near_file(path, path)),
            kind => unreadable(format!("the plan file cannot be read: {kind}"), None),
        })?;
    if size_bytes as u64 > MAX_PLAN_BYTES {
        let hint = "give the plan, a TOML file, not the data";
        return Err(unreadable("the file is too large for a plan".into(), Some(hint.into())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let message = format!("the byte `0x{:02x}` is not UTF-8", bytes[at]);
        let hint = Some("save the plan as UTF-8".into());
        let text = String::from_utf8_lossy(&bytes);
        PlanErrors::new(vec![PlanError::at(path, &text, at..at, PlanErrorKind::Syntax, message, hint)], 0)
    })
}

/// A hint at a file of a similar name in the folder of `path`, spelt as `written` spells the folder.
fn near_file(path: &Path, written: &Path) -> Option<String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names: Vec<String> =
        fs::read_dir(parent).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let near = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", written.with_file_name(near).display()))
}

/// Checks the text of a plan.
pub(super) fn parse(text: &str, path: &Path, base_dir: &Path) -> Result<Plan, PlanErrors> {
    // A byte order mark is no character of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(path, text);
    let mut readable = true;
    for error in syntax_errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            let name = text.get(span.clone()).unwrap_or_default();
            let hint = if name == "stage" { "start each stage with `[[stage]]`" } else { "leave one out" };
            reader.error(span, PlanErrorKind::Duplicate, format!("`{name}` is there twice"), hint.to_owned());
        } else {
            readable = false;
            let bare_word = error.message().starts_with("string values must be quoted");
            let hint = bare_word.then(|| "put text in quotes".to_owned());
            reader.error(span, PlanErrorKind::Syntax, format!("not valid TOML: {}", error.message()), hint);
        }
    }
    if !readable {
        // What can still be read of a broken file is not what was meant.
        return reader.finish(None);
    }
    let plan = check(&mut reader, root.get_ref(), base_dir);
    reader.finish(plan)
}

/// The plan in the table; `None` only where an error was noted.
fn check<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>, base_dir: &Path) -> Option<Plan> {
    let whole = Section { name: PLAN, table: root, span: 0..0 };
    let sections: Vec<&str> = SECTIONS.iter().map(|(key, _, _)| *key).collect();
    reader.check_keys(&whole, &sections, owner);
    let source_section = required(reader, root, "source", "`[source]`", "`urls = \"urls.txt\"`");
    let source = source_section.as_ref().and_then(|section| source(reader, section, base_dir));
    let has_key = |key| source_section.as_ref().is_some_and(|section| section.table.contains_key(key));
    let has_urls = LISTS.into_iter().any(has_key) || !has_key("files");
    let has_extra = LISTS.into_iter().any(|kind| kind != "urls" && has_key(kind));
    let fetch = fetch(reader, root, has_urls, base_dir);
    let columns_unknown = source.is_none() && !has_urls;
    let stages = stages(reader, root, has_extra || columns_unknown);
    let sink = required(reader, root, "sink", "`[sink]`", "`path = \"out\"`")
        .and_then(|section| sink(reader, &section, base_dir, &columns(has_extra, &stages)));
    let run = run(reader, root);
    Some(Plan {
        path: reader.path.into(),
        base_dir: base_dir.into(),
        source: source?,
        fetch,
        stages,
        sink: sink?,
        run,
    })
}

/// The section called `key`, if it is there and a table.
fn section<'a>(
    reader: &mut Reader<'_>,
    root: &'a DeTable<'a>,
    key: &str,
    name: &'static str,
) -> Option<Section<'a>> {
    let value = root.get(key)?;
    let DeValue::Table(table) = value.get_ref() else {
        reader.wrong_type(key, value, &format!("a section that starts with {name}"));
        return None;
    };
    Some(Section { name, table, span: value.span() })
}

/// The same for a section that every plan has.
fn required<'a>(
    reader: &mut Reader<'_>,
    root: &'a DeTable<'a>,
    key: &str,
    name: &'static str,
    content: &str,
) -> Option<Section<'a>> {
    if !root.contains_key(key) {
        let hint = format!("add {name} with a line like {content}");
        reader.whole_file_error(PlanErrorKind::MissingKey, format!("the plan has no {name}"), hint);
    }
    section(reader, root, key, name)
}

fn source<'a>(reader: &mut Reader<'a>, section: &Section<'a>, base_dir: &Path) -> Option<Source> {
    reader.check_keys(section, keys_of("source"), owner);
    let kinds: Vec<_> =
        LISTS.into_iter().chain(["files"]).filter_map(|kind| section.table.get_key_value(kind)).collect();
    if let [first, second, ..] = kinds[..] {
        let names = format!("both `{}` and `{}`", first.0.get_ref(), second.0.get_ref());
        let hint = "keep one, and make another plan for the other";
        reader.error(
            second.0.span(),
            PlanErrorKind::Conflict,
            format!("`[source]` has {names}"),
            hint.to_owned(),
        );
        return None;
    }
    for (option, kinds) in
        [("url_key", &["jsonl"][..]), ("url_column", &["csv", "parquet"]), ("delimiter", &["csv"])]
    {
        if let Some((key, _)) = section.table.get_key_value(option)
            && !kinds.iter().any(|kind| section.table.contains_key(*kind))
        {
            let message = format!("`{option}` has no use without `{}`", kinds.join("` or `"));
            reader.error(key.span(), PlanErrorKind::Conflict, message, "leave it out".to_owned());
        }
    }
    let &[(kind, value)] = &kinds[..] else {
        reader.missing(section, "urls", "`urls = \"urls.txt\"`, or `jsonl`, `csv`, `parquet`, or `files`");
        return None;
    };
    match (kind.get_ref().as_ref(), value.get_ref()) {
        ("urls", DeValue::Array(_)) => {
            let urls = reader.strings("urls", value, "a file or a list of URLs")?;
            Some(Source::UrlList(urls.into_iter().map(|url| url.value.to_owned()).collect()))
        }
        ("urls", _) => {
            let list = reader.string(section, "urls")?;
            if let Some((kind, what)) = kind_of(list.value) {
                let message = format!("`urls` is {}, {what}", reader.written(&list.span));
                let hint = format!("write `{kind} = \"{}\"`", list.value);
                reader.error(list.span, PlanErrorKind::BadValue, message, hint);
                return None;
            }
            Some(Source::Urls { path: input(reader, &list, base_dir)? })
        }
        ("jsonl", _) => {
            let list = reader.string(section, "jsonl");
            let path = list.and_then(|list| input(reader, &list, base_dir));
            let url_key = url_name(reader, section, "url_key");
            Some(Source::Jsonl { path: path?, url_key: url_key? })
        }
        ("csv", _) => {
            let list = reader.string(section, "csv");
            let tabs = list.as_ref().is_some_and(|list| unpacked_extension(list.value) == "tsv");
            let path = list.and_then(|list| input(reader, &list, base_dir));
            let url_column = url_name(reader, section, "url_column");
            let delimiter = match section.table.contains_key("delimiter") {
                true => reader.any_string(section, "delimiter").and_then(|text| delimiter(reader, &text)),
                false => Some(if tabs { b'\t' } else { b',' }),
            };
            Some(Source::Csv { path: path?, url_column: url_column?, delimiter: delimiter? })
        }
        ("parquet", _) => {
            let list = reader.string(section, "parquet");
            let path = list.and_then(|list| {
                if list.value == "-" {
                    let hint = "save it as a file first: a Parquet file is read from its end";
                    let message = "`parquet` cannot be the standard input";
                    reader.error(list.span, PlanErrorKind::BadValue, message, hint.to_owned());
                    return None;
                }
                let path = base_dir.join(list.value);
                existing_file(reader, &list, &path).map(|()| path)
            });
            let url_column = url_name(reader, section, "url_column");
            Some(Source::Parquet { path: path?, url_column: url_column? })
        }
        (_, DeValue::String(_)) => {
            let pattern = reader.string(section, "files")?;
            files(reader, &[pattern])
        }
        _ => {
            let patterns = reader.strings("files", value, "a pattern or a list of patterns")?;
            files(reader, &patterns)
        }
    }
}

/// The key or column of the URL.
fn url_name<'a>(reader: &mut Reader<'a>, section: &Section<'a>, option: &'static str) -> Option<String> {
    match section.table.contains_key(option) {
        true => reader.string(section, option).map(|name| name.value.to_owned()),
        false => Some("url".to_owned()),
    }
}

fn delimiter(reader: &mut Reader<'_>, text: &Found<&str>) -> Option<u8> {
    match text.value.as_bytes() {
        &[delimiter] if !matches!(delimiter, b'"' | b'\r' | b'\n') => Some(delimiter),
        _ => {
            let message = format!("{} cannot be a delimiter", reader.written(&text.span));
            let hint = "write one ASCII character, like `\",\"`, `\";\"` or `\"\\t\"`";
            reader.error(text.span.clone(), PlanErrorKind::BadValue, message, hint.to_owned());
            None
        }
    }
}

/// The extension of a file name, without that of a compression.
fn unpacked_extension(name: &str) -> &str {
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name);
    Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// What a list is, by its name, if it is none of plain URLs: its key in `[source]`, and words for it.
fn kind_of(name: &str) -> Option<(&'static str, &'static str)> {
    match unpacked_extension(name) {
        "jsonl" | "ndjson" => Some(("jsonl", "a list of JSON objects")),
        "csv" | "tsv" => Some(("csv", "a table with named columns")),
        "parquet" => Some(("parquet", "a Parquet file")),
        _ => None,
    }
}

/// A list that must be there: `-` for the standard input, or a file.
fn input(reader: &mut Reader<'_>, list: &Found<&str>, base_dir: &Path) -> Option<InputPath> {
    if list.value == "-" {
        return Some(InputPath::Stdin);
    }
    let path = base_dir.join(list.value);
    existing_file(reader, list, &path)?;
    Some(InputPath::File(path))
}

/// Notes a file that is not there or is a folder.
fn existing_file(reader: &mut Reader<'_>, named: &Found<&str>, path: &Path) -> Option<()> {
    let (message, hint) = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => (
            format!("{} is a folder, not a file", reader.written(&named.span)),
            Some("name a file in it".into()),
        ),
        Ok(_) => return Some(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = near_file(path, Path::new(named.value))
                .unwrap_or_else(|| "a relative path starts from the plan's folder".into());
            (format!("there is no file `{}`", path.display()), Some(hint))
        }
        Err(error) => (format!("the file `{}` cannot be read: {}", path.display(), error.kind()), None),
    };
    reader.error(named.span.clone(), PlanErrorKind::MissingFile, message, hint);
    None
}

/// Refuses a file that holds no certificates: with it, every `https` record would fail.
fn certificates(reader: &mut Reader<'_>, named: &Found<&str>, path: &Path) -> Option<()> {
    let message = match fs::read(path) {
        Ok(pem) => match tricorne_http::check_roots(&pem) {
            Ok(()) => return Some(()),
            Err(error) => format!("{} cannot be used: {error}", reader.written(&named.span)),
        },
        Err(error) => format!("the file `{}` cannot be read: {}", path.display(), error.kind()),
    };
    let hint = "name a PEM file with one or more `BEGIN CERTIFICATE` blocks";
    reader.error(named.span.clone(), PlanErrorKind::BadValue, message, hint.to_owned());
    None
}

fn files(reader: &mut Reader<'_>, patterns: &[Found<&str>]) -> Option<Source> {
    let before = reader.count();
    reader.refuse_repeats("files", patterns);
    for pattern in patterns {
        if let Err(error) = globset::Glob::new(pattern.value) {
            let message =
                format!("{} is not a file pattern: {}", reader.written(&pattern.span), error.kind());
            let hint = "write a pattern like `\"pages/**/*.html\"`";
            reader.error(pattern.span.clone(), PlanErrorKind::BadValue, message, hint.to_owned());
        }
    }
    let patterns = patterns.iter().map(|pattern| pattern.value.to_owned()).collect();
    (reader.count() == before).then_some(Source::Files { patterns })
}

fn fetch<'a>(
    reader: &mut Reader<'a>,
    root: &'a DeTable<'a>,
    has_urls: bool,
    base_dir: &Path,
) -> Option<Fetch> {
    let Some(section) = section(reader, root, "fetch", "`[fetch]`") else {
        return has_urls.then(Fetch::default);
    };
    reader.check_keys(&section, keys_of("fetch"), owner);
    if !has_urls {
        let message = "`[fetch]` has no use with `files`: nothing is downloaded";
        reader.error(
            section.span.clone(),
            PlanErrorKind::Conflict,
            message,
            "leave `[fetch]` out".to_owned(),
        );
    }
    let default = Fetch::default();
    let concurrency = reader.limit(&section, "concurrency", MAX_LIMIT).unwrap_or(default.concurrency);
    let per_host = reader.limit(&section, "per_host", MAX_LIMIT).unwrap_or(default.per_host);
    let rate_per_host = reader.rate(&section, "rate_per_host");
    let mut secs = |key, default: f64, most: f64| {
        reader.seconds(&section, key, 0.001..=most).map_or(default, |found| found.value)
    };
    let connect_secs = secs("connect_secs", default.connect_secs, 3_600.0);
    let first_byte_secs = secs("first_byte_secs", default.first_byte_secs, 3_600.0);
    let stall_secs = secs("stall_secs", default.stall_secs, 3_600.0);
    let timeout_secs = secs("timeout_secs", default.timeout_secs, 86_400.0);
    let retry_after_max_secs = secs("retry_after_max_secs", default.retry_after_max_secs, 86_400.0);
    let retry_max = reader.seconds(&section, "retry_max_secs", 0.001..=86_400.0);
    let retry_max_secs = retry_max.as_ref().map_or(default.retry_max_secs, |found| found.value);
    let retry_base = reader.seconds(&section, "retry_base_secs", 0.001..=86_400.0);
    let retry_base_secs = retry_base.as_ref().map_or(default.retry_base_secs, |found| found.value);
    if retry_base_secs > retry_max_secs {
        let span = retry_base.or(retry_max).map_or(section.span.clone(), |found| found.span);
        let message = format!(
            "`retry_base_secs`, `{retry_base_secs}`, is more than `retry_max_secs`, `{retry_max_secs}`"
        );
        reader.error(
            span,
            PlanErrorKind::Conflict,
            message,
            "set both, the first delay not longer than the longest".to_owned(),
        );
    }
    let bytes = 1..=(4_u64 << 30);
    let max_body_bytes = reader.bytes(&section, "max_body_bytes", bytes.clone());
    let max_decoded_bytes = reader.bytes(&section, "max_decoded_bytes", bytes);
    let headers = super::headers::headers(reader, &section);
    let user_agent = super::headers::user_agent(reader, &section);
    let private_addresses =
        reader.choice(&section, "private_addresses", "value `private_addresses`", &PRIVATE_ADDRESSES);
    let ca_file = reader.string(&section, "ca_file").and_then(|file| {
        let path = base_dir.join(file.value);
        existing_file(reader, &file, &path)?;
        certificates(reader, &file, &path).map(|()| path)
    });
    Some(Fetch {
        concurrency,
        per_host,
        rate_per_host,
        connect_secs,
        first_byte_secs,
        stall_secs,
        timeout_secs,
        retries: reader.integer(&section, "retries", 0..=100).unwrap_or(default.retries),
        retry_base_secs,
        retry_max_secs,
        retry_after_max_secs,
        max_redirects: reader.integer(&section, "max_redirects", 0..=50).unwrap_or(default.max_redirects),
        max_body_bytes: max_body_bytes.unwrap_or(default.max_body_bytes),
        max_decoded_bytes: max_decoded_bytes.unwrap_or(default.max_decoded_bytes),
        user_agent: user_agent.unwrap_or(default.user_agent),
        headers,
        private_addresses: private_addresses.map_or(default.private_addresses, |found| found.value),
        ca_file,
    })
}

fn sink<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    base_dir: &Path,
    available: &[Column],
) -> Option<Sink> {
    // Where a stage or the source has a mistake, nobody knows which columns there are.
    let certain = reader.count() == 0;
    reader.check_keys(section, keys_of("sink"), owner);
    if !section.table.contains_key("path") {
        reader.missing(section, "path", "`path = \"out\"`, the output folder");
    }
    let path = reader.string(section, "path");
    let default = Sink::new(path.as_ref().map_or(base_dir.into(), |path| base_dir.join(path.value)));
    let formats = [Format::Parquet, Format::Jsonl, Format::JsonlZst].map(|format| (format.as_str(), format));
    let format =
        reader.choice(section, "format", "format", &formats).map_or(default.format, |found| found.value);
    for (key, used) in
        [("compression_level", format.is_compressed()), ("row_group_rows", format == Format::Parquet)]
    {
        if let Some((key, _)) = section.table.get_key_value(key)
            && !used
        {
            let message = format!("`{}` has no use with the format `{}`", key.get_ref(), format.as_str());
            reader.error(key.span(), PlanErrorKind::Conflict, message, "leave it out".to_owned());
        }
    }
    let keep_pages = reader.flag(section, "keep_pages").unwrap_or(default.keep_pages);
    let sink = Sink {
        format,
        records_per_shard: reader
            .integer(section, "records_per_shard", 1..=10_000_000)
            .unwrap_or(default.records_per_shard),
        compression_level: reader
            .integer(section, "compression_level", 1..=22)
            .unwrap_or(default.compression_level),
        row_group_rows: reader
            .integer(section, "row_group_rows", 1..=10_000_000)
            .unwrap_or(default.row_group_rows),
        keep_pages,
        columns: written_columns(reader, section, available, keep_pages, certain),
        path: default.path,
    };
    path.is_some().then_some(sink)
}

/// The columns that the sink names; `None` where it names none, or all that there are in their order.
fn written_columns<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    available: &[Column],
    keep_pages: bool,
    certain: bool,
) -> Option<Vec<sink::Column>> {
    let value = section.table.get("columns")?;
    let names = reader.strings("columns", value, "a list of columns")?;
    reader.refuse_repeats("columns", &names);
    let mut all = of_the_sink(available);
    if keep_pages {
        all.push(sink::Column::File);
    }
    let choices: Vec<_> = sink::Column::ALL.iter().map(|column| (column.name(), *column)).collect();
    let mut columns = Vec::new();
    for name in &names {
        let Some(column) = reader.one_of("column", name, &choices) else { continue };
        if certain && !all.contains(&column) {
            let message = format!("rows have no column `{}` to write", name.value);
            reader.error(name.span.clone(), PlanErrorKind::StageOrder, message, how_to_get(name.value));
        }
        columns.push(column);
    }
    if columns.len() == names.len() && !columns.contains(&sink::Column::Id) {
        let message = "`columns` has no `id`";
        let hint = "add `\"id\"`: a retry finds rows by it";
        reader.error(value.span(), PlanErrorKind::BadValue, message, hint.to_owned());
    }
    (columns != all).then_some(columns)
}

fn run(reader: &mut Reader<'_>, root: &DeTable<'_>) -> Run {
    let default = Run::default();
    let Some(section) = section(reader, root, "run", "`[run]`") else {
        return default;
    };
    reader.check_keys(&section, keys_of("run"), owner);
    let watchdog = reader.seconds(&section, "watchdog_secs", 0.001..=86_400.0);
    Run {
        workers: reader.limit(&section, "workers", 4_096).unwrap_or(default.workers),
        watchdog_secs: watchdog.map_or(default.watchdog_secs, |found| found.value),
    }
}
