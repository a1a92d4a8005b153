//! Lists with one record a line: URLs, or JSON objects that hold one.

use std::io::{self, BufRead, Read as _};

use serde_json::value::RawValue;

use super::{Entries, MAX_ENTRY_BYTES};
use crate::error::RunError;
use crate::record::Input;
use crate::runner::Source;

/// A line without its line end, or the news that it was longer than [`MAX_ENTRY_BYTES`].
enum Line {
    Bytes(Vec<u8>),
    TooLong,
}

enum Parse {
    Url,
    Json { key: String },
}

pub(super) struct Lines {
    entries: Entries,
    parse: Parse,
    line: u64,
}

impl Lines {
    pub(super) fn urls(entries: Entries) -> Self {
        Lines { entries, parse: Parse::Url, line: 0 }
    }

    pub(super) fn json(entries: Entries, url_key: &str) -> Self {
        Lines { entries, parse: Parse::Json { key: url_key.to_owned() }, line: 0 }
    }
}

impl Source for Lines {
    fn next(&mut self) -> Result<Option<Input>, RunError> {
        loop {
            let line = read_line(&mut self.entries.content)
                .map_err(|error| self.entries.not_read(self.line, &error))?;
            let Some(line) = line else { return Ok(None) };
            self.line += 1;
            let place = format!("line {}", self.line);
            let line = match line {
                Line::TooLong => {
                    return Ok(Some(self.entries.broken(
                        "",
                        "line_too_long",
                        &place,
                        "is longer than 1 MiB",
                    )));
                }
                Line::Bytes(line) => line,
            };
            if self.line == 1
                && let Some((what, hint)) = not_a_list(&line)
            {
                return Err(self.entries.unreadable(what, Some(hint.into())));
            }
            let line =
                if self.line == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
            let Ok(text) = std::str::from_utf8(line) else {
                let text = String::from_utf8_lossy(line);
                return Ok(Some(self.entries.broken(&text, "not_utf8", &place, "is not UTF-8")));
            };
            let text = text.trim();
            if text.is_empty() || (text.starts_with('#') && matches!(self.parse, Parse::Url)) {
                continue;
            }
            return Ok(Some(match &self.parse {
                Parse::Url => self.entries.good(text.to_owned(), None),
                Parse::Json { key } => match json_record(text, key) {
                    Ok((url, extra)) => self.entries.good(url, extra),
                    Err((kind, message)) => self.entries.broken(text, kind, &place, &message),
                },
            }));
        }
    }

    fn name(&self) -> String {
        self.entries.name.clone()
    }
}

/// Content that is no text list at all: better said at once than a million times.
pub(super) fn not_a_list(first_line: &[u8]) -> Option<(&'static str, &'static str)> {
    match first_line {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(("it is UTF-16", "convert it first: `iconv -f UTF-16 -t UTF-8 LIST > LIST.utf8`"))
        }
        [b'P', b'A', b'R', b'1', ..] => {
            Some(("it is a Parquet file", "write `parquet = \"…\"` in the `[source]` of a plan"))
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
    let object: Object<'_> =
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
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn read_line(reader: &mut dyn BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    if (&mut *reader).take(MAX_ENTRY_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(Line::Bytes(line)));
    }
    if (line.len() as u64) < MAX_ENTRY_BYTES {
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
